"""A picture of a tuning: its table, its training, its runs, and samples of three solvers."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.pictures import tile
from ..data.pixels import to_uint8
from ..denoisers.conditions import Condition, in_turn, moved
from ..denoisers.protocol import DenoiserLike
from ..files import write_atomically
from ..noise import Noise
from ..plans.executor import integrate
from ..plans.plan import Plan
from ..sampling.sample import sample
from ..solvers.catalogue import SOLVERS
from ..solvers.dpmpp import DPMSolverPP
from ..spacings.catalogue import spacing_of
from ..spacings.measured import Measured
from .candidates import MEASURED, stock_candidates
from .report import Report
from .table import Table
from .teacher import teacher_plan

SHOWN = 8  # images of each solver
SHOWN_VECTORS = 200  # vectors of each solver


@torch.no_grad()
def draw(
    path: Path,
    denoiser: DenoiserLike,
    plan: Plan,
    report: Report,
    shape: Sequence[int],
    cond: Condition = None,
    device: torch.device | str = "cpu",
    levels: Measured | None = None,
) -> None:
    """Write a PNG of four panels.

    1. The table: each row makes a new point; the weights of outputs are over its alpha.
    2. The objective on training and validation samples, before and after each iteration.
    3. The distance of the points of the runs from the exact path at their levels.
    4. Samples from the same noise: returned plan, stock solver, teacher.

    Args:
        path: the file.
        denoiser: the network.
        plan: the plan that the tuning returned.
        report: the report of the tuning.
        shape: of one sample.
        cond: conditions ``(K, ...)``; sample i has condition i mod K.
        device: of the state.
        levels: the measured levels that the tuning was given.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    images = len(shape) == 3 and shape[0] in (1, 3)
    n = SHOWN if images else SHOWN_VECTORS
    given = in_turn(cond, torch.arange(n))
    stock = _stock_plan(denoiser, report, levels)
    solvers = {"tuned" if report.tuned else "returned: stock": plan, report.stock: stock}
    figure = Figure(figsize=(12, 8), layout="constrained")
    FigureCanvasAgg(figure)
    (table_axis, training_axis), (path_axis, sample_axis) = figure.subplots(2, 2)
    _draw_table(table_axis, Table.read(plan))
    _draw_training(training_axis, report)
    x = stock.start.sigma * Noise(0, torch.arange(n, device=device), tuple(shape))(0)
    on_device = moved(given, device)
    for name, solver in solvers.items():
        errors = path_errors(Table.read(solver), denoiser, x, on_device, report.teacher.calls)
        path_axis.loglog(*errors, "o-", label=name)
    path_axis.invert_xaxis()
    path_axis.legend(fontsize=7)
    path_axis.set(xlabel="sigma / alpha", ylabel="RMSE to the exact path, over alpha")
    solvers[f"teacher, {report.teacher.calls} calls"] = teacher_plan(denoiser, report.teacher.calls)
    samples = {
        name: sample(denoiser, solver, (n, *shape), cond=given, device=device).cpu()
        for name, solver in solvers.items()
    }
    (_draw_images if images else _draw_vectors)(sample_axis, samples)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=130)
    write_atomically(path, file.getvalue())


def path_errors(
    table: Table, denoiser: DenoiserLike, x: Tensor, cond: Condition, calls: int
) -> tuple[list[float], list[float]]:
    """The distances of a table's points from the exact path through the same initial states.

    Args:
        table: the table.
        denoiser: the network.
        x: initial states ``(B, ...)``.
        cond: conditions ``(B, ...)``, if there are any.
        calls: network calls for each exact point.

    Returns:
        sigma / alpha of each point, and its root mean square error over alpha.
    """
    begin = table.start.lam
    points, _ = table.rollout(denoiser, [table.first * x], [], cond)
    ratios, errors = [], []
    for point, level in zip(points, table.levels, strict=True):
        if level.lam > begin:
            plan = Plan.make(DPMSolverPP(3), denoiser.sde.clip(begin, level.lam), calls)
            exact = integrate(plan, lambda at, there: denoiser(at, there, cond), x)
            errors.append((point - exact).square().mean().sqrt().item() / level.alpha)
            ratios.append(math.exp(-level.lam))
    return ratios, errors


def _stock_plan(denoiser: DenoiserLike, report: Report, measured: Measured | None) -> Plan:
    solver, _, name = report.stock.partition(" on ")
    spacing = measured if measured and name == MEASURED else spacing_of(name)
    (best,) = stock_candidates(denoiser.sde, report.nfe, {solver: SOLVERS[solver]}, {name: spacing})
    return best.table.plan()


def _draw_table(axis: Any, table: Table) -> None:
    alphas = np.array([level.alpha for level in table.levels[1:]])
    cells = np.column_stack([table.decay, table.weights / alphas[:, None]])
    most = max(np.abs(cells).max(), 1e-12)
    axis.imshow(cells, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto")
    for (i, j), cell in np.ndenumerate(cells):
        if abs(cell) >= 0.005:  # not written as 0.00
            shade = "white" if abs(cell) > 0.6 * most else "black"
            axis.text(j, i, f"{cell:.2f}", ha="center", va="center", fontsize=7, color=shade)
    ratios = [f"{np.exp(-level.lam):.3g}" for level in table.levels[:-1]]
    axis.set_xticks(range(table.nfe + 1), ["point", *(f"d{j}" for j in range(table.nfe))], fontsize=7)
    axis.set_yticks(range(table.nfe), ratios, fontsize=7)
    axis.set(title=f"{table.nfe} calls: weights", ylabel="sigma / alpha of the call")


def _draw_training(axis: Any, report: Report) -> None:
    if report.training:
        for values, name in zip(zip(*report.training, strict=True), ("training", "validation"), strict=True):
            axis.semilogy(values, marker=".", label=name)
        axis.legend()
    axis.set(title=f"RMSE {report.rmse.value:.3g}, stock {report.stock_rmse.value:.3g}")
    axis.set(xlabel="iteration, on more and more noise samples", ylabel="objective")


def _draw_images(axis: Any, samples: Mapping[str, Tensor]) -> None:
    """A row of images for each solver."""
    sheet = tile(to_uint8(torch.cat(list(samples.values()))), columns=SHOWN).movedim(0, 2)
    axis.imshow(sheet.squeeze(2).numpy(), cmap="gray", vmin=0, vmax=255)
    axis.set_axis_off()
    axis.set_title("\n".join(samples), fontsize=8)


def _draw_vectors(axis: Any, samples: Mapping[str, Tensor]) -> None:
    """The first two coordinates."""
    for (name, x), marker in zip(samples.items(), "x+.", strict=True):
        flat = x.flatten(1)
        axis.scatter(flat[:, 0], flat[:, min(1, flat.shape[1] - 1)], s=12, marker=marker, label=name)
    axis.legend(fontsize=7)
