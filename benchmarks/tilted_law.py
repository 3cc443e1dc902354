"""Guidance and particles against the tilted law p(x) p(c | x)^w in two dimensions, known on a grid."""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from kept import Kept
from lines import Record
from matplotlib import pyplot as plt
from mixture_distance import DIRECTIONS, Law
from pictures import save
from posterior_methods import SDE
from posterior_tables import number, verdict
from rich.table import Table
from torch import Tensor
from tqdm import tqdm

from scoresde import __version__
from scoresde.conditioning.guidance import guided
from scoresde.denoisers.mixture import Mixture
from scoresde.denoisers.protocol import Foreign
from scoresde.processes.level import Level
from scoresde.sampling.sample import sample
from scoresde.solvers.integrators.tilted import Tilted
from scoresde.spacings import Karras

WEIGHTS = (1.0, 1.5, 2.0, 3.0, 5.0)
BAR, UP_TO = 0.06, 3.0
SIDE, POINTS = 4.0, 801  # of the grid
PARTICLES = 64
CLASS, NONE = 0, 1  # the labels

# Five components of equal deviation; the first two are the class, with a share of 0.3.
MEANS = torch.tensor([[-0.7, 0.4], [0.8, -0.5], [-1.4, -0.6], [0.3, 1.1], [1.5, 0.4]], dtype=torch.float64)
STDS = torch.tensor([0.35, 0.35, 0.45, 0.45, 0.45], dtype=torch.float64)
SHARES = torch.tensor([0.18, 0.12, 0.25, 0.25, 0.2], dtype=torch.float64)
DATA = Mixture(MEANS, STDS, SHARES)
OF_CLASS = Mixture(MEANS[:2], STDS[:2], SHARES[:2] / SHARES[:2].sum())


def _estimate(x: Tensor, level: Level[Any], cond: Tensor) -> Tensor:
    return torch.where(cond[:, None] == CLASS, OF_CLASS.denoise(x, level), DATA.denoise(x, level))


DENOISER = Foreign(_estimate, SDE)
NULL = torch.tensor([NONE])


def by_guidance(solver: str, nfe: int) -> Callable[[float, int, int], Tensor]:
    """Samples of guidance, from the weight, their number and a seed."""

    def draw(weight: float, n: int, seed: int) -> Tensor:
        return _drawn(guided(DENOISER, NULL, weight), solver, nfe, n, seed)

    return draw


def by_particles(weight: float, n: int, seed: int) -> Tensor:
    """Samples of the particles, in 200 steps."""
    return _drawn(DENOISER, Tilted(NULL, weight, PARTICLES), 400, n, seed)


def _drawn(denoiser: Any, solver: Any, nfe: int, n: int, seed: int) -> Tensor:
    cond = torch.full((n,), CLASS)
    options: dict[str, Any] = {"nfe": nfe, "spacing": Karras(), "seed": seed, "dtype": torch.float64}
    return sample(denoiser, solver, (n, 2), cond=cond, **options)


def from_grid(weight: float, n: int, seed: int) -> Tensor:
    """Independent draws of the law on the grid: the floor."""
    points, shares = law_on_grid(weight)
    draw = torch.Generator().manual_seed(seed)
    return points[torch.multinomial(shares, n, replacement=True, generator=draw)]


# By name: samples, and network calls a sample.
METHODS: dict[str, tuple[Callable[[float, int, int], Tensor], int]] = {
    "exact draws": (from_grid, 0),
    "guidance, ODE": (by_guidance("dpmpp-2m", 100), 200),
    "guidance, SDE": (by_guidance("dpmpp-2m-sde", 400), 800),
    f"Tilted, {PARTICLES} particles": (by_particles, 400),
}


@cache
def law_on_grid(weight: float) -> tuple[Tensor, Tensor]:
    """Points ``(N, 2)``, and their shares of p(x)^(1 - w) p(x | c)^w, ``(N,)``."""
    side = torch.linspace(-SIDE, SIDE, POINTS, dtype=torch.float64)
    points = torch.cartesian_prod(side, side)
    clean = Level(0.0, 1.0, 0.0, math.inf)
    whole, own = DATA.log_density(points, clean), OF_CLASS.log_density(points, clean)
    return points, (whole + weight * (own - whole)).softmax(0)


@cache
def _laws(weight: float) -> list[tuple[Tensor, Law]]:
    """Directions, and the law along each."""
    points, shares = law_on_grid(weight)
    found = []
    for angle in torch.arange(DIRECTIONS, dtype=torch.float64) * (math.pi / DIRECTIONS):
        direction = torch.stack([angle.cos(), angle.sin()])
        at, order = (points @ direction).sort()
        function = shares[order].cumsum(0) - shares[order] / 2
        found.append((direction, Law(at.numpy(), function.numpy())))
    return found


def sliced_w2(x: Tensor, weight: float) -> float:
    """The root mean square over directions of W2 between projections of x and of the tilted law."""
    squares = [
        np.square((x @ direction).sort().values.numpy() - law.quantiles(len(x))).mean()
        for direction, law in _laws(weight)
    ]
    return math.sqrt(fmean(squares))


def tilted(options: argparse.Namespace, kept: Kept) -> Iterator[Table]:
    """The table of the methods at each weight, after its picture."""
    records = []
    runs = list(product(WEIGHTS, METHODS, range(options.seeds)))
    for weight, name, seed in tqdm(runs, disable=options.quiet, desc="tilted"):
        draw, calls = METHODS[name]
        names = {
            **{"part": "tilted", "weight": weight, "method": name, "calls": calls},
            **{"samples": options.samples, "seed": seed, "version": __version__},
        }
        make = partial(_figure, draw, weight, options.samples, seed)
        records.append(kept.record(names, make))
    draw_tilted(kept.file.with_name("tilted.png"))
    yield tilted_table(records)


def _figure(draw: Callable[[float, int, int], Tensor], weight: float, n: int, seed: int) -> Record:
    return {"w2": sliced_w2(draw(weight, n, seed), weight)}


def tilted_table(records: Sequence[Record]) -> Table:
    """Means over seeds of sliced W2 to the tilted law; bars beside those of the particles."""
    title = f"sliced W2 to p(x) p(c | x)^w, {records[0]['samples']} samples (bar)"
    table = Table("method", "calls", title=title)
    for weight in WEIGHTS:
        table.add_column(f"w = {weight:g}", justify="right")
    for name, (_, calls) in METHODS.items():
        shown = []
        for weight in WEIGHTS:
            mean = fmean(r["w2"] for r in records if (r["weight"], r["method"]) == (weight, name))
            barred = name.startswith("Tilted") and weight <= UP_TO
            shown.append(verdict(mean, BAR) if barred else number(mean))
        table.add_row(name, str(calls), *shown)
    return table


def draw_tilted(file: Path, n: int = 1024) -> None:
    """A row for each method, a column for each weight: samples over the contours of the law."""
    figure, axes = plt.subplots(
        len(METHODS), len(WEIGHTS), figsize=(11, 9), sharex=True, sharey=True, layout="constrained"
    )
    side = np.linspace(-SIDE, SIDE, POINTS)
    for row, (name, (draw, _)) in zip(axes, METHODS.items(), strict=True):
        for one, weight in zip(row, WEIGHTS, strict=True):
            density = law_on_grid(weight)[1].reshape(POINTS, POINTS).mT.numpy()
            one.contour(
                side, side, density, levels=density.max() * np.array([0.02, 0.2, 0.6]), linewidths=0.7
            )
            x = draw(weight, n, 0)
            one.plot(x[:, 0], x[:, 1], ".", markersize=1.5, color="0.2", alpha=0.5)
            one.set(xlim=(-2.6, 2.6), ylim=(-2.2, 2.2), aspect="equal")
            one.set_title(f"w = {weight:g}" if name == next(iter(METHODS)) else "", fontsize=10)
            one.tick_params(labelsize=8)
        row[0].set_ylabel(name, fontsize=9)
    save(figure, file)
