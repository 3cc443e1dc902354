"""Prove every solver on every SDE: ``python benchmarks/certify.py``.

No network, no samples: data whose denoiser is known exactly, in float64. What a solver claims is measured,
and what it must keep is checked; a table on the console, all figures as JSON and, if wanted, a page of
Markdown. Exits with 1 if anything is off, and names it.

- order: on the probability-flow ODE of a mixture of normal distributions, whose denoiser is not linear,
  against a reference to 1e-12; of solvers that draw noise the weak order, from the law below. Measured is the
  larger slope of the last two doublings of the steps at which the error is still above 1e-11: two, for an
  error can pass through zero in one. It may not be less than the claim by more than 0.2. A high order shows
  late: while it is less, or more by 1.5, there is another doubling, to 640 steps at most.
- law: on normal data a run is linear in its noise, so its end's mean and deviation follow exactly from
  carrying the factors of every draw through the real executor; their error must fall with the same order.
- identity: if all data is one point, every exponential solver ends exactly where it should, on any grid.
- calls: as many as planned, within the budget, counted.
- amplification: the sum of absolute weights on network outputs in a line, a figure and not a criterion.
- sweep: with 1 to 30, 50, 100, 250 and 1,000 steps, to both ends, in float32 and in float64, on data of two
  normal distributions, the end is finite, and the calls are those planned.
- float32: there both precisions, from the same start and noise, end no farther apart than rounding takes
  them, however many the steps: the error in float32 is at most 10 times that in float64, and 1e-5.
- predictions: a network of any prediction, made of the mixture's score, samples what the denoiser does.
"""

import argparse
import json
import math
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise, product, takewhile
from pathlib import Path
from typing import Any

import command
import numpy as np
import torch
from known import SDES, exact_denoiser, mixture, reference, relative
from numpy.typing import NDArray
from pool import spread
from rich.table import Table
from tables import console
from torch import Tensor
from tqdm import tqdm

from scoresde import (
    SDE,
    SOLVERS,
    Denoiser,
    Karras,
    Level,
    Plan,
    UniformLambda,
    UniformTime,
    __version__,
    integrate,
    prepare,
    solver_of,
)
from scoresde.denoisers.predictions import PREDICTIONS
from scoresde.files import write_atomically
from scoresde.plans.executor import Draw
from scoresde.registry import lookup
from scoresde.solvers import DPMSolverPP
from scoresde.solvers.integrators.base import Integration, Integrator
from scoresde.solvers.wrappers import Restart
from scoresde.spacings.formulas import Spacing

Record = dict[str, Any]
Array = NDArray[np.float64]

# On equal steps in lambda a history weighed wrongly for its distances goes unseen; karras has none equal.
PROBLEMS: dict[str, tuple[SDE, Spacing]] = {
    **{name: (sde, UniformLambda()) for name, sde in SDES.items()},
    "vp karras": (SDES["vp"], Karras()),
}
# Grids on which a point mass is carried: even and most uneven, to t_min and to sigma = 0.
ENDS = tuple(product((UniformLambda(), Karras(), UniformTime()), (False, True)))


# Certified beside the registry: high orders, which a history that grows from one output would hide. At order
# 6 the mixture shows 5.8 when rounding begins.
ITERATED = (
    *(f"adams:predictor={p},start=iterated" for p in (3, 4, 5)),
    "adams:predictor=3,corrector=4,start=iterated",
    "deis:predictor=4,start=iterated",
    "velocity-adams:predictor=4,start=iterated",
    "unipc:predictor=4,corrector=5,start=iterated",
)


@dataclass(frozen=True)
class Depth:
    """How far a certificate goes: problems, numbers of steps that double, and which are swept, and at what
    numbers of steps."""

    problems: tuple[str, ...]
    ladder: tuple[int, ...]
    swept: tuple[str, ...]
    sweep: tuple[int, ...]


FULL = Depth(tuple(PROBLEMS), (20, 40, 80, 160, 320), tuple(SDES), (*range(1, 31), 50, 100, 250, 1000))
QUICK = Depth(("vp karras", "edm"), (20, 40, 80, 160), ("vp karras", "edm"), (1, 2, 3, 5, 10, 100))
BUDGETS = (5, 10, 20, 50)
TIGHTER = (1, 10, 1000)  # parts of its own tolerances, of a solver that chooses its steps: its ladder

BELOW = 0.2  # the claim: by how much a measured order may be less
BEYOND = 1.5  # by how much it may be more before the steps are thought too few to tell
LONGEST = 640  # steps, up to which the ladder goes on while the measured order is not in this range
FLOOR = 1e-11  # relative error below which roundings, and the reference's own error, begin to show
EXACT = 1e-10  # of an identity, whose roundings grow with the weights: up to 1e4 on the most uneven grids
ROUNDING = 1e-5  # of a whole run in float32
FEW = 20  # steps, with fewer of which the weights may be so large, and a run so wrong, that it may be more
PER_TOLERANCE = 100  # the error of a run, in tolerances of a step: it has tens of steps
FALLS = 32  # times, at least, that the error is less at the last of these: by the root of the tolerance
SAMPLES = 2000  # where steps are chosen by what is drawn, and the law has to be sampled
STANDARD_ERRORS = 4  # of a mean or deviation of so many, that chance may make
# Of two forms of one denoiser: 1 / alpha = 150 or sigma = 80 times a rounding, some hundred times.
SAME = 1e-9

# Solvers that do not carry a point mass exactly, by class, and why. All others must.
NO_IDENTITY: dict[str, str] = {
    "EulerMaruyama": "Euler in t takes the drift as constant, which is not even so on a point mass",
    "ReverseDiffusion": "its mean is that of the forward step run backwards, right to first order",
    "PredictorCorrector": "its predictor is reverse diffusion, and a Langevin step leaves another deviation",
    "TorchSDE": "explicit steps in t, as Euler-Maruyama's",
    "SDEDPMSolver": "the noise that the network sees follows every draw, even on a point mass",
    "AdaptiveSDE": "as Euler-Maruyama",
    "SEEDS": "as SDE-DPM-Solver, on the noise",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Certify; 1 if anything is off; bad input is one line on stderr and 2."""
    options = _parser().parse_args(arguments)
    return command.command("certify.py", lambda: _main(options))


def _main(options: argparse.Namespace) -> int:
    report = run(options)
    write_atomically(options.out, json.dumps(report, indent=1, allow_nan=False).encode())
    if options.markdown:
        write_atomically(options.markdown, markdown(report).encode())
    print_table(report)
    print(f"\nAll figures: {options.out}")
    return 1 if report["faults"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("certify.py", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add(
        "--solver",
        nargs="+",
        default=[*SOLVERS, *ITERATED],
        metavar="NAME",
        help="with options name:key=value; default, all, and high orders of the Adams methods",
    )
    add("--sde", nargs="+", default=list(SDES), metavar="NAME", help=f"default, all: {', '.join(SDES)}")
    add("--quick", action="store_true", help="fewer SDEs and steps")
    add("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes; default, one a core")
    add(
        "--out", type=Path, default=Path("runs/certificates.json"), metavar="FILE", help="all figures as JSON"
    )
    add("--markdown", type=Path, metavar="FILE", help="write the table as a page, too")
    add("--quiet", action="store_true", help="no progress bar")
    return parser


def run(options: argparse.Namespace) -> Record:
    """The report on the solvers and SDEs that the options ask for.

    Raises:
        ValueError: an unknown solver or SDE, or an option that cannot be.
    """
    if options.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {options.jobs}")
    solvers = {name: solver_of(name) for name in options.solver}
    for name in options.sde:
        lookup("SDE", name, SDES)
    depth = QUICK if options.quick else FULL
    problems = [name for name in depth.problems if _sde(name) in options.sde]
    if not problems:
        raise ValueError(f"--quick certifies on {', '.join(depth.problems)}, got --sde {options.sde[0]}")
    for path in filter(None, (options.out, options.markdown)):
        command.check_writable(path)
    tasks = [(name, problem, depth) for name, problem in product(solvers, problems)]
    found: dict[tuple[str, str], Record] = {}
    with tqdm(total=len(tasks), unit="proof", smoothing=0, disable=options.quiet) as bar:
        for record in spread(certify, tasks, options.jobs):
            found[record["solver"], record["sde"]] = record
            bar.set_description(record["solver"])
            bar.update()
    certificates = [
        summary(name, solver, [found[name, problem] for problem in problems])
        for name, solver in solvers.items()
    ]
    faults = [f"{one['solver']}: {fault}" for one in certificates for fault in one["faults"]]
    sdes = sorted({_sde(problem) for problem in problems}, key=list(SDES).index)
    predicted = {sde: predictions(sde) for sde in sdes}
    for sde, differences in predicted.items():
        faults += [f"prediction {p}: {off:.1e} off on {sde}" for p, off in differences.items() if off > SAME]
    references = {sde: reference(sde)[2] for sde in sdes}
    faults += [f"reference: {off:.1e} off on {sde}" for sde, off in references.items() if off > FLOOR / 10]
    return {
        "format": "scoresde certificates 1",
        "quick": options.quick,
        "ladder": depth.ladder,
        "sweep": depth.sweep,
        "versions": {
            "scoresde": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "references": references,
        "predictions": predicted,
        "solvers": certificates,
        "faults": faults,
    }


def _sde(problem: str) -> str:
    return problem.split()[0]


def certify(name: str, problem: str, depth: Depth) -> Record:
    """All figures of one solver on one problem, and what is wrong with them."""
    record: Record = {"solver": name, "sde": problem, "faults": []}
    try:
        solver = solver_of(name)
        record |= figures(solver, problem, depth)
        record["faults"] = faults(record, exact=type(solver).__name__ not in NO_IDENTITY)
    except Exception as error:  # one solver's crash is its own fault, and must not hide the others
        record["faults"] = [f"crashed: {type(error).__name__}: {error}"]
    return record


def figures(solver: Any, problem: str, depth: Depth) -> Record:
    """What is measured of one solver on one problem."""
    sde, spacing = PROBLEMS[problem]
    table, adaptive = not isinstance(solver, Integrator), _is_adaptive(solver, sde)
    claimed = solver.order if table else getattr(solver, "order", None)
    rungs = tuple(solver.rtol / part for part in TIGHTER) if adaptive else depth.ladder

    @cache
    def make(rung: float, spacing: Spacing = spacing, to_clean: bool = False) -> Plan | Integration:
        if table:
            steps = int(rung)
            return Plan.make(
                _refined(solver, steps / depth.ladder[0]), sde, steps, spacing, to_clean=to_clean
            )
        if adaptive:
            run: Integration = _with_tolerance(solver, rung).prepare(sde, None, spacing, to_clean=to_clean)
        else:
            run = _refined(solver, 1.0).prepare(sde, int(rung), spacing, to_clean=to_clean)
        return run

    stochastic = _draws(make(rungs[0])) > 0
    sampled = adaptive and stochastic
    rungs = rungs[:1] if sampled else rungs  # for there error is hidden by chance, and seconds are many

    @cache
    def law(rung: float) -> tuple[float, float]:
        return sampled_law(make(rung)) if sampled else law_errors(make(rung))

    def curve(error: Callable[[float], float]) -> Record:
        errors = {rung: error(rung) for rung in rungs}
        order = None if adaptive else order_of(errors)
        least, most = (claimed or 1) - BELOW, (claimed or 1) + BEYOND
        while order is not None and not least <= order <= most and (n := 2 * max(errors)) <= LONGEST:
            errors[n] = error(n)
            order = order_of(errors)
        return {"errors": errors, "order": order}

    point = curve(lambda rung: law(rung)[1])
    # What chooses its steps takes no others on another grid.
    ends = [end for end in ENDS if not adaptive or end[0] is UniformLambda()]
    identity = [
        law_errors(make(rungs[0], *end))[1] for end in ends if not (sampled or end == (spacing, False))
    ]
    record: Record = {
        "kind": "table" if table else "adaptive" if adaptive else "black box",
        "claimed": claimed,
        "stochastic": stochastic,
        "ode": None if stochastic else curve(lambda rung: ode_error(make(rung), _sde(problem))),
        "law": curve(lambda rung: law(rung)[0]),
        "point": point,
        "identity": max([*identity, *point["errors"].values()]),
        "calls": {budget: counted(solver, sde, spacing, budget) for budget in BUDGETS},
    }
    if problem in depth.swept:
        record["sweep"] = swept(solver, problem, depth.sweep)
    return record


def faults(record: Record, exact: bool) -> list[str]:
    """What is wrong with the figures of one solver on one problem; ``exact``: must it have the identity?"""
    found, claimed = [], record["claimed"] or 1  # that anything converges with, at least
    curves = {"order": record["ode"], "law": record["law"], "point mass": None if exact else record["point"]}
    for name, curve in curves.items():
        if curve is None:
            continue
        if record["kind"] == "adaptive":
            loose, tight = (list(curve["errors"].values())[i] for i in (0, -1))
            for tol, error in curve["errors"].items():
                if not error <= PER_TOLERANCE * tol:
                    found.append(f"{name}: error {error:.1e} at tolerance {tol:g}")
            if not (record["stochastic"] or tight <= max(loose / FALLS, FLOOR)):
                found.append(
                    f"{name}: error {tight:.1e} at a thousandth of the tolerance, {loose:.1e} at first"
                )
            if record["stochastic"] and not tight <= STANDARD_ERRORS * SAMPLES**-0.5:
                found.append(f"{name}: error {tight:.1e} of {SAMPLES} samples")
        elif curve["order"] is not None and not curve["order"] >= claimed - BELOW:
            found.append(f"{name}: {curve['order']:.2f} measured, {claimed} claimed")
    if exact and not record["identity"] <= EXACT:
        found.append(f"identity: a point mass is off by {record['identity']:.1e}")
    for budget, calls in record["calls"].items():
        if calls is not None and not (calls["made"] == calls["planned"] <= budget):
            found.append(f"calls: {calls['made']} made, {calls['planned']} planned, budget {budget}")
    if "sweep" in record:
        found += record["sweep"]["faults"]
    return found


# What is measured.


def order_of(errors: Mapping[Any, float]) -> float | None:
    """The measured order, by the rule above; None if even the first error is but rounding, or the second."""
    if not all(map(math.isfinite, errors.values())):
        raise FloatingPointError(f"an error is not finite: {errors}")
    seen = list(takewhile(lambda item: item[1] > FLOOR, errors.items()))
    slopes = [math.log(e / f) / math.log(n / m) for (m, e), (n, f) in pairwise(seen)]
    return max(slopes[-2:], default=None)


def ode_error(run: Plan | Integration, sde: str) -> float:
    """The relative error of a run that draws no noise, on the mixture."""
    x, exact, _ = reference(sde)
    return relative(carry(run, mixture, x), exact)


def carry(run: Plan | Integration, denoise: Callable[..., Any], x: Array, noise: Draw | None = None) -> Array:
    """The end of a run, whichever kind it is, from an array to an array.

    ``denoise(x, level)``, and ``denoise(x, level, rows)``, with numbers ``(len(x), 1)`` in the level, of runs
    that ask for each sample at a level of its own. A plan in float32 is carried out on tensors, in place, as
    samples are drawn; in float64 on the arrays, which is faster.
    """
    if isinstance(run, Plan) and x.dtype == np.float64:
        end: Array = integrate(run, denoise, x, noise)
        return end

    def network(x: Tensor, level: Level[Any], rows: Tensor | None = None) -> Tensor:
        if rows is None:
            return torch.from_numpy(denoise(x.numpy(), level))
        own = Level(*(number.numpy().reshape(-1, *[1] * (x.ndim - 1)) for number in level))
        return torch.from_numpy(denoise(x.numpy(), own, rows.numpy()))

    def given(i: int) -> Tensor:
        return torch.from_numpy(noise(i))  # type: ignore[misc]

    with torch.no_grad():
        start = torch.from_numpy(x)
        tensor: Tensor = (
            integrate(run, network, start, given)
            if isinstance(run, Plan)
            else run.integrate(network, start, given)
        )
    return tensor.numpy()


MEAN = 0.7
DEVIATIONS = np.array([[0.0], [0.25], [0.5], [1.0]])  # an error's sign may change in one of them, not in all


def law_errors(run: Plan | Integration) -> tuple[float, float]:
    """How far a run's end is from the law it should have: on normal data, and on a point mass.

    The state holds the factors of 1, of the noise of the start and of every draw of the run, a row for each
    deviation of the data. The error is that of mean and deviation, relative to hypot(alpha, sigma).
    """
    width = 2 + _draws(run)

    def unit(i: int) -> Array:
        rows = np.zeros((len(DEVIATIONS), width))
        rows[:, i] = 1
        return rows

    one = unit(0)

    def denoise(x: Array, level: Level[Any], rows: Any = slice(None)) -> Array:
        std = DEVIATIONS[rows]
        gain = level.alpha * std**2 / ((level.alpha * std) ** 2 + level.sigma**2)
        normal: Array = gain * x + (1 - level.alpha * gain) * MEAN * one[rows]
        return normal

    def law(level: Level[float]) -> tuple[float, Array]:
        return level.alpha * MEAN, np.hypot(level.alpha * DEVIATIONS, level.sigma)

    mean, std = law(run.start)
    end = carry(run, denoise, mean * one + std * unit(1), lambda i: unit(2 + i))
    mean, std = law(run.end)
    errors = np.hypot(end[:, 0] - mean, np.linalg.norm(end[:, 1:], axis=1) - std[:, 0])
    errors /= math.hypot(run.end.alpha, run.end.sigma)
    return math.sqrt((errors[1:] ** 2).mean()), float(errors[0])


def sampled_law(run: Plan | Integration) -> tuple[float, float]:
    """The same from samples, of the data of deviation 0.5, and of a point mass."""
    draw = np.random.default_rng(0)
    data = np.repeat([[0.5], [0.0]], SAMPLES, 0)

    def denoise(x: Array, level: Level[Any], rows: Any = slice(None)) -> Array:
        std = data[rows]
        gain = level.alpha * std**2 / ((level.alpha * std) ** 2 + level.sigma**2)
        normal: Array = gain * x + (1 - level.alpha * gain) * MEAN
        return normal

    start, end = run.start, run.end
    x = start.alpha * MEAN + np.hypot(start.alpha * data, start.sigma) * draw.standard_normal(data.shape)
    found = carry(run, denoise, x, lambda i: draw.standard_normal(data.shape)).reshape(2, -1)
    std = np.hypot(end.alpha * data[::SAMPLES, 0], end.sigma)
    errors = np.hypot(found.mean(1) - end.alpha * MEAN, found.std(1) - std) / math.hypot(end.alpha, end.sigma)
    return float(errors[0]), float(errors[1])


def _draws(run: Plan | Integration) -> int:
    """How many draws of noise a run asks for."""
    if isinstance(run, Plan):
        if any(line.measured for line in run.lines):
            raise ValueError("a step sized by norms is not linear, and has no law that could be certified")
        return run.draws
    asked = 0

    def noise(i: int) -> Array:
        nonlocal asked
        asked = max(asked, i + 1)
        return np.zeros((1, 1))

    carry(run, mixture, np.zeros((1, 1)), noise)
    return asked


def counted(solver: Any, sde: SDE, spacing: Spacing, budget: int) -> Record | None:
    """Calls planned and made, and amplification, of a run; None if the solver's shortest is beyond budget."""
    try:
        run = prepare(solver, sde, budget, spacing)
    except ValueError as error:
        if str(error).startswith("nfe must be at least") and budget != max(BUDGETS):
            return None
        raise
    made = 0

    def denoise(x: Array, level: Level[Any], rows: Array | None = None) -> Array:
        nonlocal made
        made += 1
        return mixture(x, level)

    try:
        carry(run, denoise, np.ones((2, 1)), lambda i: np.ones((2, 1)))
    except RuntimeError:  # what chooses its own steps may need more than there are, but not make them
        if run.nfe is not None:
            raise
    return {
        "planned": made if run.nfe is None else run.nfe,
        "made": made,
        "amplification": run.amplification if isinstance(run, Plan) else None,
    }


PAIR, SPREAD = 0.9, 0.3  # the means of two normal distributions, one on either side of 0, and their deviation


def pair(x: Array, level: Level[Any], rows: Any = None) -> Array:
    """E[x_0 | x_t] of the two, in the type of x: no line either, and a fifth of the mixture's cost."""
    var = (level.alpha * SPREAD) ** 2 + level.sigma**2
    gain = level.alpha * SPREAD**2 / var
    side = (1 - level.alpha * gain) * PAIR * np.tanh(level.alpha * PAIR / var * x)
    mean: Array = (gain * x + side).astype(x.dtype, copy=False)
    return mean


def swept(solver: Any, problem: str, steps: Sequence[int]) -> Record:
    """Runs of so many steps, or calls, to both ends, in both precisions: how many, and what is wrong.

    Of tables, too, the difference between the precisions by the number of steps. The states at the noisy end
    are as large as sigma, but the flow contracts them, and their roundings with them, to the size of the end:
    relative to it is the right measure on every SDE.
    """
    sde, spacing = PROBLEMS[problem]
    draws = np.random.default_rng(0).standard_normal((64, 8, 1), np.float32)  # a long run has some again
    points = np.linspace(-2, 2, 8)[:, None]
    combinations, found, differences = 0, list[str](), dict[int, float]()
    for n, to_clean in product((None,) if _is_adaptive(solver, sde) else steps, (False, True)):
        if (run := _of_length(solver, sde, n, spacing, to_clean)) is None:
            continue
        x = (math.hypot(run.start.alpha, run.start.sigma) * points).astype(np.float32)
        what = f"{n or 'its own'} steps{' to clean' * to_clean}"
        ends = []
        for precision in PRECISIONS:
            end, made = _ended(run, x.astype(precision), draws.astype(precision))
            ends.append(end)
            combinations += 1
            if not (np.isfinite(end).all() and end.dtype == precision):
                found.append(f"sweep: no finite {precision} after {what}")
            if run.nfe not in (None, made) or (isinstance(run, Integration) and n and made > n):
                found.append(f"sweep: {made} calls, {run.nfe} planned, in {precision}, {what}")
        if isinstance(run, Plan) and n and math.isfinite(difference := relative(*ends)):
            differences[n] = max(difference, differences.get(n, 0.0))
            # The error in float32 is at most that in float64 and this difference.
            beyond = 9 * law_errors(run)[0] if n < FEW and difference > ROUNDING else 0.0
            if not difference <= ROUNDING + beyond:
                found.append(f"float32: {difference:.1e} off after {what}")
    return {"combinations": combinations, "float32": differences, "faults": found}


PRECISIONS = np.dtype(np.float32), np.dtype(np.float64)


def _ended(run: Plan | Integration, x: Array, draws: Array) -> tuple[Array, int]:
    """The end of a run on the pair, and the calls made."""
    made = 0

    def denoise(x: Array, level: Level[Any], rows: Any = None) -> Array:
        nonlocal made
        made += 1
        return pair(x, level)

    return carry(run, denoise, x, lambda i: draws[i % len(draws)]), made


def _of_length(
    solver: Any, sde: SDE, n: int | None, spacing: Spacing, to_clean: bool
) -> Plan | Integration | None:
    """The run of n steps, or within n calls if it is a black box's; None if that is too few for any."""
    if not isinstance(solver, Integrator):
        assert n is not None
        return Plan.make(solver, sde, n, spacing, to_clean=to_clean) if n > to_clean else None
    try:
        run: Integration = solver.prepare(sde, n, spacing, to_clean=to_clean)
        return run
    except ValueError as error:
        if str(error).startswith("nfe must be at least") and n in range(FEW):
            return None
        raise


@cache
def predictions(name: str) -> dict[str, float]:
    """For every prediction, how far samples of a network that makes it are from those of the denoiser.

    What the network must say is worked out from the score, the gradient of the mixture's log density.
    """
    sde = SDES[name]
    plan = Plan.make(DPMSolverPP(2), sde, 20)
    density = exact_denoiser(sde).mixture.log_density
    x, _, _ = reference(name)
    exact = carry(plan, mixture, x)

    def network(prediction: str) -> Callable[[Tensor, Tensor], Tensor]:
        told = {sde.label(level.t) if prediction != "edm" else -level.lam / 4: level for level in plan.levels}

        def net(shown: Tensor, time: Tensor) -> Tensor:
            _, alpha, sigma, _ = told[min(told, key=lambda label: abs(label - time[0].item()))]
            root = math.hypot(0.5 * alpha, sigma)  # 0.5: EDM's sigma_data
            x = (shown * root if prediction == "edm" else shown).detach().requires_grad_()
            (score,) = torch.autograd.grad(density(x, Level(math.nan, alpha, sigma, math.nan)).sum(), x)
            x = x.detach()
            eps = -sigma * score
            x0 = (x - sigma * eps) / alpha
            return {
                "noise": eps,
                "score": score,
                "data": x0,
                "v": alpha * eps - sigma * x0,
                "velocity": eps - x0,
                # F of Karras et al. 2022, eq. 7, at y = x / alpha and noise level sigma / alpha
                "edm": (x0 - 0.25 * alpha / root**2 * x) * root / (0.5 * sigma),
            }[prediction]

        return net

    return {
        prediction: relative(
            integrate(plan, Denoiser(network(prediction), sde, make()), torch.from_numpy(x)[:, None])[:, 0]
            .detach()
            .numpy(),
            exact,
        )
        for prediction, make in PREDICTIONS.items()
    }


def _refined(solver: Any, factor: float) -> Any:
    """The solver with ``factor`` times the steps that are its own, not the run's, and no tolerance."""
    if isinstance(solver, Restart):
        finer = ((*ends, max(1, round(n * factor)), repeats) for *ends, n, repeats in solver.intervals)
        return replace(solver, intervals=tuple(finer))  # type: ignore[arg-type]
    # Within a tolerance it ends with the result of another solver, whose order is then seen no more.
    return replace(solver, tolerance=0.0) if hasattr(solver, "tolerance") else solver


def _is_adaptive(solver: Any, sde: SDE) -> bool:
    """Does it choose its own steps, by a tolerance?"""
    if not isinstance(solver, Integrator):
        return False
    try:
        return solver.prepare(sde, None).nfe is None
    except (ValueError, TypeError):
        return False


def _with_tolerance(solver: Any, rtol: float) -> Any:
    return replace(solver, rtol=rtol, atol=solver.atol * rtol / solver.rtol)


# What is shown.


def summary(name: str, solver: Any, records: Sequence[Record]) -> Record:
    """One solver's certificate: the worst of each figure over the problems, and all of them."""
    whole = [record for record in records if "kind" in record]
    first = whole[0] if whole else {"kind": None, "claimed": None, "stochastic": None}
    curve = "law" if first["stochastic"] else "ode"

    def worst(figure: Callable[[Record], float | None], pick: Callable[..., Record] = max) -> Record | None:
        """The largest of a figure, or the smallest, and where."""
        all_of_it = [{"value": v, "sde": r["sde"]} for r in whole if (v := figure(r)) is not None]
        return pick(all_of_it, key=lambda one: one["value"]) if all_of_it else None

    return {
        "solver": name,
        "repr": repr(solver),
        "kind": first["kind"],
        "stochastic": first["stochastic"],
        "claimed": first["claimed"],
        "order": worst(lambda r: r[curve]["order"], min),
        "error": worst(lambda r: _at_160(r[curve]["errors"])),
        "law_order": worst(lambda r: r["law"]["order"], min),
        "law_error": worst(lambda r: _at_160(r["law"]["errors"])),
        "identity": worst(lambda r: r["identity"]),
        "point_order": worst(lambda r: r["point"]["order"], min),
        "no_identity": NO_IDENTITY.get(type(solver).__name__),
        "shortest": min((n for r in whole for n, calls in r["calls"].items() if calls), default=None),
        "amplification": worst(lambda r: (r["calls"][10] or {}).get("amplification")),
        "combinations": sum(r["sweep"]["combinations"] for r in whole if "sweep" in r),
        # of runs that are long enough to be of use, the longest among them
        "float32": worst(
            lambda r: (
                max((d for n, d in r["sweep"]["float32"].items() if n >= FEW), default=None)
                if "sweep" in r
                else None
            )
        ),
        "faults": [f"{fault}, on {r['sde']}" for r in records for fault in r["faults"]],
        "runs": list(records),
    }


def _at_160(errors: Mapping[float, float]) -> float:
    """At as many steps for all, or at the tightest tolerance."""
    return errors.get(160, _last(errors))


def _last(by_rung: Mapping[float, Any]) -> Any:
    return list(by_rung.values())[-1]


COLUMNS = (
    "solver",
    "order",
    "measured",
    "on",
    "law",
    "error",
    "identity",
    "calls",
    "amplif.",
    "float32",
    "verdict",
)


def row(one: Record) -> tuple[str, ...]:
    """A certificate as cells."""
    kinds = [fault.split(":")[0] for fault in one["faults"]]
    bad = " ".join(dict.fromkeys(kinds))
    if one["kind"] is None:
        return one["solver"], *["-"] * (len(COLUMNS) - 2), bad
    order = one["order"]
    by_tolerance = one["kind"] == "adaptive"
    if one["no_identity"]:
        identity = "by tolerance" if by_tolerance else f"order {_number(one['point_order'], '.2f')}"
    else:
        identity = _number(one["identity"], ".0e")
    calls = f"from {one['shortest']}" if one["shortest"] != BUDGETS[0] else "kept"
    return (
        one["solver"],
        "-" if one["claimed"] is None else f"{one['claimed']}{' weak' if one['stochastic'] else ''}",
        "by tolerance" if by_tolerance else _number(order, ".2f", "exact"),
        order["sde"] if order else "",
        "" if by_tolerance else _number(one["law_order"], ".2f", "exact"),
        _number(one["error"], ".0e"),
        identity,
        "broken" if "calls" in kinds else calls,
        _number(one["amplification"], ".3g"),
        _number(one["float32"], ".0e"),
        bad or "holds",
    )


def _number(worst: Record | None, form: str, none: str = "-") -> str:
    return none if worst is None else format(worst["value"], form)


def print_table(report: Record) -> None:
    """A line a solver, then all that is off."""
    out = console(130)
    table = Table(title=f"Certificates of {len(report['solvers'])} solvers, worst of {_where(report)}")
    for i, column in enumerate(COLUMNS):
        table.add_column(column, justify="left" if i in (0, 3, 10) else "right")
    for one in report["solvers"]:
        table.add_row(*row(one), style="bold red" if one["faults"] else None)
    out.print(table)
    for fault in report["faults"]:
        out.print(fault, style="red", soft_wrap=True)
    off = max(v for values in report["predictions"].values() for v in values.values())
    out.print(f"Predictions agree to {off:.0e}, references to {max(report['references'].values()):.0e}.")
    out.print(_combinations(report))


def _combinations(report: Record) -> str:
    number = sum(one["combinations"] for one in report["solvers"])
    broken = sum(": sweep: " in fault for fault in report["faults"])
    return (
        f"{number:,} combinations of solver, SDE, steps ({_ranges(report['sweep'])}), ending and precision: "
        f"{f'{broken} broken' if broken else 'finite, with the calls planned'}."
    )


def _ranges(numbers: Sequence[int]) -> str:
    """1, 2, 3, 7 as "1-3, 7"."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return ", ".join(f"{run[0]:,}" if len(run) == 1 else f"{run[0]:,}-{run[-1]:,}" for run in runs)


def _where(report: Record) -> str:
    return ", ".join(dict.fromkeys(record["sde"] for record in report["solvers"][0]["runs"]))


def markdown(report: Record) -> str:
    """The report as a page."""
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    lines = [
        "# Certificates",
        "",
        f"Written by `python benchmarks/certify.py{' --quick' * report['quick']}` with {versions}. "
        "No network and no samples: data whose denoiser is known exactly, in float64; the worst of "
        f"{_where(report)}.",
        "",
        "|" + "|".join(COLUMNS) + "|",
        "|" + "---|" * len(COLUMNS),
        *("|" + "|".join(cell.replace("|", "\\|") for cell in row(one)) + "|" for one in report["solvers"]),
        "",
        "Off: " + "; ".join(report["faults"]) if report["faults"] else "Nothing is off.",
        "",
        _combinations(report),
        "",
        *LEGEND.format(ladder=", ".join(map(str, report["ladder"])), **globals()).strip().splitlines(),
        "",
        "No identity: " + "; ".join(f"`{name}`, {why}" for name, why in NO_IDENTITY.items()) + ".",
        "",
        "|samples of a network that predicts|" + "|".join(PREDICTIONS) + "|",
        "|" + "---|" * (1 + len(PREDICTIONS)),
        *(
            f"|{sde}|" + "|".join(f"{values[p]:.0e}" for p in PREDICTIONS) + "|"
            for sde, values in report["predictions"].items()
        ),
        "",
        "Relative differences to the exact denoiser's samples.",
    ]
    return "\n".join(lines) + "\n"


LEGEND = """
- **order**: claimed; of solvers that draw noise, of their law (weak).
- **measured**: over {ladder} steps, the larger slope of the last two doublings at which the relative error is
  above {FLOOR:g}, with more doublings, up to {LONGEST} steps, while it is less than the claim by more than
  {BELOW:g}, which fails, or more than it by {BEYOND:g}. On the probability-flow ODE of a mixture of three
  normal distributions against a reference to 1e-12, or, weak, of mean and deviation on normal data. *On*: the
  SDE, with equal steps in lambda or Karras's, where it is least.
- **law**: the order of mean and deviation on normal data, exact by carrying the factors of every draw.
- **error**: that which *measured* is the slope of, at 160 steps. By tolerance: at a thousandth of the
  solver's own.
- **identity**: if all data is one point, how far the end is from it, over several grids, both endings and any
  number of steps; at most {EXACT:g}. Solvers without it: the order of that error.
- **calls**: network calls counted; kept, as planned and within budgets of 5, 10, 20 and 50. *from n*: the
  smallest of these budgets that it can do with.
- **amplif.**: the largest sum of absolute weights on network outputs at 10 calls: what their errors grow by.
- **float32**: the largest difference to float64, from the same start and noise, relative to the end, of runs
  of {FEW} steps and more; at most {ROUNDING:g}, however many. With fewer, at most that and 9 times the law's
  error, so that the error in float32 is at most 10 times that in float64 and {ROUNDING:g}.
"""


if __name__ == "__main__":
    sys.exit(main())
