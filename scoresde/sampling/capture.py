"""A whole run as one CUDA graph: recorded once, and played back without Python."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..denoisers.protocol import DenoiserLike, as_denoiser
from ..noise import Noise, later
from ..plans.executor import integrate
from ..plans.plan import Plan
from ..processes.level import Level
from . import checks

WARM_UP = 3  # runs before the recording, in which libraries choose their kernels and make their workspaces


@torch.inference_mode(False)  # whose tensors cannot say whether a network wrote to them
@torch.no_grad()
def captured(
    denoiser: DenoiserLike,
    plan: Plan,
    shape: Sequence[int],
    *,
    seed: int = 0,
    cond: Tensor | None = None,
    device: torch.device | str = "cuda",
    dtype: torch.dtype = torch.float32,
) -> Callable[..., Tensor]:
    """Record a run, noise and network and all; the function returned plays it for other samples.

    It is ``draw(ids, cond=None)``: ``ids`` ``(B,)`` the numbers of the samples, ``cond`` of the shape and
    type recorded; it returns ``(B, ...)``, the samples that :func:`scoresde.sample` draws with this ``seed``.
    The network's weights are read where they were, and nothing is checked: an end that is not finite is
    returned as it is.

    Args:
        denoiser: what estimates x_0; every one of its kernels must be one that a graph can record.
        plan: of the run.
        shape: of the result, ``(B, ...)``.
        seed: of the noise.
        cond: conditions like those to come, if there are any.
        device: a CUDA device.
        dtype: of the state: float32 or float64.

    Raises:
        TypeError: ``plan`` is none.
        ValueError: the device is not a CUDA device; later, ids or conditions of another shape.
    """
    device, shape, denoiser = torch.device(device), checks.shape_of(shape), as_denoiser(denoiser)
    if not isinstance(plan, Plan):
        raise TypeError(f"plan must be a Plan, as of Plan.within or prepare, got {type(plan).__name__}")
    if device.type != "cuda" or not torch.cuda.is_available():
        raise ValueError(f"device must be a CUDA device that is there, got {device}; without one, use sample")
    cond = checks.conditions(cond, shape[0], denoiser.classes)
    ids = torch.arange(shape[0], device=device)
    given = None if cond is None else cond.to(device).clone()
    noise = Noise(seed, ids, shape[1:])

    def denoise(x: Tensor, level: Level[Any]) -> Tensor:
        return denoiser(x, level, given)

    def run() -> Tensor:
        end: Tensor = integrate(plan, denoise, plan.start.sigma * noise(0).to(dtype), later(noise, dtype))
        return end

    graph, end = _recorded(run, device)

    def draw(new_ids: Tensor, new_cond: Tensor | None = None) -> Tensor:
        for name, new, old in (("ids", new_ids, ids), ("cond", new_cond, given)):
            if not _alike(new, old):
                raise ValueError(f"{name} must be like those recorded, {_said(old)}, got {_said(new)}")
            if new is not None and old is not None:
                old.copy_(new)
        graph.replay()
        return end.clone()

    return draw


def _recorded(run: Callable[[], Tensor], device: torch.device) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """A graph of ``run``, and the tensor that each replay of it overwrites with the end of the run."""
    with torch.cuda.device(device):
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                run()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            end = run()
    return graph, end


def _alike(new: Tensor | None, old: Tensor | None) -> bool:
    if new is None or old is None:
        return new is old
    return new.shape == old.shape and torch.can_cast(new.dtype, old.dtype)


def _said(value: Tensor | None) -> str:
    return "none" if value is None else f"of shape {tuple(value.shape)} and {value.dtype}"
