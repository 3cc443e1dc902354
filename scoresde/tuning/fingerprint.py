"""Which network a table was tuned for."""

import hashlib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..sampling import Denoises


def fingerprint(denoiser: Denoises) -> dict[str, str]:
    """Hash of all weights, SDE, and precision of a denoiser; guidance within it counts as its numbers do."""
    digest = hashlib.sha256()
    for part in _parts(denoiser):
        digest.update(part)
    return {
        "weights": digest.hexdigest()[:16],
        "sde": repr(denoiser.sde),
        "dtype": str(getattr(denoiser, "dtype", None)),
    }


def _parts(value: Any) -> Iterator[bytes]:
    """The numbers that a thing is made of, in an order that is the same in every process."""
    if isinstance(value, Tensor):
        yield value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    elif isinstance(value, nn.Module):
        for name, tensor in value.state_dict().items():
            yield name.encode()
            yield from _parts(tensor)
        for name, own in sorted(vars(value).items()):
            if name[0] != "_" and isinstance(own, int | float | str):
                yield f"{name}={own!r}".encode()
    elif is_dataclass(value):
        for field in fields(value):
            yield from _parts(getattr(value, field.name))
    elif isinstance(value, int | float | str | tuple):
        yield repr(value).encode()
