"""The scale of the data, and its warnings."""

import math
import warnings

import pytest
import torch
import training_runs
from training_runs import MEAN, Scaling, draw, gaussian, run

from scoresde.denoisers.predictions import data, edm, noise, score, v, velocity
from scoresde.processes.continuous import EDM
from scoresde.training import deviation
from scoresde.training.time_sampling import LogNormal, Uniform


def test_the_deviation_is_that_of_what_the_network_sees():
    assert deviation(MEAN.mean() + 0.5 * draw((20_000, 2))) == pytest.approx(0.5, rel=0.02)
    pixels = torch.tensor([0, 255], dtype=torch.uint8).repeat(50)[:, None]
    assert deviation(pixels) == pytest.approx(1.0)
    assert deviation(pixels.numpy()) == pytest.approx(1.0)


def warned(x, prediction, time_sampling=None):
    """The warnings of the first step."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(Scaling(), EDM(), prediction, x, steps=1, time_sampling=time_sampling)
    # At the line that calls train.
    assert all(entry.filename == training_runs.__file__ for entry in caught)
    return [str(entry.message) for entry in caught]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 255), (3, 3.5)])
@pytest.mark.parametrize("shape", [(64, 1, 4, 4), (64, 16)])
def test_images_that_are_never_negative_are_warned_of_with_their_range(low, high, shape):
    x = torch.linspace(low, high, 1024).reshape(shape)
    (message,) = warned(x, v)
    assert f"the data lie in [{low:.4g}, {high:.4g}], while networks are made for numbers around 0" in message


@pytest.mark.parametrize(
    "x", [torch.linspace(-1, 1, 1024).reshape(64, 16), torch.rand(64, 2), torch.zeros(9, 16)]
)
def test_data_around_0_and_few_numbers_and_constant_data_are_not_warned_of(x):
    assert warned(x, v) == []


@pytest.mark.parametrize("d", [0.05, 0.5, 30.0])
def test_a_sigma_data_or_times_beyond_a_factor_2_are_warned_of_with_the_deviation(d):
    x = d * gaussian(4096) / deviation(gaussian(4096))
    for factor in (1.9, 1 / 1.9):
        assert warned(x, edm(factor * d), LogNormal(math.log(0.6 * d))) == []
    for factor in (2.2, 1 / 2.2):
        (message,) = warned(x, edm(factor * d), LogNormal(math.log(0.6 * d)))
        assert f"sigma_data = {factor * d:.4g}, but these have {d:.4g}" in message
    for median in (0.31, 2.0):
        assert warned(x, edm(d), LogNormal(math.log(median * d))) == []
    for median in (0.28, 2.2):
        (message,) = warned(x, edm(d), LogNormal(math.log(median * d)))
        assert f"the data have the deviation {d:.4g}" in message
        assert f"a usual mean is {math.log(0.6 * d):.2f}, " in message


@pytest.mark.parametrize("prediction", [noise, score, data, v, velocity])
def test_predictions_that_scale_nothing_are_made_for_no_deviation(prediction):
    assert warned(30 * gaussian(64), prediction, Uniform()) == []
