"""Posteriors of digits: half of each seen, or means of 4 x 4 pixels, with the included network.

The true digits are drawn from the network itself, so that its own posterior is right: a digit and the draws
of its posterior have one law, given the observation.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import torch
from kept import Kept, plan_key
from lines import Record
from posterior_tables import number, verdict
from rich.table import Table
from torch import Tensor
from tqdm import tqdm

from scoresde import __version__
from scoresde.conditioning import Isotropic, Jacobian, Known, Observed, Operator, Pool, Posterior, cost_of
from scoresde.conditioning.covariances import Covariance
from scoresde.data.pictures import save_grid
from scoresde.data.pixels import to_uint8
from scoresde.plans.plan import Plan
from scoresde.pretrained import Pretrained, pretrained
from scoresde.sampling.prepare import prepare
from scoresde.sampling.sample import sample
from scoresde.spacings import Karras

TAU, DRAWS, NFE, BATCH = 0.05, 8, 30, 50
SOLVER = "dpmpp-2m-sde"
SHEET = 8  # rows of a sheet
TOP = (torch.arange(28) < 14)[:, None].expand(28, 28)
OPERATORS: Mapping[str, Operator] = {"half": Known(TOP), "4x": Pool(4)}
COVARIANCES: Mapping[str, Covariance] = {"isotropic": Isotropic(), "Jacobian, 1": Jacobian(1)}
KEPT = {("half", "isotropic"): 0.62, ("half", "Jacobian, 1"): 0.70}  # the least share of labels kept
RESIDUAL = (0.9, 1.1)  # on half digits


@dataclass(frozen=True)
class Digits:
    """Digits drawn from a network, and draws of their posteriors.

    Args:
        network: the network and its classifier.
        truths: how many digits.
        seed: of them and of the draws.
    """

    network: Pretrained
    truths: int
    seed: int = 0

    @property
    def plan(self) -> Plan:
        plan = prepare(SOLVER, self.network.denoiser.sde, NFE, Karras())
        assert isinstance(plan, Plan)
        return plan

    @cached_property
    def x(self) -> Tensor:
        """The digits, ``(truths, 1, 28, 28)``, of no label."""
        shape = (self.truths, 1, 28, 28)
        return sample(self.network.denoiser, self.plan, shape, seed=self.seed, cond=self.labels(self.truths))

    def labels(self, n: int) -> Tensor:
        """The label that means none, n times."""
        classes = self.network.denoiser.classes
        assert classes is not None
        return torch.full((n,), classes)

    def observed(self, operator: Operator) -> Tensor:
        """y = A x + tau n."""
        clean = operator.forward(self.x)
        draw = torch.Generator().manual_seed(self.seed + 1)
        return clean + TAU * torch.randn(clean.shape, generator=draw)

    def posterior(self, operator: Operator, covariance: Covariance) -> Posterior:
        """That of the network; y travels in the condition."""
        return Posterior(self.network.denoiser, Observed(operator, None, TAU), covariance)

    def draws(self, operator: Operator, covariance: Covariance, y: Tensor) -> Tensor:
        """Eight draws for each y, ``(B, 8, 1, 28, 28)``; the same for the first y, whatever follows."""
        denoiser, rows = self.posterior(operator, covariance), y.repeat_interleave(DRAWS, 0)
        cond: Any = (self.labels(len(rows)), rows)
        shape = (len(rows), 1, 28, 28)
        x = sample(denoiser, self.plan, shape, seed=self.seed + 2, cond=cond, batch_size=BATCH)
        return by_digit(x)

    def figures(self, operator: Operator, draws: Tensor) -> Record:
        """How draws fit the observations and the digits.

        * residual: the mean of |y - A x|^2 over tau^2 times the numbers of y, which it is for the truth.
        * kept: the share of draws that the classifier gives the label of their digit.
        * classes: the mean number of different labels among the draws of a digit.
        * calibration: |mean - truth|^2 over what the variance of the draws predicts; 1 where both agree.
        """
        y = self.observed(operator)
        seen = by_digit(operator.forward(draws.flatten(0, 1)))
        residual = (y[:, None] - seen).square().mean() / TAU**2
        true, found = self._classes(self.x), by_digit(self._classes(draws.flatten(0, 1)))
        classes = torch.nn.functional.one_hot(found, 10).any(1).sum(1)
        error = (draws.mean(1) - self.x).square().sum()
        predicted = draws.var(1).sum() * (1 + 1 / DRAWS)
        return {
            **{"residual": residual.item(), "kept": (found == true[:, None]).double().mean().item()},
            **{"classes": classes.double().mean().item(), "calibration": (error / predicted).item()},
        }

    def _classes(self, x: Tensor) -> Tensor:
        classes: Tensor = self.network.features(to_uint8(x)).argmax(1)
        return classes


def by_digit(x: Tensor) -> Tensor:
    """Draws ``(B 8, ...)`` as ``(B, 8, ...)``."""
    return x.reshape(-1, DRAWS, *x.shape[1:])


def digits(options: argparse.Namespace, kept: Kept) -> Iterator[Table]:
    """The table of the digits, after their sheets."""
    work = Digits(pretrained("mnist"), options.truths)
    records = []
    runs = list(product(OPERATORS.items(), COVARIANCES.items()))
    for (task, operator), (name, covariance) in tqdm(runs, disable=options.quiet, desc="digits"):
        cost = cost_of(work.posterior(operator, covariance), work.plan)
        names = {
            **{"part": "digits", "task": task, "method": name, "calls": cost.calls, "vjps": cost.vjps},
            **{"truths": options.truths, "draws": DRAWS, "plan": plan_key(work.plan), "version": __version__},
        }

        def make(operator: Operator = operator, covariance: Covariance = covariance) -> Record:
            return work.figures(operator, work.draws(operator, covariance, work.observed(operator)))

        records.append(kept.record(names, make))
        file = kept.file.with_name(f"digits-{task}-{name.split(',')[0].lower()}.png")
        draw_sheet(work, operator, covariance, file)
    yield digits_table(records)


def draw_sheet(work: Digits, operator: Operator, covariance: Covariance, file: Path) -> None:
    """A row for each y: what is seen, the draws, their mean and their deviation (white: 1)."""
    y = work.observed(operator)[:SHEET]
    draws = work.draws(operator, covariance, y)
    seen = operator.adjoint(y)
    if isinstance(operator, Pool):
        seen = seen * operator.k**2
    spread = 2 * draws.std(1, keepdim=True) - 1
    columns = [seen[:, None], draws, draws.mean(1, keepdim=True), spread]
    sheet = torch.cat(columns, 1)
    save_grid(file, sheet.flatten(0, 1), columns=sheet.shape[1])


def digits_table(records: Sequence[Record]) -> Table:
    """Their figures, beside the bars of half digits."""
    title = f"{records[0]['truths']} digits x {DRAWS} draws, tau = {TAU} (bar)"
    table = Table("seen", "method", "calls", "vjps", title=title)
    for name in ("residual over expected", "label kept", "classes of 8", "error^2 over spread^2"):
        table.add_column(name, justify="right")
    for r in records:
        least = KEPT.get((r["task"], r["method"]))
        residual, kept = number(r["residual"]), number(r["kept"])
        if least is not None:
            residual = verdict(r["residual"], RESIDUAL[1], RESIDUAL[0])
            kept = verdict(r["kept"], float("inf"), least)
        rest = (number(r["classes"]), number(r["calibration"]))
        table.add_row(r["task"], r["method"], str(r["calls"]), str(r["vjps"]), residual, kept, *rest)
    return table
