"""Compiled runs: the same samples, one compilation, no more bytes than the rows have vectors."""

import shutil
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from scoresde import EDM, VPSDE, Counted, Denoiser, Level, Noise, Plan, integrate, predict, prepare, sample
from scoresde.networks import MLP
from scoresde.plans import compiled
from scoresde.plans.compiled import compiled_noise, integrate_compiled
from scoresde.sampling.capture import captured
from tests.problems import mixture, normal

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # torch's compiler's own
compiles = pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    torch._dynamo.reset()
    compiled._drawn.cache_clear()
    compiled._kernel.cache_clear()


def graphs() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


@compiles
def test_rows_of_any_length_are_summed_as_without_compilation() -> None:
    """Rows of two to five terms; in float64 only the order of roundings differs."""

    def received(point: Tensor, level: Level[Any]) -> Tensor:
        assert all(isinstance(number, Tensor) and number.ndim == 0 for number in level)
        return mixture(point, Level(*(number.item() for number in level)))

    x = 80 * normal(30)
    before = graphs()
    for name in ("ddim", "unipc"):
        plan = prepare(name, EDM(), 12)
        assert isinstance(plan, Plan)
        expected = integrate(plan, mixture, x.clone())
        assert torch.allclose(integrate_compiled(plan, received, x), expected, rtol=1e-12, atol=1e-12), name
    assert torch.equal(x, 80 * normal(30))
    made = graphs() - before
    assert made == 5  # one for every number of terms, and for the first line, not in place
    for steps in (5, 50):  # and no more, whatever the plan and the batch
        plan = prepare("unipc", VPSDE(), steps)
        assert isinstance(plan, Plan)
        integrate_compiled(plan, lambda point, level: point.clone(), normal(40))
    assert graphs() - before == made


@compiles
def test_samples_are_drawn_by_compiled_code() -> None:
    denoiser = Denoiser(lambda x, t: x * torch.cos(t)[:, None], VPSDE(), predict.edm())
    counted = Counted(denoiser)
    expected = sample(denoiser, "ancestral", (6, 2), nfe=8, seed=3)
    before = graphs()
    found = sample(counted, "ancestral", (6, 2), nfe=8, seed=3, compile=True)
    # Eight steps of some twenty float32 roundings each, on numbers of about 1.
    assert torch.allclose(found, expected, atol=1e-4)
    assert (counted.calls, counted.evaluations) == (8, 48)
    made = graphs() - before
    assert made >= 3  # the network, the noise, the sums
    sample(counted, "ancestral", (6, 2), nfe=20, seed=4, compile=True)
    assert graphs() - before == made  # neither levels, nor draws, nor the seed are compiled in


@compiles
@pytest.mark.parametrize("seed", [0, -1, 2**63 + 5, 2**70 + 1])
def test_compiled_noise_is_the_noise(seed: int) -> None:
    noise = Noise(seed, torch.tensor([0, 3, 2**40]), (5,))
    # Logarithm, root and cosine may each differ in the last place.
    assert torch.allclose(compiled_noise(noise)(7), noise(7), atol=2e-6)


@pytest.fixture
def _at_the_first_limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch compiles every function once, and only traces it, which the limit is counted by."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    compiled._drawn.cache_clear()
    compiled._kernel.cache_clear()
    with torch._dynamo.config.patch(recompile_limit=1):
        yield


@pytest.mark.usefixtures("_at_the_first_limit")
def test_every_kind_of_shape_has_a_function_of_its_own() -> None:
    plan = prepare("ddim", EDM(), 3)
    assert isinstance(plan, Plan)
    for shape in ((3,), (3, 2), (1, 4), (2, 2, 2)):
        noise = Noise(5, torch.arange(shape[0]), shape[1:])
        assert torch.equal(compiled_noise(noise)(7), noise(7)), shape
        x = 80 * normal(*shape)
        expected = integrate(plan, mixture, x)
        found = integrate_compiled(plan, lambda x, level: mixture(x, Level(*map(float, level))), x)
        assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12), shape


@pytest.mark.usefixtures("_at_the_first_limit")
def test_beyond_torchs_limit_a_sum_is_not_compiled_which_is_said_once() -> None:
    total = compiled._compiled(compiled._total, "of_a_test")
    one, other = torch.ones(4), torch.ones(2, 2, dtype=torch.float64)
    assert torch.equal(total(torch.tensor([2.0, 3.0]), (one, one)), 5 * one)
    with pytest.warns(UserWarning, match="torch compiles _total for no more kinds of tensors"):
        assert torch.equal(total(torch.tensor([2.0, 3.0]), (other, other)), 5 * other)
    for vector in (other, one):  # and nothing more is said: a warning is an error in these tests
        assert torch.equal(total(torch.tensor([2.0, 3.0]), (vector, vector)), 5 * vector)


def test_what_is_no_plan_is_not_compiled() -> None:
    denoiser = Denoiser(MLP(2), VPSDE(), predict.noise)
    with pytest.raises(ValueError, match="compile is for plans"):
        sample(denoiser, "dpm-adaptive-12", (4, 2), compile=True)


def test_a_run_is_not_captured_without_a_gpu() -> None:
    denoiser = Denoiser(MLP(2), VPSDE(), predict.noise)
    plan = prepare("ddim", VPSDE(), 5)
    with pytest.raises(ValueError, match="device must be an available CUDA device"):
        captured(denoiser, plan, (4, 2), device="cpu")
    with pytest.raises(TypeError, match="plan must be a Plan"):
        captured(denoiser, "ddim", (4, 2))  # type: ignore[arg-type]
