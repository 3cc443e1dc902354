"""Measure how often the confidence intervals of ``tune`` cover the truth: ``python benchmarks/coverage.py``.

Draws pairs of squared errors from laws with a known ratio of root mean squares: two stock tables on ``gmm2``
and ``gmm64``, measured on many noises; log-normal errors; a few samples that end elsewhere; a table that is
better on all samples except one in a thousand, and 8 % worse over all. Prints a Markdown table of shares of
trials: coverage, false wins (the interval claims more than the truth) and wins. It has rows for percentile
intervals, for BCa intervals, and for the intervals of ``tune``, which take the wider end of both.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

import command
import numpy as np
import torch
from numpy.typing import NDArray
from problems import make_problem

from scoresde.noise import Noise
from scoresde.solvers import SOLVERS
from scoresde.tuning.candidates import stock_candidates, stock_spacings
from scoresde.tuning.confidence import intervals, log_rmse_ratio
from scoresde.tuning.pairs import Pairs
from scoresde.tuning.successive_halving import table_errors
from scoresde.tuning.teacher import teacher_pairs

Numbers = NDArray[np.float64]
Law = tuple[Callable[[np.random.Generator, int], tuple[Numbers, Numbers]], float]

MISS, COST = 1e-3, 0.9  # of the worse table: share of samples that it misses; mean square on the others


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; bad input is one line on stderr and 2."""
    parser = command.parser_of(__file__, __doc__)
    parser.add_argument("--trials", type=int, default=1000, metavar="N", help="trials; default %(default)s")
    parser.add_argument(
        "--noises", type=int, nargs="+", default=[256, 1024], metavar="N", help="noises in a trial"
    )
    parser.add_argument("--population", type=int, default=60_000, metavar="N", help="noises of gmm2, gmm64")
    return command.execute(parser, _print, arguments)


def _print(options: argparse.Namespace) -> None:
    if min(options.trials, options.population, min(options.noises) - 1) < 1:
        raise ValueError("--trials and --population must be at least 1, --noises at least 2")
    torch.set_num_threads(1)
    laws = made()
    for name in ("gmm2", "gmm64"):
        (draw, truth), worse = measured(name, options.population), f"{name}, the worse table first"
        laws |= {name: (draw, truth), worse: (lambda *given, draw=draw: draw(*given)[::-1], -truth)}
    print("| squared errors | noises | interval | covers | false wins | wins |\n|---|---|---|---|---|---|")
    for name, law in laws.items():
        for noises in options.noises:
            for kind, shares in covered(law, noises, options.trials).items():
                print(f"| {name} | {noises} | {kind} | " + " | ".join(f"{x:.1%}" for x in shares) + " |")


def covered(law: Law, noises: int, trials: int) -> dict[str, tuple[float, float, float]]:
    """Shares of trials, by kind: the interval covers the truth; it is below the truth; it is below 0."""
    draw, truth = law
    counts = {kind: np.zeros(3) for kind in ("percentile", "BCa", "gate")}
    for trial in range(trials):
        ours, theirs = draw(np.random.default_rng(trial), noises)
        found = intervals(log_rmse_ratio, ours[:, None], theirs[:, None], seed=trial)
        lows, highs = zip(*found.values(), strict=True)
        for kind, (low, high) in {**found, "gate": (min(lows), max(highs))}.items():
            counts[kind] += low <= truth <= high, high < truth, high < 0
    return {kind: tuple((count / trials).tolist()) for kind, count in counts.items()}


def made() -> dict[str, Law]:
    """Laws of pairs in closed form."""

    def heavy(generator: np.random.Generator, n: int) -> tuple[Numbers, Numbers]:
        a, b = generator.normal(size=(2, n))
        return np.exp(1.5 * a), np.exp(1.5 * (0.7 * a + np.sqrt(1 - 0.7**2) * b))

    def elsewhere(generator: np.random.Generator, n: int) -> tuple[Numbers, Numbers]:
        base, both = generator.exponential(size=n), generator.random(n) < 0.01
        ours, theirs = (base + 50 * (both | (generator.random(n) < 0.01)) for _ in range(2))
        return ours, theirs

    def misses(generator: np.random.Generator, n: int) -> tuple[Numbers, Numbers]:
        theirs = generator.exponential(size=n)
        miss = (1.08**2 - COST * (1 - MISS)) / MISS
        return np.where(generator.random(n) < MISS, miss, COST * theirs), theirs

    return {
        "log-normal": (heavy, 0.0),
        "2 % end elsewhere": (elsewhere, 0.0),
        "8 % worse by 1 in 1,000": (misses, float(np.log(1.08))),
    }


def measured(problem: str, population: int) -> Law:
    """The law of ``deis`` on two spacings, with 6 calls."""
    made: Any = make_problem(problem, "edm")
    denoiser, sde = made.denoiser, made.denoiser.sde
    x = sde.t_max * Noise(7, torch.arange(population), made.shape)(0)
    pairs: Pairs = teacher_pairs(denoiser, x, None, 48, 8192)
    spacings = stock_spacings(["karras:rho=7", "karras:rho=5"])
    candidates = stock_candidates(sde, 6, {"deis": SOLVERS["deis"]}, spacings)
    ours, theirs = (table_errors(one.table, denoiser, pairs, 8192).numpy() for one in candidates)

    def draw(generator: np.random.Generator, n: int) -> tuple[Numbers, Numbers]:
        places = generator.integers(population, size=n)
        return ours[places], theirs[places]

    return draw, float(0.5 * np.log(ours.mean() / theirs.mean()))


if __name__ == "__main__":
    sys.exit(main())
