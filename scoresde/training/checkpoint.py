"""The two files of a training run: the averaged network, for sampling, and the state, for more training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..denoisers.network import Denoiser
from ..files import hash_of, read_tensors, write_tensors
from .checkpoint_checks import (
    check_counts,
    check_fit,
    check_same,
    configuration_in,
    count_in,
    entries_in,
    labels_in,
    misfit,
    shape_in,
)
from .configuration import Configuration, validate
from .labels import Labels
from .state import TrainingState, module, start

TRAINING, MODEL = "training.safetensors", "model.safetensors"


def save_training(
    folder: Path,
    configuration: Configuration,
    state: TrainingState,
    shape: Sequence[int],
    *,
    labels: Labels | None = None,
    data: str | None = None,
) -> None:
    """Write the averaged network, for sampling, and the state, for more training.

    Args:
        folder: of the run; its older files are replaced.
        configuration: of the run.
        state: after any step.
        shape: of one sample.
        labels: the classes of the training data.
        data: :func:`data_hash` of the training data.

    Raises:
        FloatingPointError: a tensor is not finite; its file is not written.
        OSError: a file cannot be written.
    """
    header = {
        "shape": list(shape),
        "configuration": configuration.model_dump(mode="json"),
        "step": state.step,
        "skipped": state.skipped,
        "labels": None if labels is None else labels._asdict(),
        "data": data,
    }
    write_tensors(folder / MODEL, state.average.module.state_dict(), **header)
    tensors, entries = _tensors_of(state), state.optimizer.state_dict()["state"]
    for index, entry in entries.items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in entry.items()}
    write_tensors(folder / TRAINING, tensors, in_row=state.in_row, optimizer=sorted(entries), **header)


def data_hash(x: Tensor, labels: Tensor | None = None) -> str:
    """Hash of training data, 64 hex digits, so that a run continues with the same data only."""
    return hash_of({"x": x} if labels is None else {"x": x, "labels": labels})


def load_training(
    folder: Path,
    configuration: Configuration,
    device: torch.device | str = "cpu",
    *,
    data: str | None = None,
) -> TrainingState:
    """The state that :func:`save_training` wrote, for the same configuration, on a device.

    ``optimization.steps`` may be larger than before. The next steps then have the learning rates of the
    longer run. With ``decay = "constant"`` the result has the bits of a run that had this length from the
    start. With another decay the learning rate jumps up, and the result differs.

    Args:
        folder: of the run.
        configuration: as before, except for more steps.
        device: of the network.
        data: :func:`data_hash` of the data for the next steps; None skips the comparison.

    Raises:
        ValueError: a file that is missing or damaged, or has another configuration or other data; the message
            names what differs.
    """
    path = folder / TRAINING
    tensors, header = read_tensors(path)
    before = validate(configuration_in(path, header), str(path))
    check_same(path, before.model_dump(mode="json"), configuration.model_dump(mode="json"))
    if None not in (data, header.get("data")) and data != header["data"]:
        raise ValueError(f"{path} was written with other training data; use the same data, or start anew")
    with torch.device("meta"):  # find a misfit before the network takes memory
        blank = start(configuration.make_denoiser(), configuration.optimization)
    check_fit(path, tensors, _expected(blank, entries_in(path, header, tensors)))
    step = count_in(path, header, "step", before.optimization.steps)
    skipped = count_in(path, header, "skipped", step)
    in_row = count_in(path, header, "in_row", skipped)
    check_counts(path, tensors, step)
    # On the device from the start: the optimiser loads its tensors to the device of the parameters.
    state = start(configuration.make_denoiser().to(device), configuration.optimization)
    _fill(state, tensors)
    state.step, state.skipped, state.in_row = step, skipped, in_row
    return state


def _tensors_of(state: TrainingState) -> dict[str, Tensor]:
    """The tensors of the network and of its average, by the names in a file."""
    tensors = {f"net.{name}": value for name, value in module(state.denoiser).state_dict().items()}
    return tensors | {f"average.{name}": value for name, value in state.average.state_dict().items()}


def _expected(state: TrainingState, entries: Sequence[int]) -> dict[str, Tensor]:
    """Tensors with the names, shapes and types of a saved state with these entries of AdamW."""
    parameters = dict(enumerate(module(state.denoiser).parameters()))
    count = torch.zeros((), dtype=torch.float32)
    expected = _tensors_of(state)
    for number in entries:
        if number in parameters:
            like = {"step": count, "exp_avg": parameters[number], "exp_avg_sq": parameters[number]}
            expected |= {f"optimizer.{number}.{name}": tensor for name, tensor in like.items()}
    return expected


def _fill(state: TrainingState, tensors: Mapping[str, Tensor]) -> None:
    module(state.denoiser).load_state_dict(_under("net.", tensors))
    state.average.load_state_dict(_under("average.", tensors))
    optimizer = state.optimizer.state_dict()
    for name, value in _under("optimizer.", tensors).items():
        index, key = name.split(".", 1)
        optimizer["state"].setdefault(int(index), {})[key] = value
    state.optimizer.load_state_dict(optimizer)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


class Trained(NamedTuple):
    """A trained network, its configuration, the shape of one sample, and the classes of its training data.

    ``labels`` is None where the file does not list the classes.
    """

    denoiser: Denoiser
    configuration: Configuration
    shape: tuple[int, ...]
    labels: Labels | None = None


def load_denoiser(path: str | Path) -> Trained:
    """The averaged network of a training run, for sampling, from its file or folder.

    Raises:
        ValueError: a file that is missing, damaged or a pickle, or does not fit the configuration in its
            header.
    """
    path = Path(path)
    path = path / MODEL if path.is_dir() else path
    tensors, header = read_tensors(path)
    configuration = validate(configuration_in(path, header), str(path))
    if "in_row" in header:
        raise ValueError(
            f"checkpoint {path} holds the state for more training; name its folder, or {MODEL} there"
        )
    with torch.device("meta"):
        blank = configuration.make_denoiser()
    check_fit(path, tensors, module(blank).state_dict(), types=False)
    shape = shape_in(path, header)
    labels = labels_in(path, header, blank.classes or 0)
    denoiser = configuration.make_denoiser()
    module(denoiser).load_state_dict(tensors)
    return Trained(denoiser.eval().requires_grad_(False), configuration, shape, labels)


def take_weights(denoiser: Denoiser, path: str | Path) -> None:
    """Copy the averaged weights of a trained network into another network of the same architecture.

    Args:
        denoiser: changed in place.
        path: file or folder of the training run.

    Raises:
        ValueError: the file cannot be read, or its network has another architecture.
    """
    given, net = module(load_denoiser(path).denoiser).state_dict(), module(denoiser)
    fault = misfit(given, net.state_dict(), types=False)
    if fault:
        raise ValueError(f"{path} is another network than the configuration's: {fault}")
    net.load_state_dict(given)
