"""Tuned and stock solvers on one problem under one SDE: their plans, and their measures."""

import hashlib
import math
import shutil
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from converged import Draws, converged_samples
from lines import Record, append, lines_file, read_lines
from problems import Problem, make_problem
from records import dtype_of, prepare_networks
from torch import Tensor

from scoresde.devices import device_of, exact_float32
from scoresde.metrics.frechet import feature_moments, frechet_distance
from scoresde.metrics.moments import Moments
from scoresde.plans.plan import Plan
from scoresde.sampling.sample import sample
from scoresde.sampling.tuned import tuned_plan
from scoresde.solvers import SOLVERS
from scoresde.tuning import Settings
from scoresde.tuning.candidates import stock_candidates, stock_spacings
from scoresde.tuning.task import variance_of
from scoresde.tuning.tune import tune

# Options that are settings of a tuning, by their names in both.
SETTINGS = ("samples", "held_out", "starts", "finalists", "bands", "robust")


class Evaluation:
    """A problem under an SDE, with the options of tuned.py for this problem."""

    def __init__(self, options: Namespace, sde: str) -> None:
        self.options, self.sde = options, sde
        self.device = device_of(options.device)
        exact_float32()
        self.dtype = dtype_of(options.dtype)
        if self.dtype == torch.float64:
            raise ValueError("--dtype must be float32 or bfloat16, got float64")
        self.problem: Problem = self._problem(self.dtype)
        self.calls = options.converged or self.problem.converged
        self.file = lines_file(options.out, "tuned.jsonl")
        self._lines: dict[Path, list[Record]] = {}
        self._exact: dict[int, Tensor] = {}
        self._moments: dict[tuple[int, int], Moments] = {}

    def _problem(self, dtype: torch.dtype) -> Problem:
        options = self.options
        problem = make_problem(options.problem, self.sde, None, None if dtype == torch.float32 else dtype)
        prepare_networks(problem, self.device, dtype, options.compile)
        return problem

    @cached_property
    def precise(self) -> Problem:
        """The problem in float32, for the fits: one object, so that its network is compiled once."""
        return self.problem if self.dtype == torch.float32 else self._problem(torch.float32)

    def draw(self, plan: Any, n: int, seed: int) -> Tensor:
        """The first n samples of a seed, on the host."""
        labels = self.problem.labels
        return sample(
            self.problem.denoiser,
            plan,
            (n, *self.problem.shape),
            seed=seed,
            cond=None if labels is None else labels(torch.arange(n)),
            batch_size=self.options.batch_size,
            device=self.device,
        ).cpu()

    def exact(self, seed: int) -> Tensor:
        """The converged samples of a seed."""
        if seed not in self._exact:
            n, folder = self.options.n_samples, self.file.parent
            draws = Draws(n, self.options.batch_size, seed, self.options.dtype)
            self._exact[seed] = converged_samples(
                folder, self.problem, draws, self.calls, lambda run: self.draw(run, n, seed)
            )
        return self._exact[seed]

    def measure(self, plan: Plan, seed: int, n: int, solver: str) -> Record:
        """FD to the converged samples and to the data, and RMSE to the converged ends, of n samples.

        A run that has a line in the file already is not repeated.
        """
        about = {
            **{"problem": self.problem.name, "sde": self.sde, "nfe": plan.nfe, "seed": seed, "n_samples": n},
            **{"dtype": self.options.dtype, "converged": self.calls, "solver": solver},
            "plan": hashlib.sha256(repr((plan.lines, plan.start, plan.end)).encode()).hexdigest()[:12],
        }
        file = self.file if n == self.options.n_samples else self.file.with_name("screen.jsonl")
        if file not in self._lines:
            self._lines[file] = [line for _, line in read_lines(file)] if file.exists() else []
        for known in self._lines[file]:
            if known.items() >= about.items():
                return dict(known)
        x, exact, of = self.draw(plan, n, seed), self.exact(seed)[:n], self.problem.features.of
        if (seed, n) not in self._moments:
            self._moments[seed, n] = feature_moments(of, exact)
        moments = feature_moments(of, x)
        record = {
            **about,
            "fd_reference": frechet_distance(moments, self._moments[seed, n]),
            "fd": frechet_distance(moments, self.problem.data),
            "rmse": (x - exact).square().mean().sqrt().item(),
        }
        append(file, record)
        self._lines[file].append(record)
        return record

    def stocks(self, nfe: int, measures: Sequence[str], bar: Any) -> dict[str, Plan]:
        """The best few stock solvers by each measure. Each round has fewer solvers and more samples."""
        named = {name: SOLVERS[name] for name in self.options.solver or SOLVERS}
        deviation = math.sqrt(variance_of(self.exact(self.options.seed[0])))
        spacings = stock_spacings(self.options.spacing, float(f"{deviation:.2g}"))
        entered = stock_candidates(self.problem.denoiser.sde, nfe, named, spacings)
        plans = {entrant.name: entrant.table.plan() for entrant in entered}
        for left, few in zip(reversed(range(len(self.options.screen))), self.options.screen, strict=True):
            most = self.options.best * 4**left
            records = []
            for name, plan in plans.items():
                bar.set_description(f"{nfe} calls, {name}, {few} samples")
                with suppress(FloatingPointError):  # the solver is not stable here
                    records.append(self.measure(plan, self.options.seed[0], few, name))
                bar.update()
            plans = {name: plans[name] for name in best_of(records, measures, most)}
        return plans

    def tuned(self, nfe: int) -> Plan:
        """The plan in a file of --plans, or a plan that is tuned here, once."""
        sde = self.problem.denoiser.sde
        if self.options.plans is not None:
            files = [self.options.plans / part / f"tuned-{nfe}.json" for part in (self.sde, "")]
            file = next((file for file in files if file.exists()), files[-1])
            return tuned_plan(f"tuned:{file}", sde, nfe)
        return tuned_plan(f"tuned:{self.fit(nfe)}", sde, nfe)

    def fit(self, nfe: int, part: str = "whole", **changed: Any) -> Path:
        """Tune a plan, unless its file exists; the parts of an ablation share one teacher."""
        options, labels = self.options, self.problem.labels
        numbers = (options.samples, options.held_out, options.starts, options.finalists, options.bands)
        about = (options.dtype, *numbers, "robust" if options.robust else "plain")
        folder = self.file.parent / "plans" / "-".join(map(str, (self.problem.name, self.sde, *about)))
        file: Path = folder / part.replace(" ", "-") / f"tuned-{nfe}.json"
        if file.exists():
            return file
        settings = Settings(**{name: getattr(options, name) for name in SETTINGS} | changed)
        teacher, state = folder / "teacher.safetensors", file.parent / "state"
        state.mkdir(parents=True, exist_ok=True)
        if teacher.exists():
            shutil.copy(teacher, state)
        plan, _ = tune(
            self.precise.denoiser,
            nfe,
            self.problem.shape,
            cond=None if labels is None else labels(torch.arange(10_000)),
            settings=settings,
            batch_size=options.batch_size,
            device=self.device,
            draft=None if self.precise is self.problem else self.problem.denoiser,
            state=state,
            progress=not options.quiet,
        )
        shutil.copy(state / teacher.name, folder)
        plan.save(file)
        return file


def best_of(records: Sequence[Record], measures: Sequence[str], most: int = 1) -> dict[str, None]:
    """The solvers among the best ``most`` by any of the measures."""
    return {
        str(record["solver"]): None
        for measure in measures
        for record in sorted(records, key=lambda one: float(one[measure]))[:most]
    }
