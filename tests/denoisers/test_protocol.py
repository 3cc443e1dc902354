"""The protocol of a denoiser: each part, for each denoiser and for wrappers of wrappers."""

import re
from functools import partial

import pytest
import torch
from torch import nn

from scoresde import (
    EDM,
    VPSDE,
    Counted,
    Denoiser,
    ExactDenoiser,
    Transported,
    predict,
    sample,
)
from scoresde.denoisers.protocol import (
    DenoiserLike,
    Foreign,
    as_denoiser,
)
from tests.denoisers.wrappers import DATA, LEVEL, Around, Minimal, Net, each_wrapper, trained, values


def test_parts_of_a_network_s_denoiser():
    net = Net()
    denoiser = Denoiser(net, "vp", predict.data)
    assert as_denoiser(denoiser) is denoiser
    assert (denoiser.sde, denoiser.net, denoiser.classes) == (VPSDE(), net, 3)
    assert denoiser.dtype == torch.float32  # of the parameters
    net.double()
    assert denoiser.dtype == torch.float64
    assert Denoiser(net, VPSDE(), predict.data, dtype=torch.bfloat16).dtype == torch.bfloat16
    assert Denoiser(lambda x, t: x, VPSDE(), predict.data).dtype is None


@pytest.mark.parametrize(
    "wrap",
    [lambda net: net, nn.DataParallel, partial(torch.compile, backend="eager")],
    ids=["as it is", "DataParallel", "compiled"],
)
def test_the_number_of_classes_is_of_the_network_inside_torch_s_wrappers(wrap):
    assert Denoiser(wrap(Net()), VPSDE(), predict.data).classes == 3


@pytest.mark.parametrize("classes", [None, "three", 2.0], ids=str)
def test_only_an_integer_is_a_number_of_classes(classes):
    net = Net()
    net.classes = classes
    assert Denoiser(net, VPSDE(), predict.data).classes is None


def test_parts_of_a_closed_form():
    exact = ExactDenoiser(DATA, EDM())
    assert as_denoiser(exact) is exact
    assert (exact.sde, exact.net, exact.classes, exact.dtype) == (EDM(), None, None, None)
    assert exact.at(None) is exact
    with pytest.raises(TypeError, match=r"computes in the precision of x, got torch\.float64"):
        exact.at(torch.float64)


def test_parts_of_a_callable_with_an_sde():
    given = Minimal()
    denoiser = as_denoiser(given)
    assert isinstance(denoiser, Foreign)
    assert (denoiser.sde, denoiser.net, denoiser.classes, denoiser.dtype) == (VPSDE(), None, None, None)
    assert denoiser.at(None) is denoiser
    with pytest.raises(TypeError, match=r"Minimal has no at\(dtype\): its precision cannot be changed"):
        denoiser.at(torch.float32)
    x = torch.ones(3, 2)
    assert torch.equal(denoiser(x, LEVEL), given(x, LEVEL))
    assert torch.equal(denoiser(x, LEVEL, None), given(x, LEVEL))


def test_the_network_of_a_callable_with_an_sde_is_known():
    given = Around(Net())
    denoiser = as_denoiser(given)
    assert (denoiser.net, denoiser.classes) == (given.net, 3)
    x, cond = torch.ones(3, 2), torch.tensor([0, 1, 2])
    assert torch.equal(denoiser(x, LEVEL, cond), given(x, LEVEL, cond))


@pytest.mark.parametrize(
    "given",
    [None, 7, lambda x, level: x, Minimal, VPSDE()],
    ids=["none", "number", "function", "class", "process"],
)
def test_other_things_are_no_denoisers(given):
    with pytest.raises(TypeError, match="denoiser must be a Denoiser, or like one with its sde, got"):
        as_denoiser(given)


@each_wrapper
def test_a_wrapper_hands_on_what_it_does_not_change(wrap):
    inner = trained()
    wrapper: DenoiserLike = wrap(inner)
    assert as_denoiser(wrapper) is wrapper
    assert (wrapper.net, wrapper.classes, wrapper.dtype) == (inner.net, 3, torch.float32)
    inner.net.double()
    assert wrapper.dtype == torch.float64
    clipped = VPSDE().clip(*EDM().lam(torch.tensor([80.0, 0.002], dtype=torch.float64)).tolist())
    known = [VPSDE(), Transported(inner, EDM()).sde, clipped]
    assert any(wrapper.sde == sde for sde in known), wrapper.sde


@each_wrapper
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, None], ids=str)
def test_at_is_the_same_denoiser_with_its_network_in_another_precision(wrap, dtype):
    inner = trained(torch.float32)
    wrapper = wrap(inner)
    before = values(wrapper, torch.ones(3, 2, dtype=torch.float64))
    other = wrapper.at(dtype)
    assert type(other) is type(wrapper)
    assert other.dtype == (dtype or torch.float32)
    assert (other.sde, other.classes) == (wrapper.sde, 3)
    assert other.net is wrapper.net is inner.net
    assert (wrapper.dtype, inner.dtype) == (torch.float32, torch.float32)
    if dtype == torch.float64:
        inner.net.double()
        made = wrap(Denoiser(inner.net, VPSDE(), predict.data, dtype=torch.float64))
        x = torch.ones(3, 2, dtype=torch.float64)
        assert torch.equal(values(other, x), values(made, x))
        inner.net.float()
    assert torch.equal(values(wrapper, torch.ones(3, 2, dtype=torch.float64)), before)


@pytest.mark.parametrize("training", [False, True])
def test_at_leaves_a_network_as_it_is(training):
    net = Net().train(training)
    net.layer.train(not training)
    denoiser = Denoiser(net, VPSDE(), predict.data).train(False)
    net.train(training)
    net.layer.train(not training)
    weights = {name: weight.clone() for name, weight in net.named_parameters()}
    low = denoiser.at(torch.bfloat16)
    assert (net.training, net.layer.training) == (training, not training)
    assert (denoiser.training, low.training) == (False, False)
    assert all(torch.equal(weights[name], weight) for name, weight in net.named_parameters())
    assert {id(p) for p in low.parameters()} == {id(p) for p in net.parameters()}


def test_another_network_in_the_copy_leaves_the_denoiser_as_it_is():
    denoiser = trained()
    low = denoiser.at(torch.bfloat16)
    net, low.net = denoiser.net, nn.Identity()
    assert denoiser.net is net


def test_a_subclass_stays_one():
    class Own(Denoiser):
        def forward(self, x, level, cond=None):
            return super().forward(x, level, cond) + 1

    own = Own(Net(), VPSDE(), predict.data)
    x = torch.ones(3, 2)
    assert torch.equal(own.at(torch.float32)(x, LEVEL), own(x, LEVEL))


def test_a_precision_is_changed_with_at_and_no_other_way():
    denoiser = trained()
    with pytest.raises(AttributeError):
        denoiser.dtype = torch.bfloat16
    with pytest.raises(ValueError, match=r"dtype must be one of None, torch\.float32, .*, got torch\.int64"):
        denoiser.at(torch.int64)
    denoiser.net.to(torch.float8_e4m3fn)
    with pytest.raises(ValueError, match=r"a network cannot run with parameters of torch\.float8"):
        denoiser.at(None)


@pytest.mark.parametrize("sde", ["vp", VPSDE, None, 3])
@pytest.mark.parametrize("parts", [{}, {"net": None, "classes": None, "dtype": None, "at": Counted.at}])
def test_the_sde_of_a_denoiser_is_an_sde(sde, parts):
    """With some parts of the protocol and with all of them."""
    given = partial(torch.add)
    vars(given).update(parts, sde=sde)
    words = "" if sde is None else f"; its sde must be an SDE, got {re.escape(repr(sde))}"
    for use in (as_denoiser, Counted, lambda denoiser: sample(denoiser, "ddim", (2, 1), nfe=2)):
        with pytest.raises(TypeError, match=f"like one with its sde, got partial{words}$"):
            use(given)


class WritesInLowPrecision(nn.Module):
    """It writes to its input under autocast only."""

    def forward(self, x, t):
        return x.mul_(1.5) if torch.is_autocast_enabled("cpu") else 1.5 * x


def test_a_network_that_writes_to_its_input_in_one_precision_only():
    """What is known of a network is known for its precision: ``at`` learns it anew."""
    denoiser = Denoiser(WritesInLowPrecision(), VPSDE(), "noise")
    x = torch.ones(2, 1)
    denoiser(x, LEVEL)  # shows that it does not write
    expected = Denoiser(WritesInLowPrecision(), VPSDE(), "noise", dtype=torch.bfloat16)(x, LEVEL)
    assert torch.equal(denoiser.at(torch.bfloat16)(x, LEVEL), expected)
    assert torch.equal(x, torch.ones(2, 1))
