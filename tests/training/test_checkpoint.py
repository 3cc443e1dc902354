"""Files of a training run: damaged ones, interrupted writes, and a run that is killed and goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_run import SHAPE, configured, trained
from torch import nn

from scoresde import files
from scoresde.cli.main import main
from scoresde.files import read_tensors, write_atomically, write_tensors
from scoresde.networks import NETWORKS
from scoresde.training.checkpoint import MODEL, TRAINING, load_denoiser, load_training, save_training

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    configuration, folder = configured(), tmp_path_factory.mktemp("saved")
    save_training(folder, configuration, trained(configuration, 3)[0], SHAPE)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """The files of a run that was saved after 3 steps, to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "folder"))


# ------------------------------------------------------------------------------------- damaged files


def cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


def flip_header(path):
    content = bytearray(path.read_bytes())
    content[20] ^= 0xFF
    path.write_bytes(bytes(content))


SOME = {"weight": torch.ones(2)}

DAMAGES = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut in its header": lambda path: cut(path, 0.001),
    "cut in half": lambda path: cut(path, 0.5),
    "cut by a byte": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer by a byte": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "of another header": flip_header,
    "a pickle": lambda path: torch.save(SOME, path),
    "text": lambda path: path.write_text("weights"),
    "foreign": lambda path: save_file(SOME, path),
    "foreign, with a header": lambda path: save_file(SOME, path, {"format": "pt"}),
    "foreign, with a header of JSON": lambda path: save_file(SOME, path, {"step": "3"}),
    "of a configuration that is none": lambda path: save_file(SOME, path, {"configuration": "[1]"}),
    "of an unknown configuration": lambda path: save_file(SOME, path, {"configuration": '{"net": 1}'}),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_file_is_refused_by_its_path(folder, damage):
    model, training = folder / MODEL, folder / TRAINING
    damage(model)
    damage(training)
    for given in (model, str(model)):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - what it must name follows
            load_denoiser(given)
        assert str(model) in str(caught.value)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        load_training(folder, configured())
    assert str(training) in str(caught.value)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        load_denoiser(tmp_path)


@pytest.mark.parametrize("kind", [MODEL, TRAINING])
def test_tensors_that_do_not_fit_their_own_configuration_are_refused(folder, kind):
    tensors, header = read_tensors(folder / kind)
    del tensors[next(name for name in tensors if "enter" in name)]
    write_tensors(folder / kind, tensors, **header)
    with pytest.raises(
        ValueError, match=rf"{kind} does not fit its own configuration: \S*enter\S* is missing$"
    ):
        load_denoiser(folder) if kind == MODEL else load_training(folder, configured())


@pytest.mark.parametrize("shape", [None, [], [1, 0, 8], [1, "8", 8]], ids=str)
def test_a_model_that_does_not_say_the_shape_of_its_samples_is_refused(folder, shape):
    tensors, header = read_tensors(folder / MODEL)
    del header["shape"]
    write_tensors(folder / MODEL, tensors, **header | ({} if shape is None else {"shape": shape}))
    with pytest.raises(ValueError, match=f"{MODEL} does not say the shape of its samples"):
        load_denoiser(folder)


def test_the_model_file_is_no_training_file(folder):
    (folder / MODEL).replace(folder / TRAINING)
    with pytest.raises(ValueError, match=f"{TRAINING} does not fit its own configuration"):
        load_training(folder, configured())


# ------------------------------------------------------------------------------------- writing


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_not_written_and_the_old_file_stays(tmp_path, bad):
    path = tmp_path / "file.safetensors"
    write_tensors(path, {"good": torch.ones(3)}, step=1)
    before = files_of(tmp_path)
    tensors = {"good": torch.zeros(3), "bad": torch.tensor([1.0, bad])}
    with pytest.raises(FloatingPointError, match=r"file.safetensors was not written: bad not finite"):
        write_tensors(path, tensors, step=2)
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_midway_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call):
    path = tmp_path / "file.safetensors"
    write_tensors(path, {"good": torch.ones(3)}, step=1)
    before = files_of(tmp_path)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, call, fail)
    with pytest.raises(OSError, match="No space left"):
        write_tensors(path, {"good": torch.zeros(3)}, step=2)
    monkeypatch.undo()
    assert files_of(tmp_path) == before
    write_atomically(path, b"new")
    assert files_of(tmp_path) == {"file.safetensors": b"new"}


def test_the_old_file_is_whole_until_the_new_one_is(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    seen = []

    def look(*_):
        seen.append(path.read_bytes())

    monkeypatch.setattr(files.os, "fsync", look)  # when all of the new content is written
    write_atomically(path, b"new")
    assert seen == [b"old"]
    assert path.read_bytes() == b"new"


def test_a_folder_is_made_for_a_file(tmp_path):
    write_atomically(tmp_path / "a" / "b" / "file", b"content")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"content"


def test_tensors_and_header_come_back_to_the_bit_in_every_type(tmp_path):
    tensors = {
        "single": torch.randn(3, 2),
        "double": torch.randn(2, dtype=torch.float64),
        "low": torch.randn(2).bfloat16(),
        "count": torch.tensor(7),
        "channels last": torch.randn(1, 3, 2, 2).contiguous(memory_format=torch.channels_last),
        "gradient": torch.ones(2, requires_grad=True),
    }
    header = {"step": 3, "name": 'quoted "word"', "list": [1.5, None], "nested": {"a": "é"}}
    write_tensors(tmp_path / "file", tensors, **header)
    back, again = read_tensors(tmp_path / "file")
    assert again == header
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor)


# ------------------------------------------------------------------------------------- coming back


def test_a_loaded_denoiser_gives_the_bits_of_the_averaged_network(folder):
    state, _ = trained(configured(), 3)
    average = state.average.module.eval()
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    cond = torch.tensor([0, 3, 9, 10])
    for given in (folder, folder / MODEL, str(folder)):
        denoiser, configuration, shape, labels = load_denoiser(given)
        assert labels is None
        assert (configuration, shape) == (configured(), SHAPE)
        assert not denoiser.training
        assert not any(parameter.requires_grad for parameter in denoiser.parameters())
        level = denoiser.sde.level(torch.tensor(0.7, dtype=torch.float64))
        loaded = denoiser(x, level, cond)
        state.denoiser.net = average
        assert torch.equal(loaded, state.denoiser.eval()(x, level, cond))
        assert loaded.abs().max() > 0


def test_the_files_hold_the_average_and_the_network_apart(folder):
    state, _ = trained(configured(), 3)
    model, header = read_tensors(folder / MODEL)
    training, all_of_it = read_tensors(folder / TRAINING)
    differ = 0
    for name, value in state.denoiser.net.state_dict().items():
        average = state.average.module.state_dict()[name]
        assert torch.equal(training[f"net.{name}"], value)
        assert torch.equal(training[f"average.module.{name}"], average)
        assert torch.equal(model[name], average)
        differ += not torch.equal(value, average)
    assert differ > 10
    # The format of the files that are already there.
    content = configured().model_dump(mode="json")
    header_of_it = {"configuration": content, "shape": [1, 8, 8], "step": 3, "skipped": 0}
    assert header == header_of_it | {"labels": None, "data": None}
    entries = list(range(len(list(state.denoiser.net.parameters()))))
    assert all_of_it == header | {"in_row": 0, "optimizer": entries}
    assert training["average.n_averaged"].item() == 3
    assert training["optimizer.0.step"].item() == 3


def test_a_loaded_state_is_the_saved_one(folder):
    state, _ = trained(configured(), 3)
    state.skipped, state.in_row = 2, 1
    save_training(folder, configured(), state, SHAPE)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    loaded = load_training(folder, configured())
    assert torch.equal(torch.get_rng_state(), before)
    assert (loaded.step, loaded.skipped, loaded.in_row) == (3, 2, 1)
    for a, b in ((loaded.denoiser, state.denoiser), (loaded.average, state.average)):
        ours, theirs = a.state_dict(), b.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    ours, theirs = loaded.optimizer.state_dict(), state.optimizer.state_dict()
    assert ours["param_groups"][0]["betas"] == theirs["param_groups"][0]["betas"]
    assert ours["state"].keys() == theirs["state"].keys()
    for index, entry in theirs["state"].items():
        assert all(torch.equal(ours["state"][index][name], value) for name, value in entry.items())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 4}, "seed was 3, is 4"),
        ({"schedule": {"lr": 0.5}}, "schedule.lr was 0.001, is 0.5"),
        ({"schedule": {"steps": 7}}, "schedule.steps was 8, is 7"),
        ({"network": {"blocks": 2}}, "network.blocks was 1, is 2"),
        (
            {"network": {"patch": 1, "in_channels": 1}},
            "network.patch was 2, is 1; network.in_channels was not set, is 1",
        ),
        ({"sde": {"t_max": 10.0}}, "sde.t_max was not set, is 10.0"),
        ({"prediction": {"sigma_data": 0.5}}, "prediction.sigma_data was 0.7, is 0.5"),
        ({"times": {"std": 2.0}}, "times.std was not set, is 2.0"),
        ({"weighting": {"sigma_data": 0.5}}, "weighting.sigma_data was 0.7, is 0.5"),
        ({"data": {"split": "test"}}, "data.split was 'train', is 'test'"),
        ({"seed": 4, "schedule": {"ema": 0.1, "steps": 9}}, "schedule.ema was 0.5, is 0.1; seed was 3, is 4"),
    ],
)
def test_going_on_with_another_configuration_is_refused_by_key(folder, changes, named):
    with pytest.raises(ValueError, match=f"{TRAINING} was written with another configuration: {named}$"):
        load_training(folder, configured(**changes))


@pytest.mark.parametrize(("precision", "stop"), [("float32", 1), ("float32", 7), ("bfloat16", 4)])
def test_a_run_through_a_file_has_the_bits_of_one_that_never_stopped(tmp_path, precision, stop):
    configuration = configured(schedule={"precision": precision})
    straight, losses = trained(configuration, 8)
    state, first = trained(configuration, stop)
    save_training(tmp_path, configuration, state, SHAPE)
    state, rest = trained(configuration, 8 - stop, load_training(tmp_path, configuration))
    assert first + rest == losses
    for a, b in ((straight.denoiser, state.denoiser), (straight.average, state.average)):
        assert all(
            torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
        )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_run_goes_on_on_a_gpu(folder):
    state = load_training(folder, configured(), "cuda")
    state, progress = trained(configured(), 2, state)
    assert [p.step for p in progress] == [4, 5]
    assert {p.device.type for p in state.average.parameters()} == {"cuda"}


# ------------------------------------------------------------------------------------- the command


def command(out, *more):
    """Some 30 steps of a small network, long enough to be killed in between."""
    config = str(ROOT / "configs" / "digits.toml")
    small = [
        "schedule.steps=30",
        "schedule.batch_size=32",
        "network.channels=[16,32]",
        "network.embedding=fourier",
        "network.dropout=0.1",
    ]
    return ["train", "--config", config, "--out", str(out), "--quiet", "--save-every", "10", *small, *more]


def test_a_killed_run_that_goes_on_ends_with_the_bits_of_one_that_was_not_killed(tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert main(command(straight)) == 0

    # On as many threads as here: sums in another order have other bits.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "scoresde.cli", *command(killed)], cwd=ROOT, env=environment
    )
    deadline = time.monotonic() + 120
    while not (killed / TRAINING).exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    _, header = read_tensors(killed / TRAINING)
    assert header["step"] in (10, 20)

    assert main(command(killed, "--resume")) == 0
    assert (killed / "loss.jsonl").read_text() == (straight / "loss.jsonl").read_text()
    assert len((straight / "loss.jsonl").read_text().splitlines()) == 30
    for name in (MODEL, TRAINING):
        expected, header = read_tensors(straight / name)
        tensors, again = read_tensors(killed / name)
        assert again == header
        assert header["step"] == 30
        assert tensors.keys() == expected.keys()
        assert all(torch.equal(tensors[key], expected[key]) for key in expected)


def test_losses_after_the_last_checkpoint_are_forgotten_when_a_run_goes_on(tmp_path, monkeypatch, capsys):
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    few = ["schedule.steps=4", "schedule.batch_size=4", "--save-every", "2"]
    assert main(command(straight, *few)) == 0
    calls = []

    def fail_later(*arguments, **options):
        calls.append(arguments)
        if len(calls) > 1:  # when the losses of step 4 are written already
            raise OSError(28, "No space left on device")
        save_training(*arguments, **options)

    monkeypatch.setattr("scoresde.cli.train.save_training", fail_later)
    assert main(command(stopped, *few)) == 2
    assert "No space left on device" in capsys.readouterr().err
    monkeypatch.undo()
    assert read_tensors(stopped / TRAINING)[1]["step"] == 2
    assert len((stopped / "loss.jsonl").read_text().splitlines()) == 4
    assert main(command(stopped, *few, "--resume")) == 0
    assert (stopped / "loss.jsonl").read_text() == (straight / "loss.jsonl").read_text()


class Broken(nn.Module):
    """A network whose output is NaN from its fifth training step on, and in its third."""

    def __init__(self):
        super().__init__()
        self.classes, self.calls, self.weight = 10, 0, nn.Parameter(torch.ones(1))

    def forward(self, x, t, cond=None):
        self.calls += self.training
        return self.weight * x * (float("nan") if self.calls in (3, 6, 7, 8, 9) else 1.0)


def test_a_run_that_is_not_finite_stops_with_a_finite_checkpoint(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(NETWORKS, "broken", Broken)
    config = tmp_path / "broken.toml"
    config.write_text(
        'data.source = "digits"\nprediction.name = "v"\nsde.name = "vp"\ntimes.name = "uniform"\n'
        'network.name = "broken"\nschedule = {steps = 20, batch_size = 8, max_skipped = 3}\n'
    )
    out = tmp_path / "out"
    assert main(["train", "--config", str(config), "--out", str(out), "--quiet", "--save-every", "2"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "not finite in 3 steps in a row, the last one step 8" in line
    for name in (MODEL, TRAINING):
        tensors, header = read_tensors(out / name)
        assert header["step"] == 6
        assert header["skipped"] == 2
        assert all(torch.isfinite(tensor).all() for tensor in tensors.values())

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    text = (out / "loss.jsonl").read_text()
    lines = [json.loads(line, parse_constant=refuse) for line in text.splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["loss"] is None for line in lines] == [False, False, True, False, False, True]


def test_a_run_may_begin_with_the_weights_of_another(tmp_path, folder):
    """One step of a learning rate near 0 leaves the weights that it began with."""
    same = ["network.channels=[8]", "network.patch=2", "schedule.steps=1", "schedule.lr=1e-20"]
    assert main(command(tmp_path / "out", *same, "--init", str(folder))) == 0
    begun, _ = read_tensors(tmp_path / "out" / TRAINING)
    for name, value in read_tensors(folder / MODEL)[0].items():
        assert torch.equal(begun[f"net.{name}"], value), name


@pytest.mark.parametrize(
    ("init", "options", "named"),
    [
        (lambda folder: folder, ["network.channels=[16]"], "is another network than the configuration's"),
        (lambda folder: folder / "none", [], "none does not exist"),
        (lambda folder: Path(__file__), [], "is not a whole safetensors file"),
    ],
    ids=["another network", "missing", "no checkpoint"],
)
def test_weights_that_cannot_be_begun_with_are_answered_with_one_line(
    tmp_path, folder, capsys, init, options, named
):
    assert main(command(tmp_path / "out", *options, "--init", str(init(folder)))) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line
    assert not (tmp_path / "out").exists()


def test_a_folder_with_a_run_is_not_trained_over(folder, capsys):
    before = files_of(folder)
    assert main(command(folder)) == 2
    assert "holds a training run; go on with --resume, or name another --out" in capsys.readouterr().err
    assert main(command(folder, "--resume")) == 2
    assert (
        "was written with another configuration: network.channels was [8], is [16, 32]; "
        in capsys.readouterr().err
    )
    assert files_of(folder) == before
