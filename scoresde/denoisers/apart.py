"""The memory of a run kept apart from the network's.

A network may write to its input, as ``SiLU(inplace=True)`` does, or return a part of it. Either would spoil a
state that the run reads again. Which a network does is seen at its first call, on a copy; only a network that
needs it is given copies from then on.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

R = TypeVar("R")


Ask = Callable[..., Any]  # of a point, and more


def apart(denoise: Ask) -> Ask:
    """``denoise`` for one run: it leaves the points of the run as they are, and keeps no part of them."""
    ask: Ask | None = None

    def call(x: Any, *rest: Any) -> Any:
        nonlocal ask
        if ask is None:
            output, ask = first_output(denoise, x, torch.clone, *rest)
            return output
        return ask(x, *rest)

    return call


def first_output(denoise: Ask, point: Any, copied: Callable[[Tensor], Tensor], *rest: Any) -> tuple[Any, Ask]:
    """The first output of a run, and what the run is to ask from then on.

    The output is of a copy of the point, which may be overwritten afterwards.
    """
    if not isinstance(point, Tensor):
        return denoise(point, *rest), denoise
    if torch.compiler.is_compiling():  # a compiler leaves out the copies that are not needed
        return denoise(point.clone(), *rest), _of_copies(denoise)
    copy = copied(point)
    output, wrote = watched(lambda shown: denoise(shown, *rest), copy, point)
    if isinstance(output, Tensor) and (wrote or _share(output, copy)):
        return output.clone(), _of_copies(denoise)
    return output, denoise


def watched(f: Callable[[Tensor], R], copy: Tensor, original: Tensor) -> tuple[R, bool]:
    """f of a copy, and whether f wrote to it."""
    if copy.is_inference():  # such a tensor does not count what is written
        return f(copy), not torch.equal(copy, original)
    version = copy._version
    return f(copy), copy._version != version


def _of_copies(denoise: Ask) -> Ask:
    return lambda x, *rest: denoise(x.clone() if isinstance(x, Tensor) else x, *rest)


def _share(a: Tensor, b: Tensor) -> bool:
    """Do they lie in the same memory? Where that cannot be known, as under vmap, they may."""
    try:
        return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
    except RuntimeError:
        return True
