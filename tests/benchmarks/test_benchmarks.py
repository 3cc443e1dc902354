"""The benchmark's command line, run as a user runs it, and its parts."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import pictures  # noqa: E402
import plot  # noqa: E402
import run  # noqa: E402
from problems import MNIST_CLASSES, PROBLEMS, make_problem  # noqa: E402

from scoresde import Counted, prepare, sample  # noqa: E402

FIELDS = {
    *("solver", "sde", "spacing", "problem", "nfe_requested", "nfe", "n_samples", "device", "dtype", "seed"),
    *("fd", "fd_features", "fd_reference", "rmse_to_converged", "peak_memory_mb", "versions"),
    *("seconds", "seconds_network", "seconds_per_1k_samples"),
}


def records(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def figured(**fields):
    """A line as run.py writes it, where the fields do not say otherwise."""
    return {
        **{"solver": "ddim", "sde": "edm", "spacing": "karras", "to_clean": False, "problem": "p", "seed": 0},
        **{"nfe_requested": 10, "nfe": 10, "n_samples": 10, "batch_size": 10, "checkpoint": "shipped"},
        **{"fd": 2.0, "fd_features": "FD[x]@10", "fd_reference": 1.0, "fd_converged": 1.0},
        **{"fd_held_out": None, "held_out_count": None, "rmse_to_converged": 0.1, "converged_nfe": 64},
        **{"seconds": 1.0, "seconds_network": 0.9, "seconds_per_1k_samples": 2.0, "peak_memory_mb": 9.0},
        **{"device_name": "here", "dtype": "float32", "compiled": False, "versions": {"torch": "2"}},
        **fields,
    }


def benchmark(folder, *arguments):
    return run.main([*arguments, "--out", str(folder), "--quiet"])


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
        # Counted calls, not a formula: dpm3 takes threes and rk4 fours.
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


@pytest.mark.parametrize("sde", ["vp", "sub-vp", "ve", "cosine", "edm", "rectified-flow", "ddpm"])
@pytest.mark.parametrize("name", ["mnist", "gmm2", "gmm64"])
def test_every_problem_runs_under_every_sde(name, sde):
    problem = make_problem(name, sde)
    cond = problem.labels(torch.arange(2)) if problem.labels else None
    counted = Counted(problem.denoiser)
    x = sample(counted, "dpmpp-2m", (2, *problem.shape), nfe=6, cond=cond)
    assert torch.isfinite(x).all()
    assert x.abs().max() < 4  # data, not noise
    assert counted.calls == 6


def test_mixtures_at_convergence_have_the_moments_of_their_data():
    for name in ("gmm2", "gmm64"):
        problem = make_problem(name, "vp")
        x = sample(problem.denoiser, "dpmpp-3m", (4000, *problem.shape), nfe=64)
        mean = x.double().mean(0)
        # Four standard errors of a mean of 4,000.
        assert (mean - problem.data.mean).abs().max() < 4 * problem.data.cov.diag().max().sqrt() / 4000**0.5


def test_labels_have_the_shares_of_the_training_set_in_any_stretch():
    labels = make_problem("mnist", "edm").labels
    shares = torch.tensor(MNIST_CLASSES) / sum(MNIST_CLASSES)
    for first in (0, 12_345):
        counts = torch.bincount(labels(torch.arange(first, first + 1000)), minlength=10)
        # A golden-ratio sequence of 1,000 misses any interval's share by a few points at most.
        assert (counts - 1000 * shares).abs().max() < 5


def test_figures_that_cannot_be_compared_never_share_a_table(tmp_path, capsys):
    for n in ("50", "60"):
        assert benchmark(tmp_path, "--problem", "gmm2", "--n-samples", n) == 0
    assert len(plot.groups(records(tmp_path))) == 2
    capsys.readouterr()
    assert plot.main([str(tmp_path / "results.jsonl"), "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("solver") == 2


def test_of_a_crowd_the_best_at_each_budget_stand_out():
    made = [
        {"problem": "p", "sde": "edm", "n_samples": 10, "spacing": "karras", "solver": f"s{i}"}
        | {"nfe": nfe, "nfe_requested": nfe, "fd": abs(nfe - i) + 1.0}
        for i in range(20)
        for nfe in (5, 12)
    ]
    made = [figured(**record) for record in made]
    figure = pictures.curves_of(pictures.Axis("fd-nfe", "nfe", "fd"), made)
    (legend,), (axis,) = figure.legends, figure.axes
    named = [text.get_text() for text in legend.get_texts()]
    assert named == ["s5", "s12", "converged run, 1"]
    assert (
        len([line for line in axis.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"]) == 20
    )
    pictures.plt.close(figure)


def test_the_best_of_a_budget_come_with_their_better_spacing():
    same = dict.fromkeys(plot.SAME, 0) | {"problem": "p", "fd_features": "FD[x]@10", "nfe_requested": 5}
    made = [
        same | {"solver": solver, "spacing": spacing, "fd": fd, "rmse_to_converged": rmse, "nfe": 5}
        for solver, spacing, fd, rmse in [
            ("a", "karras", 3.0, 0.5),
            ("a", "beta", 2.0, 0.7),
            ("b", "beta", 2.5, 0.6),
            ("c", "beta", 1.0, None),
        ]
    ]
    by_distance, by_error = plot.best(made, 2).split("\n\n")
    assert by_distance.splitlines()[-1] == "| 5 | `c`, beta: 1 | `a`, beta: 2 |"
    assert by_error.splitlines()[-1] == "| 5 | `a`, karras: 0.5 | `b`, beta: 0.6 |"


def test_a_converged_run_is_reused_only_for_the_same_samples(tmp_path):
    for seed in ("0", "0", "1"):
        drawn = ["--problem", "gmm2", "--n-samples", "50", "--seed", seed, "--again"]
        assert benchmark(tmp_path, *drawn) == 0
    assert len(list(tmp_path.glob("converged-*"))) == 2
    first, second, other = records(tmp_path)
    assert first["fd"] == second["fd"] != other["fd"]


def test_the_stopwatch_counts_and_times_calls():
    from stopwatch import Timed, peak_memory_mb, reset_peak_memory

    problem = make_problem("gmm2", "edm")
    ticks = []
    timed = Timed(problem.denoiser, torch.device("cpu"), lambda: ticks.append(1))
    sample(timed, "heun", (8, 2), nfe=9)
    assert timed.calls == len(ticks) == prepare("heun", timed.sde, 9).nfe == 8
    assert timed.seconds() > 0
    assert timed.seconds() == 0  # asked for once
    reset_peak_memory(torch.device("cpu"))
    before = peak_memory_mb(torch.device("cpu"))
    block = torch.ones(2**24)  # 64 MiB
    assert peak_memory_mb(torch.device("cpu")) - before > 50
    del block


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
    with pytest.raises(SystemExit, match="2"):
        run.main([*arguments, "--out", str(tmp_path / "out")])
    assert "Traceback" not in capsys.readouterr().err


def test_an_out_that_cannot_be_written_is_refused_before_sampling(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run.main(["--out", str(tmp_path / "file")]) == 2
    assert "file" in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_measured_by_its_own_clock(tmp_path):
    arguments = ["--solver", "ddim", "--nfe", "4", "--n-samples", "64", "--converged", "8"]
    assert benchmark(tmp_path, *arguments, "--device", "cuda") == 0
    (record,) = records(tmp_path)
    assert record["device_name"] == torch.cuda.get_device_name()
    assert 0 < record["seconds_network"] <= 1.1 * record["seconds"]  # by events and by a clock


def test_every_problem_has_a_name():
    assert sorted(PROBLEMS) == ["digits", "gmm2", "gmm64", "mnist"]


def test_inception_features_with_random_weights(tmp_path):
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", exc_type=ImportError)
    from inception import inception_features

    class Bare(fidelity.FeatureExtractorInceptionV3):
        def load_state_dict(self, state, *args):
            return None

    weights = tmp_path / "weights.pth"
    torch.save({}, weights)
    torch.manual_seed(0)
    torch.save(Bare("inception", ["2048"], feature_extractor_weights_path=str(weights)).state_dict(), weights)
    _, of = inception_features(weights)
    features = of(torch.randint(256, (2, 1, 28, 28), dtype=torch.uint8))
    assert features.shape == (2, 2048)
    assert torch.isfinite(features).all()


GMM2 = ["--problem", "gmm2", "--n-samples", "20", "--converged", "20"]


@pytest.fixture
def undrawn(monkeypatch):
    """No pictures of curves, which take a second a run."""
    monkeypatch.setattr(run, "draw_curves", lambda *_: [])


@pytest.mark.usefixtures("undrawn")
def test_the_converged_run_ends_where_the_runs_do(tmp_path):
    """The same plan from the same noise, to the bit, on either end."""
    own = ["--solver", "dpmpp-3m", "--nfe", "20", "--spacing", "uniform-lambda"]
    for end in ([], ["--to-clean"]):
        assert benchmark(tmp_path, *GMM2, *own, *end) == 0
    assert [record["rmse_to_converged"] for record in records(tmp_path)] == [0, 0]
    assert len(list(tmp_path.glob("converged-*"))) == 2
    assert len(plot.groups(records(tmp_path))) == 2


def test_the_key_of_a_converged_run_is_that_of_files_from_before():
    """Kept by hand: an old file would be drawn again under another key."""
    import hashlib
    from argparse import Namespace

    from converged import key_of

    options = Namespace(n_samples=50, batch_size=25, seed=3, dtype="float32", to_clean=False)
    problem = make_problem("gmm2", "edm")
    parts = ("gmm2", repr(problem.denoiser.sde), 50, 25, 3, "float32", 64, run_version())
    assert key_of(problem, options, 64) == hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    assert key_of(problem, Namespace(**vars(options) | {"to_clean": True}), 64) != key_of(
        problem, options, 64
    )


def run_version():
    from importlib.metadata import version

    return version("scoresde")


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
    # unless more than its names decides it
    (tmp_path / "results.jsonl").write_text(json.dumps(record | {"key": "another network"}) + "\n")
    assert benchmark(tmp_path, *GMM2, "--nfe", "4") == 0
    assert len(records(tmp_path)) == 2


@pytest.mark.usefixtures("undrawn")
def test_one_failing_solver_does_not_stop_those_after_it(tmp_path, capsys):
    """Its budget is far below what its tolerance asks for, which only the run can tell."""
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
    assert f"{file}, line 1: left out" in said
    assert f"{file}, line 4: left out" in said


# Command lines that no one means; 0 or 2, and one line.
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
    try:
        status = module.main(arguments)
    except SystemExit as end:  # of argparse
        status = end.code
    said = capsys.readouterr().err
    assert status in (0, 2), said
    assert "Traceback" not in said
    assert "unexpected" not in said
    assert status == 0 or said.splitlines()[-1].startswith((f"{program}.py: ", "usage"))
