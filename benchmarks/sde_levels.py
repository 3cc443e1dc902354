"""Solvers with noise on the default levels: how far their samples are from the data, against other projects.

Sliced W2 and the error of the covariance, both to the exact mixture at the last level. All peers run from a
part of the noises first, on the grids of the process, then the best by each figure from all noises.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import product

import torch
from kept import Kept, digest, plan_key
from level_tables import NONE, verdict
from lines import Record
from mixture_distance import MixtureDistance
from peer_grids import OWN
from peer_runs import PeerRun, best_names, peer_ends, runs_of
from peer_samplers import noisy_samplers, versions
from problems import make_problem
from rich.table import Table
from torch import Tensor
from tqdm import tqdm

from scoresde import __version__
from scoresde.denoisers.exact import ExactDenoiser
from scoresde.denoisers.mixture import Mixture
from scoresde.noise import Noise, later
from scoresde.plans.executor import integrate
from scoresde.plans.plan import Plan
from scoresde.sampling.prepare import prepare

FIGURES = {"sliced_w2": "sliced W2", "covariance": "covariance"}
PROCESSES = ("edm", "vp")
# Sliced W2 of the best peer at 10 calls, as measured before; and the largest ratio to it at 10 and 20 calls.
BEFORE = {"edm": 0.0377, "vp": 0.0238}
BAR = {10: 0.6, 20: 0.6}
OURS = (
    *(f"er-sde-{order}" for order in (1, 2, 3)),
    *(
        f"sa-solver:tau={tau},predictor={p},corrector={p + 1},finish=lower"
        for p, tau in product((1, 2, 3), (0.2, 0.4, 0.6, 1.0))
    ),
    *("ancestral", "dpmpp-2m-sde", "dpmpp-3m-sde", "dpmpp-sde", "sde-dpm-2m"),
)
LOST = 1e6
FIRST, FINALISTS = 4096, 8  # noises of the first round, and the runs that come through it by each figure


def sde_levels(options: argparse.Namespace, kept: Kept) -> Iterator[Table]:
    """A table for each process."""
    for process in (name for name in PROCESSES if name in options.sde):
        bench = Noisy(process, options, kept)
        with tqdm(options.nfe, disable=options.quiet, desc=f"gmm2 {process}, with noise") as budgets:
            yield noisy_table(
                process, [record for nfe in budgets for record in bench.records(nfe)], bench.floor()
            )


class Noisy:
    """Runs with noise on gmm2 under a process."""

    def __init__(self, process: str, options: argparse.Namespace, kept: Kept) -> None:
        found = make_problem("gmm2", process).denoiser
        assert isinstance(found, ExactDenoiser)
        assert isinstance(found.mixture, Mixture)
        self.denoiser, self.options, self.kept = found, options, kept
        self.start, self.end = (found.sde.level_at(t) for t in (found.sde.t_max, found.sde.t_min))
        self.distance = MixtureDistance(found.mixture, self.end)
        self.about: Record = {
            **{"part": "sde", "problem": "gmm2", "process": process, "seed": options.seed},
            **{"n_samples": options.n_samples, "noise": digest(self.noise(16)(0).numpy().tobytes())},
        }

    def noise(self, n: int) -> Noise:
        return Noise(self.options.seed, torch.arange(n), (2,))

    def floor(self) -> Record:
        """The figures of as many samples of the mixture itself."""
        noise = self.noise(self.options.n_samples)(0).double()
        x = self.denoiser.mixture.sample(self.options.n_samples, self.options.seed)
        return self.figures(self.end.alpha * x + self.end.sigma * noise)

    def records(self, nfe: int) -> Iterator[Record]:
        """The runs of the library, and the best of the peers."""
        about = self.about | {"nfe_requested": nfe}
        for solver in OURS:
            plan = prepare(solver, self.denoiser.sde, nfe)
            assert isinstance(plan, Plan)
            names = about | {
                "role": "default",
                "method": solver,
                "version": __version__,
                "plan": plan_key(plan),
            }
            yield self.kept.record(names, partial(self.ours, plan))
        installed = versions()
        peers = runs_of(noisy_samplers(), installed, OWN[self.about["process"]])
        names = about | {"role": "first round", "versions": installed, "runs": digest(repr(sorted(peers)))}
        best = self.kept.record(names, lambda: {"best": self._first_round(peers, nfe)})["best"]
        for name in best:
            names = about | {"role": "peer", "method": name, "version": installed[peers[name][0].project]}
            yield self.kept.record(names, partial(self.theirs, peers[name], nfe, self.options.n_samples))

    def _first_round(self, peers: Mapping[str, PeerRun], nfe: int) -> list[str]:
        """The names of the best peers from a part of the noises."""
        found = {name: self.theirs(run, nfe, FIRST) for name, run in peers.items()}
        within = {name: record for name, record in found.items() if record["nfe"]}
        return best_names(within, list(FIGURES), FINALISTS)

    def ours(self, plan: Plan) -> Record:
        """The figures of a plan of the library from all noises."""
        noise = self.noise(self.options.n_samples)
        with torch.no_grad():
            x = self.start.sigma * noise(0).double()
            ends = integrate(plan, self.denoiser, x, later(noise, torch.float64))
        return {"nfe": plan.nfe, **self.figures(ends)}

    def theirs(self, run: PeerRun, nfe: int, n: int) -> Record:
        """The figures of a peer from n noises; without calls, if it does not fit."""
        noise = self.noise(n)
        x = self.start.sigma * noise(0).double()
        found = peer_ends(self.denoiser, x, run, nfe, later(noise, torch.float64))
        return {"nfe": 0} if found is None else {"nfe": found[1], **self.figures(found[0])}

    def figures(self, ends: Tensor) -> Record:
        """Both distances to the mixture; those of lost samples are large."""
        if not ends.abs().max() < LOST:
            return dict.fromkeys(FIGURES, LOST)
        both = self.distance.sliced_w2(ends), self.distance.covariance_error(ends)
        return dict(zip(FIGURES, both, strict=True))


def noisy_table(process: str, records: Sequence[Record], floor: Record) -> Table:
    """The best of the library and of the peers by each figure, and the bar."""
    title = f"gmm2 {process}, solvers with noise on the default levels"
    caption = ", ".join(f"{name} {floor[key]:.2g}" for key, name in FIGURES.items())
    table = Table("calls", "figure", title=title, caption=f"samples of the data itself: {caption}")
    table.add_column("library", justify="right")
    table.add_column("its solver", overflow="fold")
    table.add_column("best peer", justify="right")
    table.add_column("who", overflow="fold")
    for name in ("library / peer", "library / peer before"):
        table.add_column(name, justify="right")
    for nfe, (key, figure) in product(dict.fromkeys(r["nfe_requested"] for r in records), FIGURES.items()):
        here = [record for record in records if record["nfe_requested"] == nfe]
        ours, theirs = (
            min((r for r in here if r["role"] == role), key=lambda r: float(r[key]), default=None)
            for role in ("default", "peer")
        )
        assert ours is not None
        before = ours[key] / BEFORE[process] if key == "sliced_w2" else None
        cells = [f"{ours[key]:.3g}", ours["method"]]
        cells += [NONE, NONE, NONE] if theirs is None else [f"{theirs[key]:.3g}", theirs["method"]]
        cells += [] if theirs is None else [f"{ours[key] / theirs[key]:.2f}"]
        table.add_row(str(nfe), figure, *cells, verdict(before, BAR, nfe), end_section=key == "covariance")
    return table
