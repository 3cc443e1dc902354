"""JSON lines: damaged ones, and where programs write them; and how programs end."""

import json
import multiprocessing
import signal
import time
from contextlib import closing
from pathlib import Path

import certify
import compare
import coverage
import imports
import latency
import levels
import lines
import overhead
import plot
import pool
import pytest
import run
import train_features
import tuned
from run_lines import figured


def with_warnings(read, path):
    heard = []
    return list(read(path, heard.append)), heard


def test_a_line_never_joins_what_a_full_disk_left_of_another(tmp_path):
    file = tmp_path / "results.jsonl"
    lines.append(file, {"a": 1})
    with open(file, "ab") as half:
        half.write(b'{"b": 2, "c')
    lines.append(file, {"d": 4})
    lines.append(file, {"e": 5})
    found, heard = with_warnings(lines.read_lines, file)
    assert found == [(1, {"a": 1}), (3, {"d": 4}), (4, {"e": 5})]
    (said,) = heard
    assert said.startswith(f"{file}, line 2: ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_names_the_file():
    with pytest.raises(OSError, match="/dev/full"):
        lines.append(Path("/dev/full"), {"a": 1})


STRANGE = {
    "cut short": b'{"a": 1',
    "no object": b"[1, 2]",
    "a word": b"nan",
    "bytes": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
    "a long number": b'{"a": ' + b"1" * 10_000 + b"}",
}


@pytest.mark.parametrize("case", STRANGE)
def test_a_strange_line_is_named_and_the_rest_is_read(case, tmp_path):
    file = tmp_path / "some.jsonl"
    file.write_bytes(STRANGE[case] + b"\n\n" + json.dumps(figured()).encode())
    assert with_warnings(lines.read_lines, file)[0] == [(3, figured())]
    found, (heard,) = with_warnings(lines.read_runs, file)
    assert found == [figured()]
    assert f"{file}, line 1:" in heard


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"fd": float("nan")}, "fd"),
        ({"fd": "1.0"}, "fd"),
        ({"fd": -1.0}, "fd"),
        ({"nfe_requested": 0}, "nfe_requested"),
        ({"solver": 5}, "solver"),
        ({"seconds": 0}, "seconds"),
        ({"rmse_to_converged": []}, "rmse_to_converged"),
        ({"versions": "2"}, "versions"),
    ],
)
def test_a_line_that_is_none_of_run_py_is_named(changed, word, tmp_path):
    file = tmp_path / "some.jsonl"
    file.write_text(json.dumps(figured(**changed)) + "\n" + json.dumps(figured()) + "\n")
    found, (heard,) = with_warnings(lines.read_runs, file)
    assert found == [figured()]
    assert f"{file}, line 1:" in heard
    assert word in heard


def test_all_committed_lines_are_read():
    counts = {}
    for file in sorted((Path(lines.__file__).parent / "results").glob("*.jsonl")):
        if file.stem.startswith(("mnist", "gmm")):
            found, heard = with_warnings(lines.read_runs, file)
            assert not heard
            assert len(lines.latest(found)) == len(found)
            counts[file.stem] = len(found)
    assert counts == {"gmm2": 547, "gmm64": 547, "mnist-10k": 24, "mnist-1k": 425, "mnist-h100": 84}


def test_of_a_run_that_was_drawn_again_the_last_line_counts():
    again = [figured(fd=1.0), figured(fd=3.0, nfe=20, nfe_requested=20), figured(fd=2.0)]
    assert [record["fd"] for record in lines.latest(again)] == [2.0, 3.0]


def test_lines_go_to_a_file_that_is_named_so_and_else_into_a_folder(tmp_path):
    assert lines.lines_file(tmp_path / "a" / "x.jsonl", "results.jsonl") == tmp_path / "a" / "x.jsonl"
    assert (tmp_path / "a").is_dir()
    assert not (tmp_path / "a" / "x.jsonl").exists()
    assert lines.lines_file(tmp_path / "v1.2", "results.jsonl") == tmp_path / "v1.2" / "results.jsonl"
    (tmp_path / "old.jsonl").mkdir()
    assert lines.lines_file(tmp_path / "old.jsonl", "r.jsonl") == tmp_path / "old.jsonl" / "r.jsonl"
    for name in ("x.json", "x.PNG", "x.csv"):
        with pytest.raises(ValueError, match=r"--out must be .* got .*x\."):
            lines.lines_file(tmp_path / name, "results.jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "old.jsonl", "v1.2"]


# A program, the name of a function that it calls, and a valid command line.
PROGRAMS = {
    "run.py": (run, "run", []),
    "compare.py": (compare, "compare", []),
    "certify.py": (certify, "run", []),
    "latency.py": (latency, "measure", []),
    "overhead.py": (overhead, "measure", ["--solver", "ddim", "--batch-size", "1"]),
    "tuned.py": (tuned, "run", []),
    "levels.py": (levels, "lookup", []),
    "plot.py": (plot, "read_runs", ["some.jsonl"]),
    "coverage.py": (coverage, "made", []),
    "imports.py": (imports, "seconds", []),
    "train_features.py": (train_features, "run", ["--data", "x.npz", "--out", "x"]),
}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(28, "No space left on device", "some file"), 2, "some file"),
        (ValueError("two\nlines"), 2, "two lines"),
    ],
)
def test_every_program_ends_in_one_line(program, error, status, words, monkeypatch, tmp_path, capsys):
    def fails(*_):
        raise error

    module, first, arguments = PROGRAMS[program]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, first, fails)
    assert module.main(arguments) == status
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"{program}: ")
    assert words in said


STRANGE_NAMES = ["[/red]", "[bold]x[/bold]", ":smile:", "[link=x]"]


@pytest.mark.parametrize("name", STRANGE_NAMES)
def test_names_are_printed_as_they_are_in_the_tables_of_all_programs(name, capsys):
    plot.print_table([figured(solver=name, problem=name, device_name=name, fd_features=name)])
    overhead.print_table({name: {"data": 1.0}})
    way = {"way": name, "batch_size": 1, "milliseconds": 1.0, "solver": name, "nfe": 4, "nfe_requested": 5}
    latency.print_table([way | {"dtype": "float32", "device_name": name}])
    row = {"method": name, "nfe": 4, "nfe_requested": 5, "project": name, "version": "1", "problem": name}
    row |= {"fd_features": name, "fd": 1.0, "rmse_to_converged": None, "seconds": 1.0, "seconds_around": 1.0}
    compare.print_table([row | {"n_samples": 2, "device_name": name}])
    certificate = {
        "solver": name,
        "kind": None,
        "faults": [f"{name}: crashed"],
        "runs": [],
        "combinations": 0,
    }
    report = {"solvers": [certificate], "faults": [f"{name}: crashed"], "predictions": {"vp": {"v": 0.0}}}
    certify.print_table(report | {"references": {"vp": 0.0}, "sweep": [1]})
    printed = capsys.readouterr().out
    assert printed.count(name) >= 4 + 1 + 3 + 4 + 2


def test_calls_that_are_not_those_asked_for_are_told_apart():
    assert lines.calls_of({"nfe": 4, "nfe_requested": 5}) == "4 of 5"
    assert lines.calls_of({"nfe": 549.25, "nfe_requested": 8}) == "549.25 of 8"
    assert lines.calls_of({"nfe": 5, "nfe_requested": 5}) == "5"


def test_processes_do_not_hear_ctrl_c_and_end_with_the_program():
    sleep = "__import__('time').sleep(600)"
    with closing(pool.spread(eval, [("__import__('signal').getsignal(2)",), (sleep,), (sleep,)], 2)) as work:
        assert next(work) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) != signal.SIG_IGN
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            work.throw(KeyboardInterrupt)
    # The thread of the pool may wait for a process, too; its end then shows a moment later.
    while multiprocessing.active_children() and time.monotonic() - begun < 60:
        time.sleep(0.01)
    assert not multiprocessing.active_children()
