"""A plan carried out by compiled code: a row in one pass over its vectors, the network with its level told
as a tensor.

Nothing that is compiled knows the plan: weights and levels are tensors, made before the loop. So a process
compiles once for the network, once for the noise and once for every number of terms in a row, and no more for
other plans, numbers of steps, spacings or solvers. For another kind of shape it compiles them again. Of a
network torch compiles no more kinds than ``torch._dynamo.config.recompile_limit``: beyond, it runs as it is.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from ..devices import float64_device
from ..noise import Noise, normal
from ..processes.level import Level
from .executor import Denoise, Draw, execute
from .memory import Buffers
from .names import START
from .plan import Plan
from .tape import Line


def compiled_denoise(denoise: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The network, and what a :class:`Denoiser` does around it, compiled."""

    def told(x: Tensor, level: Level[Any], *cond: Tensor) -> Tensor:
        return denoise(x, level, *cond)

    return torch.compile(told, dynamic=False)


def compiled_noise(noise: Noise) -> Draw:
    """The draws of ``noise``, each in one pass; they may differ from its own in the last place."""
    seed = noise.seed & 2**64 - 1
    words = torch.tensor(seed - (seed >> 63 << 64))  # 64 bits, as a signed number
    block = noise.blocks  # of an arange inside, torch's code for a GPU would be in 32 bits
    drawn = _drawn(noise.shape)
    return lambda draw: drawn(words, noise.ids, block, noise.shape, torch.tensor(draw))


@torch.no_grad()
def integrate_compiled(plan: Plan, denoise: Denoise, x: Tensor, noise: Draw | None = None) -> Tensor:
    """The state that :func:`scoresde.integrate` ends with, but for roundings, by one kernel a line.

    ``denoise(x, level)`` is told the level as float64 tensors without dimensions, and is best compiled
    itself (:func:`compiled_denoise`). It may keep neither its input nor its output.
    """
    levels = iter(_rows([list(level) for level in plan.levels], float64_device(x.device), torch.float64))

    def ask(point: Tensor, level: Level[float]) -> Tensor:
        return denoise(point, Level(*next(levels)))  # type: ignore[no-any-return]

    end = x
    for state in execute(plan.lines, {START: x}, ask, noise, _Fused(plan.lines, x)):
        end = state
    return end


class _Fused(Buffers):
    """Sums a row in one pass."""

    def __init__(self, lines: Sequence[Line], x: Tensor) -> None:
        super().__init__(x)
        self.kind = _kind(x)
        # The first vector's factor is given as what it adds where it is near 1, as in ``rows.summed``.
        shares = [
            [float(0.5 < (first := line.row[0][1]) < 2), first - (0.5 < first < 2)]
            + [weight for _, weight in line.row[1:]]
            for line in lines
        ]
        rows = _rows(shares, x.device, x.dtype)
        self.shares = dict(zip((line.name for line in lines), rows, strict=True))

    def sum(self, line: Line, live: Mapping[str, Any], out: Tensor) -> Tensor:
        vectors = [live[name] for name, _ in line.row]
        if out is vectors[0]:
            _kernel(len(vectors), True, self.kind)(self.shares[line.name], *vectors)
        else:
            _kernel(len(vectors), False, self.kind)(self.shares[line.name], out, *vectors)
        return out


Kind = tuple[Any, ...]


def _kind(x: Tensor) -> Kind:
    """What torch compiles anew for: the rank, the type, the device, and which sizes are 1."""
    return (x.dtype, x.device, *(size == 1 for size in x.shape))


@cache
def _kernel(terms: int, in_place: bool, kind: Kind) -> Callable[..., None]:
    """The sum of rows of so many terms, of one kind of states."""
    return _compiled(_added_to_first if in_place else _written, f"of_{terms}_terms", dynamic=True)


@cache
def _drawn(shape: tuple[int, ...]) -> Callable[..., Tensor]:
    """The noise of samples of one shape."""
    return _compiled(normal, "of_" + "_by_".join(map(str, shape)))


def _compiled(function: Any, kind: str, **options: Any) -> Callable[..., Any]:
    """A copy of a function, compiled: torch limits the compilations of one; beyond, it runs uncompiled."""
    code = function.__code__.replace(co_name=f"{function.__name__}_{kind}")
    own = FunctionType(code, function.__globals__)
    quick: Callable[..., Any] | None = torch.compile(own, fullgraph=True, **options)

    def call(*arguments: Any) -> Any:
        nonlocal quick
        if quick:
            try:
                return quick(*arguments)
            except torch._dynamo.exc.FailOnRecompileLimitHit:
                quick = None
                warnings.warn(
                    f"torch compiles {function.__name__} for no more kinds of tensors: from here on it runs "
                    f"as it is, only slower; torch._dynamo.config.recompile_limit is the limit",
                    stacklevel=2,
                )
        return own(*arguments)

    return call


def _written(shares: Tensor, out: Tensor, *vectors: Tensor) -> None:
    out.copy_(_total(shares, vectors))


def _added_to_first(shares: Tensor, *vectors: Tensor) -> None:
    vectors[0].copy_(_total(shares, vectors))


def _total(shares: Tensor, vectors: Sequence[Tensor]) -> Tensor:
    total = shares[0] * vectors[0]
    for share, vector in zip(shares[1:], vectors, strict=False):
        total = total + share * vector
    return total


def _rows(numbers: Sequence[Sequence[float]], device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """Each list as a tensor, by one copy to the device; not views, whose place torch would compile in."""
    table = torch.tensor([number for row in numbers for number in row], dtype=dtype).to(device)
    return [row.clone() for row in torch.split(table, [len(row) for row in numbers])]
