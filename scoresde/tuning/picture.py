"""A picture of a tuning: its table, its training, and samples beside the stock solver's and the teacher's."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.pictures import tile
from ..data.pixels import to_uint8
from ..denoisers.protocol import DenoiserLike
from ..files import write_atomically
from ..noise import Noise
from ..plans.executor import integrate
from ..plans.plan import Plan
from ..sampling.sample import sample
from ..solvers.catalogue import SOLVERS
from ..solvers.dpmpp import DPMSolverPP
from .race import stock
from .report import Report
from .table import Table

SHOWN = 8  # images of each; of vectors, 25 times as many


@torch.no_grad()
def draw(
    path: Path,
    denoiser: DenoiserLike,
    plan: Plan,
    report: Report,
    shape: Sequence[int],
    cond: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> None:
    """Write a PNG; needs matplotlib (ImportError).

    The weights that a new point is made of, those of outputs over its alpha; the objective, on training and
    validation noises, before and after each iteration; how far the points of the runs, and their ends, are
    from the exact path at their levels; samples from the same noises, tuned, stock and teacher.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    solver, _, spacing = report.stock.partition(" on ")
    (best,) = stock(denoiser.sde, report.nfe, {solver: SOLVERS[solver]}, [spacing])
    runs = {
        "tuned" if report.tuned else "returned: stock": plan,
        report.stock: best.table.plan(),
        f"teacher, {report.teacher.calls} calls": Plan.make(
            DPMSolverPP(3), denoiser.sde, report.teacher.calls
        ),
    }
    images = len(shape) == 3 and shape[0] in (1, 3)
    n = SHOWN if images else 25 * SHOWN
    given = None if cond is None else cond[torch.arange(n) % len(cond)]
    figure = Figure(figsize=(12, 8), layout="constrained")
    FigureCanvasAgg(figure)
    (table_axis, curve_axis), (path_axis, sample_axis) = figure.subplots(2, 2)

    table = Table.read(plan)
    alphas = np.array([level.alpha for level in table.levels[1:]])
    cells = np.column_stack([table.keep, table.weights / alphas[:, None]])
    most = max(np.abs(cells).max(), 1e-12)
    table_axis.imshow(cells, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto")
    for (i, j), cell in np.ndenumerate(cells):
        if abs(cell) >= 0.005:  # what would not be written as 0.00
            shade = "white" if abs(cell) > 0.6 * most else "black"
            table_axis.text(j, i, f"{cell:.2f}", ha="center", va="center", fontsize=7, color=shade)
    ratios = [f"{np.exp(-level.lam):.3g}" for level in table.levels[:-1]]
    table_axis.set_xticks(range(table.nfe + 1), ["point", *(f"d{j}" for j in range(table.nfe))], fontsize=7)
    table_axis.set_yticks(range(table.nfe), ratios, fontsize=7)
    table_axis.set(title=f"{report.nfe} calls: weights", ylabel="sigma / alpha of the call")

    if report.training:
        for values, name in zip(zip(*report.training, strict=True), ("training", "validation"), strict=True):
            curve_axis.semilogy(values, marker=".", label=name)
        curve_axis.legend()
    curve_axis.set(title=f"RMSE {report.rmse.value:.3g}, stock {report.stock_rmse.value:.3g}")
    curve_axis.set(xlabel="iteration, on more and more noises", ylabel="objective")

    x = runs[report.stock].start.sigma * Noise(0, torch.arange(n, device=device), tuple(shape))(0)
    moved = None if given is None else given.to(device)
    for run, name in zip(list(runs.values())[:2], list(runs)[:2], strict=True):
        path_axis.loglog(*_away(Table.read(run), denoiser, x, moved, report.teacher.calls), "o-", label=name)
    path_axis.invert_xaxis()
    path_axis.legend(fontsize=7)
    path_axis.set(xlabel="sigma / alpha", ylabel="RMSE to the exact path, over alpha")

    drawn = {
        name: sample(denoiser, run, (n, *shape), cond=given, device=device).cpu()
        for name, run in runs.items()
    }
    if images:
        sheet = tile(to_uint8(torch.cat(list(drawn.values()))), columns=n).movedim(0, 2)
        sample_axis.imshow(sheet.squeeze(2).numpy(), cmap="gray", vmin=0, vmax=255)
        sample_axis.set_axis_off()
        sample_axis.set_title("\n".join(drawn), fontsize=8)
    else:
        for (name, x), look in zip(drawn.items(), "x+.", strict=True):
            flat = x.flatten(1)
            sample_axis.scatter(flat[:, 0], flat[:, min(1, flat.shape[1] - 1)], s=12, marker=look, label=name)
        sample_axis.legend(fontsize=7)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=130)
    write_atomically(path, file.getvalue())


def _away(
    table: Table, denoiser: DenoiserLike, x: Tensor, cond: Tensor | None, calls: int
) -> tuple[list[float], list[float]]:
    """sigma / alpha of a table's points, and their distance from the exact path there, over alpha."""
    begin = table.start.lam
    points, _ = table.roll(denoiser, [table.first * x], [], cond)
    ratios, errors = [], []
    for point, level in zip(points, table.levels, strict=True):
        if level.lam > begin:
            plan = Plan.make(DPMSolverPP(3), denoiser.sde.clip(begin, level.lam), calls)
            exact = integrate(plan, lambda at, there: denoiser(at, there, cond), x)
            errors.append((point - exact).square().mean().sqrt().item() / level.alpha)
            ratios.append(math.exp(-level.lam))
    return ratios, errors
