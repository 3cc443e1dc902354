"""Conditions of nested structure: their rows, moves, joins and checks."""

from typing import Any, NamedTuple

import pytest
import torch

from scoresde import Counted, Denoiser, Transported, predict
from scoresde.denoisers.conditions import (
    alike,
    check_rows,
    in_turn,
    joined,
    leaves,
    mapped,
    moved,
    rows_of,
)
from scoresde.denoisers.protocol import Foreign, Wrapper, checked
from tests.denoisers.wrappers import Around, Net, trained


class Texts(NamedTuple):
    short: torch.Tensor
    long: torch.Tensor | None


def nested(first: int = 0, n: int = 5) -> dict[str, Any]:
    """A condition of each kind of structure; every number of sample i is i."""
    i = torch.arange(first, first + n)
    return {
        "label": i,
        "texts": Texts(i[:, None].expand(n, 3).double(), None),
        "more": [i.float(), (), (i[:, None, None], {})],
    }


def same(a: Any, b: Any) -> bool:
    """Equal structures, types of containers included, of equal tensors."""
    pairs = zip(leaves(a), leaves(b), strict=True)
    values = all(
        p == q and (torch.equal(s, t) and s.dtype == t.dtype if isinstance(s, torch.Tensor) else s is t)
        for (p, s), (q, t) in pairs
    )
    return values and repr(mapped(lambda _: 0, a)) == repr(mapped(lambda _: 0, b))


def test_rows_are_of_each_tensor_and_the_structure_stays():
    whole = nested()
    assert same(rows_of(whole, slice(1, 3)), nested(1, 2))
    assert same(joined(rows_of(whole, torch.tensor([3])), rows_of(whole, slice(4, 5))), nested(3, 2))
    assert isinstance(rows_of(whole, slice(2))["texts"], Texts)
    assert rows_of(None, slice(2)) is moved(None, "cpu") is joined(None, None) is None
    assert moved(whole, "meta")["more"][2][0].device.type == "meta"


def test_conditions_in_turn():
    assert same(in_turn(nested(0, 3), torch.tensor([4, 0, 5])), rows_of(nested(), torch.tensor([1, 0, 2])))
    assert in_turn(None, torch.arange(3)) is None


def test_every_part_has_its_path():
    paths = [path for path, _ in leaves(nested())]
    assert paths == [
        "cond['label']",
        "cond['texts'][0]",
        "cond['texts'][1]",
        "cond['more'][0]",
        "cond['more'][2][0]",
    ]
    assert [path for path, _ in leaves(torch.ones(2), "y")] == ["y"]


def test_structures_are_alike_if_their_rows_can_be_joined():
    assert alike(nested(), nested(3, 1))
    assert alike(None, None)
    label = torch.arange(3)
    for other in (None, (label,), {"a": label}, label.float(), label[:, None]):
        assert not alike(label, other)
    assert not alike((label, None), (label, label))


def test_a_part_that_does_not_fit_is_named():
    check_rows(nested(), 5)
    check_rows(None, 5)
    check_rows((None, {}), 5)
    with pytest.raises(ValueError, match=r"cond\['label'\] must hold 4 conditions, .* got shape \(5,\)"):
        check_rows(nested(), 4)
    wrong = nested()
    wrong["more"][2] = (torch.ones(4, 1), {})
    with pytest.raises(ValueError, match=r"cond\['more'\]\[2\]\[0\] must hold 5 conditions, .*\(4, 1\)"):
        check_rows(wrong, 5)
    with pytest.raises(TypeError, match=r"cond\[1\]\['a'\] must be a tensor, got str"):
        check_rows((None, {"a": "a cat"}), 5)


class Pair(Wrapper):
    """A wrapper whose condition is a pair; the first is of the denoiser inside."""

    def __init__(self, denoiser):
        self.denoiser = denoiser

    def at(self, dtype):
        return Pair(self.denoiser.at(dtype))

    def checked(self, cond, path="cond"):
        inner, y = cond
        return checked(self.denoiser, inner, f"{path}[0]"), y

    def __call__(self, x, level, cond=None):
        return self.denoiser(x, level, cond[0])


@pytest.mark.parametrize("inner", [trained, lambda: Foreign(Around(Net()), trained().sde, Net())])
@pytest.mark.parametrize("wrap", [lambda d: d, Counted, lambda d: Counted(Transported(d, "edm"))])
def test_labels_are_checked_inside_all_wrappers(inner, wrap):
    denoiser = wrap(inner())
    label = torch.tensor([0, 3, 1])
    found = checked(denoiser, label.to(torch.uint8))
    assert torch.equal(found, label)
    assert found.dtype == torch.int64
    structure = {"label": label.float()}  # a network may take a structure, and checks it itself
    assert checked(denoiser, structure) is structure
    with pytest.raises(ValueError, match=r"cond must hold labels in \[0, 3\], 3 for no class, got 0 to 4"):
        checked(denoiser, torch.tensor([0, 4]))
    pair = Counted(Pair(denoiser))
    y = torch.ones(3, 7)
    assert same(checked(pair, (label.to(torch.int16), y)), (label, y))
    with pytest.raises(ValueError, match=r"cond\[0\] must hold labels, integers of shape \(3,\), .*float32"):
        checked(pair, (label.float(), y))


def test_a_denoiser_without_classes_takes_any_tensor():
    cond = torch.tensor([[float("nan")]])
    assert checked(Denoiser(lambda x, t, c: x, "vp", predict.data), cond) is cond
