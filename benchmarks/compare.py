"""scoresde beside k-diffusion, diffusers and azula: ``python benchmarks/compare.py --nfe 10 20``.

Each method on the same network, levels, noise and number of calls, in one run: what is left to differ is what
a project makes of the method, and the seconds that it spends around the network. Projects that are not
installed have no rows; see ``requirements-peers.lock``. The SDE is edm, whose variables the others compute
in, the spacing Karras's, all of it in float32; diffusers is told the noise, as its networks estimate it.
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from typing import Any, cast

import command
import torch
from lines import append, calls_of
from own import problem_of
from peers import Peer, azula, diffusers, k_diffusion
from problems import PROBLEMS, Problem
from rich.table import Table
from stopwatch import Timed, device_name
from tables import console
from torch import Tensor
from tqdm import tqdm

from scoresde.metrics.frechet import feature_moments, frechet_distance
from scoresde.noise import Noise, later
from scoresde.plans.plan import Plan
from scoresde.plans.tape import Solver
from scoresde.registry import lookup
from scoresde.sampling.sample import sample
from scoresde.solvers import solver_of
from scoresde.spacings.formulas import Karras
from scoresde.spacings.grid import Grid

# Who is asked for: the project, and what its package is called.
PACKAGES = {"k-diffusion": "k_diffusion", "diffusers": "diffusers", "azula": "azula"}
END = {"final_sigmas_type": "sigma_min", "lower_order_final": False}


@dataclass(frozen=True)
class Method:
    """A method by our name, by the others', and its network calls a step."""

    ours: str
    theirs: dict[str, Callable[[], Peer]]
    calls: int = 1


def _multi(**options: Any) -> Callable[[], Peer]:
    return partial(diffusers, "DPMSolverMultistepScheduler", **END, **options)


METHODS = {
    "euler": Method(
        "ddim",
        {
            "k-diffusion": partial(k_diffusion, "sample_euler"),
            "diffusers": partial(diffusers, "EulerDiscreteScheduler"),
            "azula": partial(azula, "EulerSampler"),
        },
    ),
    "ancestral": Method(
        "ancestral",
        {
            "k-diffusion": partial(k_diffusion, "sample_euler_ancestral"),
            "diffusers": partial(diffusers, "EulerAncestralDiscreteScheduler"),
            "azula": partial(azula, "DDPMSampler"),
        },
    ),
    "heun": Method(
        "heun",
        {
            "k-diffusion": partial(k_diffusion, "sample_heun"),
            "diffusers": partial(diffusers, "HeunDiscreteScheduler"),
            "azula": partial(azula, "HeunSampler"),
        },
        calls=2,
    ),
    "dpm2": Method(
        "dpm2",
        {
            "k-diffusion": partial(k_diffusion, "sample_dpm_2"),
            "diffusers": partial(diffusers, "KDPM2DiscreteScheduler"),
        },
        calls=2,
    ),
    "2m": Method(
        "dpmpp-2m",
        {
            "k-diffusion": partial(k_diffusion, "sample_dpmpp_2m"),
            "diffusers": _multi(),
            "azula": partial(azula, "xEABSampler", order=2),
        },
    ),
    "3m": Method(
        "dpmpp-3m",
        {
            "k-diffusion": partial(k_diffusion, "sample_dpmpp_3m_sde", eta=0.0),
            "diffusers": _multi(solver_order=3),
            "azula": partial(azula, "xEABSampler", order=3),
        },
    ),
    "2m-sde": Method(
        "dpmpp-2m-sde",
        {
            "k-diffusion": partial(k_diffusion, "sample_dpmpp_2m_sde"),
            "diffusers": _multi(algorithm_type="sde-dpmsolver++"),
        },
    ),
    "3m-sde": Method(
        "dpmpp-3m-sde",
        {
            "k-diffusion": partial(k_diffusion, "sample_dpmpp_3m_sde"),
            "diffusers": _multi(algorithm_type="sde-dpmsolver++", solver_order=3),
        },
    ),
    "lms": Method(
        "lms",
        {
            "k-diffusion": partial(k_diffusion, "sample_lms", order=4),
            "diffusers": partial(diffusers, "LMSDiscreteScheduler", order=4),
            "azula": partial(azula, "zABSampler", order=4),
        },
    ),
    "deis": Method(
        "deis",
        {
            "diffusers": partial(
                diffusers, "DEISMultistepScheduler", solver_order=3, lower_order_final=False
            ),
            "azula": partial(azula, "zEABSampler", order=3),
        },
    ),
    "unipc": Method(
        "unipc", {"diffusers": partial(diffusers, "UniPCMultistepScheduler", solver_order=3, **END)}
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; bad input is one line on stderr and 2."""
    options = _parser().parse_args(arguments)
    return command.command("compare.py", lambda: _main(options))


def _main(options: argparse.Namespace) -> int:
    _print_table(compare(options))
    print(f"\nJSON lines: {command.lines_file(options.out, 'compare.jsonl')}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("compare.py", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--method", nargs="+", default=list(METHODS), metavar="NAME", help=", ".join(METHODS))
    add("--nfe", nargs="+", type=int, default=[20], metavar="N", help="network calls; default 20")
    add("--problem", default="mnist", metavar="NAME", help=", ".join(PROBLEMS))
    add("--checkpoint", type=Path, metavar="FILE", help="in place of the network that ships")
    add("--n-samples", type=int, default=1000, metavar="N", help="default 1000")
    add("--batch-size", type=int, default=250, metavar="N", help="default 250")
    add("--seed", type=int, default=0)
    add("--converged", type=int, metavar="N", help="network calls of the converged run")
    add("--out", type=Path, default=Path("results/compare.jsonl"), metavar="PATH")
    add("--quiet", action="store_true", help="no progress bar")
    return parser


def compare(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A record for every method, number of calls and project; written as soon as it is there.

    Raises:
        ValueError, TypeError, OSError: an option that cannot be, before anything is sampled.
    """
    methods = {name: lookup("method", name, METHODS) for name in options.method}
    converged = 2 if options.converged is None else options.converged
    numbers = {"n-samples": options.n_samples, "batch-size": options.batch_size, "converged": converged}
    for name, number in (numbers | {"nfe": min(options.nfe)}).items():
        if number < 2:
            raise ValueError(f"--{name} must be at least 2, got {number}")
    problem = problem_of(options.problem, "edm", options.checkpoint)
    file = command.lines_file(options.out, "compare.jsonl")

    records: list[dict[str, Any]] = []
    with tqdm(disable=options.quiet, unit="call") as bar:
        timed = Timed(problem.denoiser, torch.device("cpu"), bar.update)
        calls = options.converged or problem.converged
        bar.set_description("converged")
        exact = torch.cat([x for x, _ in _by_us(problem, timed, options, "dpmpp-3m", calls)])
        for nfe in options.nfe:
            for name, method in methods.items():
                for project, run in _projects(method, problem, timed, options, nfe):
                    bar.set_description(f"{name} {nfe}, {project}")
                    timed.calls = 0
                    timed.seconds()
                    batches = list(run)
                    x, seconds = torch.cat([x for x, _ in batches]), sum(s for _, s in batches)
                    moments = feature_moments(problem.features.of, x)
                    stochastic = _plan(problem, method.ours, nfe // method.calls).stochastic
                    rmse = (x - exact).square().mean().sqrt().item()
                    record = {
                        "method": name,
                        "project": project,
                        "version": version("scoresde" if project == "scoresde" else PACKAGES[project]),
                        "problem": problem.name,
                        "nfe": timed.calls // len(batches),
                        "nfe_requested": nfe,
                        "n_samples": options.n_samples,
                        "batch_size": options.batch_size,
                        "fd": frechet_distance(moments, problem.data),
                        "fd_features": problem.features.name,
                        "rmse_to_converged": None if stochastic else rmse,
                        "converged_nfe": calls,
                        "seconds": seconds,
                        "seconds_around": seconds - timed.seconds(),
                        "seed": options.seed,
                        "device_name": device_name(torch.device("cpu")),
                        "versions": {"torch": torch.__version__, "python": platform.python_version()},
                    }
                    records.append(record)
                    append(file, record)
    return records


Batches = Iterator[tuple[Tensor, float]]


def _projects(
    method: Method, problem: Problem, timed: Timed, options: argparse.Namespace, nfe: int
) -> Iterator[tuple[str, Batches]]:
    """Ours, then all that are installed."""
    steps = nfe // method.calls
    yield "scoresde", _by_us(problem, timed, options, method.ours, steps)
    for project, make in method.theirs.items():
        try:
            peer = make()
        except ModuleNotFoundError:
            continue
        yield project, _by_them(problem, timed, options, peer, steps)


def _plan(problem: Problem, solver: str, steps: int) -> Plan:
    return Plan.make(cast(Solver, solver_of(solver)), problem.denoiser.sde, steps, Karras())


def _by_us(problem: Problem, timed: Timed, options: argparse.Namespace, solver: str, steps: int) -> Batches:
    plan = _plan(problem, solver, steps)
    for ids, cond, x in _starts(problem, options, plan.start.sigma):
        begin = time.perf_counter()
        end = sample(timed, plan, x.shape, seed=options.seed, ids=ids, x=x, cond=cond)
        yield end, time.perf_counter() - begin


def _by_them(problem: Problem, timed: Timed, options: argparse.Namespace, peer: Peer, steps: int) -> Batches:
    levels = Grid.build(problem.denoiser.sde, steps, Karras()).levels
    for ids, cond, x in _starts(problem, options, levels[0].sigma):
        begin = time.perf_counter()
        with torch.no_grad():
            end = peer(partial(timed, cond=cond), levels, x, later(Noise(options.seed, ids, problem.shape)))
        yield end, time.perf_counter() - begin


def _starts(
    problem: Problem, options: argparse.Namespace, sigma: float
) -> Iterator[tuple[Tensor, Tensor | None, Tensor]]:
    """Numbers, labels and first states of each batch."""
    for ids in torch.split(torch.arange(options.n_samples), options.batch_size):
        cond = problem.labels(ids) if problem.labels else None
        yield ids, cond, sigma * Noise(options.seed, ids, problem.shape)(0).float()


def _print_table(records: Sequence[dict[str, Any]]) -> None:
    first = records[0]
    title = f"{first['problem']}, {first['n_samples']} samples, {first['device_name']}"
    table = Table("method", "NFE", "project", title=title)
    for column in (first["fd_features"], "RMSE to converged", "seconds", "around"):
        table.add_column(column, justify="right")
    for record, after in zip_longest(records, records[1:]):
        rmse = record["rmse_to_converged"]
        table.add_row(
            record["method"],
            calls_of(record),
            f"{record['project']} {record['version']}",
            f"{record['fd']:.4g}",
            "-" if rmse is None else f"{rmse:.6f}",
            f"{record['seconds']:.2f}",
            f"{record['seconds_around']:.3f}",
            end_section=after is None or after["project"] == "scoresde",
        )
    console().print(table)


if __name__ == "__main__":
    sys.exit(main())
