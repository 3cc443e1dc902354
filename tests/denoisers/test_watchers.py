"""Watchers of a denoiser: what they see, and what they leave as it is."""

import copy

import pytest
import torch

from scoresde import (
    EDM,
    VPSDE,
    Counted,
    ExactDenoiser,
    Transported,
)
from scoresde.denoisers.protocol import (
    Watched,
    unwatched,
    watched_as,
)
from scoresde.plans.fingerprint import fingerprint
from tests.denoisers.wrappers import DATA, LEVEL, each_wrapper, nothing, trained, values


def test_watchers_see_each_call_and_change_no_number():
    seen, denoiser = [], trained()
    watched = Watched(
        denoiser,
        lambda x, level, estimate: seen.append(("after", x.clone(), level, estimate.clone())),
        lambda x, level: seen.append(("before", x.clone(), level)),
    )
    x = torch.ones(3, 2)
    estimate = watched(x, LEVEL)
    assert torch.equal(estimate, denoiser(x, LEVEL))
    (first, at_first, level), (second, at_second, same, after) = seen
    assert (first, second, level, same) == ("before", "after", LEVEL, LEVEL)
    assert torch.equal(at_first, x)
    assert torch.equal(at_second, x)
    assert torch.equal(after, estimate)
    assert fingerprint(watched) == fingerprint(denoiser)


def test_counts_are_of_calls_and_of_samples():
    counted = Counted(trained())
    for size in (3, 1):
        counted(torch.ones(size, 2), LEVEL, torch.zeros(size))
    assert (counted.calls, counted.evaluations) == (2, 4)
    other = counted.at(torch.bfloat16)
    other(torch.ones(5, 2), LEVEL)
    assert (counted.calls, other.calls, other.evaluations) == (2, 1, 5)


def test_watchers_around_another_denoiser_still_report_to_the_first():
    seen = []
    counted = Counted(Watched(trained(), lambda x, level, estimate: seen.append(len(x))))
    assert unwatched(counted) is counted.denoiser.denoiser
    other = watched_as(counted, ExactDenoiser(DATA, VPSDE()))
    x = torch.ones(4, 2)
    assert torch.equal(other(x, LEVEL), DATA.denoise(x, LEVEL))
    assert (counted.calls, counted.evaluations, seen) == (1, 4, [4])


@pytest.mark.parametrize("wrap", [Counted, lambda d: Watched(d, nothing), lambda d: Transported(d, EDM())])
def test_wrappers_refuse_other_things(wrap):
    with pytest.raises(TypeError, match="denoiser must be a Denoiser, or like one with its sde, got int"):
        wrap(7)


@each_wrapper
def test_wrappers_can_be_copied(wrap):
    wrapper = wrap(trained())
    x = torch.ones(3, 2)
    other = copy.deepcopy(wrapper)
    assert (other.sde, other.dtype, other.classes) == (wrapper.sde, wrapper.dtype, wrapper.classes)
    assert other.net is not wrapper.net
    assert torch.equal(values(other, x), values(wrapper, x))
