"""``scoresde train``: train a network on your own data, and measure its levels."""

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ..command import interrupt_noted
from ..data.pixels import to_float
from ..data.sources import Data, load_data
from ..denoisers.network import Denoiser
from ..denoisers.predictions import Prediction
from ..devices import device_of, exact_float32
from ..files import locked, write_atomically
from ..sampling.checks import check_prediction
from ..sampling.prepare import prepare
from ..training.checkpoint import (
    TRAINING,
    data_hash,
    load_denoiser,
    load_training,
    save_training,
    take_weights,
)
from ..training.configuration import CONFIGURATIONS, Configuration, configuration_file, read_configuration
from ..training.data_scale import deviation
from ..training.labels import check_labels, in_proportion, labels_of
from ..training.levels import are_of, levels_file, load_levels
from ..training.loop import train
from ..training.savable import check_savable
from ..training.state import Progress, TrainingState, module, start
from ..training.time_sampling import TimeSampling
from ..training.weighting import Weighting
from ..tuning.measured_levels import measured
from .measure import table, write
from .options import add_compile, add_machine, integer_from
from .shared import say

CONDITIONS = 1000  # more than the noises of a measurement


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of ``scoresde train``."""
    add = command.add_argument
    add(
        "--config",
        required=True,
        metavar="FILE",
        help="TOML file, for example configs/digits.toml, or the name of an included one: "
        f"{', '.join(CONFIGURATIONS)}",
    )
    add(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="output folder; default: runs/NAME, with the name of the configuration file",
    )
    add(
        "--init",
        type=Path,
        metavar="FILE",
        help="start from the weights of this training run (file or folder)",
    )
    add("--resume", action="store_true", help="continue from the checkpoint in --out, if there is one")
    every = "steps between checkpoints; default 500"
    add("--save-every", type=integer_from(1), default=500, metavar="STEPS", help=every)
    add_compile(add)
    add_machine(add)
    add(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="replaces a value of the file, for example optimization.steps=100",
    )


def run(options: argparse.Namespace) -> None:
    """Train, from the first step or from a checkpoint."""
    file = configuration_file(options.config)
    configuration = read_configuration(file, options.overrides)
    folder = options.out or Path("runs") / file.stem
    _check_free(folder, resume=options.resume)
    device = device_of(options.device)
    denoiser = configuration.make_denoiser()
    data = load_data(**configuration.data.model_dump(), progress=not options.quiet)
    allow = configuration.optimization.allow_missing_classes
    check_labels(denoiser, data.x, data.labels, allow_missing=allow)
    check_savable(denoiser)
    if options.init:
        take_weights(denoiser, options.init)
    time_sampling, weighting = configuration.make_time_sampling(), configuration.make_weighting()
    _try(denoiser, data.x, time_sampling, weighting)
    say(_about(data, denoiser.prediction, time_sampling, weighting))
    with locked(folder):
        training = _Run(folder, configuration, data, denoiser.to(device), resume=options.resume)
        if options.compile:
            module(training.state.denoiser).compile()
        training.go_on(options.save_every, progress=not options.quiet)
        training.measure(device, progress=not options.quiet)
    say(f"{folder}/: {training.state.step} steps; next: scoresde sample --checkpoint {folder}")


def _check_free(folder: Path, *, resume: bool) -> None:
    if (folder / TRAINING).exists() and not resume:
        raise ValueError(f"{folder} holds a training run; go on with --resume, or name another --out")


@torch.no_grad()
def _try(denoiser: Denoiser, x: Tensor, time_sampling: TimeSampling, weighting: Weighting) -> None:
    """Compute the loss of one sample and a plan: parts that do not fit together fail before writing."""
    t, _ = time_sampling(denoiser.sde, torch.full((1,), 0.5, dtype=torch.float64))
    weighting(denoiser, denoiser.sde.level(t))
    x0 = to_float(x[:1])
    denoiser.eval().loss(x0, t, torch.zeros_like(x0))
    try:
        check_prediction(denoiser, prepare("auto", denoiser.sde, 20))
    except (ValueError, OverflowError) as error:
        clip = f"sde.t_max = {0.999 * denoiser.sde.t_max:.4g} would clip it"
        raise ValueError(
            f"the trained network could not be sampled under {denoiser.sde}: {error}; {clip}"
        ) from None


def _about(data: Data, prediction: Prediction, time_sampling: TimeSampling, weighting: Weighting) -> str:
    """One line on the data, with the settings that should match their deviation."""
    shape = " x ".join(map(str, data.x.shape[1:]))
    settings = (
        ("prediction", prediction, "sigma_data"),
        ("weighting", weighting, "sigma_data"),
        ("time_sampling", time_sampling, "mean"),
    )
    beside = [
        f"{part}.{name} {getattr(made, name):g}" for part, made, name in settings if hasattr(made, name)
    ]
    scale = f"{len(data.x)} samples of {shape}, deviation {deviation(data.x):.4g}"
    return "; ".join([scale, ", ".join(beside)] if beside else [scale])


class _Run:
    """A training run in a folder: its state and its losses, which it writes there at every checkpoint."""

    def __init__(
        self, folder: Path, configuration: Configuration, data: Data, denoiser: Denoiser, *, resume: bool
    ) -> None:
        self.folder, self.configuration, self.data = folder, configuration, data
        self.levels = load_levels(folder)
        self.hash = data_hash(data.x, data.labels)
        if (folder / TRAINING).exists():
            _check_free(folder, resume=resume)  # again: another run may have ended since the first check
            device = next(module(denoiser).parameters()).device
            self.state = load_training(folder, configuration, device, data=self.hash)
        else:
            self.state = start(denoiser, configuration.optimization)
        write_atomically(folder / "configuration.json", configuration.model_dump_json(indent=2).encode())
        self.log = _Log(folder / "loss.jsonl", self.state.step)
        self.saved = self.state.step

    def go_on(self, save_every: int, *, progress: bool) -> None:
        """Train to the last step. After Ctrl-C, save the last complete step, and raise KeyboardInterrupt."""
        try:
            with interrupt_noted() as interrupted:
                self._steps(save_every, interrupted, progress)
        except KeyboardInterrupt:
            if self.state.step > self.saved and is_complete(self.state):
                self._save()
            if not self.saved:
                raise KeyboardInterrupt("interrupted before the first step was saved") from None
            raise KeyboardInterrupt(
                f"interrupted; {self.folder} holds step {self.saved}: go on with --resume"
            ) from None

    def _steps(self, save_every: int, interrupted: Callable[[], bool], progress: bool) -> None:
        state, options = self.state, self.configuration.optimization
        steps = train(
            state,
            self.data.x,
            self.data.labels,
            options=options,
            time_sampling=self.configuration.make_time_sampling(),
            weighting=self.configuration.make_weighting(),
            seed=self.configuration.seed,
        )
        with tqdm(
            total=options.steps, initial=state.step, desc="training", unit="step", disable=not progress
        ) as bar:
            for made in steps:
                self.log.add(made)
                bar.set_postfix(loss=f"{self.log.mean:.4f}", skipped=made.skipped, refresh=False)
                bar.update()
                if made.step % save_every == 0 or made.step == options.steps:
                    self._save()
                if interrupted() and (made.step < options.steps or self.configuration.levels.budgets):
                    raise KeyboardInterrupt

    def measure(self, device: torch.device, *, progress: bool) -> None:
        """Measure the levels of the saved network, unless there are levels of it already.

        What goes wrong here leaves the trained network without levels, and is one line on stderr.
        """
        try:
            if self.configuration.levels.budgets:
                self._measure(load_denoiser(self.folder).denoiser, device, progress)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted; {self.folder} holds the trained network, without measured levels: go on with "
                f"--resume, or measure them by scoresde measure --checkpoint {self.folder}"
            ) from None
        except (ValueError, FloatingPointError) as error:
            print(f"scoresde: no levels were measured: {error}", file=sys.stderr)

    def _measure(self, denoiser: Denoiser, device: torch.device, progress: bool) -> None:
        if self.levels is not None and are_of(self.levels, denoiser):
            return
        x, labels, _ = self.data
        exact_float32()
        levels = measured(
            denoiser.to(device),
            x.shape[1:],
            budgets=self.configuration.levels.budgets,
            cond=None if labels is None else in_proportion(labels, CONDITIONS),
            seed=self.configuration.seed,
            batch_size=self.configuration.optimization.batch_size,
            device=device,
            progress=progress,
        )
        levels = replace(levels, about={**levels.about, "labels": "as in the data"})
        write(levels_file(self.folder), levels, denoiser.sde)
        say(f"{levels_file(self.folder)}\n{table(levels)}")

    def _save(self) -> None:
        self.log.write(self.state.step)
        x, labels, names = self.data
        save_training(
            self.folder,
            self.configuration,
            self.state,
            x.shape[1:],
            labels=labels_of(labels, names),
            data=self.hash,
        )
        self.saved = self.state.step


def is_complete(state: TrainingState) -> bool:
    """Is the last step complete? The optimiser and the average then count as many steps as the state."""
    counts = [int(entry["step"]) for entry in state.optimizer.state.values() if "step" in entry]
    counts.append(int(state.average.n_averaged))
    return all(count == state.step - state.skipped for count in counts)


class _Log:
    """The losses of a run, one JSON line a step. A resumed run drops the lines after its checkpoint."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.lines = path.read_text().splitlines()[:step] if path.exists() else []
        self.mean = 0.0

    def add(self, progress: Progress) -> None:
        # JSON has no NaN: a skipped step has null.
        finite = {k: v if math.isfinite(v) else None for k, v in progress._asdict().items()}
        self.lines.append(json.dumps(finite))
        if math.isfinite(progress.loss):
            self.mean = 0.98 * self.mean + 0.02 * progress.loss if self.mean else progress.loss

    def write(self, step: int) -> None:
        write_atomically(self.path, ("\n".join(self.lines[:step]) + "\n").encode())
