"""Compare solvers by steps, quality and seconds: ``python benchmarks/run.py --solver dpm2 --nfe 20``.

Draws the same samples, from the same noise, with every solver, spacing and number of network calls asked for;
writes a JSON line and a picture of samples for each and the curves of them all, and prints a table.
"""

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import torch
from plot import draw_curves, draw_samples, print_table
from problems import FEATURES, PROBLEMS, Problem, make_problem
from records import append, dtype_of, key_of, prepare_networks
from stopwatch import Timed, device_name, peak_memory_mb, reset_peak_memory, synchronise
from torch import Tensor
from tqdm import tqdm

from scoresde.adaptive import PerSample
from scoresde.blackbox import Run, SciPy
from scoresde.configuration import SDES, device_of, exact_float32
from scoresde.files import read_tensors, write_atomically, write_tensors
from scoresde.fingerprint import check_made_for
from scoresde.metrics import feature_moments, frechet_distance
from scoresde.noise import Noise
from scoresde.plan import Plan
from scoresde.sampling import Denoises, prepare, sample
from scoresde.solvers import SOLVERS
from scoresde.spacings import SPACINGS, Spacing, spacing_of, uniform_lam
from scoresde.tuned import is_tuned, tuned_plan

SHOWN = 100  # samples in a picture
OWN = "own"  # spacing of a tuned plan


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; bad input is one line on stderr and 2."""
    options = _parser().parse_args(arguments)
    try:
        records = run(options)
    except (ValueError, TypeError, OSError, RuntimeError) as error:  # the last: a budget was too small
        print(f"run.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print_table(records)
    draw_curves(records, options.out)
    print(f"\nJSON lines and pictures: {options.out}/")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("run.py", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add(
        "--solver",
        nargs="+",
        default=["dpm2"],
        metavar="NAME",
        help=f"with options name:key=value; all, tuned, tuned:FILE.json, or {', '.join(SOLVERS)}; "
        "a tuned plan has its own spacing",
    )
    add("--nfe", nargs="+", type=int, default=[20], metavar="N", help="budgets of network calls")
    add("--spacing", nargs="+", default=["karras"], metavar="NAME", help=", ".join(SPACINGS))
    add("--sde", default="edm", metavar="NAME", help=", ".join(SDES))
    add("--problem", default="mnist", metavar="NAME", help=", ".join(PROBLEMS))
    add("--to-clean", action="store_true", help="a last step to sigma = 0, within the budget")
    add(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="a network of scoresde train, in place of the one that ships",
    )
    add("--n-samples", type=int, default=1000, metavar="N", help="default 1000")
    add("--batch-size", type=int, default=250, metavar="N", help="default 250")
    add("--device", default="cpu", help="cpu, cuda, ...")
    add(
        "--dtype",
        default="float32",
        metavar="TYPE",
        help="the network's: float32, bfloat16, or float64 for all",
    )
    add("--compile", action="store_true", help="compile the network first (torch.compile)")
    add("--seed", type=int, default=0)
    add("--features", metavar="NAME", help=f"{', '.join(FEATURES)}; default, the problem's own")
    add("--inception-weights", type=Path, metavar="FILE", help="for --features inception")
    add("--data", type=Path, metavar="PATH", help="training images, for features that bring no statistics")
    add(
        "--converged",
        type=int,
        metavar="N",
        help="network calls of the converged run; default, the problem's own",
    )
    add("--out", type=Path, default=Path("results"), metavar="FOLDER", help="default results/")
    add("--quiet", action="store_true", help="no progress bar")
    return parser


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every run that the options ask for; a record each, written as soon as it is there.

    Raises:
        ValueError, TypeError, OSError: an option that cannot be, before anything is sampled or written.
    """
    for name in ("n_samples", "batch_size"):
        if getattr(options, name) < 2:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 2, got {getattr(options, name)}")
    device, dtype = device_of(options.device), dtype_of(options.dtype)
    exact_float32()
    state = torch.float64 if dtype == torch.float64 else torch.float32
    problem = make_problem(
        options.problem,
        options.sde,
        options.checkpoint,
        None if dtype == torch.float32 else dtype,
        options.features,
        options.inception_weights,
        options.data,
    )
    spacings = {spec: spacing_of(spec) for spec in options.spacing}
    asked = _asked(options, problem.denoiser, spacings)
    _check_writable(options.out)

    prepare_networks(problem, device, dtype, options.compile)
    batches = -(-options.n_samples // options.batch_size)
    calls = options.converged or problem.converged
    total = batches * (
        calls + sum(nfe if planned.nfe is None else planned.nfe for _, _, nfe, planned in asked)
    )
    records = []
    with tqdm(total=total, unit="call", smoothing=0.1, disable=options.quiet) as bar:
        denoiser = Timed(problem.denoiser, device, bar.update)

        def draw(run: Plan | Run) -> tuple[Tensor, list[float], list[float]]:
            return _draw(problem, denoiser, options, device, state, run)

        bar.set_description("converged")
        key = key_of(problem, options, calls)
        kept = options.out / f"converged-{key}.safetensors"
        if kept.exists():
            exact = read_tensors(kept)[0]["x"]
            bar.update(batches * calls)
        else:
            exact, _, _ = draw(prepare("dpmpp-3m", denoiser.sde, calls, uniform_lam))
            write_tensors(kept, {"x": exact})
        exact_moments = feature_moments(problem.features.of, exact)

        for solver, spec, nfe, planned in asked:
            bar.set_description(f"{solver} {nfe}")
            denoiser.calls = denoiser.evaluations = 0
            reset_peak_memory(device)
            x, seconds, network_seconds = draw(planned)
            memory = peak_memory_mb(device)
            moments = feature_moments(problem.features.of, x)
            steady = [
                s for s, n in zip(seconds, _sizes(options), strict=True) if n == options.batch_size
            ] or seconds
            record = {
                "solver": solver,
                "sde": options.sde,
                "spacing": spec,
                "to_clean": options.to_clean,
                "problem": problem.name,
                "nfe_requested": nfe,
                "nfe": _whole(denoiser.evaluations / options.n_samples),
                "rounds": _whole(denoiser.calls / batches),
                "n_samples": options.n_samples,
                "batch_size": options.batch_size,
                "fd": frechet_distance(moments, problem.data),
                "fd_features": f"{problem.features.name}@{_thousands(options.n_samples)}",
                "fd_reference": frechet_distance(moments, exact_moments),
                "fd_converged": frechet_distance(exact_moments, problem.data),
                "fd_held_out": problem.held_out and problem.held_out[0],
                "held_out_count": problem.held_out and problem.held_out[1],
                "rmse_to_converged": None
                if planned.stochastic
                else (x - exact).square().mean().sqrt().item(),
                "converged_nfe": calls,
                "amplification": planned.amplification if isinstance(planned, Plan) else None,
                "seconds": sum(seconds),
                "seconds_network": sum(network_seconds),
                "seconds_per_1k_samples": statistics.median(steady)
                / min(options.batch_size, options.n_samples)
                * 1000,
                "peak_memory_mb": memory,
                "device": str(device),
                "device_name": device_name(device),
                "dtype": options.dtype,
                "compiled": options.compile,
                "seed": options.seed,
                "checkpoint": str(options.checkpoint or "shipped"),
                "versions": {
                    "scoresde": version("scoresde"),
                    "torch": torch.__version__,
                    "python": platform.python_version(),
                },
            }
            records.append(record)
            append(options.out / "results.jsonl", record)
            name = f"samples-{problem.name}-{options.sde}-{_plain(solver)}-{_plain(spec)}-{nfe}.png"
            draw_samples(x[:SHOWN], options.out / name, f"{solver}, {record['nfe']:g} network calls")
    return records


def _asked(
    options: argparse.Namespace, denoiser: Denoises, spacings: Mapping[str, Spacing]
) -> list[tuple[str, str, int, Plan | Run]]:
    """Solver, spacing, budget and run. Of "all", those that cannot keep to a budget are left out with a word,
    and those that stop at a tolerance run once, whatever their calls."""
    every = options.solver == ["all"]
    asked: list[tuple[str, str, int, Plan | Run]] = []
    for solver, spec, nfe in product(SOLVERS if every else options.solver, options.spacing, options.nfe):
        if is_tuned(solver):
            if spec == options.spacing[0]:
                asked.append((solver, OWN, nfe, _tuned(options, solver, nfe, denoiser)))
            continue
        tolerant = every and isinstance(SOLVERS[solver], PerSample | SciPy)
        if tolerant and nfe != max(options.nfe):
            continue
        try:
            budget = None if tolerant else nfe
            planned = prepare(solver, denoiser.sde, budget, spacings[spec], to_clean=options.to_clean)
        except ValueError as error:
            if not every:
                raise ValueError(f"--solver {solver} --nfe {nfe}: {error}") from None
            print(f"left out: {solver} at {nfe} calls: {error}", file=sys.stderr)
            continue
        asked.append((solver, spec, nfe, planned))
    return asked


def _tuned(options: argparse.Namespace, name: str, nfe: int, denoiser: Denoises) -> Plan:
    """A tuned plan, checked against the network here, for what is run with is one that is timed."""
    try:
        plan = tuned_plan(name, denoiser.sde, nfe, to_clean=options.to_clean)
    except ValueError as error:
        raise ValueError(f"--solver {name} --nfe {nfe}: {error}") from None
    check_made_for(plan, denoiser)
    return replace(plan, about=None)


def _whole(number: float) -> float:
    return int(number) if number.is_integer() else number


def _draw(
    problem: Problem,
    denoiser: Timed,
    options: argparse.Namespace,
    device: torch.device,
    dtype: torch.dtype,
    run: Plan | Run,
) -> tuple[Tensor, list[float], list[float]]:
    """All samples of a run on the host, and the seconds of each batch, in all and in the network."""
    samples, seconds, network_seconds = [], [], []
    first = 0
    for n in _sizes(options):
        ids = torch.arange(first, first + n)
        cond = problem.labels(ids) if problem.labels else None
        if not first:
            _warm_up(problem, denoiser, ids, cond, device, dtype)
        denoiser.seconds()
        begin = time.perf_counter()
        x = sample(
            denoiser,
            run,
            (n, *problem.shape),
            seed=options.seed,
            ids=ids,
            cond=cond,
            device=device,
            dtype=dtype,
        )
        synchronise(device)
        seconds.append(time.perf_counter() - begin)
        network_seconds.append(denoiser.seconds())
        samples.append(x.cpu())
        first += n
    return torch.cat(samples), seconds, network_seconds


def _warm_up(
    problem: Problem,
    denoiser: Timed,
    ids: Tensor,
    cond: Tensor | None,
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    """One network call that no figure counts: threads, caches and compilation are ready after it."""
    level = prepare("ddim", denoiser.sde, 1).start
    x = level.sigma * Noise(0, ids.to(device), problem.shape)(0).to(dtype)
    with torch.no_grad():
        denoiser.denoiser(x, level, None if cond is None else cond.to(device))
    synchronise(device)


def _sizes(options: argparse.Namespace) -> list[int]:
    whole, rest = divmod(options.n_samples, options.batch_size)
    return [options.batch_size] * whole + [rest] * bool(rest)


def _check_writable(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / ".writable"
    write_atomically(probe, b"")
    probe.unlink()


def _thousands(n: int) -> str:
    return f"{n // 1000}k" if n % 1000 == 0 else str(n)


def _plain(spec: str) -> str:
    return "".join(c if c.isalnum() or c in "-.=" else "-" for c in spec)


if __name__ == "__main__":
    sys.exit(main())
