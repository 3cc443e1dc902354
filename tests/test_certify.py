"""Every solver's certificate, and planted faults, each of which must be named."""

import json
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import certify  # noqa: E402

from scoresde import SOLVERS, Plan  # noqa: E402
from scoresde.solvers import DDIM  # noqa: E402
from scoresde.solvers.integrators.base import Integrator  # noqa: E402
from scoresde.solvers.integrators.ode import ODE  # noqa: E402
from scoresde.solvers.moves import ddim  # noqa: E402
from tests import problems  # noqa: E402


def certified(folder, *arguments):
    """The exit code and the report of a run in this process."""
    out = folder / "certificates.json"
    code = certify.main(["--quick", "--jobs", "1", "--quiet", "--out", str(out), *arguments])
    return code, json.loads(out.read_text())


@pytest.mark.parametrize(
    "name", [*SOLVERS, "adams:predictor=5,start=iterated", "unipc:predictor=4,corrector=5,start=iterated"]
)
def test_every_solver_is_certified(name, tmp_path) -> None:
    code, report = certified(tmp_path, "--solver", name, "--sde", "vp")
    assert report["faults"] == []
    assert code == 0
    (one,) = report["solvers"]
    assert (one["solver"], [run["sde"] for run in one["runs"]]) == (name, ["vp karras"])
    # An exception that is none would hide a fault later.
    assert (one["identity"]["value"] > 1e-6) == (one["no_identity"] is not None)


@dataclass(frozen=True)
class SwappedHistory:
    """Adams-Bashforth that takes the past in the wrong order: exact on a point mass, and of order 1."""

    order = 2

    def solve(self, tape, x, grid):
        before = None
        for t, s in grid.steps():
            d = tape.denoise(x, t)
            x = tape.state(ddim(t, s, x, d if before is None else 1.5 * before - 0.5 * d))
            before = d
        return x


@dataclass(frozen=True)
class WrongWeight:
    """DDIM whose data weighs a thousandth too much."""

    order = 1

    def solve(self, tape, x, grid):
        for t, s in grid.steps():
            x = tape.state(ddim(t, s, x, 1.001 * tape.denoise(x, t)))
        return x


@dataclass(frozen=True)
class WrongNoise:
    """Ancestral sampling with a hundredth too much noise: right on average, and of another deviation."""

    order = 1

    def solve(self, tape, x, grid):
        for t, s in grid.steps():
            d = tape.denoise(x, t)
            c = s.sigma * math.sqrt(1 - (t.alpha * s.sigma / (s.alpha * t.sigma)) ** 2)
            kept = math.sqrt(s.sigma**2 - c**2) / t.sigma
            x = tape.state(kept * x + (s.alpha - kept * t.alpha) * d + 1.01 * c * tape.noise())
        return x


@dataclass(frozen=True)
class LyingOrder:
    """Euler that claims the second order."""

    order = 2

    def solve(self, tape, x, grid):
        return DDIM().solve(tape, x, grid)


@dataclass(frozen=True)
class BlindToUnevenSteps:
    """2M with the weights of equal steps: of order 2 only where the steps are equal in lambda."""

    order = 2

    def solve(self, tape, x, grid):
        before = None
        for t, s in grid.steps():
            d = tape.denoise(x, t)
            x = tape.state(ddim(t, s, x, d if before is None or s.sigma == 0 else 1.9 * d - 0.9 * before))
            before = d
        return x


@dataclass(frozen=True)
class Cancelling:
    """DDIM by way of a state 1e4 times too large: right in float64, three digits lost in float32."""

    order = 1

    def solve(self, tape, x, grid):
        for t, s in grid.steps():
            d = tape.denoise(x, t)
            far = tape.state(ddim(t, s, x, d) + 1e4 * d)
            x = tape.state(far - 1e4 * d)
        return x


@dataclass(frozen=True)
class Overflowing:
    """DDIM by way of a state 1e40 times too large: right in float64, infinite in float32."""

    order = 1

    def solve(self, tape, x, grid):
        for t, s in grid.steps():
            far = tape.state(1e20 * tape.state(1e20 * ddim(t, s, x, tape.denoise(x, t))))
            x = tape.state(1e-20 * tape.state(1e-20 * far))
        return x


@dataclass(frozen=True)
class LyingCalls(Integrator):
    """Euler, which says that it makes one call less than it makes."""

    def prepare(self, sde, nfe, spacing=None, *, to_clean=False):
        run = ODE("euler").prepare(sde, nfe, spacing, to_clean=to_clean)
        return replace(run, nfe=run.nfe - 1)


@dataclass(frozen=True)
class Spendthrift(Integrator):
    """Euler within twice the budget."""

    def prepare(self, sde, nfe, spacing=None, *, to_clean=False):
        return ODE("euler").prepare(sde, 2 * nfe, spacing, to_clean=to_clean)


@dataclass(frozen=True)
class Crashing:
    """A multistep method that forgets that its first step has no history."""

    order = 2

    def solve(self, tape, x, grid):
        return [][0]


@dataclass(frozen=True)
class Measured:
    """A step sized by norms: no law of it could be certified, and that must not pass for one."""

    order = 1

    def solve(self, tape, x, grid):
        for t, s in grid.steps():
            d = tape.denoise(x, t)
            x = tape.langevin(ddim(t, s, x, d), d, 0.1)
        return x


@pytest.mark.parametrize(
    ("planted", "named"),
    [
        (SwappedHistory(), {"order", "law"}),
        (WrongWeight(), {"identity"}),
        (WrongNoise(), {"identity"}),
        (LyingOrder(), {"order", "law"}),
        (BlindToUnevenSteps(), {"order", "law"}),
        (Cancelling(), {"float32"}),
        (Overflowing(), {"sweep"}),
        (LyingCalls(), {"calls", "sweep"}),
        (Spendthrift(), {"calls", "sweep"}),
        (Crashing(), {"crashed"}),
        (Measured(), {"crashed"}),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, set) else "",
)
def test_a_planted_fault_is_caught_and_named(planted, named, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(SOLVERS, "planted", planted)
    page = tmp_path / "page.md"
    code, report = certified(tmp_path, "--solver", "ddim", "planted", "--sde", "vp", "--markdown", str(page))
    assert code == 1
    assert {fault.split(": ")[0] for fault in report["faults"]} == {"planted"}  # and ddim holds
    assert {fault.split(": ")[1] for fault in report["faults"]} == named
    assert all(fault.endswith("on vp karras") for fault in report["faults"])
    shown = " ".join(capsys.readouterr().out.split())
    assert all(" ".join(fault.split()) in shown for fault in report["faults"])
    assert report["faults"][0] in page.read_text()


def test_the_report_has_every_figure(tmp_path, capsys) -> None:
    page, names = tmp_path / "page.md", ("heun", "em", "ode:method=dopri5")
    code, report = certified(tmp_path, "--solver", *names, "--markdown", str(page))
    assert code == 0
    assert set(report) == {
        *("format", "quick", "ladder", "sweep", "versions"),
        *("references", "predictions", "solvers", "faults"),
    }
    assert max(report["references"].values()) < 1e-12
    assert report["predictions"].keys() == {"vp", "edm"}
    assert all(set(p) == set(certify.PREDICTIONS) for p in report["predictions"].values())
    heun, em, ode = report["solvers"]
    assert (heun["kind"], heun["claimed"], heun["stochastic"], heun["faults"]) == ("table", 2, False, [])
    assert heun["order"]["value"] == pytest.approx(2, abs=0.2)
    assert heun["order"]["sde"] in ("vp karras", "edm")
    assert heun["identity"]["value"] < 1e-12
    run = heun["runs"][0]
    assert list(run["ode"]["errors"]) == ["20", "40", "80", "160"]
    assert {n: (c["planned"], c["made"]) for n, c in run["calls"].items()} == {
        "5": (4, 4),
        "10": (10, 10),
        "20": (20, 20),
        "50": (50, 50),
    }  # two calls a step
    # The figure that plans report, and the most a call's error can grow by.
    assert (
        run["calls"]["10"]["amplification"]
        == Plan.within(10, SOLVERS["heun"], *certify.PROBLEMS["vp karras"]).amplification
    )
    # Of each number of steps, with and without one to clean, which no run has as its only one; twice.
    assert [run["sweep"]["combinations"] for run in heun["runs"]] == [(2 * len(report["sweep"]) - 1) * 2] * 2
    assert heun["combinations"] == 2 * run["sweep"]["combinations"]
    assert run["sweep"]["float32"].keys() == {str(n) for n in report["sweep"]}
    assert 0 < run["sweep"]["float32"]["100"] < 1e-5
    assert ode["combinations"] == 2 * 2 * 2  # to both ends, in both precisions
    assert (em["stochastic"], em["runs"][0]["ode"]) == (True, None)
    assert em["point_order"]["value"] == pytest.approx(1, abs=0.2)
    assert (ode["kind"], ode["order"]) == ("adaptive", None)
    assert [float(tol) for tol in ode["runs"][0]["ode"]["errors"]] == pytest.approx([1e-5, 1e-6, 1e-8])
    table = capsys.readouterr().out
    rows = page.read_text().splitlines()
    for name in names:
        assert name in table
        assert any(row.startswith(f"|{name}|") and row.endswith("|holds|") for row in rows)
    assert "96 combinations of solver, SDE, steps (1-3, 5, 10, 100), ending and precision" in table
    assert "Nothing is off." in rows


def test_processes_find_what_one_does(tmp_path) -> None:
    """Spawned ones, which know nothing that is not sent or imported."""
    reports = [certified(tmp_path, "--solver", "ddim", "--sde", "vp", "--jobs", n)[1] for n in ("1", "2")]
    assert reports[0] == reports[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--solver", "hein"], "certify.py: unknown solver 'hein'; did you mean 'heun'?"),
        (["--sde", "vpp"], "certify.py: unknown SDE 'vpp'; did you mean 'vp'?"),
        (["--quick", "--sde", "ve"], "certify.py: --quick certifies on vp karras, edm, got --sde ve"),
        (["--jobs", "0"], "certify.py: --jobs must be at least 1, got 0"),
        (
            ["--solver", "ddim:eta=2"],
            "certify.py: solver 'ddim': eta must be at least 0 and at most 1, got 2",
        ),
    ],
)
def test_bad_input_is_one_line_and_2(arguments, message, tmp_path, capsys) -> None:
    assert certify.main([*arguments, "--out", str(tmp_path / "no.json")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_rule_of_the_measured_order() -> None:
    def errors(*values):
        return dict(zip((20, 40, 80, 160, 320), values, strict=False))

    assert certify.order_of(errors(1, 1 / 4, 1 / 16)) == pytest.approx(2)
    # A dip in the last doubling but one: the last one, after it, tells nothing.
    assert certify.order_of(errors(1, 1 / 4, 1 / 32, 1 / 64)) == pytest.approx(3)
    # What is below the floor is rounding, and whatever follows.
    assert certify.order_of(errors(1e-7, 1e-9, 1e-13, 1e-12)) == pytest.approx(math.log2(100))
    assert certify.order_of(errors(1e-3, 1e-3, 1e-3)) == 0  # to a wrong end
    assert certify.order_of(errors(1e-15, 2e-15)) is None
    with pytest.raises(FloatingPointError, match="not finite"):
        certify.order_of(errors(1.0, math.nan))


def test_the_law_and_the_mixture_are_those_of_the_other_tests() -> None:
    """Written twice, in numpy and in torch."""
    plan = Plan.make(SOLVERS["ancestral"], certify.SDES["vp"], 30)
    x, _, _ = certify.reference("vp")
    theirs = problems.mixture(problems.torch.from_numpy(x), plan.levels[7]).numpy()
    np.testing.assert_allclose(certify.mixture(x, plan.levels[7]), theirs, rtol=1e-12)
    errors = []
    for deviation in certify.DEVIATIONS[1:, 0]:

        def gaussian(x, level, one, deviation=deviation):
            var = (level.alpha * deviation) ** 2 + level.sigma**2
            return deviation**2 * level.alpha / var * x + level.sigma**2 * certify.MEAN / var * one

        ends = plan.start, plan.end
        spreads = [math.hypot(level.alpha * deviation, level.sigma) for level in ends]
        mean, std = problems.law(plan, gaussian, plan.start.alpha * certify.MEAN, spreads[0])
        errors.append(math.hypot(mean - plan.end.alpha * certify.MEAN, std - spreads[1]))
    size = math.hypot(plan.end.alpha, plan.end.sigma)
    assert certify.law_errors(plan)[0] == pytest.approx(
        math.sqrt(np.mean(np.square(errors))) / size, rel=1e-9
    )
