"""Batches: every sample once in an epoch, from tensors and arrays alike."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset
from training_runs import Labels, Scaling, draw, equal_states, gaussian, mlp, run

from scoresde.denoisers.network import Denoiser
from scoresde.denoisers.predictions import edm, v
from scoresde.processes.continuous import EDM, VPSDE
from scoresde.training import TrainingOptions, start, train
from scoresde.training.batches import batch_indices
from scoresde.training.time_sampling import Uniform


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 5))
def test_batches_visit_every_sample_once_an_epoch(n, size, seed):
    epochs = 6
    steps = -(-epochs * n // size)
    walk = torch.cat([batch_indices(seed, step, size, n) for step in range(steps)])
    assert len(walk) == steps * size
    for epoch in range(epochs):
        assert walk[epoch * n : (epoch + 1) * n].sort().values.tolist() == list(range(n))


def test_epochs_and_seeds_are_shuffled_differently():
    orders = [batch_indices(seed, step, 50, 50).tolist() for seed in (0, 1) for step in (0, 1, 2)]
    assert len({tuple(order) for order in [*orders, list(range(50))]}) == 7


@pytest.mark.parametrize(
    "kind", [np.float32, np.float64, ">f4", np.float16, np.longdouble, np.uint8, np.uint16]
)
def test_an_array_trains_as_its_tensor_does(kind):
    numbers = draw((64, 2, 8), 3).numpy() * 0.5
    x = (np.clip(numbers * 60 + 128, 0, 255) if np.dtype(kind).kind == "u" else numbers).astype(kind)
    as_tensor = torch.from_numpy(x if x.dtype == np.uint8 else x.astype(np.float32))
    labels = np.arange(64, dtype=np.int32) % 3
    runs = []
    with pytest.warns() if kind == np.uint16 else nullcontext():
        for data_set, classes in ((x, labels), (as_tensor, torch.from_numpy(labels))):
            torch.manual_seed(0)
            runs.append(run(Scaling(3), VPSDE(), v, data_set, classes, steps=3, time_sampling=Uniform())[1])
    assert runs[0] == runs[1]


def test_a_memory_mapped_array_is_read_batch_by_batch(tmp_path):
    np.save(tmp_path / "x.npy", gaussian(64).numpy())
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    states = [run(mlp(), EDM(), edm(), x, steps=3)[0] for x in (mapped, gaussian(64))]
    assert equal_states(*states)


VECTORS = torch.zeros(4, 2)


@pytest.mark.parametrize(
    ("x", "labels", "error", "named"),
    [
        (
            DataLoader(TensorDataset(VECTORS)),
            None,
            TypeError,
            "a tensor or an array .*, got DataLoader; ",
        ),
        (TensorDataset(VECTORS), None, TypeError, "x must be a tensor or an array .*, got TensorDataset"),
        ([[0.0, 1.0]], None, TypeError, "x must be a tensor or an array of all data, .*, got list;"),
        ((part for part in VECTORS), None, TypeError, "x must be a tensor or an array .*, got generator;"),
        (np.array(["a"]), None, ValueError, r"x must be .* real numbers, got shape \(1,\) of <U1"),
        (VECTORS.sum(), None, ValueError, r"x must be .* real numbers, got shape \(\) of torch.float32"),
        (VECTORS.cfloat(), None, ValueError, "x must be .* real numbers, .* torch.complex64"),
        (VECTORS.bool(), None, ValueError, "x must be .* real numbers, .* torch.bool"),
        (VECTORS, [0, 1, 2, 0], TypeError, "labels must be a tensor or an array .*, got list"),
        (VECTORS, np.zeros(4), ValueError, "labels must be integers, got an array of float64"),
    ],
    ids=lambda value: type(value).__name__,  # the same in every process
)
def test_what_is_neither_tensor_nor_array_is_refused_before_the_first_step(x, labels, error, named):
    options = TrainingOptions(steps=1)
    state = start(Denoiser(Labels(3), EDM(), edm()), options)
    with pytest.raises(error, match=named):
        train(state, x, labels, options=options)
