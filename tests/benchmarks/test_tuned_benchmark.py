"""The benchmark of tuned solvers, on a small problem."""

import json
import shlex
from dataclasses import replace

import evaluation
import pytest
import torch
import tuned
from bars import ABLATIONS, BARS, settled
from problems import make_problem

from scoresde import Karras, Plan, tune
from scoresde.solvers import DPMSolverPP
from scoresde.tuning import Settings

FEW = shlex.split(
    "--problem gmm2 --sde edm --nfe 3 --n-samples 60 --screen 20 --best 1 --converged 16 --quiet "
    "--solver ddim dpmpp-2m --spacing karras --samples 32 --held-out 32 --seed 0 1"
)


def test_tuned_and_the_best_stock_solver_stand_in_a_table(tmp_path, capsys):
    sde = make_problem("gmm2", "edm").denoiser.sde
    plan = replace(Plan.make(DPMSolverPP(2), sde, 3, Karras()), about=None)
    plan.save(tmp_path / "plans" / "tuned-3.json")
    assert tuned.main([*FEW, "--plans", str(tmp_path / "plans"), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert printed.count("| edm | 3 | ") == len(tuned.MEASURES)
    lines = (tmp_path / "out" / "tuned.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    stock = [r for r in records if r["solver"] == "dpmpp-2m on karras"]
    ours = [r for r in records if r["solver"] == "tuned"]
    assert [r["seed"] for r in ours] == [0, 1]
    before = (tmp_path / "out" / "tuned.jsonl").read_bytes()
    assert tuned.main([*FEW, "--plans", str(tmp_path / "plans"), "--out", str(tmp_path / "out")]) == 0
    assert printed == capsys.readouterr().out  # from the lines: no run is repeated
    assert (tmp_path / "out" / "tuned.jsonl").read_bytes() == before
    last = plan.lines[-1]
    near = replace(last, row=((last.row[0][0], last.row[0][1] * (1 + 1e-9)), *last.row[1:]))
    replace(plan, lines=(*plan.lines[:-1], near)).save(tmp_path / "plans" / "tuned-3.json")
    assert tuned.main([*FEW, "--plans", str(tmp_path / "plans"), "--out", str(tmp_path / "out")]) == 0
    after = (tmp_path / "out" / "tuned.jsonl").read_text().splitlines()
    assert len(after) == len(lines) + 2  # a plan that differs in one digit has other lines
    for a, b in zip(stock, ours, strict=False):  # the same plan has the same measures
        assert all(a[measure] == pytest.approx(b[measure], rel=1e-4) for measure in tuned.MEASURES)


def record(solver, seed, value, nfe=6):
    about = {"problem": "mnist", "sde": "edm", "nfe": nfe, "seed": seed, "solver": solver}
    return about | dict.fromkeys((*tuned.MEASURES, "fd"), value)


def test_the_bars_are_those_of_the_oracle():
    records = [record("tuned", seed, 0.5) for seed in (0, 1)]
    records += [record("a", 0, 1.0), record("a", 1, 3.0), record("b", 0, 2.0), record("b", 1, 2.0)]
    records += [record("a", seed, 0.6, 12) for seed in (0, 1)]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in tuned.table(records).split("\n")[2:]]
    assert [row[2] for row in rows] == [*tuned.MEASURES, "fd, stock at 12 calls"]
    assert all(row[4:7] == ["1.5 ± 0.7", "a, b", "0.333"] for row in rows[:2])
    assert [row[-1] for row in rows] == ["holds"] * 3
    assert "**fails**" in tuned.table([r | {"rmse": 1.1} if r["solver"] == "tuned" else r for r in records])


def test_an_ablation_tunes_each_part(tmp_path, monkeypatch, capsys):
    asked = []

    def tune(denoiser, nfe, shape, *, settings, state, **rest):
        teacher = state / "teacher.safetensors"
        assert teacher.exists() == bool(asked)  # one teacher for all
        teacher.write_text("converged")
        asked.append(settings)
        return replace(Plan.make(DPMSolverPP(2), denoiser.sde, nfe), about={"tuned": True}), None

    monkeypatch.setattr(evaluation, "tune", tune)
    assert tuned.main([*FEW, "--ablation", "--out", str(tmp_path)]) == 0
    few = evaluation.Settings(samples=32, held_out=32)
    assert asked == [replace(few, **changed) for changed in ABLATIONS.values()]
    printed = capsys.readouterr().out
    assert tuned.main([*FEW, "--ablation", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == printed
    assert len(asked) == len(ABLATIONS)  # from the files
    assert all(f"| {name} |" in printed for name in ABLATIONS)
    assert tuned.main([*FEW, "--nfe", "1", "--out", str(tmp_path)]) == 2


def test_what_is_not_given_is_as_the_bars_ask():
    options = tuned.parser().parse_args([])
    assert options.problem == ["mnist", "gmm64"]
    for problem in options.problem:
        own = settled(options, problem)
        assert set(own.nfe) == set(BARS[problem]["rmse"])
        assert (own.problem, own.n_samples, own.seed) == (problem, 10_000, [0, 1, 2])
    assert own.sde == ["edm", "vp", "rectified-flow"]
    assert own.plans is None
    given = settled(tuned.parser().parse_args(["--nfe", "6", "--no-compile", "--tune"]), "mnist")
    assert (given.nfe, given.compile, given.plans) == ([6], False, None)
    assert tuned.main(["--problem", "gmm63"]) == 2


def test_a_fit_for_low_precision_is_in_float32_and_only_its_race_is_not(tmp_path, monkeypatch):
    asked = []

    def tune(denoiser, nfe, shape, *, draft, state, **rest):
        asked.append((denoiser.dtype, draft.dtype))
        (state / "teacher.safetensors").write_text("converged")
        return replace(Plan.make(DPMSolverPP(2), denoiser.sde, nfe), about={"tuned": True}), None

    monkeypatch.setattr(evaluation, "tune", tune)
    given = shlex.split(f"--problem mnist --nfe 3 --no-compile --tune --quiet --out {tmp_path}")
    options = settled(tuned.parser().parse_args(given), "mnist")
    assert evaluation.Evaluation(options, "edm").tuned(3).nfe == 3
    assert asked == [(torch.float32, torch.bfloat16)]


def test_on_gmm64_a_tuning_starts_from_the_new_solvers_and_levels():
    """5 calls, against what was best before."""
    problem = make_problem("gmm64", "edm")
    solvers = ("velocity-p2c3", "velocity-p3c4", "unic", "velocity-adams", "ipndm", "deis", "dpmpp-2m")
    settings = Settings(samples=64, held_out=64, bands=0, iterations=0, solvers=solvers)
    report = tune(problem.denoiser, 5, problem.shape, settings=settings, batch_size=512)[1]
    assert report.start.startswith("velocity-p")
    assert " on flow-time:exponent=1.5" in report.start
