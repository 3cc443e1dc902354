"""Equal steps in a power of flow time: closed forms, limits, precision, the start at alpha = 0."""

import math
import re

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scoresde import EDM, SDE, FlowTime, Karras, RectifiedFlow, prepare
from scoresde.spacings import Grid, PowerTime, spacing_of
from tests.problems import floats, sdes
from tests.spacings.cases import fractions, ratios


@given(sdes, st.integers(1, 60), floats(0.3, 5), floats(0.01, 100))
def test_it_takes_equal_steps_of_a_root_of_flow_time(sde: SDE, n: int, exponent: float, c: float) -> None:
    r = ratios(sde, FlowTime(exponent, c)(sde, n))
    roots = (r / (c + r)) ** (1 / exponent)
    expected = roots[0] + fractions(n) * (roots[-1] - roots[0])
    # digits of 1 - t, as for the other spacings; a root of a small u has more of them
    torch.testing.assert_close(roots, expected, rtol=1e-7, atol=1e-12)


@given(floats(1e-4, 0.1), st.just(1.0) | floats(0.9, 0.9999), st.integers(1, 60), floats(0.3, 5))
def test_on_rectified_flow_it_is_a_power_of_time(t_min: float, t_max: float, n: int, exponent: float) -> None:
    sde = RectifiedFlow(t_min, t_max)
    # roundings of lambda, which is about 10 at the clean end
    torch.testing.assert_close(FlowTime(exponent)(sde, n), PowerTime(exponent)(sde, n), rtol=1e-13, atol=0)


@pytest.mark.parametrize("c", [0.05, 1.0, 8.0])
def test_on_edm_the_noise_is_c_u_over_1_minus_u(c: float) -> None:
    first, last = 80 / (c + 80), 0.002 / (c + 0.002)
    u = first + fractions(20) * (last - first)
    sigmas = FlowTime(1.0, c)(EDM(), 20)
    torch.testing.assert_close(sigmas, c * u / (1 - u), rtol=1e-11, atol=0)  # the test's 1 - u has 13 digits


@given(sdes, st.integers(1, 40), floats(0.3, 8))
def test_for_large_c_it_is_karras_and_for_small_c_even_in_alpha_over_sigma(
    sde: SDE, n: int, exponent: float
) -> None:
    """The difference to either limit is r / c or c / r times a number of order 1: 1e-8 of lambda."""
    large, small = FlowTime(exponent, 1e12)(sde, n), FlowTime(exponent, 1e-12)(sde, n)
    torch.testing.assert_close(
        sde.lam(large), sde.lam(Karras(exponent)(sde, n)), rtol=1e-7, atol=1e-7
    )  # digits of 1 - t, as above
    ratio = 1 / ratios(sde, small)
    even = ratio[0] + fractions(n) * (ratio[-1] - ratio[0])
    torch.testing.assert_close(ratio, even, rtol=1e-6, atol=0)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("c", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize(("low", "high"), [(1e-6, 1e6), (1e5, 1e6), (1e-8, 1e-7)])
def test_every_digit_is_right_where_u_is_nearly_1_or_0(
    low: float, high: float, c: float, exponent: float
) -> None:
    """By 60 digits. At r = 1e6 and c = 1e-3, a double of u has 7 digits of 1 - u."""
    n = 12
    sigmas = FlowTime(exponent, c)(EDM(low, high), n).tolist()
    with mpmath.workdps(60):
        e, scale = mpmath.mpf(exponent), mpmath.mpf(c)
        first, last = ((end / (scale + end)) ** (1 / e) for end in map(mpmath.mpf, (high, low)))
        for i, sigma in enumerate(sigmas):
            u = (first + mpmath.mpf(i) / n * (last - first)) ** e
            exact = scale * u / (1 - u)
            # roundings of lambda and of log u, each up to 35
            assert abs(sigma / exact - 1) < 2e-14


@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("c", [0.3, 4.0])
def test_the_levels_are_closest_at_c_over_the_exponent(c: float, exponent: float) -> None:
    """In lambda; 2,000 steps of about 0.02 around the top, which is flat."""
    lams = EDM().lam(FlowTime(exponent, c)(EDM(), 2000))
    closest = lams.diff().argmin()
    assert lams[closest].item() == pytest.approx(math.log(exponent / c), abs=0.05)


@pytest.mark.parametrize("to_clean", [False, True])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_it_begins_where_alpha_is_0(n: int, to_clean: bool) -> None:
    sde = RectifiedFlow()
    levels = Grid.build(sde, n + to_clean, FlowTime(2, 3.0), to_clean=to_clean).levels
    assert (levels[0].t, levels[0].alpha, levels[0].lam) == (1.0, 0.0, -math.inf)
    assert levels[n].t == sde.t_min
    r = sde.t_min / (1 - sde.t_min)
    last = math.sqrt(r / (3 + r))
    for i, level in enumerate(levels[1:n], 1):
        u = (1 + i / n * (last - 1)) ** 2
        assert level.sigma / level.alpha == pytest.approx(3 * u / (1 - u), rel=1e-12)


def test_the_deviation_of_the_data_is_the_unit_of_the_scale() -> None:
    assert torch.equal(FlowTime(2, 4, 0.5)(EDM(), 9), FlowTime(2, 2)(EDM(), 9))
    # Data three times as wide under levels three times as noisy: the same steps.
    wide = FlowTime(2, 4, 1.5)(EDM(0.006, 240.0), 9)
    torch.testing.assert_close(wide, 3 * FlowTime(2, 4, 0.5)(EDM(), 9), rtol=1e-13, atol=0)  # roundings


def test_it_has_a_name_with_options() -> None:
    assert spacing_of("flow-time") == FlowTime()
    assert spacing_of("flow-time:exponent=3,scale=4,deviation=0.5") == FlowTime(3, 4, 0.5)
    assert repr(FlowTime(2, 1)) == "FlowTime(exponent=2.0, scale=1.0, deviation=1.0)"
    assert prepare("ddim", "edm", 5, "flow-time:scale=4") == prepare("ddim", EDM(), 5, FlowTime(2, 4))


@pytest.mark.parametrize("name", ["exponent", "scale", "deviation"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_a_number_that_is_not_positive_and_finite_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be positive and finite, got {value}$"):
        FlowTime(**{name: value})


@pytest.mark.parametrize(("scale", "got"), [(1e200, "inf"), (1e-200, "0.0")])
def test_a_scale_that_overflows_in_the_units_of_the_data_is_refused(scale: float, got: str) -> None:
    with pytest.raises(
        ValueError, match=re.escape(f"scale * deviation must be positive and finite, got {got}")
    ):
        FlowTime(2, scale, scale)
