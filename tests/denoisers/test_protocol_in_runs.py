"""Denoisers of each kind, in wrappers of each kind, in runs."""

import pytest
import torch
from torch import nn

from scoresde import (
    VPSDE,
    Counted,
    Denoiser,
    ExactDenoiser,
    Level,
    Plan,
    predict,
    prepare,
    sample,
)
from scoresde.denoisers.protocol import (
    Watched,
    as_denoiser,
)
from scoresde.plans import compiled as compiled_runs
from scoresde.processes.level import per_sample
from tests.denoisers.wrappers import DATA, Around, Minimal, Net, Scaled, each_wrapper, trained


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
    counted = Counted(Watched(denoiser, lambda x, level, estimate: seen.append(len(x))))
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
