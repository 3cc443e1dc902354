"""The protocol of a denoiser: each part, for each denoiser and for wrappers of wrappers."""

import copy
from dataclasses import dataclass
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
    Level,
    Mixture,
    Plan,
    Transported,
    predict,
    prepare,
    sample,
)
from scoresde.denoisers.protocol import (
    DenoiserLike,
    Foreign,
    Observed,
    Wrapper,
    as_denoiser,
    observed_as,
    unobserved,
)
from scoresde.plans import compiled as compiled_runs
from scoresde.plans.fingerprint import fingerprint
from scoresde.processes.level import per_sample

LEVEL = Level(*(number.item() for number in VPSDE().level(torch.tensor(0.5, dtype=torch.float64))))
DATA = Mixture(torch.tensor([[1.0, -1.0]]), torch.tensor([0.5]), torch.tensor([1.0]))


class Net(nn.Module):
    """A network of 3 classes."""

    classes = 3

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([[0.5, -0.2], [0.1, 0.3]]))
            self.layer.bias.copy_(torch.tensor([0.1, 0.2]))

    def forward(self, x, t, cond=None):
        y = self.layer(x).to(x.dtype)
        return y if cond is None else y + 0.1 * cond[:, None]


class Scaled(Wrapper):
    """A user's wrapper: a factor on the estimate."""

    def __init__(self, denoiser, factor):
        self.denoiser, self.factor = denoiser, factor

    def at(self, dtype):
        return Scaled(self.denoiser.at(dtype), self.factor)

    def __call__(self, x, level, cond=None):
        return self.factor * self.denoiser(x, level, cond)


@dataclass(frozen=True)
class Minimal:
    """All that a user's denoiser must have. It takes no condition."""

    sde: object = VPSDE()

    def __call__(self, x, level):
        return DATA.denoise(x, level)


@dataclass(frozen=True)
class Around:
    """A user's class around a network, with its ``net`` and conditions."""

    net: nn.Module
    sde: object = VPSDE()

    def __call__(self, x, level, cond=None):
        return self.net(x, level.t, cond)


def trained(dtype=None):
    return Denoiser(Net().eval(), VPSDE(), predict.data, dtype=dtype)


def nothing(*_):
    pass


WRAPPERS = {
    "Observed": lambda inner: Observed(inner, nothing),
    "Counted": Counted,
    "Transported": lambda inner: Transported(inner, EDM()),
    "of a user": lambda inner: Scaled(inner, 1.5),
    "two": lambda inner: Scaled(Counted(inner), 2.0),
    "three": lambda inner: Counted(Transported(Scaled(inner, 2.0), EDM())),
    "two others": lambda inner: Transported(Transported(inner, EDM()), VPSDE()),
}
each_wrapper = pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)


# ------------------------------------------------------------------------------------- the parts


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


# ------------------------------------------------------------------------------------- at


def values(denoiser, x, cond=None):
    """The estimate at one sigma / alpha, whatever the process."""
    lam = torch.tensor(0.0, dtype=torch.float64)
    level = denoiser.sde.level(denoiser.sde.time_of(lam))
    return denoiser(x, Level(*(number.item() for number in level)), cond)


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


# ------------------------------------------------------------------------------------- observers


def test_observers_see_each_call_and_change_no_number():
    seen, denoiser = [], trained()
    observed = Observed(
        denoiser,
        lambda x, level, estimate: seen.append(("after", x.clone(), level, estimate.clone())),
        lambda x, level: seen.append(("before", x.clone(), level)),
    )
    x = torch.ones(3, 2)
    estimate = observed(x, LEVEL)
    assert torch.equal(estimate, denoiser(x, LEVEL))
    (first, at_first, level), (second, at_second, same, after) = seen
    assert (first, second, level, same) == ("before", "after", LEVEL, LEVEL)
    assert torch.equal(at_first, x)
    assert torch.equal(at_second, x)
    assert torch.equal(after, estimate)
    assert fingerprint(observed) == fingerprint(denoiser)


def test_counts_are_of_calls_and_of_samples():
    counted = Counted(trained())
    for size in (3, 1):
        counted(torch.ones(size, 2), LEVEL, torch.zeros(size))
    assert (counted.calls, counted.evaluations) == (2, 4)
    other = counted.at(torch.bfloat16)
    other(torch.ones(5, 2), LEVEL)
    assert (counted.calls, other.calls, other.evaluations) == (2, 1, 5)


def test_observers_around_another_denoiser_still_report_to_the_first():
    seen = []
    counted = Counted(Observed(trained(), lambda x, level, estimate: seen.append(len(x))))
    assert unobserved(counted) is counted.denoiser.denoiser
    other = observed_as(counted, ExactDenoiser(DATA, VPSDE()))
    x = torch.ones(4, 2)
    assert torch.equal(other(x, LEVEL), DATA.denoise(x, LEVEL))
    assert (counted.calls, counted.evaluations, seen) == (1, 4, [4])


@pytest.mark.parametrize("wrap", [Counted, lambda d: Observed(d, nothing), lambda d: Transported(d, EDM())])
def test_wrappers_refuse_what_is_no_denoiser(wrap):
    with pytest.raises(TypeError, match="denoiser must be a Denoiser, or like one with its sde, got int"):
        wrap(7)


@each_wrapper
def test_wrappers_can_be_copied(wrap):
    wrapper = wrap(trained())
    x = torch.ones(3, 2)
    other = copy.deepcopy(wrapper)
    assert (other.sde, other.dtype, other.classes) == (wrapper.sde, wrapper.dtype, wrapper.classes)
    assert other.net is not wrapper.net
    assert torch.equal(values(other, x), values(wrapper, x))


# ------------------------------------------------------------------------------------- in a run


@each_wrapper
@pytest.mark.parametrize("inner", [trained, Minimal, lambda: ExactDenoiser(DATA, VPSDE())])
def test_runs_take_each_denoiser_in_each_wrapper(wrap, inner):
    wrapper = wrap(as_denoiser(inner()))
    plan = prepare("dpmpp-2m", wrapper.sde, 4)
    assert isinstance(plan, Plan)
    x = sample(wrapper, plan, (3, 2), seed=1)
    assert x.isfinite().all()
    if isinstance(wrapper, Counted):
        assert wrapper.calls == plan.nfe
    parts = torch.cat(
        [sample(wrapper, plan, (1, 2), seed=1, ids=torch.tensor([number])) for number in range(3)]
    )
    torch.testing.assert_close(x, parts, rtol=1e-5, atol=1e-6)  # float32 sums in another order


@pytest.mark.parametrize(
    "solver", ["ddim", "em", "pc", "heun", "ode", "scipy:rtol=1e-3", "dpm-adaptive-12", "parallel"]
)
def test_a_user_s_minimal_class_is_enough_for_each_kind_of_solver(solver):
    given, nfe = Minimal(), 100 if solver != "scipy:rtol=1e-3" else 1000
    exact = sample(ExactDenoiser(DATA, VPSDE()), solver, (2, 2), nfe=nfe)
    assert torch.equal(sample(given, solver, (2, 2), nfe=nfe), exact)
    counted = Counted(given)
    assert torch.equal(sample(counted, solver, (2, 2), nfe=nfe), exact)
    assert 0 < counted.calls <= nfe


def test_a_label_is_checked_by_the_network_of_a_foreign_denoiser():
    given = Around(Net().eval())
    plan = prepare("ddim", VPSDE(), 3)
    for of in (given, Counted(given), Scaled(as_denoiser(given), 1.0)):
        with pytest.raises(ValueError, match=r"labels in \[0, 3\], 3 for no class, got 0 to 4"):
            sample(of, plan, (2, 2), cond=torch.tensor([0, 4]))
        assert sample(of, plan, (2, 2), cond=torch.tensor([0, 3], dtype=torch.uint8)).shape == (2, 2)


class Dropping(nn.Dropout):
    """A network that is dropout."""

    def forward(self, x, t, cond=None):
        return super().forward(x)


class Hidden(nn.Module):
    """A user's module with an sde, dropout inside and no ``net``."""

    sde = VPSDE()

    def __init__(self):
        super().__init__()
        self.layer = nn.Dropout(0.5)

    def forward(self, x, level):
        return self.layer(x)


@pytest.mark.parametrize(
    "given",
    [Hidden, lambda: Around(Dropping(0.5)), lambda: Scaled(as_denoiser(Around(Dropping(0.5))), 1.0)],
    ids=["a module", "with net", "wrapped"],
)
@pytest.mark.parametrize("wrap", [lambda given: given, Counted], ids=["as it is", "counted"])
def test_a_foreign_network_in_training_mode_is_warned_of(given, wrap):
    with pytest.warns(UserWarning, match="the network is in training mode"):
        sample(wrap(given()), "ddim", (2, 2), nfe=1)


@pytest.mark.slow
def test_compiled_runs_count_outside_of_the_compiled_network():
    net, compiled = Net().eval(), []
    denoiser = Denoiser(net, VPSDE(), predict.data)

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    seen, expected = [], {nfe: sample(denoiser, "ddim", (4, 2), nfe=nfe) for nfe in (3, 5)}
    torch._dynamo.reset()
    counted = Counted(Observed(denoiser, lambda x, level, estimate: seen.append(len(x))))
    with pytest.MonkeyPatch.context() as patch:
        real = torch.compile
        patch.setattr(torch, "compile", lambda f, **options: real(f, backend=backend, **options))
        for nfe in expected:
            x = sample(counted, "ddim", (4, 2), nfe=nfe, compile=True, batch_size=2)
            # Compiled sums differ by roundings.
            torch.testing.assert_close(x, expected[nfe], rtol=1e-5, atol=1e-6)
    compiled_runs._kernel.cache_clear()
    compiled_runs._drawn.cache_clear()
    assert (counted.calls, counted.evaluations) == (16, 32)
    assert seen == [2] * 16
    networks = [graph for graph in compiled if any("layer" in node.name for node in graph.graph.nodes)]
    assert len(networks) == 1


def test_levels_of_each_sample_pass_through_wrappers():
    wrapper = Scaled(Counted(trained()), 2.0)
    level = VPSDE().level(torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64))
    x = torch.ones(3, 2)
    expected = [trained()(x[:1], Level(*(n[k].item() for n in level))) for k in range(3)]
    torch.testing.assert_close(wrapper(x, level), 2 * torch.cat(expected), rtol=1e-6, atol=0)
    assert per_sample(level.t, x).shape == (3, 1)
