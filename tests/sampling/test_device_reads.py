"""Runs never wait for the device, and are one graph of torch.compile."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from scoresde import (
    VPSDE,
    Denoiser,
    Noise,
    Plan,
    integrate,
    predict,
    sample,
    solver_of,
)
from tests.problems import (
    TABLES,
    Net,
    normal,
)


class HostReads(TorchDispatchMode):
    """Counts the operations that would make the host wait for a GPU."""

    names = ("_local_scalar_dense", "item", "equal", "is_nonzero", "nonzero", "_linalg_check_errors")

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count[func._schema.name.split("::")[1]] += 1
        return func(*args, **(kwargs or {}))

    @property
    def total(self) -> int:
        return sum(self.count[name] for name in self.names)


def test_the_counter_sees_a_host_read() -> None:
    x = torch.ones(1)
    for read in (x.item, lambda: bool(x > 0), lambda: float(x), x.nonzero, lambda: torch.equal(x, x)):
        with HostReads() as reads:
            read()  # type: ignore[operator]
        assert reads.total


@pytest.mark.parametrize("name", [*TABLES, "pc:measured=true"])
def test_a_run_never_reads_from_the_device(name: str) -> None:
    plan = Plan.make(solver_of(name), VPSDE(), 12)  # type: ignore[arg-type]
    noise = Noise(0, torch.arange(4), (2,))
    denoiser = Denoiser(Net(), VPSDE(), predict.v)
    with torch.no_grad(), HostReads() as reads:
        integrate(plan, denoiser, noise(0), lambda i: noise(i + 1))
    assert reads.total == 0
    assert reads.count["mul"] > 12  # it did look


@pytest.mark.parametrize("name", TABLES)
def test_one_read_checks_a_whole_run(name: str) -> None:
    """Is the end finite? That is all that ``sample`` asks the device, whatever the number of steps."""
    plans = [Plan.make(TABLES[name], VPSDE(), steps) for steps in (3, 10)]
    reads = []
    for plan in plans:
        with HostReads() as mode:
            sample(Denoiser(Net(), VPSDE(), predict.v), plan, (4, 2))
        reads.append(mode.total)
    assert reads[0] == reads[1] <= 2  # the number, and how torch asks for it


def graphs_of(run: Callable[[Tensor], Tensor], x: Tensor) -> int:
    """Compile with fullgraph: nothing may fall back to Python. Check the bits, and count the graphs."""
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: Sequence[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    with torch.no_grad():
        compiled = torch.compile(run, fullgraph=True, backend=backend)(x)
        assert torch.equal(compiled, run(x))  # the same operations one after the other
    return len(graphs)


@pytest.mark.parametrize("name", [*TABLES, "pc:measured=true"])
def test_a_run_is_one_graph(name: str) -> None:
    """Network and all."""
    plan = Plan.make(solver_of(name), VPSDE(), 5)  # type: ignore[arg-type]
    denoiser = Denoiser(Net(), VPSDE(), predict.v)
    z = normal(40, 4, 2).float()
    assert graphs_of(lambda x: integrate(plan, denoiser, x, lambda i: z[i]), z[-1]) == 1


def test_noise_is_made_in_the_graph_of_its_run() -> None:
    plan = Plan.make(TABLES["ancestral"], VPSDE(), 3)
    denoiser = Denoiser(Net(), VPSDE(), predict.v)

    def run(ids: Tensor) -> Tensor:
        noise = Noise(7, ids, (2,))
        return integrate(plan, denoiser, plan.start.sigma * noise(0), lambda i: noise(i + 1))

    assert graphs_of(run, torch.arange(4)) == 1


# The ways of asking.
