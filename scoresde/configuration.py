"""A training run's configuration: TOML into typed objects, and these into the things they name."""

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from .denoiser import PREDICTIONS, Denoiser
from .discrete import DiscreteVPSDE
from .networks import NETWORKS
from .registry import make, nearest
from .sde import EDM, SDE, VESDE, VPSDE, Cosine, RectifiedFlow, SubVPSDE
from .training.times import TIMES, Times
from .training.trainer import Schedule
from .training.weighting import WEIGHTINGS, Weighting

SDES: dict[str, type[SDE]] = {
    "vp": VPSDE,
    "sub-vp": SubVPSDE,
    "ve": VESDE,
    "cosine": Cosine,
    "edm": EDM,
    "rectified-flow": RectifiedFlow,
    "ddpm": DiscreteVPSDE,
}


class Choice(BaseModel):
    """A thing by name; all other keys are its options, checked where it is made."""

    model_config = ConfigDict(frozen=True, extra="allow")
    name: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Source(BaseModel):
    """Arguments of :func:`scoresde.data.load_data`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    source: str
    images: str = ""
    labels: str = ""
    split: str = "train"


class Configuration(BaseModel):
    """Everything that decides a training run."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    data: Source
    network: Choice
    prediction: Choice
    sde: Choice = Choice(name="edm")
    times: Choice = Choice(name="log-normal")
    weighting: Choice = Choice(name="plain")
    schedule: Schedule = Schedule()
    seed: int = 0

    def make_denoiser(self) -> Denoiser:
        network: nn.Module = make("network", self.network.name, NETWORKS, self.network.options)
        sde = make("SDE", self.sde.name, SDES, self.sde.options)
        return Denoiser(network, sde, make("prediction", self.prediction.name, PREDICTIONS, self.prediction.options))

    def make_times(self) -> Times:
        return make("times", self.times.name, TIMES, self.times.options)

    def make_weighting(self) -> Weighting:
        return make("weighting", self.weighting.name, WEIGHTINGS, self.weighting.options)


def read_configuration(path: Path, overrides: Sequence[str] = ()) -> Configuration:
    """A TOML file, with ``section.key=value`` put over it; a value is TOML, or else a word.

    Raises:
        ValueError: no such file, no TOML, or an unknown, missing or ill-typed key; the message names file and key.
    """
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"configuration {path}: {error}") from None
    for override in overrides:
        _merge(content, _parse(override))
    return validate(content, str(path))


def validate(content: dict[str, Any], where: str) -> Configuration:
    """A configuration from plain data; ``where`` is named in errors."""
    try:
        return Configuration.model_validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            section = {"data": Source, "schedule": Schedule}.get(str(first["loc"][0]), Configuration)
            known = getattr(section, "model_fields", None) or section.__dataclass_fields__
            raise ValueError(f"{where}: unknown key {key}; {nearest(str(first['loc'][-1]), known)}") from None
        raise ValueError(f"{where}: {key}: {first['msg'].lower()}, got {first['input']!r}") from None


def _parse(override: str) -> dict[str, Any]:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise ValueError(f"an override is written section.key=value, got {override!r}")
    try:
        return tomllib.loads(override)
    except tomllib.TOMLDecodeError:
        word = value.replace("\\", "\\\\").replace('"', '\\"')
        try:
            return tomllib.loads(f'{key} = "{word}"')
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"an override is written section.key=value, got {override!r}: {error}") from None


def _merge(into: dict[str, Any], other: dict[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value
