"""Bad command lines of all programs: one line on stderr, status 2, and nothing written."""

import importlib
import re

import pytest
import run

BAD = {
    "unknown solver": (["--solver", "dmp2"], "dmp2.*dpm2"),
    "unknown solver option": (["--solver", "ddim:etta=1"], "etta.*eta"),
    "unknown sde": (["--sde", "vpp"], "vpp.*vp"),
    "unknown spacing": (["--spacing", "karas"], "karas.*karras"),
    "unknown problem": (["--problem", "mnits"], "mnits.*mnist"),
    "unknown features": (["--features", "fid", "--data", "x"], "fid"),
    "features without data": (["--features", "pixels"], "--data"),
    "nfe 0": (["--nfe", "0"], "nfe.*0"),
    "nfe negative": (["--nfe", "-3"], "nfe.*-3"),
    "nfe too small": (["--solver", "dpm3", "--nfe", "2"], "at least 3.*2"),
    "no samples": (["--n-samples", "0"], "n-samples.*0"),
    "batch of none": (["--batch-size", "0"], "batch-size.*0"),
    "unknown device": (["--device", "gpuu"], "gpuu"),
    "unknown dtype": (["--dtype", "int8"], "int8"),
    "missing checkpoint": (["--checkpoint", "nowhere.safetensors"], "nowhere"),
    "digits without network": (["--problem", "digits"], "checkpoint"),
    "exact score with checkpoint": (["--problem", "gmm2", "--checkpoint", "x"], "checkpoint"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_writes_nothing(case, tmp_path, capsys):
    arguments, pattern = BAD[case]
    out = tmp_path / "out"
    assert run.main([*arguments, "--out", str(out)]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert re.search(pattern, printed.err), printed.err
    assert not out.exists()


@pytest.mark.parametrize("arguments", [["--nfe", "2.5"], ["--nope"], ["--n-samples", "many"]])
def test_bad_syntax_exits_with_2(arguments, tmp_path, capsys):
    assert run.main([*arguments, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("run.py: ")
    assert said.count("\n") == 1
    assert arguments[0] in said


def test_an_out_that_cannot_be_written_is_refused_before_sampling(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run.main(["--out", str(tmp_path / "file")]) == 2
    assert "file" in capsys.readouterr().err


# Hostile command lines: status 0, or 2 with one line.
HOSTILE = [
    ("run", "--nfe 99999999999999999999999 --solver ddim --problem gmm2x"),
    ("run", "--seed 99999999999999999999999999 --problem gmm2 --n-samples 4 --converged 4 --nfe 3"),
    ("run", "--seed -1 --problem gmm2 --n-samples 4 --converged 4 --nfe 3"),
    ("run", "--converged 0 --problem gmm2"),
    ("run", "--converged -5 --problem gmm2"),
    ("run", "--solver ddim:[[[[ --problem gmm2"),
    ("run", "--solver [bold]ddim[/bold] --problem gmm2"),
    ("run", "--solver tuned:/dev/null --problem gmm2"),
    ("run", "--solver tuned:. --problem gmm2"),
    ("run", "--solver tuned:é.json --problem gmm2"),
    ("run", "--solver ode:method=dopri5,rtol=-1 --problem gmm2"),
    ("run", "--spacing karras:rho=nan --problem gmm2"),
    ("run", "--spacing karras:rho=1e999 --problem gmm2"),
    ("run", "--problem [/red] --n-samples 4"),
    ("run", "--problem " + "x" * 5000),
    ("run", "--problem \x00"),
    ("run", "--features pixels --data \x00"),
    ("run", "--features pixels --data /dev/null"),
    ("run", "--features inception --data digits --inception-weights /dev/null"),
    ("run", "--checkpoint /"),
    ("run", "--checkpoint /dev/null"),
    ("run", "--problem gmm2 --n-samples 4 --out x.png"),
    ("run", "--problem gmm2 --n-samples 4 --out /dev/null/x"),
    ("run", "--problem gmm2 --n-samples 4 --out " + "y" * 300),
    ("run", "--device cuda:999"),
    ("run", "--device meta --problem gmm2"),
    ("compare", "--out /dev/null/x --problem gmm2 --n-samples 4"),
    ("compare", "--nfe 4 --problem gmm2 --n-samples 4 --seed 99999999999999999999999"),
    ("compare", "--nfe 4 --problem gmm2 --n-samples 4 --converged -1"),
    ("levels", "--out /dev/null/x"),
    ("levels", "--part [/red]"),
    ("levels", "--part sde --sde edm --nfe 0"),
    ("levels", "--part mixtures --converged -1"),
    ("levels", "--part shipped --n-samples 99999999999999999999999999 --nfe 1"),
    ("certify", "--solver [/] --jobs 1"),
    ("certify", "--solver ddim --jobs 99999999999999999999 --out /"),
    ("certify", "--solver ddim --sde edm --quick --markdown /dev/null/x"),
    ("latency", "--solver tuned:x.json"),
    ("latency", "--batch-size -1"),
    ("latency", "--nfe 0"),
    ("latency", "--out x.csv"),
    ("overhead", "--solver [red]x"),
    ("overhead", "--batch-size 0"),
    ("overhead", "--solver ddim --repeats 1 --out /"),
    ("tuned", "--problem gmm2 --n-samples 4 --screen 4 --nfe 3 --plans /dev/null"),
    ("tuned", "--problem gmm2 --nfe 3 --n-samples 4 --screen 2 --solver [/x] --tune"),
    ("tuned", "--problem gmm2 --out x.json --nfe 3 --n-samples 4 --screen 2"),
    ("tuned", "--problem gmm2 --nfe 3 --n-samples 4 --screen 2 --seed -1 --converged 0"),
    ("plot", "/dev/null"),
    ("plot", "/"),
    ("plot", "results.jsonl --best 0"),
    ("plot", "\x00"),
    ("train_features", "--data / --out x"),
    ("train_features", "--data x.npz --out /dev/null/x --epochs -1"),
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
@pytest.mark.usefixtures("undrawn")
def test_no_command_line_ends_in_a_traceback(number, tmp_path, monkeypatch, capsys):
    program, line = HOSTILE[number]
    module = importlib.import_module(program)
    monkeypatch.chdir(tmp_path)
    arguments = line.split(" ")
    status = module.main(arguments)
    said = capsys.readouterr().err
    assert status in (0, 2), said
    assert "Traceback" not in said
    assert "unexpected" not in said
    assert status == 0 or said.splitlines()[-1].startswith(f"{program}.py: ")
