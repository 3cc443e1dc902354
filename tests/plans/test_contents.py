"""Which settings of a network a fingerprint sees, whatever their type."""

import datetime
import decimal
import enum
import fractions
import os
import subprocess
import sys
from collections import OrderedDict, deque
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.plans.test_calls import STATEFUL, Buffered, Held, weights


class Slotted:
    __slots__ = ("scale", "unset")

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return self.scale * x


class Below(Slotted):
    __slots__ = ("offset",)

    def __init__(self, scale: float, offset: float) -> None:
        super().__init__(scale)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Frozen:
    scale: float


class Mode(enum.Enum):
    ONE = 1
    TWO = 2


class Set(nn.Module):
    """A guidance scale that a separate method sets; no call uses this method."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.set_to(scale)

    def set_to(self, scale: float) -> None:
        self.scale = scale

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.scale * x


def objects(*values: Any) -> Any:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


NOW = datetime.datetime(2020, 1, 1)


PAIRS: dict[str, tuple[Any, Any]] = {
    "numpy scalar": (np.float32(2.5), np.float32(3.5)),
    "numpy integer": (np.int64(2), np.int64(3)),
    "array": (np.array([1.0, 2.0]), np.array([1.0, 3.0])),
    "array of another shape": (np.zeros((2, 3)), np.zeros((3, 2))),
    "array of objects": (objects("a", 1.5), objects("a", 2.5)),
    "date of numpy": (np.datetime64("2020-01-01"), np.datetime64("2020-01-02")),
    "set": ({1, 2, 3}, {1, 2, 4}),
    "frozen set of words": (frozenset("abc"), frozenset("abd")),
    "slice": (slice(0, 2), slice(0, 3)),
    "slice of tensors": (slice(0, torch.tensor(2)), slice(0, torch.tensor(3))),
    "fraction": (fractions.Fraction(1, 3), fractions.Fraction(2, 3)),
    "decimal": (decimal.Decimal("0.1"), decimal.Decimal("0.2")),
    "complex": (1 + 2j, 1 + 3j),
    "not a number": (float("nan"), float("inf")),
    "enum": (Mode.ONE, Mode.TWO),
    "date": (NOW, NOW + datetime.timedelta(1)),
    "range": (range(3), range(4)),
    "deque": (deque([1.5]), deque([2.5])),
    "slots": (Slotted(1.5), Slotted(2.5)),
    "slots below": (Below(1.5, 0.0), Below(1.5, 1.0)),
    "slots above": (Below(1.5, 0.0), Below(2.5, 0.0)),
    "slots of a dataclass": (Frozen(1.5), Frozen(2.5)),
    "keys": ({1.5: "a"}, {2.5: "a"}),
    "keys and values": ({"a": "b"}, {"b": "a"}),
    "where a list is cut": ([1, 23], [12, 3]),
    "what is within what": ([[1, 2], [3]], [[1], [2, 3]]),
    "bytes": (b"a", "a"),
    "bytearray": (bytearray(b"a"), bytearray(b"b")),
    "type": (torch.float32, torch.float64),
    "class": (nn.SiLU, nn.ReLU),
    "activation": (nn.SiLU(), nn.ReLU()),
    "function of torch": (torch.tanh, torch.sin),
    "function of a module": (np.tanh, np.sin),
    "number in code": (lambda x, t: 1.5 * x, lambda x, t: 2.5 * x),
    "name in code": (lambda x, t: x.tanh(), lambda x, t: x.sin()),
    "number within what is within": (lambda x: [1.5 * y for y in x], lambda x: [2.5 * y for y in x]),
    "complex tensor": (torch.tensor([1 + 1j]), torch.tensor([1 + 2j])),
    "low precision": (torch.tensor([1.0]).bfloat16(), torch.tensor([2.0]).bfloat16()),
    "sparse tensor": (torch.eye(2).to_sparse(), 2 * torch.eye(2).to_sparse()),
    "setter": (Set(1.5), Set(2.5)),
}


@pytest.mark.parametrize("case", PAIRS)
@pytest.mark.parametrize("hold", [Held, lambda value: partial(Held(0), extra=value)], ids=["held", "partial"])
def test_settings_of_every_type_are_seen(case: str, hold: Any) -> None:
    one, other = PAIRS[case]
    assert weights(hold(one)) == weights(hold(one))
    assert weights(hold(one)) != weights(hold(other))


def test_what_is_the_same_setting_is_one() -> None:
    for same in (
        (2, 2.0, np.float32(2), np.int8(2)),
        ({1: 2, 3: 4}, {3: 4, 1: 2}, OrderedDict({3: 4, 1: 2})),
        ([1, 2], (1, 2)),
    ):
        assert len({weights(Held(value)) for value in same}) == 1
    one = {"a": 1}
    assert weights(Held([one, one])) == weights(Held([one, dict(one)]))
    around: list[Any] = [1]
    around.append(around)
    assert weights(Held(around)) == weights(Held(around))


class Own:
    """Says what it is."""

    def __init__(self, scale: float, hidden: Any) -> None:
        self.scale, self.hidden = scale, hidden

    def __fingerprint__(self) -> Any:
        return {"scale": self.scale}

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return self.scale * x


def test_an_object_says_what_it_is() -> None:
    def nothing() -> Any:
        yield 1

    assert weights(Own(1.5, nothing())) == weights(Own(1.5, 3)) != weights(Own(2.5, 3))


def test_what_cannot_be_seen_is_warned_of() -> None:
    with pytest.warns(
        UserWarning, match=r"does not cover objects of builtins.generator: .*__fingerprint__"
    ) as warned:
        weights(Held(one for one in (1, 2)))
    assert len(warned) == 1


def all_of_them() -> list[Any]:
    return [
        *(Held(pair[0]) for pair in PAIRS.values()),
        *(make() for make in STATEFUL.values() if make is not Buffered),
    ]


def test_another_process_finds_the_same() -> None:
    program = "from tests.plans.test_contents import *; print(*map(weights, all_of_them()))"
    command = [sys.executable, "-c", program]
    found = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "7"}, check=True
    )
    assert found.stdout.split() == list(map(weights, all_of_them()))
