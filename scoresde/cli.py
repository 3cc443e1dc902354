"""The ``scoresde`` command: train a network, and draw samples from it."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from .checkpoint import TRAINING, load_training, save_training, write_atomically
from .configuration import Configuration, read_configuration
from .data import load_data
from .training import Progress, start, train
from .training.trainer import check_labels


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; bad input is one line on stderr and 2."""
    parser = argparse.ArgumentParser("scoresde", description="Train score networks and draw samples from them.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser("train", help="train a network by denoising score matching")
    command.add_argument("--config", type=Path, required=True, metavar="FILE", help="TOML file, such as configs/digits.toml")
    command.add_argument("--out", type=Path, metavar="FOLDER", help="where to write; default runs/NAME of the file")
    command.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out, if there is one")
    command.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    command.add_argument("--save-every", type=int, default=500, metavar="STEPS", help="between checkpoints; default 500")
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    command.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="put over the file, such as schedule.steps=100")
    command.set_defaults(run=_train)

    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, FloatingPointError) as error:
        print(f"scoresde: {error}", file=sys.stderr)
        return 2
    return 0


def _train(options: argparse.Namespace) -> None:
    configuration = read_configuration(options.config, options.overrides)
    folder = options.out or Path("runs") / options.config.stem
    if options.save_every < 1:
        raise ValueError(f"--save-every must be at least 1, got {options.save_every}")
    if (folder / TRAINING).exists() and not options.resume:
        raise ValueError(f"{folder} holds a training run; go on with --resume, or name another --out")
    denoiser = configuration.make_denoiser()
    times, weighting = configuration.make_times(), configuration.make_weighting()
    data = load_data(**configuration.data.model_dump())
    check_labels(denoiser.net, data.x, data.labels)
    if (folder / TRAINING).exists():
        state = load_training(folder, configuration)
    else:
        state = start(denoiser, configuration.schedule)
    state.denoiser.to(options.device)
    state.average.to(options.device)
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
                save_training(folder, configuration, state)


class _Log:
    """The losses of a run, a JSON line each; one that goes on forgets what came after its checkpoint."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.lines = path.read_text().splitlines()[:step] if path.exists() else []
        self.mean = 0.0

    def add(self, progress: Progress) -> None:
        self.lines.append(json.dumps(progress._asdict()))
        self.mean = progress.loss if len(self.lines) == 1 or not self.mean else 0.98 * self.mean + 0.02 * progress.loss

    def write(self) -> None:
        write_atomically(self.path, ("\n".join(self.lines) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main())
