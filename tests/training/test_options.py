"""Training options: the values that they refuse."""

import inspect
import math

import pytest

from scoresde.training import LevelOptions, TrainingOptions
from scoresde.tuning.measured_levels import measured
from scoresde.tuning.race import SOLVERS


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"max_skipped": 0}, "max_skipped must be at least 1, got 0"),
        ({"lr": 0.0}, "lr must be positive and finite, got 0.0"),
        ({"lr": math.nan}, "lr must be positive and finite, got nan"),
        ({"lr": math.inf}, "lr must be positive and finite, got inf"),
        ({"clip": -1.0}, "clip must be positive and finite, got -1.0"),
        ({"warmup": -1}, "warmup must be finite and not negative, got -1"),
        ({"weight_decay": -0.1}, "weight_decay must be finite and not negative, got -0.1"),
        ({"weight_decay": math.inf}, "weight_decay must be finite and not negative, got inf"),
        ({"weight_decay": math.nan}, "weight_decay must be finite and not negative, got nan"),
        ({"ema": 1.0}, r"ema must be in \[0, 1\), got 1.0"),
        ({"ema": -0.1}, r"ema must be in \[0, 1\), got -0.1"),
        ({"ema": math.nan}, r"ema must be in \[0, 1\), got nan"),
        ({"label_dropout": 1.1}, r"label_dropout must be in \[0, 1\], got 1.1"),
        ({"label_dropout": math.nan}, r"label_dropout must be in \[0, 1\], got nan"),
        ({"decay": "cosin"}, "decay must be one of cosine, linear, constant, got 'cosin'"),
        ({"precision": "float16"}, "precision must be one of float32, bfloat16, got 'float16'"),
    ],
)
def test_options_outside_their_range_are_refused(options, named):
    with pytest.raises(ValueError, match=named):
        TrainingOptions(**options)


def test_budgets_are_those_that_a_measurement_takes():
    """The configuration is below the measurement, so it cannot ask for its limits."""
    most = SOLVERS[-1][0]
    assert LevelOptions().budgets == inspect.signature(measured).parameters["budgets"].default
    assert LevelOptions((most, 3, 2, 3)).budgets == (2, 3, most)
    assert LevelOptions(()).budgets == ()
    for bad, named in ((1, "at least 2, got 1"), (most + 1, f"at most {most}, got {most + 1}")):
        with pytest.raises(ValueError, match=f"budgets must be {named}"):
            LevelOptions((5, bad))
    with pytest.raises(TypeError, match=r"budgets must be an integer, got 5\.5"):
        LevelOptions((5.5,))
