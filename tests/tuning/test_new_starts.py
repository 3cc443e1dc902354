"""The corrected velocity solvers, levels in flow time and measured levels, as starts of a tuning."""

import math

import pytest
import torch
from small_tuning import CLIPPED, EXACT, MIXTURE, SDES, SMALL, noises, task, tuned

from scoresde import SOLVERS, VPSDE, Counted, ExactDenoiser, Mixture, Plan, RectifiedFlow, integrate, tune
from scoresde.spacings import AtShares, FlowTime, Measured
from scoresde.spacings.measured import Choice, ends_of
from scoresde.tuning import Settings
from scoresde.tuning.candidates import (
    MEASURED,
    STOCK_SPACINGS,
    named,
    stock_candidates,
    stock_spacings,
    tunable_candidates,
)
from scoresde.tuning.screening import data_deviation

NEW = {
    name: SOLVERS[name]
    for name in ("velocity-p2c3", "velocity-p3c4", "velocity-p4c5", "velocity-p5c6", "auto")
}
FLOW = [name for name in STOCK_SPACINGS if name.startswith("flow-time")]
# The deviation of MIXTURE: the root of the variance of each number, averaged.
DEVIATION = math.sqrt(MIXTURE.moments()[1].diagonal().mean().item())


def measured(sde, spacing, calls=4):
    return Measured(type(sde).__name__, ends_of(sde), (Choice(calls, "velocity-p2c3", spacing),))


def shares(sde):
    """Twice as many levels per u in the noisy half of the range as in the other."""
    first, last = ends_of(sde)
    return AtShares((first, (first + last) / 2, last), (0.0, 2 / 3, 1.0))


@pytest.mark.parametrize("sde", SDES, ids=str)
@pytest.mark.parametrize("nfe", [5, 8])
def test_the_tables_of_the_new_candidates_run_as_their_plans(sde, nfe):
    """To rounding: measured 1e-14. ``auto`` has no table of its own."""
    spacings = stock_spacings(FLOW, 0.5, measured(sde, shares(sde), nfe))
    denoiser, x = ExactDenoiser(MIXTURE, sde), noises(sde, 4)
    found = stock_candidates(sde, nfe, NEW, spacings)
    assert {one.solver for one in found} == NEW.keys() - {"auto"}
    assert {one.spacing for one in found} == {*(f"{name},deviation=0.5" for name in FLOW), MEASURED}
    for one in found:
        end = integrate(Plan.within(nfe, NEW[one.solver], sde, one.levels), denoiser, x)
        torch.testing.assert_close(one.table.run(denoiser, x), end, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(integrate(one.table.plan(), denoiser, x), end, rtol=1e-12, atol=1e-12)
        first, *rest = tunable_candidates(one, sde, nfe, 0.25, 4)
        assert first.table.rounded_key == one.table.rounded_key
        assert all(other.family.has_first_step and other.table.nfe == nfe for other in rest)
        assert len(rest) >= 3


def test_a_flow_time_takes_the_deviation_of_the_data_unless_it_names_one():
    names = ["flow-time", "flow-time:scale=3", "flow-time:deviation=2", "karras:rho=5"]
    found = stock_spacings(names, 0.25)
    assert list(found) == [
        "flow-time:deviation=0.25",
        "flow-time:scale=3,deviation=0.25",
        "flow-time:deviation=2",
        "karras:rho=5",
    ]
    assert found["flow-time:scale=3,deviation=0.25"] == FlowTime(2.0, 3.0, 0.25)
    assert found["flow-time:deviation=2"] == FlowTime(2.0, 1.0, 2.0)


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_the_deviation_of_the_data_is_found_by_a_short_run(scale):
    """64 samples: within 20 %, some two deviations of the estimate. No call if no spacing needs it."""
    exact = ExactDenoiser(Mixture(scale * MIXTURE.means, scale * MIXTURE.stds, MIXTURE.shares), CLIPPED)
    counted = Counted(exact)
    of = task(counted, spacings=("flow-time:scale=3",))
    before = counted.evaluations
    assert data_deviation(of, of.initial_pairs()) == pytest.approx(scale * DEVIATION, rel=0.2)
    assert counted.evaluations - before == 8 * 64
    for spacing in ("karras", "flow-time:deviation=3"):
        of = task(counted, spacings=(spacing,))
        assert data_deviation(of, of.initial_pairs()) == 1
    assert counted.evaluations - before == 8 * 64


def test_levels_at_shares_of_a_part_are_those_of_its_density():
    """The share of each step in the part is equal; the whole range is as before."""
    for sde in (CLIPPED, VPSDE(), RectifiedFlow()):
        spacing, (begin, end) = shares(sde), sde.lam_ends()
        part = sde.clip(max(begin, -2.0) + 0.3, end)
        for of, n in ((sde, 7), (part, 4)):
            u = 1 / (1 + sde.lam(spacing(of, n)).exp())
            first, last = ends_of(of)
            assert (u[0].item(), u[-1].item()) == pytest.approx((first, last), rel=1e-12)
            middle = spacing.u[1]
            dense = 2 * (first - middle) * (first > middle) + min(first, middle) - last
            weighted = 2 * (u - middle).clamp(min=0) + u.clamp(max=middle) - last
            steps = weighted[:-1] - weighted[1:]
            torch.testing.assert_close(steps, torch.full_like(steps, dense / n), rtol=1e-6, atol=0.0)


def test_a_tuning_starts_from_measured_levels_if_they_are_best(tmp_path):
    """Against a poor spacing, and on a resumed tuning."""
    levels = measured(CLIPPED, FlowTime(1.5, 2.0, DEVIATION), 3)
    settings = Settings(**SMALL | {"solvers": tuple(NEW), "spacings": ("uniform-t",)})
    plan, report = tune(EXACT, 3, (3,), settings=settings, levels=levels, state=tmp_path, batch_size=256)
    assert report.stock.endswith(f" on {MEASURED}")
    assert f" on {MEASURED}" in report.start
    assert tune(EXACT, 3, (3,), settings=settings, levels=levels, state=tmp_path)[0] == plan
    with pytest.raises(ValueError, match="another tuning"):
        tune(EXACT, 3, (3,), settings=settings, state=tmp_path)


def test_levels_of_another_process_are_refused_before_anything_is_spent():
    counted = Counted(EXACT)
    with pytest.raises(ValueError, match="measured on VPSDE"):
        tune(counted, 3, (3,), levels=measured(VPSDE(), FlowTime()))
    assert counted.evaluations == 0


def test_a_saved_name_without_a_candidate_is_an_error():
    found = stock_candidates(CLIPPED, 4, NEW, stock_spacings(["karras"]))
    with pytest.raises(ValueError, match=r"velocity-p9 on karras.*remove it"):
        named(["velocity-p9 on karras"], found)


def test_a_tuning_with_the_deviation_of_the_data_comes_to_the_same_bits_again(tmp_path):
    settings = {"spacings": (*FLOW[:2], "karras"), "iterations": 1}
    assert (
        tuned(state=tmp_path, **settings)[0] == tuned(state=tmp_path, **settings)[0] == tuned(**settings)[0]
    )
