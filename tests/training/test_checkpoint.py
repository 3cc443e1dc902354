"""Files of a training run: damaged ones, interrupted writes, and a run that is killed and goes on."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_run import SHAPE, configured, trained

from scoresde.files import read_tensors, write_tensors
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


@pytest.mark.parametrize("shape", [None, [], 8, [1, 0, 8], [1, "8", 8]], ids=str)
def test_a_model_that_does_not_say_the_shape_of_its_samples_is_refused(folder, shape):
    tensors, header = read_tensors(folder / MODEL)
    del header["shape"]
    write_tensors(folder / MODEL, tensors, **header | ({} if shape is None else {"shape": shape}))
    with pytest.raises(ValueError, match=f"{MODEL} does not say the shape of its samples"):
        load_denoiser(folder)


@pytest.mark.parametrize(("old", "new"), [("schedule", "optimization"), ("times", "time_sampling")])
def test_a_checkpoint_with_a_section_of_earlier_versions_names_the_section_of_today(folder, old, new):
    for name in (MODEL, TRAINING):
        tensors, header = read_tensors(folder / name)
        header["configuration"][old] = header["configuration"].pop(new)
        write_tensors(folder / name, tensors, **header)
    named = (
        rf" was written by an earlier version of scoresde, with the sections \[{old}\], now \[{new}\]; "
        "use it with that version, or train again$"
    )
    with pytest.raises(ValueError, match=MODEL + named):
        load_denoiser(folder)
    with pytest.raises(ValueError, match=TRAINING + named):
        load_training(folder, configured())


def test_the_model_file_is_no_training_file(folder):
    (folder / MODEL).replace(folder / TRAINING)
    with pytest.raises(ValueError, match=f"{TRAINING} does not fit its own configuration"):
        load_training(folder, configured())


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
        ({"optimization": {"lr": 0.5}}, "optimization.lr was 0.001, is 0.5"),
        ({"optimization": {"steps": 7}}, "optimization.steps was 8, is 7"),
        ({"network": {"blocks": 2}}, "network.blocks was 1, is 2"),
        (
            {"network": {"patch": 1, "in_channels": 1}},
            "network.patch was 2, is 1; network.in_channels was not set, is 1",
        ),
        ({"sde": {"t_max": 10.0}}, "sde.t_max was not set, is 10.0"),
        ({"prediction": {"sigma_data": 0.5}}, "prediction.sigma_data was 0.7, is 0.5"),
        ({"time_sampling": {"std": 2.0}}, "time_sampling.std was not set, is 2.0"),
        ({"weighting": {"sigma_data": 0.5}}, "weighting.sigma_data was 0.7, is 0.5"),
        ({"data": {"split": "test"}}, "data.split was 'train', is 'test'"),
        (
            {"seed": 4, "optimization": {"ema": 0.1, "steps": 9}},
            "optimization.ema was 0.5, is 0.1; seed was 3, is 4",
        ),
    ],
)
def test_going_on_with_another_configuration_is_refused_by_key(folder, changes, named):
    with pytest.raises(ValueError, match=f"{TRAINING} was written with another configuration: {named}$"):
        load_training(folder, configured(**changes))


@pytest.mark.parametrize(("precision", "stop"), [("float32", 1), ("float32", 7), ("bfloat16", 4)])
def test_a_run_through_a_file_has_the_bits_of_one_that_never_stopped(tmp_path, precision, stop):
    configuration = configured(optimization={"precision": precision})
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
