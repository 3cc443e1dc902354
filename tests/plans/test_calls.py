"""What a call changes is not a setting: counters, caches and the like."""

import logging
import random
import threading
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scoresde import EDM, Denoiser, predict
from scoresde.plans.fingerprint import fingerprint
from tests.problems import Net


def weights(net: Any) -> str:
    return fingerprint(Denoiser(net, EDM(), predict.v).eval())["weights"]


class Held:
    """A network that holds something."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        return x / 2


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
