"""Every solver's certificate, and planted faults: a certificate must name each of them."""

import contextlib
import io
import json
import math

import certify
import numpy as np
import pytest
from certificates.depth import PROBLEMS
from certificates.law import DEVIATIONS, MEAN, law_errors, order_of
from known import SDES, mixture, reference
from planted_solvers import (
    BlindToUnevenSteps,
    Cancelling,
    Crashing,
    LyingCalls,
    LyingOrder,
    Measured,
    Overflowing,
    Spendthrift,
    SwappedHistory,
    WrongNoise,
    WrongWeight,
)

from scoresde import SOLVERS, Plan
from scoresde.denoisers.predictions import PREDICTIONS
from tests import problems


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
    # A solver excused from the identity must fail it: an excuse without need would hide a later fault.
    assert (one["identity"]["value"] > 1e-6) == (one["no_identity"] is not None)


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


NAMES = ("heun", "em", "ode:method=dopri5")


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """The report on three solvers, its page, and its table on the console."""
    folder, printed = tmp_path_factory.mktemp("certificates"), io.StringIO()
    with contextlib.redirect_stdout(printed):
        code, report = certified(folder, "--solver", *NAMES, "--markdown", str(folder / "page.md"))
    assert code == 0
    return report, (folder / "page.md").read_text().splitlines(), printed.getvalue()


def test_the_report_has_every_part(reported) -> None:
    report, page, table = reported
    assert set(report) == {
        *("format", "quick", "ladder", "sweep", "versions"),
        *("references", "predictions", "solvers", "faults"),
    }
    assert max(report["references"].values()) < 1e-12
    assert report["predictions"].keys() == {"vp", "edm"}
    assert all(set(p) == set(PREDICTIONS) for p in report["predictions"].values())
    for name in NAMES:
        assert name in table
        assert any(row.startswith(f"|{name}|") and row.endswith("|holds|") for row in page)
    assert "96 combinations of solver, SDE, steps (1-3, 5, 10, 100), ending and precision" in table
    assert "Nothing is off." in page


def test_a_certificate_has_every_figure(reported) -> None:
    report, _, _ = reported
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
    # The figure that plans report: the largest factor on the error of a call.
    plan = Plan.within(10, SOLVERS["heun"], *PROBLEMS["vp karras"])
    assert run["calls"]["10"]["amplification"] == plan.amplification
    # Each number of steps to both ends, in both precisions; but a step to clean is never the only one.
    assert [run["sweep"]["combinations"] for run in heun["runs"]] == [(2 * len(report["sweep"]) - 1) * 2] * 2
    assert heun["combinations"] == 2 * run["sweep"]["combinations"]
    assert run["sweep"]["float32"].keys() == {str(n) for n in report["sweep"]}
    assert 0 < run["sweep"]["float32"]["100"] < 1e-5
    assert ode["combinations"] == 2 * 2 * 2  # to both ends, in both precisions
    assert (em["stochastic"], em["runs"][0]["ode"]) == (True, None)
    assert em["point_order"]["value"] == pytest.approx(1, abs=0.2)
    assert (ode["kind"], ode["order"]) == ("adaptive", None)
    assert [float(tol) for tol in ode["runs"][0]["ode"]["errors"]] == pytest.approx([1e-5, 1e-6, 1e-8])


def test_processes_find_what_one_does(tmp_path) -> None:
    """Spawned processes know only what they receive or import."""
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

    assert order_of(errors(1, 1 / 4, 1 / 16)) == pytest.approx(2)
    # The error dips in the doubling before the last, so the slope of the last doubling means nothing.
    assert order_of(errors(1, 1 / 4, 1 / 32, 1 / 64)) == pytest.approx(3)
    # What is below the floor is rounding, and whatever follows.
    assert order_of(errors(1e-7, 1e-9, 1e-13, 1e-12)) == pytest.approx(math.log2(100))
    assert order_of(errors(1e-3, 1e-3, 1e-3)) == 0  # to a wrong end
    assert order_of(errors(1e-15, 2e-15)) is None
    with pytest.raises(FloatingPointError, match="not finite"):
        order_of(errors(1.0, math.nan))


def test_the_law_and_the_mixture_are_those_of_the_other_tests() -> None:
    """Written twice, in numpy and in torch."""
    plan = Plan.make(SOLVERS["ancestral"], SDES["vp"], 30)
    x, _, _ = reference("vp")
    theirs = problems.mixture(problems.torch.from_numpy(x), plan.levels[7]).numpy()
    np.testing.assert_allclose(mixture(x, plan.levels[7]), theirs, rtol=1e-12)
    errors = []
    for deviation in DEVIATIONS[1:, 0]:

        def gaussian(x, level, one, deviation=deviation):
            var = (level.alpha * deviation) ** 2 + level.sigma**2
            return deviation**2 * level.alpha / var * x + level.sigma**2 * MEAN / var * one

        ends = plan.start, plan.end
        spreads = [math.hypot(level.alpha * deviation, level.sigma) for level in ends]
        mean, std = problems.law(plan, gaussian, plan.start.alpha * MEAN, spreads[0])
        errors.append(math.hypot(mean - plan.end.alpha * MEAN, std - spreads[1]))
    size = math.hypot(plan.end.alpha, plan.end.sigma)
    assert law_errors(plan)[0] == pytest.approx(math.sqrt(np.mean(np.square(errors))) / size, rel=1e-9)
