"""A picture of measured levels: their density over sigma / alpha, and the levels of each number of calls."""

import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..processes.sde import SDE
from ..spacings.formulas import Karras, Spacing, UniformLambda
from ..spacings.measured import Measured
from .table import Numbers

COMPARED: dict[str, Spacing] = {"karras, rho = 7": Karras(7.0), "uniform-lambda": UniformLambda()}
STEPS = 80  # from which a density is computed: fewer than the nodes of measured levels, whose corners show
DECADE = math.log(10)


def draw_levels(levels: Measured, sde: SDE) -> bytes:
    """A PNG of two panels over sigma / alpha, which falls from noise to data.

    1. The density of the levels, as a share of all levels in a factor of 10 of sigma / alpha: of the choices,
       and of two stock spacings.
    2. A row for each number of calls: its levels; below them, small, those of ``karras``.

    Args:
        levels: to draw.
        sde: the process that they were measured on.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    stock = COMPARED if math.isfinite(sde.lam_ends()[0]) else {}  # from alpha = 0 they are not defined
    drawn = dict.fromkeys(choice.spacing for choice in levels.choices)
    colors: dict[Spacing, Any] = dict(
        zip(drawn, colormaps["viridis"](np.linspace(0, 0.85, len(drawn))), strict=True)
    )
    height = 0.42 * len(levels.choices)
    figure = Figure(figsize=(7.5, 3.9 + height), layout="constrained")
    FigureCanvasAgg(figure)
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, height + 0.3])
    for (name, spacing), style in zip(stock.items(), ("--", ":"), strict=False):
        top.plot(*density(spacing, sde), style, color="0.45", label=name)
    for spacing, color in colors.items():
        calls = ", ".join(str(choice.calls) for choice in levels.choices if choice.spacing == spacing)
        top.plot(*density(spacing, sde), color=color, label=f"{calls} calls")
    top.set(ylabel="share of the levels\nin a factor of 10", ylim=(0, None))
    top.legend(fontsize=9)
    _draw_rows(below, levels, sde, colors, stock)
    below.set(xscale="log", xlabel="sigma / alpha: from noise, left, to data, right")
    below.invert_xaxis()
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    return file.getvalue()


def density(spacing: Spacing, sde: SDE) -> tuple[Numbers, Numbers]:
    """The density of the levels of a spacing.

    Returns:
        sigma / alpha, and the share of the levels in a factor of 10 of it. A step from alpha = 0 is left out:
        it is infinitely long in this unit.
    """
    lams = _lams(spacing, sde, STEPS)
    lams = lams[np.isfinite(lams)]
    return np.exp(-(lams[1:] + lams[:-1]) / 2), DECADE / STEPS / np.diff(lams)


def _draw_rows(
    axis: Any, levels: Measured, sde: SDE, colors: Mapping[Spacing, Any], stock: Mapping[str, Spacing]
) -> None:
    for row, choice in enumerate(levels.choices):
        at = np.exp(-_lams(choice.spacing, sde, choice.calls))
        mark = {"color": colors[choice.spacing], "markersize": 12, "markeredgewidth": 1.6}
        axis.plot(at, np.full(len(at), row), "|", **mark)
        for name, spacing in list(stock.items())[:1]:
            at = np.exp(-_lams(spacing, sde, choice.calls))
            axis.plot(at, np.full(len(at), row + 0.42), "|", color="0.45", markersize=5)
            axis.set_title(f"the levels; below, in grey, those of {name}", fontsize=10)
    names = [f"{choice.calls}: {choice.solver}" for choice in levels.choices]
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.3, -0.6)


def _lams(spacing: Spacing, sde: SDE, steps: int) -> Numbers:
    lams: Numbers = sde.lam(spacing(sde, steps)).numpy()
    return lams
