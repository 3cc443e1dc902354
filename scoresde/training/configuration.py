"""The configuration of a training run: TOML as typed objects, and the parts that they name."""

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
from ..registry import build, lookup
from .configuration_faults import check_places, first_fault
from .options import LevelOptions, TrainingOptions
from .overrides import merge, parse_override
from .randomness import seeded
from .time_sampling import TIME_SAMPLINGS, TimeSampling
from .weighting import WEIGHTINGS, Weighting

# The included configurations by name. In the sources, scoresde/configs is a link to configs.
CONFIGURATIONS: dict[str, Path] = {
    path.stem: path for path in sorted((Path(__file__).parents[1] / "configs").glob("*.toml"))
}


class Choice(BaseModel):
    """An entry of a registry by its name; the other keys are its options.

    :func:`scoresde.registry.build` checks the options.
    """

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
    # check_options checks these two, with the same messages as for load_data.
    size: Annotated[int | tuple[int, int] | list[int] | None, SkipValidation] = None
    mode: str = ""
    crop: Annotated[bool | str, SkipValidation] = False
    unreadable: str = "error"
    max_bytes: int = 2**32

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            check_options(self.size, self.mode, self.crop, self.unreadable, self.max_bytes)
        except TypeError as error:  # pydantic collects ValueErrors only
            raise ValueError(error) from None
        return self


class Configuration(BaseModel):
    """Everything that decides the result of a training run. ``levels`` is for what follows the last step."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    data: Source
    network: Choice
    prediction: Choice
    sde: Choice = Choice(name="edm")
    time_sampling: Choice = Choice(name="log-normal")
    weighting: Choice = Choice(name="plain")
    optimization: TrainingOptions = TrainingOptions()
    levels: LevelOptions = LevelOptions()
    seed: int = 0

    def make_denoiser(self) -> Denoiser:
        """The network with its first weights, which the seed decides, under its SDE."""
        with seeded(self.seed):
            network: nn.Module = build("network", NETWORKS, self.network.spec)
        sde = build("SDE", SDES, self.sde.spec)
        prediction = build("prediction", PREDICTIONS, self.prediction.spec)
        return Denoiser(network, sde, prediction)

    def make_time_sampling(self) -> TimeSampling:
        """The distribution of the times."""
        made: TimeSampling = build("time sampling", TIME_SAMPLINGS, self.time_sampling.spec)
        return made

    def make_weighting(self) -> Weighting:
        """The factor on the loss at each level."""
        made: Weighting = build("weighting", WEIGHTINGS, self.weighting.spec)
        return made


def configuration_file(name: str) -> Path:
    """The path of a file, or of an included configuration by its name; ValueError if neither exists."""
    path = Path(name)
    if path.exists() and not (path.is_dir() and name in CONFIGURATIONS):
        return path
    if path.suffix or len(path.parts) != 1:
        raise ValueError(f"configuration {name}: no such file")
    return lookup("configuration", name, CONFIGURATIONS)


def read_configuration(path: Path, overrides: Sequence[str] = ()) -> Configuration:
    """A configuration from a TOML file.

    Args:
        path: of the file.
        overrides: ``section.key=value``, each replaces a value of the file; a value is TOML, or else a word.

    Raises:
        ValueError: a file that is missing or not TOML; a key that is unknown, missing or in another section;
            a value of another type or outside its range. The message names file and key.
    """
    try:
        content = tomllib.loads(_text(path.read_bytes()))
    except (OSError, ValueError) as error:  # from TOML, Unicode, or a number with too many digits
        raise ValueError(f"configuration {path}: {error}") from None
    except RecursionError:
        raise ValueError(f"configuration {path}: it is nested too deeply") from None
    for override in overrides:
        merge(content, parse_override(override))
    return validate(content, " with ".join(filter(None, (str(path), " ".join(overrides)))))


def _text(content: bytes) -> str:
    """The text of a file without a byte-order mark of UTF-8, which some editors write."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError("it has the byte-order mark of UTF-16; save it as UTF-8")
    return content.decode("utf-8-sig")


def validate(content: dict[str, Any], where: str) -> Configuration:
    """A configuration from plain data; ``where`` begins the message of every error."""
    try:
        check_places(content, *_keys(content))
        configuration = Configuration.model_validate_json(json.dumps(content, default=str))
        # Make each part once, to find every fault now; on the meta device, a network takes no memory.
        with torch.device("meta"):
            _check_size(configuration.make_denoiser())
        configuration.make_time_sampling()
        configuration.make_weighting()
    except ValidationError as error:
        raise ValueError(f"{where}: {first_fault(error, KEYS)}") from None
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{where}: {error}") from None
    except RecursionError:
        raise ValueError(f"{where}: it is nested too deeply") from None
    return configuration


def _check_size(denoiser: Denoiser) -> None:
    """ValueError for a network larger than the memory of the machine: the attempt would take minutes."""
    size = sum(value.numel() * value.element_size() for value in denoiser.state_dict().values())
    if hasattr(os, "sysconf") and size > (memory := os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")):
        raise ValueError(
            f"network: its weights take {size / 2**30:,.0f} GiB, and this machine has {memory / 2**30:,.0f}"
        )


# The keys of the file, "", and of the sections whose keys do not depend on a name.
KEYS: dict[str, list[str]] = {
    "": list(Configuration.model_fields),
    "data": list(Source.model_fields),
    "optimization": [field.name for field in fields(TrainingOptions)],
    "levels": [field.name for field in fields(LevelOptions)],
}

# The sections that name an entry of a registry, whose options are the other keys.
REGISTRIES: dict[str, Mapping[str, Callable[..., Any]]] = {
    "network": NETWORKS,
    "sde": SDES,
    "prediction": PREDICTIONS,
    "time_sampling": TIME_SAMPLINGS,
    "weighting": WEIGHTINGS,
}


def _keys(content: Mapping[str, Any]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The keys of each section, for the names in this file, and for all names."""
    chosen, possible = dict(KEYS), dict(KEYS)
    for section, registry in REGISTRIES.items():
        choice = content.get(section, Configuration.model_fields[section].default)
        name = choice.get("name") if isinstance(choice, dict) else getattr(choice, "name", None)
        chosen[section] = _options([registry[name]] if isinstance(name, str) and name in registry else [])
        possible[section] = _options(registry.values())
    return chosen, possible


def _options(makers: Iterable[Callable[..., Any]]) -> list[str]:
    """The keys of a section that names one of these."""
    return ["name", *(option for maker in makers for option in inspect.signature(maker).parameters)]
