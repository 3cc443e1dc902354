"""What a training run leaves: the averaged network, for use, and all that is needed to go on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .configuration import Configuration, validate
from .denoiser import Denoiser
from .files import read_tensors, write_tensors
from .training.trainer import State, module, start

TRAINING, MODEL = "training.safetensors", "model.safetensors"


def save_training(folder: Path, configuration: Configuration, state: State, shape: Sequence[int]) -> None:
    """Write the averaged network, for use, and all that training needs to go on; ``shape`` of one sample."""
    header = {
        "shape": list(shape),
        "configuration": configuration.model_dump(mode="json"),
        "step": state.step,
        "skipped": state.skipped,
    }
    write_tensors(folder / MODEL, state.average.module.state_dict(), **header)
    tensors = {f"net.{name}": value for name, value in module(state.denoiser).state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in state.average.state_dict().items()}
    for index, entry in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in entry.items()}
    write_tensors(folder / TRAINING, tensors, in_row=state.in_row, **header)


def load_training(folder: Path, configuration: Configuration, device: torch.device | str = "cpu") -> State:
    """The state that :func:`save_training` wrote, for the same configuration, on a device.

    Raises:
        ValueError: no such file, one that is damaged or not of a training run, or one written for another
            configuration.
    """
    path = folder / TRAINING
    tensors, header = read_tensors(path)
    before, now = _configuration(path, header), configuration.model_dump(mode="json")
    changed = [key for key in now if before.get(key) != now[key]]
    if changed:
        raise ValueError(
            f"{path} was written with another configuration; these sections differ: {', '.join(changed)}"
        )
    # On the device from the start: loading puts the optimiser's tensors where the parameters are.
    denoiser = configuration.make_denoiser().to(device)
    state = start(denoiser, configuration.schedule)
    try:
        module(denoiser).load_state_dict(_under("net.", tensors))
        state.average.load_state_dict(_under("average.", tensors))
        optimizer = state.optimizer.state_dict()
        for name, value in _under("optimizer.", tensors).items():
            index, key = name.split(".", 1)
            optimizer["state"].setdefault(int(index), {})[key] = value
        state.optimizer.load_state_dict(optimizer)
        state.step, state.skipped, state.in_row = header["step"], header["skipped"], header["in_row"]
    except (RuntimeError, KeyError) as error:
        raise ValueError(f"checkpoint {path} does not fit its own configuration: {error}") from None
    return state


class Trained(NamedTuple):
    """A network that training left, with how it was trained and the shape of one sample."""

    denoiser: Denoiser
    configuration: Configuration
    shape: tuple[int, ...]


def load_denoiser(path: str | Path) -> Trained:
    """The averaged network of a training run, ready for sampling, from its file or folder.

    Raises:
        ValueError: the file is missing, damaged, a pickle, or not of a network that its own header describes.
    """
    path = Path(path)
    path = path / MODEL if path.is_dir() else path
    tensors, header = read_tensors(path)
    configuration = validate(_configuration(path, header), str(path))
    denoiser = configuration.make_denoiser()
    try:
        module(denoiser).load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"checkpoint {path} does not fit its own configuration: {error}") from None
    shape = tuple(header.get("shape", ()))
    if not shape or not all(isinstance(n, int) and n > 0 for n in shape):
        raise ValueError(f"checkpoint {path} does not say the shape of its samples")
    return Trained(denoiser.eval().requires_grad_(False), configuration, shape)


def _configuration(path: Path, header: Mapping[str, Any]) -> dict[str, Any]:
    content = header.get("configuration")
    if not isinstance(content, dict):
        raise ValueError(
            f"checkpoint {path} has no configuration in its header; it was not written by scoresde"
        )
    return content


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
