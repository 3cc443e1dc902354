"""The memory of a run kept apart from the memory of the network.

A network may write to its input, as ``SiLU(inplace=True)`` does, or return a part of it. Either would change
a state that the run reads again. The first call of a run is on a copy and shows what the network does. Only a
network that does one of the two receives copies in the later calls.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

R = TypeVar("R")

Ask = Callable[..., Any]  # of a point, and further arguments


def apart(denoise: Ask) -> Ask:
    """``denoise`` for one run: it neither changes the points of the run nor returns a part of them."""
    ask: Ask | None = None

    def call(x: Any, *rest: Any) -> Any:
        nonlocal ask
        if ask is None:
            output, ask = first_output(denoise, x, torch.clone, *rest)
            return output
        return ask(x, *rest)

    return call


def first_output(denoise: Ask, point: Any, copied: Callable[[Tensor], Tensor], *rest: Any) -> tuple[Any, Ask]:
    """The first output of a run, and the function to call for the later outputs.

    ``copied`` copies the point for the first call; the run may overwrite this copy afterwards.
    """
    if not isinstance(point, Tensor):
        return denoise(point, *rest), denoise
    if torch.compiler.is_compiling():  # a compiler removes unneeded copies
        return denoise(point.clone(), *rest), _of_copies(denoise)
    copy = copied(point)
    output, wrote = watched(lambda shown: denoise(shown, *rest), copy, point)
    if isinstance(output, Tensor) and (wrote or _share(output, copy)):
        return output.clone(), _of_copies(denoise)
    return output, denoise


def watched(f: Callable[[Tensor], R], copy: Tensor, original: Tensor) -> tuple[R, bool]:
    """f of a copy, and whether f wrote to the copy."""
    if copy.is_inference():  # an inference tensor does not count writes
        return f(copy), not torch.equal(copy, original)
    version = copy._version
    return f(copy), copy._version != version


def _of_copies(denoise: Ask) -> Ask:
    return lambda x, *rest: denoise(x.clone() if isinstance(x, Tensor) else x, *rest)


def _share(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors may share memory; True where it cannot be known, as under vmap."""
    try:
        return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
    except RuntimeError:
        return True
