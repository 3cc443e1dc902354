"""A plan carried out by compiled code: a row in one pass over its vectors, the network with its level told
as a tensor.

Nothing that is compiled knows the plan: weights and levels are tensors, made before the loop. So a process
compiles once for the network, once for the noise and once for every number of terms in a row, and no more for
other plans, numbers of steps, spacings or solvers.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from .devices import float64_device
from .noise import Noise, normal
from .plan import Buffers, Denoise, Draw, Line, Plan, carry_out
from .sde import Level


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
    drawn = _compiled_draw()
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
    for state in carry_out(plan.lines, {"x0": x}, ask, noise, _Fused(plan.lines, x)):
        end = state
    return end


class _Fused(Buffers):
    """Sums a row in one pass."""

    def __init__(self, lines: Sequence[Line], x: Tensor) -> None:
        super().__init__(x)
        # The first vector's factor is given as what it adds where it is near 1, as in ``plan.summed``.
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
            _kernel(len(vectors), True)(self.shares[line.name], *vectors)
        else:
            _kernel(len(vectors), False)(self.shares[line.name], out, *vectors)
        return out


@lru_cache
def _kernel(terms: int, in_place: bool) -> Callable[..., None]:
    """A function of its own for every number of terms, for torch limits the compilations of one."""
    form = _added_to_first if in_place else _written
    own = FunctionType(form.__code__.replace(co_name=f"{form.__name__}_{terms}"), form.__globals__)
    return torch.compile(own, dynamic=True, fullgraph=True)


def _written(shares: Tensor, out: Tensor, *vectors: Tensor) -> None:
    out.copy_(_total(shares, vectors))


def _added_to_first(shares: Tensor, *vectors: Tensor) -> None:
    vectors[0].copy_(_total(shares, vectors))


def _total(shares: Tensor, vectors: Sequence[Tensor]) -> Tensor:
    total = shares[0] * vectors[0]
    for share, vector in zip(shares[1:], vectors, strict=False):
        total = total + share * vector
    return total


@lru_cache
def _compiled_draw() -> Callable[..., Tensor]:
    """Made when it is first wanted: torch.compile loads as much as all the rest of torch."""
    return torch.compile(_drawn, fullgraph=True)


def _drawn(seed: Tensor, ids: Tensor, block: Tensor, shape: tuple[int, ...], draw: Tensor) -> Tensor:
    return normal(seed, ids, block, shape, draw)


def _rows(numbers: Sequence[Sequence[float]], device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """Each list as a tensor, by one copy to the device; not views, whose place torch would compile in."""
    table = torch.tensor([number for row in numbers for number in row], dtype=dtype).to(device)
    return [row.clone() for row in torch.split(table, [len(row) for row in numbers])]
