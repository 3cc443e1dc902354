"""The runs on one set of exact paths: ours by rule, measured, with hindsight; and all samplers of the peers.

Samplers of other projects on all their grids are some thousand runs for each budget: all run on each so
many-th path, and the best of them by each figure on all paths.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import product

import torch
from exact_ends import Paths, for_peers
from kept import Kept, digest, plan_key
from lines import Record
from peer_runs import PeerRun, best_names, on_own_grid, peer_ends, runs_of
from peer_samplers import samplers, versions

from scoresde import __version__
from scoresde.plans.plan import Plan
from scoresde.sampling.prepare import prepare
from scoresde.solvers.auto import VELOCITY
from scoresde.spacings import FlowTime, Measured, Spacing

EXPONENTS = (1.5, 2.0, 3.0)
SCALES = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)


class Contest:
    """Records of runs on the paths of one problem.

    Args:
        paths: the exact paths.
        kept: the records that are there already.
        about: names that all records share.
        every: of how many paths one is for the first round of the peers.
        finalists: how many peers, by each figure, run on all paths.
    """

    def __init__(self, paths: Paths, kept: Kept, about: Record, every: int = 8, finalists: int = 40) -> None:
        self.paths, self.kept, self.every, self.finalists = paths, kept, every, finalists
        self.peers_paths = for_peers(paths)
        self.about = about | {"problem": paths.problem, "process": paths.process, "start": paths.key}

    def ours(self, role: str, solver: str, spacing: Spacing, nfe: int) -> Record:
        """The record of a run of the library; its plan decides, not only its names."""
        plan = prepare(solver, self.paths.sde, nfe, spacing)
        assert isinstance(plan, Plan)
        if isinstance(spacing, Measured):
            solver = spacing.choice(nfe).solver
        names = self.about | {
            **{"role": role, "method": solver, "spacing": _named(spacing, nfe), "nfe_requested": nfe},
            **{"version": __version__, "plan": plan_key(plan)},
        }
        return self.kept.record(names, lambda: {"nfe": plan.nfe, **self.paths.figures(self.paths.run(plan))})

    def candidates(self, nfe: int) -> list[Record]:
        """Powers of flow time with every velocity solver."""
        grid = product(VELOCITY, EXPONENTS, SCALES)
        return [self.ours("candidate", solver, FlowTime(e, c), nfe) for solver, e, c in grid]

    def peers(self, nfe: int) -> Iterator[Record]:
        """The records of the best peers by each figure, among those that are installed."""
        installed = versions()
        runs = runs_of(samplers(), installed)
        names = {key: self.about[key] for key in ("part", "problem", "process", "n_samples")} | {
            **{"role": "first round", "nfe_requested": nfe, "every": self.every},
            **{"finalists": self.finalists, "versions": installed, "runs": digest(repr(sorted(runs)))},
        }  # without the noise: other noises have other errors, but the same best peers
        first = self.kept.record(names, lambda: {"best": self._first_round(runs, nfe)})
        for name in first["best"]:
            sampler, grid = run = runs[name]
            names = self.about | {
                **{"role": "peer", "method": sampler.label, "spacing": grid, "nfe_requested": nfe},
                "version": installed[sampler.project],
            }
            yield self.kept.record(names, partial(_figures, self.peers_paths, run, nfe))

    def _first_round(self, runs: Mapping[str, PeerRun], nfe: int) -> list[str]:
        """The names of the best runs on a part of the paths."""
        part = self.peers_paths.part(self.every)
        found = {name: _figures(part, run, nfe) for name, run in runs.items()}
        within = {name: record for name, record in found.items() if record["nfe"]}
        own = {
            name: record for name, record in within.items() if on_own_grid(self.paths.process, runs[name][1])
        }
        both = [best_names(part, ("rmse", "median"), self.finalists) for part in (own, within)]
        return list(dict.fromkeys(both[0] + both[1]))


def _figures(paths: Paths, run: PeerRun, nfe: int) -> Record:
    """The figures of a peer within ``nfe`` calls; without calls, if it does not fit."""
    found = peer_ends(paths.denoiser, paths.x, run, nfe, lambda _: torch.zeros_like(paths.x))
    if found is None:
        return {"nfe": 0}
    ends, calls = found
    return {"nfe": calls, **paths.figures(ends)}


def _named(spacing: Spacing, nfe: int) -> str:
    if isinstance(spacing, Measured):
        return f"measured: {_named(spacing.choice(nfe).spacing, nfe)}"
    return f"e={spacing.exponent:g}, c={spacing.scale:g}" if isinstance(spacing, FlowTime) else "at shares"
