"""A training run's configuration: TOML into typed objects, and these into the things they name."""

import codecs
import inspect
import json
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from pydantic import BaseModel, ConfigDict, SkipValidation, ValidationError, model_validator
from torch import nn

from ..data.pixels import check_options
from ..denoisers.network import Denoiser
from ..denoisers.predictions import PREDICTIONS
from ..networks import NETWORKS
from ..processes.catalogue import SDES
from ..registry import build, lookup, nearest
from .options import Schedule
from .randomness import seeded
from .times import TIMES, Times
from .weighting import WEIGHTINGS, Weighting

# What ships, by name; in the sources, scoresde/configs is a link to configs.
CONFIGURATIONS: dict[str, Path] = {
    path.stem: path for path in sorted((Path(__file__).parents[1] / "configs").glob("*.toml"))
}


class Choice(BaseModel):
    """A thing by name; all other keys are its options, checked where it is made."""

    model_config = ConfigDict(frozen=True, extra="allow")
    name: str

    @property
    def spec(self) -> dict[str, Any]:
        """The name and the options, as :func:`scoresde.registry.build` takes them."""
        return {"name": self.name} | (self.model_extra or {})


class Source(BaseModel):
    """Arguments of :func:`scoresde.data.load_data`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    source: str
    images: str = ""
    labels: str = ""
    split: str = "train"
    # One check for all callers of load_data, with its own words: pydantic looks at these not at all.
    size: Annotated[int | tuple[int, int] | list[int] | None, SkipValidation] = None
    mode: str = ""
    crop: Annotated[bool | str, SkipValidation] = False
    unreadable: str = "error"
    max_bytes: int = 2**32

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            check_options(self.size, self.mode, self.crop, self.unreadable, self.max_bytes)
        except TypeError as error:  # pydantic reports a ValueError alone
            raise ValueError(error) from None
        return self


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
        with seeded(self.seed):  # the first weights, too, are decided by the configuration alone
            network: nn.Module = build("network", NETWORKS, self.network.spec)
        sde = build("SDE", SDES, self.sde.spec)
        prediction = build("prediction", PREDICTIONS, self.prediction.spec)
        return Denoiser(network, sde, prediction)

    def make_times(self) -> Times:
        times: Times = build("times", TIMES, self.times.spec)
        return times

    def make_weighting(self) -> Weighting:
        weighting: Weighting = build("weighting", WEIGHTINGS, self.weighting.spec)
        return weighting


def configuration_file(name: str) -> Path:
    """A configuration by its file, or by the name of an included one; ValueError if there is neither."""
    path = Path(name)
    if path.exists() and not (path.is_dir() and name in CONFIGURATIONS):
        return path
    if path.suffix or len(path.parts) != 1:
        raise ValueError(f"configuration {name}: no such file")
    return lookup("configuration", name, CONFIGURATIONS)


def read_configuration(path: Path, overrides: Sequence[str] = ()) -> Configuration:
    """A TOML file, in which each ``section.key=value`` replaces a value; a value is TOML, or else a word.

    Raises:
        ValueError: no such file, no TOML, or an unknown, missing or ill-typed key, or a value that cannot be;
            the message names file and key.
    """
    try:
        content = tomllib.loads(_text(path.read_bytes()))
    except (OSError, ValueError) as error:  # TOML's, Unicode's, and that of a number of too many digits
        raise ValueError(f"configuration {path}: {error}") from None
    except RecursionError:
        raise ValueError(f"configuration {path}: it is nested too deeply") from None
    for override in overrides:
        _merge(content, _parse(override))
    return validate(content, " with ".join(filter(None, (str(path), " ".join(overrides)))))


def _text(content: bytes) -> str:
    """The text of a file; a byte-order mark of UTF-8, as some editors write it, is left out."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError("its byte-order mark is that of UTF-16; save it as UTF-8")
    return content.decode("utf-8-sig")


def validate(content: dict[str, Any], where: str) -> Configuration:
    """A configuration from plain data; ``where`` is named in errors."""
    try:
        _check_places(content)
        configuration = Configuration.model_validate_json(json.dumps(content, default=str))
        # Everything is made once, to find what is wrong with it here and now; the network without numbers.
        with torch.device("meta"):
            _check_size(configuration.make_denoiser())
        configuration.make_times()
        configuration.make_weighting()
    except ValidationError as error:
        raise ValueError(f"{where}: {_first(error)}") from None
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{where}: {error}") from None
    except RecursionError:
        raise ValueError(f"{where}: it is nested too deeply") from None
    return configuration


def _check_size(denoiser: Denoiser) -> None:
    """ValueError for a network that is larger than all memory: to try would take minutes."""
    size = sum(value.numel() * value.element_size() for value in denoiser.state_dict().values())
    if hasattr(os, "sysconf") and size > (memory := os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")):
        raise ValueError(
            f"network: its weights take {size / 2**30:,.0f} GiB, and this machine has {memory / 2**30:,.0f}"
        )


def _check_places(content: Mapping[str, Any]) -> None:
    """ValueError for a key that is known, but in another place than where it stands."""
    known = dict(KEYS)
    for section, registry in REGISTRIES.items():
        choice = content.get(section, Configuration.model_fields[section].default)
        name = choice.get("name") if isinstance(choice, dict) else getattr(choice, "name", None)
        known[section] = _options([registry[name]] if isinstance(name, str) and name in registry else [])
    places = {"": content} | {key: value for key, value in content.items() if isinstance(value, dict)}
    for place, keys in places.items():
        own = _options(REGISTRIES[place].values()) if place in REGISTRIES else known.get(place, [])
        for key in keys if own else ():
            homes = [
                f"into [{home}]" if home else "above all sections" for home in known if key in known[home]
            ]
            if homes and key not in own:
                found = f"{place}.{key}" if place else key
                raise ValueError(f"unknown key {found}; {key} belongs {' or '.join(homes)}")


def _options(makers: Iterable[Callable[..., Any]]) -> list[str]:
    """The keys of a section that names one of these."""
    return ["name", *(option for maker in makers for option in inspect.signature(maker).parameters)]


def _first(error: ValidationError) -> str:
    """What is wrong, in a line."""
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        section = KEYS.get(str(first["loc"][0]), KEYS[""]) if len(first["loc"]) > 1 else KEYS[""]
        return f"unknown key {key}; {nearest(str(first['loc'][-1]), section)}"
    if first["type"] == "missing":
        return f"key {key} is missing"
    if first["type"] == "value_error":  # of a section's own check, which says what came
        return f"{key}: {first['ctx']['error']}"
    return f"{key}: {first['msg'].lower()}, got {first['input']!r}"


# The known keys: of the file, and of its sections whose keys do not depend on a name in them.
KEYS: dict[str, list[str]] = {
    "": list(Configuration.model_fields),
    "data": list(Source.model_fields),
    "schedule": [field.name for field in fields(Schedule)],
}


# The names that a section chooses from, and so its options.
REGISTRIES: dict[str, Mapping[str, Callable[..., Any]]] = {
    "network": NETWORKS,
    "sde": SDES,
    "prediction": PREDICTIONS,
    "times": TIMES,
    "weighting": WEIGHTINGS,
}


def _parse(override: str) -> dict[str, Any]:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise ValueError(f"an override is written section.key=value, got {override!r}")
    try:
        return tomllib.loads(override)
    except RecursionError:
        raise ValueError(f"override {key.strip()}: its value is nested too deeply") from None
    except ValueError:  # TOML's, and that of a number of too many digits
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
