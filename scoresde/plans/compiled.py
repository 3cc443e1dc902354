"""Execution of a plan by compiled code: one pass over the vectors of a row, and a compiled network.

Weights and levels are tensors that are made before the loop, so that no compiled code depends on a plan. A
process compiles once for the network, once for the noise, and once for each number of terms in a row; other
plans, numbers of steps, spacings and solvers need no further compilation. Another rank, type or device of the
state does. torch compiles a function for at most ``torch._dynamo.config.recompile_limit`` of these; for more,
the function runs without compilation.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from ..devices import float64_device
from ..noise import Noise, normal, pairs_of, starts
from ..processes.level import Level
from .executor import Denoise, Draw, execute
from .memory import Buffers
from .names import START
from .plan import Plan
from .tape import Line


def compiled_denoise(denoise: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A denoiser, compiled with its network. Its level is to be given as tensors."""

    def estimate(x: Tensor, level: Level[Any], *cond: Tensor) -> Tensor:
        return denoise(x, level, *cond)

    return torch.compile(estimate, dynamic=False)


def compiled_noise(noise: Noise) -> Draw:
    """The draws of ``noise``, compiled. They may differ from its draws in the last digit."""
    # An argument: torch would compile an arange inside for a GPU with 32 bits.
    block = torch.arange(pairs_of(noise.shape), device=noise.ids.device)
    drawn = _drawn(noise.shape)

    def draw(i: int) -> Tensor:
        first, second = (torch.tensor(start) for start in starts(noise.seed, i))
        return drawn(first, second, noise.ids, block, noise.shape)

    return draw


@torch.no_grad()
def integrate_compiled(plan: Plan, denoise: Denoise, x: Tensor, noise: Draw | None = None) -> Tensor:
    """The result of :func:`scoresde.integrate` up to rounding, with one kernel for each line.

    The two conditions of :func:`scoresde.integrate` on the network hold here too.

    Args:
        plan: the run.
        denoise: ``denoise(x, level)`` receives the level as float64 tensors of shape ``()``; it should itself
            be compiled (:func:`compiled_denoise`).
        x: the state at the plan's start, ``(B, ...)``.
        noise: ``noise(i)`` is draw i; None for a deterministic plan.
    """
    levels = iter(_rows([list(level) for level in plan.levels], float64_device(x.device), torch.float64))

    def ask(point: Tensor, level: Level[float]) -> Tensor:
        return denoise(point, Level(*next(levels)))  # type: ignore[no-any-return]

    end = x
    for state in execute(plan.lines, {START: x}, ask, noise, _Fused(plan.lines, x)):
        end = state
    return end


class _Fused(Buffers):
    """Buffers that combine a row in one pass over its vectors."""

    def __init__(self, lines: Sequence[Line], x: Tensor) -> None:
        super().__init__(x)
        self.kind = _kind(x)
        # A first weight near 1 is stored as weight - 1, as in ``linear_combination``, and for its reason.
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
    """What torch compiles again for: type, device, rank, and which sizes are 1."""
    return (x.dtype, x.device, *(size == 1 for size in x.shape))


@cache
def _kernel(terms: int, in_place: bool, kind: Kind) -> Callable[..., None]:
    """The linear combination of a number of terms, for one kind of state."""
    return _compiled(_added_to_first if in_place else _written, f"of_{terms}_terms", dynamic=True)


@cache
def _drawn(shape: tuple[int, ...]) -> Callable[..., Tensor]:
    """The noise for samples of one shape."""
    return _compiled(normal, "of_" + "_by_".join(map(str, shape)))


def _compiled(function: Any, kind: str, **options: Any) -> Callable[..., Any]:
    """A compiled copy of a function, with a limit of compilations that no other copy shares.

    Beyond the limit the function runs without compilation, with one warning.
    """
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
                    f"without compilation, slower; torch._dynamo.config.recompile_limit is the limit",
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
    """Each list as a tensor, by one copy to the device. Not as views: torch would compile their offsets."""
    table = torch.tensor([number for row in numbers for number in row], dtype=dtype).to(device)
    return [row.clone() for row in torch.split(table, [len(row) for row in numbers])]
