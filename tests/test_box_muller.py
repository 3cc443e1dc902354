"""The transform is that of Box and Muller to the accuracy of float32, and every device rounds it alike."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scoresde.box_muller import ATANH, SINE, box_muller
from tests.operations import OnlyExact

LEAST, MOST = -(2**31), 2**31 - 1
Array = np.ndarray[Any, Any]


def normal_of(a: Array, b: Array) -> tuple[Array, Array]:
    left, right = torch.empty(2, len(a))
    box_muller(torch.tensor(a, dtype=torch.int32), torch.tensor(b, dtype=torch.int32), left, right)
    return left.numpy(), right.numpy()


def exact(a: Array, b: Array) -> tuple[Array, Array, Array]:
    """The formula in float64, of the words as float32 has them: 24 bits of each."""
    angle = math.pi / 2 * a.astype(np.float32).astype(float) / 2**31
    u = np.abs((b.astype(np.float32) + np.float32(0.5)).astype(float)) / 2**31
    r = np.sqrt(-2 * np.log(u))
    return np.copysign(r, b) * np.cos(angle), r * np.sin(angle), r


def words(n: int, seed: int) -> Array:
    return np.random.default_rng(seed).integers(LEAST, MOST, n, endpoint=True)


@pytest.mark.parametrize(
    "b",
    [words(500_000, 1), np.arange(-250_000, 250_000), LEAST + np.arange(250_000), MOST - np.arange(250_000)],
    ids=["all", "tail", "least", "most"],
)
def test_the_numbers_are_those_of_the_formula(b: Array) -> None:
    """A few roundings of 2^-24 = 6e-8, and 6e-8 of the polynomial in the logarithm."""
    a = words(len(b), 2)
    a[:4] = LEAST, MOST, 0, 1
    *expected, r = exact(a, b)
    for number, value in zip(normal_of(a, b), expected, strict=True):
        assert np.isfinite(number).all()
        assert (np.abs(number - value) <= 4e-7 * r).all()


def test_float32_rounds_the_words_by_half_of_its_last_place() -> None:
    """Against the words with all their bits, u moves by 2^-25 and the angle by pi 2^-26 at most."""
    a, b = words(500_000, 3), words(500_000, 4)
    u = np.abs(b + 0.5) / 2**31
    r = np.sqrt(-2 * np.log(u))
    angle = math.pi / 2 * a / 2**31
    error = np.abs(normal_of(a, b)[0] - np.copysign(r, b) * np.cos(angle))
    bound = 4e-7 * r + r * math.pi * 2**-26 + 2**-25 / (u * r)  # dr = du / (u r)
    assert (error <= bound * 1.01)[r > 0.01].all()  # nearer to 0 dr is not linear in du
    assert error[r <= 0.01].max() < math.sqrt(2 * 2**-25) * 1.01


def test_the_tail_ends_at_the_deviation_666() -> None:
    left, right = normal_of(np.array([0, MOST]), np.array([0, 0]))
    largest = math.sqrt(2 * 32 * math.log(2))
    assert left[0] == pytest.approx(largest, rel=1e-6)
    assert abs(right[1]) == pytest.approx(largest, rel=1e-6)
    assert math.exp(-(largest**2) / 2) == pytest.approx(2.3e-10, rel=0.02)  # of the pair, in the exact law


def test_radii_are_those_of_the_exact_law() -> None:
    """b = k and b = -k - 1 have the same radius, which falls with k: 2^32 words, 2 for each step of u."""
    k = np.concatenate([np.arange(100_000), np.sort(words(100_000, 5) % 2**31)])
    zero = np.zeros_like(k)
    left, _ = normal_of(zero, k)
    exactly = k < 2**23  # above, float32 may round k and k + 1 to two neighbours
    assert np.array_equal(left[exactly], -normal_of(zero, -k - 1)[0][exactly])
    assert (np.diff(left[:100_000].astype(float)) <= 0).all()
    survival = np.exp(-(left.astype(float) ** 2) / 2)  # the probability of a larger radius
    # That of u up to k + 1/2, to the error of r and to the float32 of u.
    assert (np.abs(survival - (k + 0.5) / 2**31) <= 2**-25 + survival * 6e-7 * left.astype(float) ** 2).all()


def test_the_signs_are_those_of_the_words() -> None:
    a, b = words(10_000, 6), words(10_000, 7) >> 8  # b as exact in float32 as b + 1
    a[a == LEAST] = 0
    left, right = normal_of(a, b)
    assert np.array_equal(normal_of(-a, b)[0], left)
    assert np.array_equal(normal_of(-a, b)[1], -right)
    assert np.array_equal(normal_of(a, -b - 1)[0], -left)
    assert np.array_equal(normal_of(a, -b - 1)[1], right)


def test_polynomials_are_as_accurate_as_they_say() -> None:
    s = np.linspace(1e-4, 3 - math.sqrt(8), 100_001)
    assert np.abs(s * np.polyval(ATANH[::-1], s**2) / np.arctanh(s) - 1).max() < 1.2e-7
    s = np.linspace(1e-4, math.pi / 4, 100_001)
    assert np.abs(s * np.polyval(SINE[::-1], s**2) / np.sin(s) - 1).max() < 3.3e-9


def test_a_number_does_not_depend_on_its_place_in_memory() -> None:
    """Wide registers, their remainders, and strides use other code."""
    a, b = words(4096, 8), words(4096, 9)
    left, right = normal_of(a, b)
    for n in (1, 3, 17, 100):
        some = normal_of(a[n : 2 * n + 1], b[n : 2 * n + 1])
        assert np.array_equal(some[0], left[n : 2 * n + 1])
        assert np.array_equal(some[1], right[n : 2 * n + 1])
    strided = torch.empty(64, 130)
    of_a, of_b = (torch.tensor(w, dtype=torch.int32).view(64, 64) for w in (a, b))
    box_muller(of_a, of_b, strided[:, :64], strided[:, 65:129])
    assert np.array_equal(strided[:, :64].flatten().numpy(), left)
    assert np.array_equal(strided[:, 65:129].flatten().numpy(), right)


def test_every_operation_has_one_result() -> None:
    a, b = (torch.tensor(words(100, seed), dtype=torch.int32) for seed in (1, 2))
    left, right = torch.empty(2, 100)
    with OnlyExact() as mode:
        box_muller(a, b, left, right)
    assert 35 < mode.count < 60


@pytest.mark.parametrize(
    "inexact",
    [
        lambda x: x.log(),
        lambda x: torch.addcmul(x, x, x),
        lambda x: torch.add(x, x, alpha=0.3),
        lambda x: x.lerp(x, 0.5),
        lambda x: x @ x,
        lambda x: x**2.5,
    ],
)
def test_other_operations_are_found(inexact: Any) -> None:
    x: Tensor = torch.rand(3, 3)
    with pytest.raises(AssertionError, match="devices may round"), OnlyExact():
        inexact(x)
