"""A whole run as one CUDA graph: recorded once, then replayed without Python."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..denoisers.conditions import Condition, leaves, mapped
from ..denoisers.protocol import DenoiserLike, as_denoiser
from ..noise import Noise, later
from ..plans.executor import integrate
from ..plans.plan import Plan
from ..processes.level import Level
from . import checks

WARM_UP = 3  # runs before the recording: libraries choose kernels and make workspaces in them


@torch.inference_mode(False)  # inference tensors do not show whether a network wrote to them
@torch.no_grad()
def captured(
    denoiser: DenoiserLike,
    plan: Plan,
    shape: Sequence[int],
    *,
    seed: int = 0,
    cond: Condition = None,
    device: torch.device | str = "cuda",
    dtype: torch.dtype = torch.float32,
) -> Callable[..., Tensor]:
    """Record a run with its noise and its network; the returned function replays it for other samples.

    The function is ``draw(ids, cond=None)``: ``ids`` ``(B,)`` are the numbers of the samples, ``cond`` has
    the structure, shapes and types of the recorded conditions. It returns ``(B, ...)``, the samples of
    :func:`scoresde.sample` with this ``seed``. Use it only when all of the following hold:

    1. A CUDA graph can record each kernel of the denoiser.
    2. The weights stay in the memory that they had at the recording.
    3. The caller checks the samples: an end that is not finite is returned as it is.

    Args:
        denoiser: the estimate of x_0.
        plan: the plan of the run.
        shape: the shape of the result, ``(B, ...)``.
        seed: the seed of the noise.
        cond: conditions in the structure, shapes and types of later ones; None for a run without.
        device: a CUDA device.
        dtype: the type of the state, float32 or float64.

    Raises:
        TypeError: ``plan`` is not a plan.
        ValueError: the device is not a CUDA device; estimates that need derivatives of the network; later,
            ids or conditions of another shape.
    """
    device, shape, denoiser = torch.device(device), checks.shape_of(shape), as_denoiser(denoiser)
    _check(plan, device)
    checks.check_no_products(denoiser, plan, "captured")
    cond = checks.conditions(cond, shape[0], denoiser)
    ids = torch.arange(shape[0], device=device)
    given = mapped(lambda tensor: tensor.to(device, copy=True), cond)
    noise = Noise(seed, ids, shape[1:])

    def denoise(x: Tensor, level: Level[Any]) -> Tensor:
        return denoiser(x, level, given)

    def run() -> Tensor:
        end: Tensor = integrate(plan, denoise, plan.start.sigma * noise(0).to(dtype), later(noise, dtype))
        return end

    graph, end = _recorded(run, device)
    recorded = _parts(ids, given)

    def draw(new_ids: Tensor, new_cond: Condition = None) -> Tensor:
        _overwrite(recorded, _parts(new_ids, new_cond))
        graph.replay()
        return end.clone()

    return draw


def _check(plan: Any, device: torch.device) -> None:
    if not isinstance(plan, Plan):
        raise TypeError(f"plan must be a Plan, as of Plan.within or prepare, got {type(plan).__name__}")
    if device.type != "cuda" or not torch.cuda.is_available():
        raise ValueError(f"device must be an available CUDA device, got {device}; without one, use sample")


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


def _parts(ids: Tensor, cond: Condition) -> dict[str, Tensor | None]:
    """The numbers of the samples and each part of their conditions, by path."""
    return dict([*leaves(ids, "ids"), *leaves(cond)])


def _overwrite(recorded: dict[str, Tensor | None], new: dict[str, Tensor | None]) -> None:
    """Copy numbers and conditions into the recorded ones, part by part; ValueError unless all fit."""
    for path in [*recorded, *new]:
        old, now = recorded.get(path), new.get(path)
        if not _alike(now, old):
            raise ValueError(
                f"{path} must be like the recorded {path}, {_described(old)}, got {_described(now)}"
            )
    for path, old in recorded.items():
        if old is not None:
            old.copy_(new[path])  # type: ignore[arg-type]


def _alike(new: Tensor | None, old: Tensor | None) -> bool:
    if new is None or old is None:
        return new is old
    return new.shape == old.shape and torch.can_cast(new.dtype, old.dtype)


def _described(value: Tensor | None) -> str:
    return "none" if value is None else f"of shape {tuple(value.shape)} and {value.dtype}"
