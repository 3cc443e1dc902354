"""Guidance in runs of every solver: finite, the same in any batch, with the calls that it states."""

from typing import Any

import pytest
import torch

from scoresde import SOLVERS, VPSDE, Counted, Plan, guided, prepare, sample
from scoresde.conditioning import (
    Classified,
    Composed,
    Cost,
    Given,
    Interval,
    Projected,
    Rescaled,
    Thresholded,
    cost_at,
)
from scoresde.plans import compiled as compiled_runs
from tests.conditioning.guided_networks import LABELS, NONE, B, network
from tests.denoisers.wrappers import trained
from tests.problems import COUPLED, TABLES, calls

LOOSE = {"adaptive-em": "adaptive-em:rtol=1.0,atol=0.3"}
INTERVAL = Interval(2.5, 0.2, 5.0, 0.15)


@pytest.mark.parametrize("together", [True, False], ids=["one call", "two calls"])
@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_runs_on_guidance(name: str, together: bool) -> None:
    """A sample has the same bits in any batch, alone and under any order of the numbers."""
    one = guided(network(), None, INTERVAL, together=together)
    nfe, spec = calls(name, 6), LOOSE.get(name, name)
    whole = sample(one, spec, (B, 2), nfe=nfe, cond=LABELS)
    assert whole.isfinite().all()
    assert not torch.equal(sample(network(), spec, (B, 2), nfe=nfe, cond=LABELS), whole)
    if name in COUPLED:
        return
    assert torch.equal(sample(one, spec, (B, 2), nfe=nfe, cond=LABELS, batch_size=2), whole)
    ids = torch.tensor([4, 1])
    some = sample(one, spec, (2, 2), nfe=nfe, cond=LABELS[ids], ids=ids)
    assert torch.equal(some, whole[ids])


@pytest.mark.parametrize("name", SOLVERS)
def test_weight_1_is_the_network_in_every_run(name: str) -> None:
    nfe, spec = calls(name, 6), LOOSE.get(name, name)
    runs = [
        sample(of, spec, (B, 2), nfe=nfe, cond=LABELS)
        for of in (network(), guided(network(), None, 1.0), guided(network(), None, Interval(1.0, 0.3, 2.0)))
    ]
    assert torch.equal(runs[0], runs[1])
    assert torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("interval", [Interval(2.0, 0.2, 5.0), INTERVAL, 2.0, 1.0], ids=str)
@pytest.mark.parametrize("name", TABLES)
def test_the_stated_cost_is_what_is_counted(name: str, interval: Any) -> None:
    """A hard interval saves exactly the calls outside it."""
    counted = Counted(network())
    one = guided(counted, None, interval)
    plan = prepare(name, VPSDE(), max(12, calls(name, 12) or 0))
    assert isinstance(plan, Plan)
    stated = [cost_at(one, level).calls for level in plan.levels]
    sample(one, plan, (B, 2), cond=LABELS)
    assert counted.evaluations == B * sum(stated)
    assert counted.calls == len(stated) == plan.nfe
    if interval == Interval(2.0, 0.2, 5.0):
        assert {1, 2} == set(stated)


def log_prob(x: torch.Tensor, level: Any, cond: torch.Tensor) -> torch.Tensor:
    return -(x.flatten(1) - cond[:, None]).square().sum(1) / (1 + level.sigma**2)


WRAPPERS: dict[str, Any] = {
    "rescaled": lambda net: guided(net, None, INTERVAL, rule=Rescaled(0.7)),
    "projected": lambda net: guided(net, None, INTERVAL, rule=Projected(0.5)),
    "both": lambda net: guided(net, None, INTERVAL, rule=Rescaled(0.7, Projected(0.5, 0.2))),
    "static": lambda net: Thresholded(guided(net, None, 3.0)),
    "dynamic": lambda net: Thresholded(guided(net, None, 3.0), 0.5, 0.9),
    "classified": lambda net: Classified(net, log_prob, 0.7),
    "given": lambda net: Given(net, 1),
    "guided twice": lambda net: guided(guided(net, None, 2.0), 1, INTERVAL),
}


@pytest.mark.parametrize("solver", ["deis", "dpmpp-2m-sde", "dpm-adaptive-12:rtol=0.2", "ode"])
@pytest.mark.parametrize("name", WRAPPERS)
def test_every_wrapper_treats_each_sample_by_itself(name: str, solver: str) -> None:
    counted = Counted(network())
    one, shape = WRAPPERS[name](counted), (1, 4, 4)
    nfe = calls(solver.partition(":")[0], 6)
    whole = sample(one, solver, (B, *shape), nfe=nfe, cond=LABELS)
    assert whole.isfinite().all()
    assert not whole.requires_grad
    for size in (1, 2):
        parts = sample(one, solver, (B, *shape), nfe=nfe, cond=LABELS, batch_size=size)
        assert torch.equal(parts, whole)
    if solver == "deis":
        plan: Any = prepare(solver, VPSDE(), 6)
        counted.evaluations = 0
        sample(one, plan, (B, *shape), cond=LABELS)
        total = sum((cost_at(one, level) for level in plan.levels), start=Cost(0, 0))
        assert counted.evaluations == B * total.calls
        assert total.vjps == (plan.nfe if name == "classified" else 0)


@pytest.mark.parametrize("together", [True, False])
def test_several_conditions_follow_their_samples(together: bool) -> None:
    net = Counted(network())
    one = Composed(net, (0.7, 0.0, 0.8, -0.5), together=together)
    cond = (LABELS, LABELS.flip(0), torch.ones(B, dtype=torch.int32), torch.full((B,), NONE))
    whole = sample(one, "dpmpp-2m-sde", (B, 2), nfe=6, cond=cond)
    assert net.evaluations == 3 * B * 6
    assert cost_at(one, VPSDE().level_at(0.5)) == Cost(3, 0)
    assert torch.equal(sample(one, "dpmpp-2m-sde", (B, 2), nfe=6, cond=cond, batch_size=2), whole)


@pytest.mark.slow
def test_a_compiled_run() -> None:
    """Its levels are tensors, so that no interval branches, and one compilation serves all levels."""
    torch._dynamo.reset()
    graphs: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    one = guided(trained(), None, Interval(2.5, 0.2, 5.0))
    expected = sample(one, "dpmpp-2m", (B, 2), nfe=8, cond=LABELS)
    with pytest.MonkeyPatch.context() as patch:
        real = torch.compile
        patch.setattr(torch, "compile", lambda f, **options: real(f, backend=backend, **options))
        x = sample(one, "dpmpp-2m", (B, 2), nfe=8, cond=LABELS, compile=True)
    compiled_runs._kernel.cache_clear()
    compiled_runs._drawn.cache_clear()
    torch.testing.assert_close(x, expected, rtol=1e-5, atol=1e-6)  # sums differ by roundings
    networks = [graph for graph in graphs if any("layer" in node.name for node in graph.graph.nodes)]
    assert len(networks) == 1


def test_gradients_are_not_compiled() -> None:
    net = network()
    with pytest.raises(ValueError, match="compile is for denoisers without gradients; compile the network"):
        sample(Counted(Classified(net, log_prob)), "ddim", (B, 2), nfe=3, cond=LABELS, compile=True)
    assert net.net.calls == 0
