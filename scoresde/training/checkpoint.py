"""What a training run leaves: the averaged network, for use, and all that is needed to go on."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..denoisers.network import Denoiser
from ..files import hash_of, read_tensors, write_tensors
from .configuration import Configuration, validate
from .labels import Labels, classes_of
from .state import State, module, start

TRAINING, MODEL = "training.safetensors", "model.safetensors"


def save_training(
    folder: Path,
    configuration: Configuration,
    state: State,
    shape: Sequence[int],
    *,
    labels: Labels | None = None,
    data: str | None = None,
) -> None:
    """Write the averaged network, for use, and all that training needs to go on.

    Args:
        folder: where to; its older files are replaced.
        configuration: of the run.
        state: after any step.
        shape: of one sample.
        labels: the classes of the training data.
        data: :func:`data_hash` of the training data.
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
    tensors, entries = _of_network(state), state.optimizer.state_dict()["state"]
    for index, entry in entries.items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in entry.items()}
    write_tensors(folder / TRAINING, tensors, in_row=state.in_row, optimizer=sorted(entries), **header)


def data_hash(x: Tensor, labels: Tensor | None = None) -> str:
    """Hash of training data, so that a run goes on with the same; 64 hex digits."""
    return hash_of({"x": x} if labels is None else {"x": x, "labels": labels})


def load_training(
    folder: Path,
    configuration: Configuration,
    device: torch.device | str = "cpu",
    *,
    data: str | None = None,
) -> State:
    """The state that :func:`save_training` wrote, for the same configuration, on a device.

    ``schedule.steps`` may be larger than it was. The learning rate then is, from the next step on, that of
    the longer schedule: with a decay it jumps up, and the run differs from one that was as long from the
    start; with ``decay = "constant"`` it has the bits of that.

    Args:
        folder: of the run.
        configuration: as it was, but for more steps.
        device: of the network.
        data: :func:`data_hash` of the data to go on with; None does not compare.

    Raises:
        ValueError: no such file, a damaged one, or one of another configuration or other data, by name.
    """
    path = folder / TRAINING
    tensors, header = read_tensors(path)
    before = validate(_configuration(path, header), str(path))
    _check_same(path, before.model_dump(mode="json"), configuration.model_dump(mode="json"))
    if None not in (data, header.get("data")) and data != header["data"]:
        raise ValueError(f"{path} was written with other training data; go on with the same, or start anew")
    with torch.device("meta"):  # what must be there, before memory is spent on it
        blank = start(configuration.make_denoiser(), configuration.schedule)
    _check_fit(path, tensors, _expected(blank, _entries(path, header, tensors)))
    step = _count(path, header, "step", before.schedule.steps)
    skipped = _count(path, header, "skipped", step)
    in_row = _count(path, header, "in_row", skipped)
    _check_counts(path, tensors, step)
    # On the device from the start: loading puts the optimiser's tensors where the parameters are.
    state = start(configuration.make_denoiser().to(device), configuration.schedule)
    _fill(state, tensors)
    state.step, state.skipped, state.in_row = step, skipped, in_row
    return state


def _fill(state: State, tensors: Mapping[str, Tensor]) -> None:
    module(state.denoiser).load_state_dict(_under("net.", tensors))
    state.average.load_state_dict(_under("average.", tensors))
    optimizer = state.optimizer.state_dict()
    for name, value in _under("optimizer.", tensors).items():
        index, key = name.split(".", 1)
        optimizer["state"].setdefault(int(index), {})[key] = value
    state.optimizer.load_state_dict(optimizer)


class Trained(NamedTuple):
    """A network that training left, with how it was trained, the shape of one sample, and its classes.

    ``labels`` is None where the file does not say which classes were seen.
    """

    denoiser: Denoiser
    configuration: Configuration
    shape: tuple[int, ...]
    labels: Labels | None = None


def load_denoiser(path: str | Path) -> Trained:
    """The averaged network of a training run, ready for sampling, from its file or folder.

    Raises:
        ValueError: the file is missing, damaged, a pickle, or not of a network that its own header describes.
    """
    path = Path(path)
    path = path / MODEL if path.is_dir() else path
    tensors, header = read_tensors(path)
    configuration = validate(_configuration(path, header), str(path))
    if "in_row" in header:
        raise ValueError(
            f"checkpoint {path} is for training to go on from; name its folder, or {MODEL} there"
        )
    with torch.device("meta"):
        blank = module(configuration.make_denoiser())
    _check_fit(path, tensors, blank.state_dict(), types=False)
    shape = tuple(header.get("shape") or ())
    if not shape or not all(_is_count(n) and n > 0 for n in shape):
        raise ValueError(f"checkpoint {path} does not say the shape of its samples")
    labels = _labels(path, header, classes_of(blank))
    denoiser = configuration.make_denoiser()
    module(denoiser).load_state_dict(tensors)
    return Trained(denoiser.eval().requires_grad_(False), configuration, shape, labels)


def take_weights(denoiser: Denoiser, path: str | Path) -> None:
    """Put the averaged weights of a trained network into another of the same make.

    Raises:
        ValueError: the file cannot be read, or is of another network.
    """
    given, net = module(load_denoiser(path).denoiser).state_dict(), module(denoiser)
    misfit = _misfit(given, net.state_dict(), types=False)
    if misfit:
        raise ValueError(f"{path} is another network than the configuration's: {misfit}")
    net.load_state_dict(given)


def _configuration(path: Path, header: Mapping[str, Any]) -> dict[str, Any]:
    content = header.get("configuration")
    if not isinstance(content, dict):
        raise ValueError(
            f"checkpoint {path} has no configuration in its header; it was not written by scoresde"
        )
    return content


def _check_same(path: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """ValueError unless two configurations are alike but for more steps."""
    was, given = _flat(before), _flat(now)
    changed = [
        f"{key} was {_shown(was, key)}, is {_shown(given, key)}"
        for key in was | given
        if was.get(key) != given.get(key)
        and not (key == "schedule.steps" and given["schedule.steps"] > was["schedule.steps"])
    ]
    if changed:
        raise ValueError(f"{path} was written with another configuration: {'; '.join(changed)}")


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by ``section.key``."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _shown(values: Mapping[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else "not set"


def _of_network(state: State) -> dict[str, Tensor]:
    tensors = {f"net.{name}": value for name, value in module(state.denoiser).state_dict().items()}
    return tensors | {f"average.{name}": value for name, value in state.average.state_dict().items()}


def _entries(path: Path, header: Mapping[str, Any], tensors: Iterable[str]) -> list[int]:
    """Numbers of the parameters that the optimiser holds something of: those that ever had a gradient."""
    found = {name.split(".")[1] for name in tensors if name.startswith("optimizer.")}
    given = header.get("optimizer", sorted(int(number) for number in found if number.isdecimal()))
    if not isinstance(given, list) or not all(_is_count(number) for number in given):
        raise ValueError(f"checkpoint {path}: optimizer must be a list of parameters' numbers, got {given!r}")
    return given


def _expected(state: State, entries: Sequence[int]) -> dict[str, Tensor]:
    """Tensors of the names, shapes and types of a training state with these entries of AdamW."""
    parameters = dict(enumerate(module(state.denoiser).parameters()))
    count = torch.zeros((), dtype=torch.float32)
    expected = _of_network(state)
    for number in entries:
        if number in parameters:
            like = {"step": count, "exp_avg": parameters[number], "exp_avg_sq": parameters[number]}
            expected |= {f"optimizer.{number}.{name}": tensor for name, tensor in like.items()}
    return expected


def _check_fit(
    path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], types: bool = True
) -> None:
    misfit = _misfit(tensors, expected, types)
    if misfit:
        raise ValueError(f"checkpoint {path} does not fit its own configuration: {misfit}")


def _misfit(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], types: bool) -> str:
    """The first difference in names, shapes and perhaps types, in a few words; empty if there is none."""
    wrong = [f"{name} is missing" for name in expected if name not in tensors]
    wrong += [f"{name} is unknown" for name in tensors if name not in expected]
    for name in (name for name in expected if name in tensors):
        one, other = tensors[name], expected[name]
        if one.shape != other.shape:
            wrong.append(f"{name} has shape {tuple(one.shape)}, not {tuple(other.shape)}")
        elif types and one.dtype != other.dtype:
            wrong.append(f"{name} is of {one.dtype}, not {other.dtype}")
    return "".join(wrong[:1]) + (f", and {len(wrong) - 1} more" if len(wrong) > 1 else "")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _count(path: Path, header: Mapping[str, Any], key: str, most: int) -> int:
    value = header.get(key)
    if not isinstance(value, int) or not _is_count(value) or value > most:
        raise ValueError(f"checkpoint {path}: {key} must be a whole number from 0 to {most}, got {value!r}")
    return value


def _check_counts(path: Path, tensors: Mapping[str, Tensor], step: int) -> None:
    """ValueError unless no count of steps is beyond ``step``, and no mean of squares below 0."""
    for name, tensor in tensors.items():
        if name == "average.n_averaged" or (name.startswith("optimizer.") and name.endswith(".step")):
            if not 0 <= tensor.item() <= step or tensor.item() % 1:
                raise ValueError(
                    f"checkpoint {path}: {name} must be a whole number from 0 to {step}, got {tensor.item()}"
                )
        elif name.startswith("optimizer.") and name.endswith("_sq") and (tensor < 0).any():
            raise ValueError(f"checkpoint {path}: {name} must not be negative")


def _labels(path: Path, header: Mapping[str, Any], classes: int) -> Labels | None:
    content = header.get("labels")
    if content is None:
        return None
    seen, names = (content.get(key) if isinstance(content, dict) else None for key in Labels._fields)
    if (
        not isinstance(seen, list)
        or not isinstance(names, list)
        or not all(_is_count(label) and label < classes for label in seen)
        or not all(isinstance(name, str) for name in names)
    ):
        raise ValueError(
            f"checkpoint {path}: labels must be seen, below {classes}, and names, got {content!r}"
        )
    return Labels(tuple(seen), tuple(names))


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
