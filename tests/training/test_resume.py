"""Going on with a training run, or with its weights: what is refused, by name, and what is not."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_run import SHAPE, configured, trained

from scoresde.files import read_tensors, write_tensors
from scoresde.training.checkpoint import (
    MODEL,
    TRAINING,
    data_hash,
    load_denoiser,
    load_training,
    save_training,
    take_weights,
)
from scoresde.training.labels import Labels

HASH = data_hash(torch.zeros(1))


@pytest.fixture(scope="module")
def state():
    return trained(configured(), 3)[0]


@pytest.fixture(scope="module")
def saved(state, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    save_training(folder, configured(), state, SHAPE, data=HASH)
    assert load_training(folder, configured(), data=HASH).step == 3
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "folder"))


# ------------------------------------------------------------------------------------- tampered states


def missing(*names):
    return lambda tensors, header: [tensors.pop(name) for name in names]


def without(start):
    return lambda tensors, header: [tensors.pop(name) for name in list(tensors) if name.startswith(start)]


def other(name, change):
    return lambda tensors, header: tensors.update({name: change(tensors[name])})


def changed(**values):
    return lambda tensors, header: header.update(values)


def less(key):
    return lambda tensors, header: header.pop(key)


WHOLE = "must be a whole number from 0 to"

TAMPERED = {
    "no first moment": (missing("optimizer.0.exp_avg"), "optimizer.0.exp_avg is missing$"),
    "no second moment": (missing("optimizer.7.exp_avg_sq"), "optimizer.7.exp_avg_sq is missing$"),
    "no count": (missing("optimizer.3.step"), "optimizer.3.step is missing$"),
    "no entry": (without("optimizer.3."), "optimizer.3.step is missing, and 2 more$"),
    "no optimiser": (without("optimizer."), r"optimizer.0.step is missing, and \d+ more$"),
    "no weight": (missing("net.enter.weight"), "net.enter.weight is missing$"),
    "no average": (missing("average.module.enter.weight"), "average.module.enter.weight is missing$"),
    "no count of averages": (missing("average.n_averaged"), "average.n_averaged is missing$"),
    "one weight more": (
        lambda tensors, header: tensors.update({"net.more": torch.zeros(2)}),
        "net.more is unknown$",
    ),
    "one entry more": (
        lambda tensors, header: tensors.update({"optimizer.999.step": torch.ones(())}),
        "optimizer.999.step is unknown$",
    ),
    "a weight's shape": (other("net.enter.weight", lambda x: x[1:]), r"net.enter.weight has shape \(7,"),
    "a weight's type": (other("net.enter.weight", torch.Tensor.half), "net.enter.weight is of torch.float16"),
    "an average's type": (
        other("average.module.enter.weight", torch.Tensor.double),
        "average.module.enter.weight is of torch.float64, not torch.float32$",
    ),
    "a moment's shape": (
        other("optimizer.0.exp_avg", lambda x: x.flatten()[:1]),
        r"optimizer.0.exp_avg has shape \(1,\), not ",
    ),
    "a moment's type": (
        other("optimizer.0.exp_avg_sq", torch.Tensor.bfloat16),
        "optimizer.0.exp_avg_sq is of torch.bfloat16, not torch.float32$",
    ),
    "a count's type": (other("optimizer.0.step", torch.Tensor.long), "optimizer.0.step is of torch.int64"),
    "a count's shape": (other("optimizer.0.step", lambda x: x[None]), r"optimizer.0.step has shape \(1,\)"),
    "a count beyond": (other("optimizer.0.step", lambda x: x + 1), f"optimizer.0.step {WHOLE} 3, got 4.0$"),
    "a count between": (other("optimizer.0.step", lambda x: x - 0.5), f"step {WHOLE} 3, got 2.5$"),
    "averages below 0": (other("average.n_averaged", lambda x: -x), f"n_averaged {WHOLE} 3, got -3$"),
    "negative squares": (other("optimizer.0.exp_avg_sq", lambda x: x - 1), "exp_avg_sq must not be negative"),
    "a step of -5": (changed(step=-5), f": step {WHOLE} 8, got -5$"),
    "a step of True": (changed(step=True), f": step {WHOLE} 8, got True$"),
    "a step of infinity": (changed(step=math.inf), f": step {WHOLE} 8, got inf$"),
    "a step of text": (changed(step="3"), f": step {WHOLE} 8, got '3'$"),
    "a step of a float": (changed(step=3.0), f": step {WHOLE} 8, got 3.0$"),
    "a step beyond": (changed(step=9), f": step {WHOLE} 8, got 9$"),
    "no step": (less("step"), f": step {WHOLE} 8, got None$"),
    "more skipped than steps": (changed(skipped=4), f": skipped {WHOLE} 3, got 4$"),
    "more in a row than skipped": (changed(in_row=1), f": in_row {WHOLE} 0, got 1$"),
    "no skipped": (less("skipped"), f": skipped {WHOLE} 3, got None$"),
    "entries of text": (changed(optimizer=["0"]), r": optimizer must be a list of .*, got \['0'\]$"),
    "other data": (changed(data=17), "other training data"),
}


@pytest.mark.parametrize(("tamper", "named"), TAMPERED.values(), ids=TAMPERED.keys())
def test_a_tampered_training_state_is_refused_by_name(folder, tamper, named):
    path = folder / TRAINING
    tensors, header = read_tensors(path)
    tamper(tensors, header)
    write_tensors(path, tensors, **header)
    with pytest.raises(ValueError, match=named) as caught:
        load_training(folder, configured(), data=HASH)
    assert str(path) in str(caught.value)


def test_parameters_that_never_had_a_gradient_have_no_entry(tmp_path, state):
    """Of AdamW, which keeps nothing of them: such a state is whole."""
    held = state.optimizer.state_dict()
    del held["state"][3]
    fewer, _ = trained(configured(), 1)
    fewer.optimizer.load_state_dict(held)
    fewer.step = 3
    save_training(tmp_path, configured(), fewer, SHAPE)
    assert 3 not in load_training(tmp_path, configured()).optimizer.state_dict()["state"]


# ------------------------------------------------------------------------------------- data, steps


def test_a_run_goes_on_with_the_same_data_only(folder, state):
    x, labels = torch.arange(6, dtype=torch.uint8).reshape(3, 2), torch.tensor([0, 1, 1])
    ours = data_hash(x, labels)
    assert ours == data_hash(x.clone(), labels.clone())
    others = [
        data_hash(x + 1, labels),
        data_hash(x, labels.flip(0)),
        data_hash(x),
        data_hash(x.flip(0), labels),
        data_hash(x.reshape(2, 3), labels),
        data_hash(x.to(torch.int8), labels),
    ]
    assert len({ours, *others}) == 7
    save_training(folder, configured(), state, SHAPE, data=ours)
    assert load_training(folder, configured(), data=ours).step == 3
    assert load_training(folder, configured()).step == 3  # nothing to compare with
    for hashed in others:
        with pytest.raises(ValueError, match=f"{TRAINING} was written with other training data"):
            load_training(folder, configured(), data=hashed)


@pytest.mark.parametrize("decay", ["constant", "cosine", "linear"])
def test_a_run_with_more_steps_goes_on_with_the_learning_rate_of_the_longer_run(tmp_path, decay):
    short, long = (configured(optimization={"steps": steps, "decay": decay}) for steps in (3, 5))
    state, first = trained(short, 3)
    save_training(tmp_path, short, state, SHAPE)
    state, rest = trained(long, 2, load_training(tmp_path, long))
    straight, losses = trained(long, 5)
    assert [progress.lr for progress in rest] == [long.optimization.lr_at(3), long.optimization.lr_at(4)]
    same = all(
        torch.equal(value, straight.denoiser.state_dict()[name])
        for name, value in state.denoiser.state_dict().items()
    )
    assert same == (first + rest == losses) == (decay == "constant")


# ------------------------------------------------------------------------------------- files of before


def test_files_of_before_are_gone_on_with_and_loaded(folder):
    """Without a hash, and without the keys of today."""
    for name in (MODEL, TRAINING):
        tensors, header = read_tensors(folder / name)
        for key in ("labels", "data", "optimizer"):
            header.pop(key, None)
        del header["configuration"]["optimization"]["max_skipped"]
        save_file(tensors, folder / name, {key: json.dumps(value) for key, value in header.items()})
        assert read_tensors(folder / name)[1] == header
    assert load_denoiser(folder).labels is None
    state, progress = trained(configured(), 2, load_training(folder, configured(), data=HASH))
    straight, losses = trained(configured(), 5)
    assert progress == losses[3:]
    assert all(
        torch.equal(value, straight.average.state_dict()[name])
        for name, value in state.average.state_dict().items()
    )


# ------------------------------------------------------------------------------------- labels


def test_labels_and_their_names_come_back(tmp_path, state):
    labels = Labels((0, 2, 7), ("zero", "one", "zwei é"))
    save_training(tmp_path, configured(), state, SHAPE, labels=labels)
    assert load_denoiser(tmp_path).labels == labels
    assert read_tensors(tmp_path / TRAINING)[1]["labels"] == {"seen": [0, 2, 7], "names": list(labels.names)}


@pytest.mark.parametrize(
    "labels",
    [
        3,
        [0, 1],
        {},
        {"seen": [0]},
        {"seen": "01", "names": []},
        {"seen": [-1], "names": []},
        {"seen": [10], "names": []},
        {"seen": [True], "names": []},
        {"seen": [0], "names": [1]},
        {"seen": [0], "names": "cat"},
    ],
    ids=str,
)
def test_labels_that_cannot_be_are_refused(folder, labels):
    tensors, header = read_tensors(folder / MODEL)
    write_tensors(folder / MODEL, tensors, **header | {"labels": labels})
    with pytest.raises(ValueError, match=f"{MODEL}: labels must be "):
        load_denoiser(folder)


# ------------------------------------------------------------------------------------- other weights


def test_weights_are_taken_from_a_network_of_the_same_make(folder):
    denoiser = configured(seed=5).make_denoiser()
    take_weights(denoiser, folder)
    expected = read_tensors(folder / MODEL)[0]
    assert all(torch.equal(value, expected[name]) for name, value in denoiser.net.state_dict().items())


@pytest.mark.parametrize(
    ("network", "named"),
    [
        ({"channels": [16]}, r"\S+ has shape \(\d.*\), not \(\d.*\), and \d+ more$"),
        ({"blocks": 2}, r"\S+ is missing, and \d+ more$"),
        ({"classes": 9}, r"\S+ has shape \(11, 32\), not \(10, 32\)$"),
    ],
    ids=["wider", "deeper", "of fewer classes"],
)
def test_another_network_is_answered_in_a_short_line(folder, network, named):
    denoiser = configured(network=network).make_denoiser()
    before = {name: value.clone() for name, value in denoiser.net.state_dict().items()}
    with pytest.raises(ValueError, match=f"is another network than the configuration's: {named}") as caught:
        take_weights(denoiser, folder)
    assert len(str(caught.value)) < 120 + len(str(folder))
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in denoiser.net.state_dict().items())
