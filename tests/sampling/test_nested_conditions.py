"""A condition of several tensors follows its samples in every kind of run."""

from typing import Any

import pytest
import torch
from torch import Tensor

from scoresde import SOLVERS, VPSDE, Denoiser, captured, predict, prepare, sample, tune
from scoresde.denoisers.conditions import rows_of
from scoresde.plans import compiled as compiled_runs
from scoresde.sampling.capture import _overwrite, _parts
from scoresde.tuning import Settings
from scoresde.tuning.pairs import Pairs, initial_pairs, joined
from tests.problems import COUPLED, Net, calls


class Structured(Net):
    """Its output at each sample depends on two conditions of the sample, in a nested structure."""

    def forward(self, x: Tensor, t: Tensor, cond: Any = None) -> Tensor:
        a, b = cond["a"], cond["more"][1]
        assert len(a) == len(b) == len(x)
        assert cond["more"][0] is None
        return super().forward(x, t, a) + b


def conditions(n: int) -> dict[str, Any]:
    a = torch.linspace(-1, 1, n)
    return {"a": a, "more": (None, torch.stack([a**2, a**3], 1))}


def denoiser() -> Denoiser:
    return Denoiser(Structured().requires_grad_(False).eval(), VPSDE(), predict.data)


LOOSE = {"adaptive-em": "adaptive-em:rtol=1.0,atol=0.3"}


@pytest.mark.parametrize("name", SOLVERS)
def test_a_structure_follows_its_samples(name: str) -> None:
    """In any batch, and in a batch from which samples leave; alone to the last bit."""
    cond, nfe = conditions(5), calls(name, 6)
    name = LOOSE.get(name, name)
    whole = sample(denoiser(), name, (5, 2), nfe=nfe, cond=cond)
    assert whole.isfinite().all()
    assert not torch.equal(sample(denoiser(), name, (5, 2), nfe=nfe, cond=rows_of(cond, [1] * 5)), whole)
    if name in COUPLED:
        return
    assert torch.equal(sample(denoiser(), name, (5, 2), nfe=nfe, cond=cond, batch_size=2), whole)
    ids = torch.tensor([4, 1])
    some = sample(denoiser(), name, (2, 2), nfe=nfe, cond=rows_of(cond, ids), ids=ids)
    assert torch.equal(some, whole[ids])


def test_wrong_structures_are_refused_before_the_first_call() -> None:
    one = denoiser()
    cond = conditions(5)
    cond["more"] = (None, cond["more"][1][:4])
    with pytest.raises(ValueError, match=r"cond\['more'\]\[1\] must hold 5 conditions, .* \(4, 2\)"):
        sample(one, "ddim", (5, 2), nfe=4, cond=cond)
    assert one.net.calls == 0  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_compiled_run_takes_a_structure() -> None:
    torch._dynamo.reset()
    cond = conditions(4)
    expected = sample(denoiser(), "dpmpp-2m", (4, 2), nfe=5, cond=cond)
    with pytest.MonkeyPatch.context() as patch:
        real = torch.compile
        patch.setattr(torch, "compile", lambda f, **options: real(f, backend="eager", **options))
        x = sample(denoiser(), "dpmpp-2m", (4, 2), nfe=5, cond=cond, compile=True)
    compiled_runs._kernel.cache_clear()
    compiled_runs._drawn.cache_clear()
    torch.testing.assert_close(x, expected, rtol=1e-5, atol=1e-6)  # sums differ by roundings


def test_a_replay_overwrites_each_part_or_none() -> None:
    old = _parts(torch.arange(3), conditions(3))
    new = {"a": torch.tensor([7.0, 8.0, 9.0]), "more": (None, torch.ones(3, 2))}
    _overwrite(old, _parts(torch.tensor([5, 6, 7]), new))
    assert [None if part is None else part[0].tolist() for part in old.values()] == [5, 7, None, [1, 1]]
    ids = torch.arange(3)
    for other, words in (
        (None, r"cond\['a'\] must be like the recorded cond\['a'\], of shape \(3,\)"),
        ({**new, "b": ids}, r"cond\['b'\] must be like the recorded cond\['b'\], none, got of shape \(3,\)"),
        (
            {**new, "more": (None, torch.ones(3, 1))},
            r"cond\['more'\]\[1\] must be like .*got of shape \(3, 1\)",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            _overwrite(old, _parts(ids, other))
        assert old["ids"].tolist() == [5, 6, 7]  # type: ignore[union-attr]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_captured_run_has_another_structure_of_conditions_the_next_time() -> None:
    net = denoiser().to("cuda")
    plan: Any = prepare("dpmpp-2m", VPSDE(), 5)
    cond, shape = conditions(4), (4, 2)
    draw = captured(net, plan, shape, cond=rows_of(cond, [0, 0, 0, 0]))
    found = draw(torch.arange(4).cuda(), cond)
    expected = sample(net, plan, shape, cond=cond, device="cuda")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_pairs_hold_a_structure() -> None:
    ids = torch.tensor([0, 3, 4])
    pairs = initial_pairs(VPSDE(), (2,), conditions(3), 0, ids, "cpu")
    expected = rows_of(conditions(3), torch.tensor([0, 0, 1]))
    both = joined(pairs[:1], pairs[1:])
    for found in (pairs, both, Pairs(both.x, both.target, both.cond)):
        assert torch.equal(found.cond["a"], expected["a"])
        assert torch.equal(found.cond["more"][1], expected["more"][1])


@pytest.mark.slow
def test_a_network_with_a_structure_is_tuned() -> None:
    settings = Settings(
        samples=64, held_out=64, starts=1, finalists=1, iterations=2, solvers=("ddim", "deis")
    )
    plan, report = tune(denoiser(), 3, (2,), cond=conditions(3), settings=settings)
    assert plan.nfe == 3
    assert report.teacher.calls > 3
