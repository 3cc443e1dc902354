"""Kill processes at random moments: ``python tests/killing.py 40`` counts the kills that left whole files."""

import json
import os
import random
import signal
import sys
import tempfile
import time
from itertools import count
from pathlib import Path

import torch
from small_run import SHAPE, configured, trained

from scoresde.files import BEGUN, locked, read_tensors, write_tensors
from scoresde.training import start
from scoresde.training.checkpoint import MODEL, TRAINING, load_denoiser, load_training, save_training

LONG = configured(optimization={"steps": 100_000})


def run(work, seconds=None):
    """Do some work in a new process. Kill it some seconds after the work reports that it has begun."""
    begun, said = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            work(lambda: os.write(said, b"1"))
            status = 0
        finally:
            os._exit(status)
    os.close(said)
    if seconds is not None:
        assert os.read(begun, 1), "the work ended before it began"
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    os.close(begun)
    _, status = os.waitpid(child, 0)
    assert (os.WTERMSIG(status) == signal.SIGKILL) if seconds is not None else status == 0, status


def write(path, begin, times=None):
    first = read_tensors(path)[1]["number"] + 1 if path.exists() else 0
    for number in count(first) if times is None else range(first, first + times):
        write_tensors(path, {"x": torch.full((100_000,), float(number))}, number=number)
        begin()


def go_on(folder, begin):
    with locked(folder):
        state = load_training(folder, LONG) if (folder / TRAINING).exists() else None
        while True:
            state, _ = trained(LONG, 1, state)
            begin()
            save_training(folder, LONG, state, SHAPE)


def kill_writers(folder, kills, numbers):
    """Count the kills of a writer that left a whole file, and the kills during a write."""
    path, whole, litter, last = folder / "file", 0, 0, -1
    for _ in range(kills):
        run(lambda begin: write(path, begin), numbers.uniform(0, 0.1))
        litter += any(folder.glob(f"{BEGUN}*"))
        tensors, header = read_tensors(path)
        whole += bool((tensors["x"] == header["number"]).all()) and header["number"] > last
        last = header["number"]
    run(lambda begin: write(path, begin, 1))
    assert [file.name for file in folder.iterdir()] == ["file"], "files of killed writers were not removed"
    return whole, litter


def kill_trainings(folder, kills, numbers):
    """Count the kills that left a training which can continue; at the end, check its bits."""
    whole, last = 0, 0
    for _ in range(kills):
        run(lambda begin: go_on(folder, begin), numbers.uniform(0, 0.4))
        step = read_tensors(folder / TRAINING)[1]["step"] if (folder / TRAINING).exists() else 0
        if step:
            load_denoiser(folder)
            whole += load_training(folder, LONG).step == step >= last
            whole -= not 0 <= read_tensors(folder / MODEL)[1]["step"] - step <= 1
        else:
            whole += last == 0  # killed before the first was saved
        last = step
    straight, _ = trained(LONG, last)
    ended = load_training(folder, LONG)
    for one, other in ((straight.denoiser, ended.denoiser), (straight.average, ended.average)):
        expected = one.state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in other.state_dict().items())
    return whole, last


def main(kills, seed=0):
    numbers = random.Random(seed)
    start(LONG.make_denoiser(), LONG.optimization)  # imports, once for all processes
    with tempfile.TemporaryDirectory() as folder:
        files, runs = Path(folder) / "files", Path(folder) / "runs"
        files.mkdir()
        writers, litter = kill_writers(files, kills, numbers)
        trainings, steps = kill_trainings(runs, kills, numbers)
    print(json.dumps({"writers": writers, "litter": litter, "trainings": trainings, "steps": steps}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
