"""Arguments of a run: integers of any library, labels, levels."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scoresde import VPSDE, Counted, Denoiser, Karras, Level, Noise, Plan, predict, prepare, sample
from scoresde.integer import integer
from scoresde.networks import MLP
from scoresde.solvers import DDIM
from tests.problems import Net, normal

KINDS = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64)


@pytest.mark.parametrize("kind", [*KINDS, torch.tensor])
def test_integers_of_any_type_are_integers(kind: Callable[[int], Any]) -> None:
    """Of one byte too: sums and products of budgets, seeds and shapes are Python's."""
    denoiser = Denoiser(Net(), VPSDE(), predict.noise)
    for solver in ("heun", "ode", "ancestral"):
        expected = sample(denoiser, solver, (5, 3), nfe=100, seed=120, batch_size=4)
        found = sample(
            denoiser, solver, (kind(5), kind(3)), nfe=kind(100), seed=kind(120), batch_size=kind(4)
        )
        assert torch.equal(found, expected), solver
    assert prepare("heun", VPSDE(), kind(127)) == prepare("heun", VPSDE(), 127)
    assert Plan.within(kind(100), DDIM(), VPSDE()) == Plan.within(100, DDIM(), VPSDE())
    assert Plan.make(DDIM(), VPSDE(), kind(127), Karras()) == Plan.make(DDIM(), VPSDE(), 127, Karras())
    ids = torch.arange(3)
    assert torch.equal(Noise(kind(100), ids, (2,))(3), Noise(100, ids, (2,))(3))


def test_a_negative_seed_of_numpy_is_pythons() -> None:
    ids = torch.arange(3)
    for kind in (np.int8, np.int64):
        assert torch.equal(Noise(kind(-3), ids, (2,))(1), Noise(-3, ids, (2,))(1))


@pytest.mark.parametrize("value", [2.0, "3", None, True, np.bool_(True), np.float32(3), np.array([3, 4]), 1j])
def test_an_argument_that_is_not_an_integer_is_named(value: Any) -> None:
    with pytest.raises(TypeError, match="steps must be an integer, got"):
        integer("steps", value)
    denoiser = Denoiser(Net(), VPSDE(), predict.noise)
    for error, options in (
        (TypeError, {"nfe": value}),
        (TypeError, {"seed": value}),
        (ValueError, {"batch_size": value}),
        (ValueError, {"shape": (3, value)}),
    ):
        (name,) = options
        if name == "batch_size" and value is None:
            continue  # all at a time
        with pytest.raises(error, match=f"{name} must be"):
            sample(denoiser, "ddim", **({"shape": (3, 2), "nfe": 4} | options))
    assert denoiser.net.calls == 0  # type: ignore[union-attr]


class Labelled(Net):
    """A network that records its labels."""

    def __init__(self) -> None:
        super().__init__()
        self.received: list[Tensor] = []

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        assert cond is not None
        self.received.append(cond)
        return super().forward(x, t, cond)


class Classes(Labelled):
    classes = 10


@pytest.mark.parametrize(
    "dtype",
    [
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.uint16,
        torch.uint32,
        torch.uint64,
    ],
)
def test_labels_of_any_integer_type_reach_the_network_as_int64(dtype: torch.dtype) -> None:
    net = Classes()
    denoiser = Counted(Denoiser(net, VPSDE(), predict.noise))
    labels = torch.tensor([0, 10, 3])
    found = sample(denoiser, "ddim", (3, 2), nfe=4, cond=labels.to(dtype))
    assert all(received.dtype == torch.int64 and torch.equal(received, labels) for received in net.received)
    assert torch.equal(found, sample(denoiser, "ddim", (3, 2), nfe=4, cond=labels))
    torch.manual_seed(0)
    real = Denoiser(MLP(2, classes=10), VPSDE(), predict.noise)
    ends = [sample(real, "ddim", (3, 2), nfe=2, cond=cond) for cond in (labels, labels.to(dtype))]
    assert torch.equal(*ends)


@pytest.mark.parametrize(
    "cond",
    [
        torch.tensor([0.0, 1.0, 2.0]),
        torch.tensor([0.0, float("nan"), 2.0]),
        torch.tensor([True, False, True]),
        torch.tensor([[0], [1], [2]]),
        torch.nn.functional.one_hot(torch.tensor([0, 1, 2]), 10),
    ],
    ids=["float", "nan", "bool", "column", "one-hot"],
)
def test_conditions_that_are_not_labels_are_refused_if_there_are_classes(cond: Tensor) -> None:
    net = Classes()
    with pytest.raises(
        ValueError, match=r"cond must hold labels, integers of shape \(3,\).* got shape"
    ) as raised:
        sample(Denoiser(net, VPSDE(), predict.noise), "ddim", (3, 2), nfe=4, cond=cond)
    assert str(cond.dtype) in str(raised.value)
    assert str(tuple(cond.shape)) in str(raised.value)
    assert net.calls == 0


def test_a_condition_of_a_network_without_classes_is_handed_on_as_it_is() -> None:
    net, cond = Labelled(), torch.tensor([[0.5], [1.5], [2.5]])
    sample(Denoiser(net, VPSDE(), predict.noise), "ddim", (3, 1), nfe=2, cond=cond)
    assert all(torch.equal(received, cond) and received.dtype == cond.dtype for received in net.received)


LEVEL = VPSDE().level(torch.tensor([0.3, 0.5, 0.9], dtype=torch.float64))


def of_shape(*shape: int) -> Level[Tensor]:
    """Levels, in so many places."""
    return VPSDE().level(torch.linspace(0.3, 0.9, max(1, torch.Size(shape).numel())).double().reshape(shape))


@pytest.mark.parametrize("prediction", [predict.noise, predict.edm()])
@pytest.mark.parametrize("x", [normal(3, 2), normal(3, 3, 4, 4), normal(1, 2, 2, 2)])
def test_a_level_is_one_number_or_one_a_sample(x: Tensor, prediction: predict.Prediction) -> None:
    denoiser = Denoiser(lambda x, t: x * t.reshape(-1, *[1] * (x.ndim - 1)), VPSDE(), prediction)
    n, ones = len(x), [1] * (x.ndim - 1)
    one = of_shape(n)
    each = torch.cat([denoiser(x[i : i + 1], Level(*(number[i].item() for number in one))) for i in range(n)])
    for level in (one, Level(*(number.reshape(n, *ones) for number in one))):
        torch.testing.assert_close(denoiser(x, level), each)
    for shape in ((), (1,), (1, *ones)):
        level = of_shape(*shape)
        number = Level(*(number.item() for number in level))
        torch.testing.assert_close(denoiser(x, level), denoiser(x, number))


@pytest.mark.parametrize(
    "shape", [(3, 3, 1, 1), (3, 1, 4, 1), (1, 3, 1, 1), (3, 3, 4, 4), (4, 4), (1, 1, 1, 4)]
)
@pytest.mark.parametrize("prediction", [predict.noise, predict.v, predict.edm()])
def test_levels_that_differ_within_a_sample_are_refused(
    shape: tuple[int, ...], prediction: predict.Prediction
) -> None:
    """The network receives one label for each sample; three for channels could pass as labels of samples."""
    net = Net()
    with pytest.raises(
        ValueError, match=r"level must be one number, or one for each of 3 samples.* got shape"
    ):
        Denoiser(net, VPSDE(), prediction)(normal(3, 3, 4, 4), of_shape(*shape))
    assert net.calls == 0
