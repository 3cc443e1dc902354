"""The program run.py, as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import plot
import pytest
import run
import torch
from run_lines import GMM2, benchmark, figured, records

ROOT = Path(__file__).parents[2]

FIELDS = {
    *("solver", "sde", "spacing", "problem", "nfe_requested", "nfe", "n_samples", "device", "dtype", "seed"),
    *("fd", "fd_features", "fd_reference", "rmse_to_converged", "peak_memory_mb", "versions"),
    *("seconds", "seconds_network", "seconds_per_1k_samples"),
}


@pytest.mark.slow
def test_the_default_command_runs_as_a_user_types_it(tmp_path):
    command = [sys.executable, "benchmarks/run.py", "--solver", "dpm2", "--nfe", "20", "--n-samples", "20"]
    done = subprocess.run(
        [*command, "--converged", "20", "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "FD[mnist-cnn]@20" in done.stdout.replace("\n", "")
    assert str(tmp_path) in done.stdout
    assert "converged" in done.stderr  # the progress bar
    (record,) = records(tmp_path)
    assert set(record) >= FIELDS
    assert (record["problem"], record["nfe"], record["n_samples"]) == ("mnist", 20, 20)
    pictures = sorted(path.name for path in tmp_path.glob("*.png"))
    assert len(pictures) == 4, pictures


def test_several_solvers_and_budgets_make_one_record_each(tmp_path):
    solvers, budgets = ["ddim", "dpm3", "em", "ode:method=rk4", "torchsde"], ["5", "10"]
    assert (
        benchmark(tmp_path, "--problem", "gmm2", "--solver", *solvers, "--nfe", *budgets, "--n-samples", "64")
        == 0
    )
    found = records(tmp_path)
    assert [(r["solver"], r["nfe_requested"]) for r in found] == [
        (s, int(n)) for s in solvers for n in budgets
    ]
    for record in found:
        # Counted calls, not a formula: dpm3 makes three in a step, and rk4 four.
        each = {"dpm3": 3, "ode:method=rk4": 4}.get(record["solver"], 1)
        assert record["nfe"] == record["nfe_requested"] // each * each
        assert (record["rmse_to_converged"] is None) == (record["solver"] in ("em", "torchsde"))
        assert 0 < record["seconds_network"] < record["seconds"]


def test_the_error_falls_with_the_budget_and_the_converged_run_has_none(tmp_path):
    arguments = [
        "--problem",
        "gmm64",
        "--spacing",
        "uniform-lambda",
        "--converged",
        "128",
        "--n-samples",
        "200",
    ]
    assert benchmark(tmp_path, *arguments, "--solver", "dpmpp-3m", "--nfe", "8", "16", "32", "128") == 0
    errors = [record["rmse_to_converged"] for record in records(tmp_path)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == 0  # the same plan from the same noise, to the bit
    assert records(tmp_path)[-1]["fd_reference"] < 1e-6  # rounding of the moments


def test_samples_do_not_depend_on_the_batch_size(tmp_path):
    for size in ("16", "50"):
        assert benchmark(tmp_path / size, "--problem", "gmm2", "--n-samples", "50", "--batch-size", size) == 0
    first, second = (records(tmp_path / size)[0] for size in ("16", "50"))
    assert first["fd"] == pytest.approx(second["fd"], rel=1e-4)  # float32 kernels of another batch size


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_measured_by_its_own_clock(tmp_path):
    arguments = ["--solver", "ddim", "--nfe", "4", "--n-samples", "64", "--converged", "8"]
    assert benchmark(tmp_path, *arguments, "--device", "cuda") == 0
    (record,) = records(tmp_path)
    assert record["device_name"] == torch.cuda.get_device_name()
    assert 0 < record["seconds_network"] <= 1.1 * record["seconds"]  # by events and by a clock


@pytest.mark.usefixtures("undrawn")
def test_what_has_a_line_is_not_drawn_again(tmp_path, capsys):
    first = [*GMM2, "--solver", "ddim"]
    assert benchmark(tmp_path, *first, "--nfe", "4") == 0
    before = (tmp_path / "results.jsonl").read_bytes()
    capsys.readouterr()
    assert benchmark(tmp_path, *first, "--nfe", "4", "5") == 0
    printed = capsys.readouterr()
    assert "1 of 2 runs are in" in printed.err
    assert [record["nfe"] for record in records(tmp_path)] == [4, 5]
    assert (tmp_path / "results.jsonl").read_bytes().startswith(before)
    assert printed.out.count("│ ddim") == 2  # the table has both
    for other in (["--seed", "1"], ["--n-samples", "21"], ["--spacing", "beta"], ["--to-clean"], ["--again"]):
        assert benchmark(tmp_path, *first, "--nfe", "4", *other) == 0
    assert len(records(tmp_path)) == 7


@pytest.mark.usefixtures("undrawn")
def test_a_line_from_before_there_were_keys_counts(tmp_path):
    assert benchmark(tmp_path, *GMM2, "--nfe", "4") == 0
    (record,) = records(tmp_path)
    del record["key"]
    (tmp_path / "results.jsonl").write_text(json.dumps(record) + "\n")
    assert benchmark(tmp_path, *GMM2, "--nfe", "4") == 0
    assert records(tmp_path) == [record]
    # unless its names alone do not decide it
    (tmp_path / "results.jsonl").write_text(json.dumps(record | {"key": "another network"}) + "\n")
    assert benchmark(tmp_path, *GMM2, "--nfe", "4") == 0
    assert len(records(tmp_path)) == 2


@pytest.mark.usefixtures("undrawn")
def test_one_failing_solver_does_not_stop_those_after_it(tmp_path, capsys):
    """Its tolerance needs far more calls than its budget, which shows only in the run."""
    solvers = ["ddim", "dpm-adaptive-12:rtol=1e-8", "dpm2"]
    assert benchmark(tmp_path, *GMM2, "--solver", *solvers, "--nfe", "6") == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("run.py: dpm-adaptive-12:rtol=1e-8 at 6 calls failed: ")
    assert said[1:] == ["run.py: 1 of 3 runs failed"]
    assert [record["solver"] for record in records(tmp_path)] == ["ddim", "dpm2"]
    assert benchmark(tmp_path / "none", *GMM2, "--solver", solvers[1], "--nfe", "6") == 2


@pytest.mark.usefixtures("undrawn")
def test_an_interrupted_benchmark_keeps_its_lines_and_goes_on(tmp_path, monkeypatch, capsys):
    measured = []
    measure = run.Bench.measure

    def interrupted(self, asked, *rest):
        measured.append(asked.solver)
        if len(measured) == 2:
            raise KeyboardInterrupt
        return measure(self, asked, *rest)

    monkeypatch.setattr(run.Bench, "measure", interrupted)
    arguments = [*GMM2, "--solver", "ddim", "dpm2", "heun", "--nfe", "4"]
    assert benchmark(tmp_path, *arguments) == 130
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "after 1 of 3 runs" in said
    assert len(records(tmp_path)) == 1
    assert benchmark(tmp_path, *arguments) == 0
    assert measured == ["ddim", "dpm2", "dpm2", "heun"]
    assert [record["solver"] for record in records(tmp_path)] == ["ddim", "dpm2", "heun"]


def test_out_may_be_a_file_of_lines(tmp_path, capsys):
    out = tmp_path / "deep" / "x.jsonl"
    assert run.main([*GMM2, "--nfe", "4", "--quiet", "--out", str(out)]) == 0
    assert len(out.read_text().splitlines()) == 1
    listed = [line for line in capsys.readouterr().out.splitlines() if str(tmp_path) in line]
    assert [line.split(":")[0] for line in listed] == ["samples", "curves", "curves", "curves", "JSON lines"]
    assert sorted(path.suffix for path in out.parent.iterdir()) == [".jsonl", *[".png"] * 4, ".safetensors"]


def test_the_whole_file_is_drawn_and_what_is_no_line_is_named(tmp_path, capsys, monkeypatch):
    file = tmp_path / "results.jsonl"
    file.write_text('{"half": \n' + json.dumps(figured()) + "\n" + json.dumps(figured(fd=1.5)) + "\n{")
    drawn = []
    monkeypatch.setattr(run, "draw_curves", lambda lines, *_: drawn.extend(lines) or [])
    assert benchmark(tmp_path, *GMM2, "--nfe", "4") == 0
    assert [line["problem"] for line in drawn] == ["p", "p", "gmm2"]
    said = capsys.readouterr().err
    assert f"{file}, line 1: skipped" in said
    assert f"{file}, line 4: skipped" in said


def test_figures_that_cannot_be_compared_never_share_a_table(tmp_path, capsys):
    for n in ("50", "60"):
        assert benchmark(tmp_path, "--problem", "gmm2", "--n-samples", n) == 0
    assert len(plot.groups(records(tmp_path))) == 2
    capsys.readouterr()
    assert plot.main([str(tmp_path / "results.jsonl"), "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("solver") == 2
