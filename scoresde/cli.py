"""The ``scoresde`` command: train a network, draw samples from it, and tune solvers to it."""

import argparse
import copy
import json
import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from .checkpoint import TRAINING, load_denoiser, load_training, save_training
from .command import guarded
from .configuration import SDES, device_of, exact_float32, read_configuration
from .data import load_data
from .data.pictures import save_grid, save_image
from .denoiser import Denoiser, Transported
from .files import write_atomically
from .fingerprint import fingerprint
from .metrics import to_uint8
from .plan import Plan
from .pretrained import FOLDERS
from .registry import make
from .sampling import sample
from .solvers import SOLVERS
from .spacings import SPACINGS, spacing_of
from .training import Progress, Times, Weighting, start, train
from .training.trainer import check_labels, module, to_float
from .tuned import is_tuned
from .tuning import Report, Settings, tune
from .tuning.picture import draw
from .tuning.tune import check_budget


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; bad input is one line on stderr and 2."""
    parser = argparse.ArgumentParser(
        "scoresde", description="Train score networks, draw samples, tune solvers."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser("train", help="train a network by denoising score matching")
    add = command.add_argument
    add("--config", type=Path, required=True, metavar="FILE", help="TOML file, such as configs/digits.toml")
    add("--out", type=Path, metavar="FOLDER", help="where to write; default runs/NAME of the file")
    add("--init", type=Path, metavar="FILE", help="begin with the weights of another run's network")
    add("--compile", action="store_true", help="compile the network first (torch.compile)")
    add("--resume", action="store_true", help="go on from the checkpoint in --out, if there is one")
    add("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    add("--save-every", type=int, default=500, metavar="STEPS", help="between checkpoints; default 500")
    add("--quiet", action="store_true", help="no progress bar")
    add("overrides", nargs="*", metavar="KEY=VALUE", help="put over the file, such as schedule.steps=100")
    command.set_defaults(run=_train)

    command = commands.add_parser("sample", help="draw samples from a trained network")
    add = command.add_argument
    add(
        "--checkpoint", default="mnist", metavar="FILE", help="of a training run; default, the one that ships"
    )
    add(
        "--solver",
        default="dpmpp-2m",
        metavar="NAME",
        help=f"with options name:key=value; tuned, tuned:FILE.json, {', '.join(SOLVERS)}",
    )
    add("--nfe", type=int, metavar="N", help="budget of network calls; default 20, or a tuned plan's own")
    add("--n", type=int, default=64, metavar="N", help="number of samples; default 64")
    add("--out", type=Path, default=Path("samples"), metavar="FOLDER", help="default samples/")
    add("--sde", metavar="NAME", help=f"default, the network's own; {', '.join(SDES)}")
    add(
        "--spacing",
        metavar="NAME",
        help=f"default karras, or a tuned plan's own; {', '.join(SPACINGS)}",
    )
    add("--to-clean", action="store_true", help="a last step to sigma = 0, within the budget")
    add(
        "--label",
        type=int,
        nargs="+",
        metavar="K",
        help="classes, repeated over the samples; default, each in turn",
    )
    add("--seed", type=int, default=0, help="of the noise; default 0")
    add("--first", type=int, default=0, metavar="ID", help="number of the first sample; default 0")
    add("--batch-size", type=int, default=256, metavar="N", help="samples at a time; default 256")
    add("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    add("--quiet", action="store_true", help="no progress bar")
    command.set_defaults(run=_sample)

    command = commands.add_parser("tune", help="fit solvers to a trained network, for a few network calls")
    add = command.add_argument
    add(
        "--checkpoint", default="mnist", metavar="FILE", help="of a training run; default, the one that ships"
    )
    add("--nfe", type=int, nargs="+", default=[4, 5, 6, 8, 10], metavar="N", help="default 4 5 6 8 10")
    add("--out", type=Path, default=Path("tuned"), metavar="FOLDER", help="default tuned/")
    add("--sde", metavar="NAME", help=f"default, the network's own; {', '.join(SDES)}")
    add("--label", type=int, nargs="+", metavar="K", help="classes to tune for; default, all alike")
    add("--samples", type=int, default=256, metavar="N", help="noises of the fit; default 256")
    add("--held-out", type=int, default=1024, metavar="N", help="noises that decide; default 1024")
    add("--starts", type=int, default=4, metavar="N", help="stock solvers to fit from; default 4")
    add("--finalists", type=int, default=1, metavar="N", help="of these, to fit to the end; default 1")
    add("--gamma", type=float, default=0.2, help="weight of the bands of energies; default 0.2")
    add("--seed", type=int, default=0, help="of the noises; default 0")
    add("--batch-size", type=int, default=128, metavar="N", help="samples at a time; default 128")
    precisions = ("float32", "bfloat16", "float16")
    add("--dtype", default="float32", choices=precisions, help="the network's, that is tuned for")
    add("--draft-dtype", choices=precisions, help="the network's in the race; default, that of --dtype")
    add("--compile", action="store_true", help="compile the network first (torch.compile)")
    add("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    add("--quiet", action="store_true", help="no progress bar")
    command.set_defaults(run=_tune)

    options = parser.parse_args(arguments)
    return guarded("scoresde", lambda: options.run(options))


def _train(options: argparse.Namespace) -> None:
    configuration = read_configuration(options.config, options.overrides)
    folder = options.out or Path("runs") / options.config.stem
    if options.save_every < 1:
        raise ValueError(f"--save-every must be at least 1, got {options.save_every}")
    if (folder / TRAINING).exists() and not options.resume:
        raise ValueError(f"{folder} holds a training run; go on with --resume, or name another --out")
    device = device_of(options.device)
    denoiser = configuration.make_denoiser()
    times, weighting = configuration.make_times(), configuration.make_weighting()
    data = load_data(**configuration.data.model_dump())
    check_labels(denoiser.net, data.x, data.labels)
    if options.init:
        _take_weights(denoiser, options.init)
    _try(denoiser, data.x, times, weighting)
    if (folder / TRAINING).exists():
        state = load_training(folder, configuration, device)
    else:
        state = start(denoiser.to(device), configuration.schedule)
    if options.compile:
        module(state.denoiser).compile()
    write_atomically(folder / "configuration.json", configuration.model_dump_json(indent=2).encode())
    log = _Log(folder / "loss.jsonl", state.step)
    steps = configuration.schedule.steps
    with tqdm(total=steps, initial=state.step, desc="training", unit="step", disable=options.quiet) as bar:
        for progress in train(
            state,
            data.x,
            data.labels,
            schedule=configuration.schedule,
            times=times,
            weighting=weighting,
            seed=configuration.seed,
        ):
            log.add(progress)
            bar.set_postfix(loss=f"{log.mean:.4f}", skipped=progress.skipped, refresh=False)
            bar.update()
            if progress.step % options.save_every == 0 or progress.step == steps:
                log.write()
                save_training(folder, configuration, state, data.x.shape[1:])


def _take_weights(denoiser: Denoiser, path: Path) -> None:
    """Put the weights of a trained network into another of the same make."""
    try:
        module(denoiser).load_state_dict(module(load_denoiser(path).denoiser).state_dict())
    except RuntimeError as error:
        raise ValueError(f"--init {path} is another network than the configuration's: {error}") from None


def _sample(options: argparse.Namespace) -> None:
    if options.n < 1 or options.first < 0:
        raise ValueError(
            f"--n must be at least 1 and --first not negative, got {options.n} and {options.first}"
        )
    device = device_of(options.device)
    denoiser, shape = _load(options.checkpoint, options.sde)
    own = is_tuned(options.solver)
    spacing = options.spacing or (None if own else "karras")
    ids = torch.arange(options.first, options.first + options.n)
    x = sample(
        denoiser.to(device),
        options.solver,
        (options.n, *shape),
        nfe=20 if options.nfe is None and not own else options.nfe,
        spacing=None if spacing is None else spacing_of(spacing),
        to_clean=options.to_clean,
        seed=options.seed,
        ids=ids,
        cond=_labels(options.label, getattr(denoiser.net, "classes", 0), ids),
        batch_size=options.batch_size,
        device=device,
        progress=not options.quiet,
    ).cpu()
    if x.ndim == 4:
        save_grid(options.out / "grid.png", x[:256])
        for number, image in zip(ids.tolist(), to_uint8(x), strict=True):
            save_image(options.out / f"{number:06d}.png", image)
    else:
        write_atomically(options.out / "samples.json", json.dumps(x.tolist()).encode())
    print(f"{options.n} samples: {options.out}/")


def _tune(options: argparse.Namespace) -> None:
    if options.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {options.batch_size}")
    settings = Settings(
        samples=options.samples,
        held_out=options.held_out,
        starts=options.starts,
        finalists=options.finalists,
        gamma=options.gamma,
    )
    for nfe in options.nfe:
        check_budget(nfe, settings)
    device = device_of(options.device)
    exact_float32()  # a fit is made of small differences
    denoiser, shape = _load(options.checkpoint, options.sde, getattr(torch, options.dtype))
    denoiser.to(device)
    classes = getattr(denoiser.net, "classes", 0)
    cond = _labels(options.label, classes, torch.arange(len(options.label or range(classes))))
    if options.compile and isinstance(denoiser.net, torch.nn.Module):
        denoiser.net.compile(dynamic=False, options={"freezing": True})
    draft = None
    if options.draft_dtype not in (None, options.dtype):
        draft = _at_precision(denoiser, getattr(torch, options.draft_dtype))
    state = options.out / "state"
    made_for = fingerprint(denoiser) | {"seed": options.seed}
    for nfe in sorted(set(options.nfe), reverse=True):  # the teacher of the largest serves all
        file, kept = options.out / f"tuned-{nfe}.json", options.out / f"report-{nfe}.json"
        if kept.exists():  # written last
            about = Plan.load(file).about or {}
            if any(about.get(key) != value for key, value in made_for.items()):
                raise ValueError(f"{file} is of another tuning; remove it and {kept}, or name another --out")
            print(f"{file} is there already\n{Report.load(kept)}\n")
            continue
        plan, report = tune(
            denoiser,
            nfe,
            shape,
            cond=cond,
            seed=options.seed,
            settings=settings,
            batch_size=options.batch_size,
            device=device,
            draft=draft,
            state=state,
            progress=not options.quiet,
        )
        plan.save(file)
        try:
            draw(options.out / f"tuned-{nfe}.png", denoiser, plan, report, shape, cond, device)
        except ImportError:
            print("scoresde: no picture, for matplotlib is not installed", file=sys.stderr)
        report.save(kept)
        print(f"{file}\n{report}\n")
    shutil.rmtree(state, ignore_errors=True)


def _load(
    checkpoint: str, sde: str | None, dtype: torch.dtype | None = None
) -> tuple[Denoiser | Transported, tuple[int, ...]]:
    """A network by name or file, under its own SDE or another, and the shape of one sample."""
    shipped = checkpoint in FOLDERS and not Path(checkpoint).exists()
    trained = load_denoiser(FOLDERS[checkpoint] if shipped else Path(checkpoint))
    own = trained.denoiser
    own.dtype = dtype
    denoiser = Transported(own, make("SDE", sde, SDES, {})) if sde else own
    return denoiser, trained.shape


def _at_precision(denoiser: Denoiser | Transported, dtype: torch.dtype) -> Denoiser | Transported:
    """The same network, by reference, at another precision."""
    trained = denoiser.denoiser if isinstance(denoiser, Transported) else denoiser
    twin = copy.copy(trained)
    twin.dtype = dtype
    return Transported(twin, denoiser.sde) if isinstance(denoiser, Transported) else twin


def _labels(given: list[int] | None, classes: int, ids: Tensor) -> Tensor | None:
    """The labels asked for, or each class in turn, by the numbers of the samples."""
    if given is not None and not classes:
        raise ValueError("--label was given, but the network has no classes")
    if not classes:
        return None
    labels = torch.tensor(given if given is not None else range(classes))
    return labels[ids % len(labels)]


@torch.no_grad()
def _try(denoiser: Denoiser, x: Tensor, times: Times, weighting: Weighting) -> None:
    """The loss of one sample, so that parts that do not fit together are known before anything is written."""
    t, _ = times(denoiser.sde, torch.full((1,), 0.5, dtype=torch.float64))
    weighting(denoiser, denoiser.sde.level(t))
    x0 = to_float(x[:1])
    denoiser.eval().loss(x0, t, torch.zeros_like(x0))


class _Log:
    """The losses of a run, a JSON line each; one that goes on forgets what came after its checkpoint."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.lines = path.read_text().splitlines()[:step] if path.exists() else []
        self.mean = 0.0

    def add(self, progress: Progress) -> None:
        # JSON has no NaN: null at a step that was skipped.
        finite = {k: v if math.isfinite(v) else None for k, v in progress._asdict().items()}
        self.lines.append(json.dumps(finite))
        if math.isfinite(progress.loss):
            self.mean = 0.98 * self.mean + 0.02 * progress.loss if self.mean else progress.loss

    def write(self) -> None:
        write_atomically(self.path, ("\n".join(self.lines) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main())
