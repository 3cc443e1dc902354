"""benchmarks/posterior.py: exact posteriors as truth, planted methods, records that are kept, and bars."""

import json
import math
import re
import shlex
from importlib.util import find_spec

import posterior
import posterior_digits
import posterior_methods
import pytest
import tilted_law
import torch
from posterior_digits import Digits, digits_table
from posterior_methods import END, EXACT, METHODS, Task, by_path, covariance_of
from posterior_peers import azula_methods
from posterior_problems import OPEN, PROBLEMS
from posterior_tables import BARS, rows_of, verdict, verdicts
from posterior_truth import Truth
from tilted_law import sliced_w2, tilted_table

from scoresde.conditioning import Observed, Pool, Posterior
from scoresde.conditioning.operators import Matrix
from scoresde.pretrained import pretrained

SMALL = "--observations 2 --draws 64 --seeds 1 --samples 64 --truths 2 --quiet"


def run(out, arguments):
    """The records of the program's lines."""
    assert posterior.main([*shlex.split(f"{SMALL} {arguments}"), "--out", str(out)]) == 0
    return [json.loads(line) for line in (out / "posterior.jsonl").read_text().splitlines()]


# ------------------------------------------------------------------------------------------ the problems


@pytest.mark.parametrize("name", ["mix2", "mix16", "pool64"])
def test_the_observations_leave_modes_open(name):
    problem = PROBLEMS[name]()
    for tau in problem.taus:
        y = problem.observations(tau, 20, 0)
        shares = problem.prior.condition(problem.matrix, y, tau).shares
        assert y.shape == (20, len(problem.matrix))
        assert (shares.amax(1) < OPEN).all()


def test_mix16_is_the_model_of_half_a_digit():
    """Pairs agree in what is seen; 8 % of the observations are ambiguous at .05, and 83 % at .5 (+- 2 %)."""
    problem = PROBLEMS["mix16"]()
    seen = problem.prior.means @ problem.matrix.mT
    assert torch.equal(seen[::2], seen[1::2])
    x = problem.prior.sample(5000, 3)
    for tau, share in ((0.05, 0.08), (0.5, 0.83)):
        found = problem.ambiguous(problem.observed(x, tau, 3), tau).double().mean().item()
        assert found == pytest.approx(share, abs=0.02)


def test_pooling_hides_the_pattern_of_pool64():
    problem = PROBLEMS["pool64"]()
    means = problem.prior.means
    assert (means[::2] - means[1::2]).std() > 0.5
    torch.testing.assert_close(means[::2] @ problem.matrix.mT, means[1::2] @ problem.matrix.mT)
    picture = torch.arange(64.0, dtype=torch.float64).reshape(1, 8, 8)
    torch.testing.assert_close(picture.flatten(1) @ problem.matrix.mT, Pool(2).forward(picture).flatten(1))


# --------------------------------------------------------------------------------------------- the truth


def test_exact_draws_have_no_error_but_that_of_their_number():
    """4,096 draws a posterior: weights to .8 / 64, moments to 3 %, W2 to 3 deviations / 64."""
    problem = PROBLEMS["mix16"]()
    truth = Truth(problem, 0.5, problem.observations(0.5, 3, 0), END, 4096)
    found = truth.figures(truth.exact_draws(0))
    assert found["w2"] < 0.05
    assert found["weights"] < 0.02
    assert found["spread"] == pytest.approx(1, abs=0.03)
    assert found["residual"] == pytest.approx(1, abs=0.03)


def test_the_errors_of_planted_draws():
    """Draws beside their mean: a shift of all; draws of one component alone."""
    problem = PROBLEMS["gauss16"]()
    truth = Truth(problem, 0.5, problem.observations(0.5, 2, 0), END, 1024)
    exact, shift = truth.exact_draws(0), torch.zeros(16, dtype=torch.float64)
    shift[-1] = 5.0  # unseen, so the residual stays
    before, after = truth.figures(exact), truth.figures(exact + shift)
    along = truth.directions[:, -1].square().mean().sqrt().item()
    assert after["w2"] == pytest.approx(5 * along / truth.deviations.mean().item(), rel=0.02)
    for name in ("spread", "residual"):
        assert after[name] == pytest.approx(before[name], rel=1e-9)

    problem = PROBLEMS["mix2"]()
    truth = Truth(problem, 0.05, problem.observations(0.05, 4, 0), END, 8)
    largest = truth.posteriors.shares.argmax(1)
    centres = truth.posteriors.means[torch.arange(4), largest].repeat_interleave(8, 0)
    found = truth.figures(centres)
    assert found["spread"] == pytest.approx(0, abs=1e-12)
    own = truth.of_draws.responsibilities(centres, END)[::8]
    expected = (own - truth.posteriors.shares).abs().sum(1).mean().item() / 2
    assert found["weights"] == pytest.approx(expected, rel=1e-9)
    assert truth.figures(centres * math.nan)["w2"] is None


# ------------------------------------------------------------------------------------------- the methods


def test_a_planted_wrong_method_is_worse(monkeypatch, tmp_path):
    """With five times the noise that y has; on gauss16 the right one is exact, and near the floor."""

    def wrong(task):
        observed = Observed(Matrix(task.problem.matrix), None, 5 * task.tau)
        return Posterior(task.denoiser, observed, covariance_of(task.problem))

    monkeypatch.setitem(METHODS, "planted", by_path(wrong))
    chosen = "--part mixtures --problem gauss16 --method 'exact draws' planted 'data covariance'"
    records = run(tmp_path, chosen)
    assert len(records) == 6
    for tau in (0.05, 0.5):
        w2 = {r["method"]: r["w2"] for r in records if r["tau"] == tau}
        assert w2["data covariance"] < 1.5 * w2["exact draws"]
        assert w2["planted"] > 2 * w2["data covariance"]
    assert (tmp_path / "posterior.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_command_repeats_no_run(monkeypatch, tmp_path, capsys):
    chosen = f"--part mixtures --problem mix2 --method '{EXACT}' 'Jacobian, 3' 'SMC-16, isotropic'"
    before = run(tmp_path, chosen)
    printed = capsys.readouterr().out
    costs = {r["method"]: (r["calls"], r["vjps"]) for r in before}
    assert costs == {EXACT: (50, 0), "Jacobian, 3": (50, 150), "SMC-16, isotropic": (101, 0)}
    monkeypatch.setattr(posterior_methods, "sample", None)
    assert run(tmp_path, chosen) == before
    assert capsys.readouterr().out == printed
    assert "isotropic" in printed


@pytest.mark.skipif(not find_spec("azula"), reason="needs azula")
def test_each_method_of_azula_runs_at_its_cost():
    """On one normal law its JFPS and MMPS are exact but for first-order steps: W2 near the floor."""
    problem, draws = PROBLEMS["gauss16"](), 64
    y = problem.observations(0.5, 2, 0)
    task, truth = Task(problem, 0.5, y, draws, 0), Truth(problem, 0.5, y, END, draws)
    floor = truth.figures(truth.exact_draws(0))["w2"]
    for name, method in azula_methods():
        drawn = method.draw(task)
        vjps = {"azula JFPS, solved": 0, "azula DiffPIR": 0, "azula MMPS, 3": 400}
        vjps |= dict.fromkeys(("azula MMPS, 1", "azula TMPD"), 200)
        assert drawn.cost == (100, vjps.get(name, 100)), name
        w2 = truth.figures(drawn.x)["w2"]
        assert w2 is not None
        if name in ("azula JFPS, solved", "azula MMPS, 3"):
            assert w2 < 1.4 * floor


# ------------------------------------------------------------------------------------------ the verdicts


def record(problem, tau, method, w2, weights, seed=0):
    about = {"problem": problem, "tau": tau, "method": method, "seed": seed, "calls": 50, "vjps": 0}
    return about | {"w2": w2, "weights": weights, "spread": 1.0, "residual": 1.0}


def test_bars_hold_for_means_over_seeds():
    name = "data covariance"
    records = [record("mix16", 0.05, name, w2, 0.1, seed) for seed, w2 in enumerate((0.5, 0.69))]
    records += [record("pool64", 0.05, EXACT, 0.2, 0.01), record("pool64", 0.05, name, 0.24, 0.07)]
    found = rows_of(records)
    assert found["mix16", 0.05][name].error == pytest.approx(0.19 / 2)
    table = verdicts(found)
    assert list(table.columns[3].cells) == ["0.595 (0.6) holds", "0.240 (0.23) FAILS"]
    assert list(table.columns[4].cells) == ["0.100 (0.18) holds", "0.070 (0.06) FAILS"]
    assert verdict(None, 1.0) == "not finite (1) FAILS"
    assert verdict(0.89, 1.1, 0.9) == "0.890 (0.9 to 1.1) FAILS"
    assert verdict(0.71, math.inf, 0.7) == "0.710 (0.7) holds"


def test_every_bar_is_of_a_method_and_a_place():
    for problem, tau, method in BARS:
        assert tau in PROBLEMS[problem]().taus
        assert METHODS[method].fits(PROBLEMS[problem]())


# ---------------------------------------------------------------------------------------- the other parts


def test_the_tilted_law_on_the_grid():
    """At w = 1 it is the class, at w = 0 all data; sliced W2 sees a shift along one axis, d / sqrt(2)."""
    for weight, law in ((1.0, tilted_law.OF_CLASS), (0.0, tilted_law.DATA)):
        points, shares = tilted_law.law_on_grid(weight)
        mean = shares @ points
        covariance = (points - mean).mT @ (shares[:, None] * (points - mean))
        torch.testing.assert_close(mean, law.moments()[0], rtol=0, atol=1e-4)  # beyond the grid
        torch.testing.assert_close(covariance, law.moments()[1], rtol=0, atol=1e-3)
    x = tilted_law.from_grid(2.0, 4096, 0)
    assert sliced_w2(x, 2.0) < 0.05
    moved = x + torch.tensor([3.0, 0.0], dtype=torch.float64)
    assert sliced_w2(moved, 2.0) == pytest.approx(3 / math.sqrt(2), rel=0.02)


def test_the_part_tilted(tmp_path, monkeypatch):
    monkeypatch.setattr(tilted_law, "WEIGHTS", (2.0,))
    monkeypatch.setattr(tilted_law, "draw_tilted", lambda file: file.write_bytes(b""))
    records = run(tmp_path, "--part tilted")
    assert [r["method"] for r in records] == list(tilted_law.METHODS)
    assert run(tmp_path, "--part tilted") == records
    worse = [r | {"w2": 0.07} for r in records]
    assert "FAILS" in list(tilted_table(worse).columns[2].cells)[-1]


def test_the_part_of_digits(tmp_path, monkeypatch, capsys):
    for name, value in (("NFE", 4), ("DRAWS", 2), ("SHEET", 1)):
        monkeypatch.setattr(posterior_digits, name, value)
    records = run(tmp_path, "--part digits")
    assert [(r["task"], r["calls"], r["vjps"]) for r in records] == [
        *(("half", 4, 0), ("half", 4, 4), ("4x", 4, 0), ("4x", 4, 4))
    ]
    assert len(list(tmp_path.glob("digits-*.png"))) == 4
    shown = capsys.readouterr().out
    assert run(tmp_path, "--part digits") == records
    assert capsys.readouterr().out == shown
    good = [r | {"residual": 1.0, "kept": 0.65} for r in records]
    kept = list(digits_table(good).columns[5].cells)
    assert [cell.split()[-1] for cell in kept[:2]] == ["holds", "FAILS"]


def test_the_figures_of_digits_that_are_the_truth(monkeypatch):
    """The residual is that of the noise, 1 +- .1 for 2 x 392 numbers; all labels are kept."""
    monkeypatch.setattr(posterior_digits, "NFE", 4)
    work, operator = Digits(pretrained("mnist"), 2), posterior_digits.OPERATORS["half"]
    found = work.figures(operator, work.x[:, None].repeat(1, posterior_digits.DRAWS, 1, 1, 1))
    assert found["residual"] == pytest.approx(1, abs=0.15)
    assert found["kept"] == found["classes"] == 1


BAD = {
    "unknown part": ("--part mixture", "mixture.*mixtures"),
    "unknown problem": ("--problem mix3", "mix3.*mix2"),
    "unknown method": ("--method isotropy", "isotropy.*isotropic"),
    "no observation": ("--observations 0", "observations.*0"),
    "draws that make no groups": ("--draws 100", "draws.*multiple.*100"),
    "samples that make no groups": ("--samples 100", "samples.*multiple.*100"),
    "a picture for lines": ("--out x.png", r"x\.png"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments, pattern = BAD[case]
    assert posterior.main(shlex.split(arguments)) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(pattern, said), said
    assert not list(tmp_path.iterdir())
