"""A small training run that gives the same bits every time."""

from scoresde.data import load_data
from scoresde.training import start, train
from scoresde.training.configuration import validate

PLAIN = {
    "data": {"source": "digits"},
    "network": {
        "name": "unet",
        "channels": [8],
        "blocks": 1,
        "patch": 2,
        "classes": 10,
        "embedding": "fourier",
        "dropout": 0.3,
    },
    "sde": {"name": "edm"},
    "time_sampling": {"name": "log-normal", "mean": -1.0},
    "weighting": {"name": "edm", "sigma_data": 0.7},
    "prediction": {"name": "edm", "sigma_data": 0.7},
    "optimization": {"steps": 8, "batch_size": 16, "warmup": 2, "ema": 0.5, "label_dropout": 0.3},
    "seed": 3,
}
SHAPE = (1, 8, 8)


def configured(**changes):
    content = {key: dict(value) if isinstance(value, dict) else value for key, value in PLAIN.items()}
    for key, value in changes.items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    return validate(content, "test")


def trained(configuration, steps, state=None):
    """A state after some more steps, and their losses."""
    state = state or start(configuration.make_denoiser(), configuration.optimization)
    digits = load_data("digits")
    options = {
        "options": configuration.optimization,
        "time_sampling": configuration.make_time_sampling(),
        "weighting": configuration.make_weighting(),
        "seed": configuration.seed,
    }
    progress = train(state, digits.x, digits.labels, **options)
    return state, [next(progress) for _ in range(steps)]
