"""The posteriors of azula on the same problems: its denoisers under its sampler, and its own samplers.

All run on our levels with our noise. As published: its DPS takes the norm of a residual over the batch, and
its TDS is one cloud, so that both make one run for each observation. deepinv has no rows yet.
"""

import importlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
from peers import Peer, azula
from posterior_methods import SDE, Drawn, Method, Task, covariance_of
from torch import Tensor

from scoresde.conditioning import Cost
from scoresde.denoisers.protocol import Counted
from scoresde.noise import Noise, later
from scoresde.plans.executor import Denoise
from scoresde.processes.level import Level
from scoresde.spacings import Karras
from scoresde.spacings.grid import Grid

STEPS = 100

# Of azula's guidance: makes the estimate E[x_0 | x_t, y] of a denoiser like azula's, for a row of y a sample.
Make = Callable[[Any, Any, Task, Tensor], Any]


class _Exact:
    """The exact denoiser of the prior as one of azula's; its times are sigma."""

    def __init__(self, denoise: Denoise) -> None:
        self.denoise = denoise

    def schedule(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), t

    def __call__(self, x: Tensor, t: Tensor) -> SimpleNamespace:
        return SimpleNamespace(mean=self.denoise(x, SDE.level_at(float(t))))


def by_denoiser(make: Make, vjps: int) -> Method:
    """A denoiser of azula under its ancestral sampler; it takes ``vjps`` products a call."""

    def draw(task: Task) -> Drawn:
        counted, guidance = Counted(task.denoiser), importlib.import_module("azula.guidance")
        made = make(guidance, _Exact(counted), task, task.rows)

        def denoise(x: Tensor, level: Level[float]) -> Tensor:
            mean: Tensor = made(x, torch.tensor(level.sigma, dtype=x.dtype)).mean
            return mean

        x = _run(azula("DDPMSampler"), denoise, task, torch.arange(len(task.rows)))
        return Drawn(x, Cost(counted.calls, vjps * counted.calls))

    return Method(draw, f"azula, {STEPS} steps", seeds=1)


def by_sampler(name: str, module: str, options: Callable[[Task, Tensor], dict[str, Any]]) -> Method:
    """A sampler of azula, one run for each observation; one product a call."""

    def draw(task: Task) -> Drawn:
        counted, ends = Counted(task.denoiser), []
        for y, ids in zip(task.y, torch.arange(len(task.rows)).reshape(-1, task.draws), strict=True):
            peer = azula(name, module, **options(task, y[None]))
            ends.append(_run(peer, counted, task, ids))
        calls = counted.calls // len(task.y)
        return Drawn(torch.cat(ends), Cost(calls, calls))

    return Method(draw, f"azula, {STEPS} steps", seeds=1)


def _run(peer: Peer, denoise: Denoise, task: Task, ids: Tensor) -> Tensor:
    """The ends of a sampler; azula's own random numbers depend on the seed, too."""
    levels = Grid.build(SDE, STEPS, Karras()).levels
    noise = Noise(task.seed, ids, task.shape[1:])
    begin = levels[0].sigma * noise(0).double()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(task.seed)
        return peer(denoise, levels, begin, later(noise, torch.float64))


def _seen(task: Task) -> Callable[[Tensor], Tensor]:
    """A, as a function of rows."""
    return lambda x: x @ task.problem.matrix.mT


def _tmpd(guidance: Any, denoiser: Any, task: Task, y: Tensor) -> Any:
    return guidance.TMPDenoiser(denoiser, y, _seen(task), task.tau**2)


def _diffpir(guidance: Any, denoiser: Any, task: Task, y: Tensor) -> Any:
    return guidance.DiffPIRDenoiser(denoiser, y, _seen(task), task.tau**2)


def _jfps(guidance: Any, denoiser: Any, task: Task, y: Tensor) -> Any:
    linear = importlib.import_module("azula.linalg.covariance")
    values, axes = torch.linalg.eigh(covariance_of(task.problem).covariance)
    data, noise = linear.FullCovariance(axes, values), linear.IsotropicCovariance(task.tau**2)
    return guidance.JFPSDenoiser(denoiser, y, _seen(task), noise, data, iterations=len(task.problem.matrix))


def _mmps(iterations: int) -> Make:
    def make(guidance: Any, denoiser: Any, task: Task, y: Tensor) -> Any:
        noise = importlib.import_module("azula.linalg.covariance").IsotropicCovariance(task.tau**2)
        return guidance.MMPSDenoiser(denoiser, y, _seen(task), noise, iterations=iterations)

    return make


def _dps(task: Task, y: Tensor) -> dict[str, Any]:
    return {"y": y, "A": _seen(task)}


def _pgdm(task: Task, y: Tensor) -> dict[str, Any]:
    inverse = torch.linalg.pinv(task.problem.matrix)
    return {"y": y, "A": _seen(task), "A_inv": lambda v: v @ inverse.mT, "eta": 1.0}


def _tds(task: Task, y: Tensor) -> dict[str, Any]:
    """With the twist N(y; A D, r^2 A A^T + tau^2 I), r^2 = s^2 / (1 + s^2)."""
    matrix = task.problem.matrix

    def twist(x: Tensor, s: Tensor) -> Tensor:
        noise = task.tau**2 * torch.eye(len(matrix)).to(matrix)
        spread = s**2 / (1 + s**2) * matrix @ matrix.mT + noise
        away = y - x @ matrix.mT  # apart from a constant of the level, which weighs all particles alike
        square: Tensor = (away * torch.linalg.solve(spread, away.mT).mT).sum(1)
        return -0.5 * square

    return {"twist": twist}


def azula_methods() -> Iterator[tuple[str, Method]]:
    """Its methods for linear observations, by name; RePaint needs a mask, and no noise."""
    yield "azula JFPS, solved", by_denoiser(_jfps, 0)
    yield "azula MMPS, 1", by_denoiser(_mmps(1), 2)
    yield "azula MMPS, 3", by_denoiser(_mmps(3), 4)
    yield "azula TMPD", by_denoiser(_tmpd, 2)
    yield "azula DiffPIR", by_denoiser(_diffpir, 0)
    yield "azula PGDM", by_sampler("PGDMSampler", "azula.guidance.pgdm", _pgdm)
    yield "azula DPS", by_sampler("DPSSampler", "azula.guidance.dps", _dps)
    yield "azula TDS, one cloud", by_sampler("TDSSampler", "azula.guidance.tds", _tds)
