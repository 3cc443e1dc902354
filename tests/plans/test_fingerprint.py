"""Which settings of a network a fingerprint sees, and what it must not see: what a call changes."""

import datetime
import decimal
import enum
import fractions
import logging
import os
import random
import subprocess
import sys
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scoresde import EDM, SOLVERS, VPSDE, Counted, Denoiser, Plan, Transported, predict, sample, tune
from scoresde.plans.fingerprint import check_made_for, fingerprint
from scoresde.pretrained import pretrained
from scoresde.sampling.tuned import SHIPPED
from scoresde.tuning import Settings
from tests.problems import Net


def weights(net: Any) -> str:
    return fingerprint(Denoiser(net, EDM(), predict.v).eval())["weights"]


class Held:
    """A network that holds something."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return x / 2


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
    """A guidance scale that is set by a method of its own, which no call uses."""

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


def scaled(x: Tensor, t: Tensor) -> Tensor:
    return 0.5 * x


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


# What a call changes.


class Stats:
    def __init__(self) -> None:
        self.value = 0


class Counting:
    def __init__(self) -> None:
        self.calls, self.seconds, self.last = 0, 0.0, None
        self.cache: dict[Any, Any] = {}
        self.history: list[float] = []
        self.stats, self.seen, self.total = Stats(), set(), torch.zeros(())
        self.lock, self.generator, self.log = threading.Lock(), torch.Generator(), logging.getLogger("names")
        self.random, self.numpy = random.Random(1), np.random.default_rng(1)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        self.cache[float(t[0])] = x
        self.stats.value += 1
        self.total.add_(1)
        (self.last, self.seconds), self.half = (x, self.seconds + 1.0), None
        return self._told(x) + torch.rand(1, generator=self.generator)

    def _told(self, x: Tensor) -> Tensor:
        self.history.append(1.0)
        self.seen.add(self.random.random() + self.numpy.random())
        return self.wide * x

    @property
    def wide(self) -> float:
        self.asked = True
        return 1.0

    @cached_property
    def once(self) -> float:
        return 1.0


class Inherited(Counting):
    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return super().__call__(x, t) + self.once


class Slots:
    __slots__ = ("calls", "scale")

    def __init__(self) -> None:
        self.calls, self.scale = 0, 2.0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        return self.scale * x


@dataclass
class Fields:
    calls: int = 0
    seen: list[float] = field(default_factory=list)

    def run(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        self.seen.append(1.0)
        return x / 2


class Buffered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))
        self.inner, self.calls = nn.Linear(2, 2), 0

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.steps += 1
        self.calls += 1
        return self.inner(x)


class Touching(nn.Module):
    """Works in place on what it is made of, and calls a method of its network that a list might have."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.weight, self.guide = nn.Parameter(torch.tensor([scale, 1.0])), Guide(scale)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.weight.data.clamp_(min=0)
        self.guide.update(x)
        return self.weight * self.guide(x, t)


class Guide(Held):
    def update(self, x: Tensor) -> None:
        pass


def touching(net: Any) -> Any:
    def outer(x: Tensor, t: Tensor) -> Tensor:
        net.update(x)
        net.last = x
        return net(x, t)

    return outer


def nonlocally() -> Any:
    calls, seen, cache = 0, [], {}

    def net(x: Tensor, t: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        seen.append(calls)
        cache[calls] = x
        return x / 2

    return net


def cached() -> Any:
    @lru_cache
    def table(t: float) -> float:
        return t / 2

    return lambda x, t: x * table(float(t[0]))


STATEFUL = {
    "attributes": Counting,
    "inherited": Inherited,
    "slots": Slots,
    "method of a dataclass": lambda: Fields().run,
    "buffers": Buffered,
    "variables": nonlocally,
    "cache": cached,
    "module of the tests": Net,
    "within": lambda: Held([Counting(), Slots()]),
    "partial": lambda: partial(Counting()),
}


@pytest.mark.parametrize("case", STATEFUL)
def test_what_a_call_changes_is_no_setting(case: str) -> None:
    net = STATEFUL[case]()
    before = weights(net)
    calls = [net, *(net.value if isinstance(net, Held) else [])]
    for one in calls:
        for _ in range(3):
            one(torch.ones(2, 2), torch.ones(2))
    assert weights(net) == before


def test_weights_and_networks_are_seen_whatever_is_done_to_them() -> None:
    one, other = Touching(1.5), Touching(2.5)
    assert weights(one) != weights(other)
    other.weight = one.weight
    assert weights(one) != weights(other)
    assert weights(touching(Guide(1.5))) != weights(touching(Guide(2.5)))


def test_the_settings_beside_what_changes_are_seen() -> None:
    one, other = Slots(), Slots()
    other.scale = 3.0
    assert weights(one) != weights(other)
    one, other = Counting(), Counting()
    other.extra = 3.0
    assert weights(one) != weights(other)
    assert weights(cached()) == weights(cached())


def test_wrappers_hand_on_to_what_they_wrap() -> None:
    inner = Denoiser(Net(), EDM(), predict.v)
    counted = Counted(inner)
    counted.calls += 7
    assert fingerprint(counted) == fingerprint(inner)
    low = Denoiser(Net(), EDM(), predict.v, dtype=torch.bfloat16)
    assert fingerprint(Counted(Transported(low, VPSDE())))["dtype"] == "torch.bfloat16"
    compiled = partial(torch.compile, backend="eager")
    assert weights(compiled(Net())) == weights(nn.DataParallel(Net())) == weights(Net())
    assert weights(compiled(Net(0.4))) != weights(Net())
    assert weights(compiled(scaled)) == weights(scaled)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_network_without_a_stated_precision_has_that_of_its_parameters(dtype):
    assert fingerprint(Denoiser(nn.Linear(2, 2).to(dtype), EDM(), predict.v))["dtype"] == str(dtype)


def test_what_cannot_be_seen_is_warned_of() -> None:
    with pytest.warns(
        UserWarning, match=r"does not see what is in builtins.generator: .*__fingerprint__"
    ) as warned:
        weights(Held(one for one in (1, 2)))
    assert len(warned) == 1


# Plans and tunings.

PLAN = Plan.within(3, SOLVERS["ddim"], EDM())


def test_a_plan_knows_a_network_that_has_been_called() -> None:
    denoiser = Denoiser(Counting(), EDM(), predict.v)
    plan = replace(PLAN, about=fingerprint(denoiser))
    for of in (denoiser, Counted(denoiser)):
        for _ in range(2):
            sample(of, plan, (2, 2))  # a warning would be an error


def test_the_plans_that_ship_know_the_network_that_ships() -> None:
    denoiser = pretrained("mnist").denoiser
    files = sorted(SHIPPED.glob("tuned-*.json"))
    assert len(files) == 5
    for path in files:
        plan = Plan.load(path)
        assert plan.about is not None
        assert {key: plan.about[key] for key in fingerprint(denoiser)} == fingerprint(denoiser)
        check_made_for(plan, denoiser)
        check_made_for(plan, Counted(denoiser))
        with pytest.warns(UserWarning, match="another network"):
            check_made_for(plan, Denoiser(Net(), EDM(), predict.edm()))
        # A file of before says of its network what cannot be compared any more.
        check_made_for(replace(plan, about={**plan.about, "weights": "3aa9de7e54d84c76"}), denoiser)


def test_a_tuning_knows_its_teacher_again(tmp_path: Path) -> None:
    settings = Settings(
        samples=16, held_out=8, iterations=1, solvers=("ddim",), spacings=("karras",), starts=1
    )
    net = nonlocally()
    for _ in range(2):
        tune(Denoiser(net, EDM(), predict.v).eval(), 2, (2,), settings=settings, state=tmp_path)
        (tmp_path / "state-2.json").unlink()
    assert list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="another tuning"):
        tune(
            Denoiser(Held(np.float32(1)), EDM(), predict.v).eval(), 2, (2,), settings=settings, state=tmp_path
        )


def all_of_them() -> list[Any]:
    return [
        *(Held(pair[0]) for pair in PAIRS.values()),
        *(make() for make in STATEFUL.values() if make is not Buffered),
    ]


def test_another_process_finds_the_same() -> None:
    program = "from tests.plans.test_fingerprint import *; print(*map(weights, all_of_them()))"
    command = [sys.executable, "-c", program]
    found = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "7"}, check=True
    )
    assert found.stdout.split() == list(map(weights, all_of_them()))
