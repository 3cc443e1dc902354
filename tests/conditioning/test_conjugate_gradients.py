"""Conjugate gradients for each sample, against solved systems."""

from itertools import pairwise

import pytest
import torch

from scoresde.conditioning.conjugate_gradients import conjugate_gradients
from tests.problems import normal

D = 12


def positive(seed, condition=100.0):
    axes, _ = torch.linalg.qr(normal(D, D, seed=seed))
    return (axes * torch.logspace(0, -torch.tensor(condition).log10(), D, dtype=torch.float64)) @ axes.mT


SYSTEM, OTHER = positive(1), normal(D, D, seed=2)


def apply(p):
    return p @ SYSTEM, p @ OTHER.mT


def test_it_solves_each_sample():
    b = normal(5, D)
    found, square = conjugate_gradients(apply, b, D + 5)
    solved = torch.linalg.solve(SYSTEM, b.mT).mT
    # Roundings times the condition, 100, and a few for the loss of conjugacy.
    torch.testing.assert_close(found, solved @ OTHER.mT, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(square, (b * solved).sum(1), rtol=1e-9, atol=0)


def test_one_iteration_is_the_steepest_descent():
    """z = b b.b / b.S b."""
    b = normal(5, D)
    step = b.square().sum(1) / (b @ SYSTEM * b).sum(1)
    found, square = conjugate_gradients(apply, b, 1)
    torch.testing.assert_close(found, step[:, None] * b @ OTHER.mT, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(square, step * b.square().sum(1), rtol=1e-12, atol=0)


def test_the_error_falls_with_each_iteration():
    b = normal(5, D)
    solved = torch.linalg.solve(SYSTEM, b.mT).mT
    errors = []
    for iterations in (1, 2, 4, 8, 12):
        found, _ = conjugate_gradients(lambda p: (p @ SYSTEM, p), b, iterations)
        away = found - solved
        errors.append((away @ SYSTEM * away).sum(1))  # the norm in which it is the best of its space
    for before, after in pairwise(errors):
        assert (after < before).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_iterations_beyond_the_solution_change_nothing(dtype):
    b = normal(5, D).to(dtype)
    b[2] = 0  # solved from the start
    b[3] *= 1e-30  # its square is 0 in float32

    def identity(p):
        return 2 * p, p

    found, square = conjugate_gradients(identity, b, 40)
    assert torch.equal(found[[0, 1, 2, 4]], b[[0, 1, 2, 4]] / 2)  # factors of 2 do not round
    assert found.isfinite().all()
    assert square.isfinite().all()


def test_a_direction_in_which_the_system_is_not_positive_is_left_out():
    """A network's Jacobian need not be positive; the result stays finite and no larger than needed."""
    b = normal(3, D)
    for factor in (-1.0, 0.0):
        found, square = conjugate_gradients(lambda p, f=factor: (f * p, p), b, 5)
        assert torch.equal(found, torch.zeros_like(b))
        assert torch.equal(square, torch.zeros(3, dtype=torch.float64))


def test_what_is_not_finite_is_not_hidden():
    b = normal(3, D)
    found, _ = conjugate_gradients(lambda p: (p * torch.nan, p * torch.nan), b, 5)
    assert found.isnan().all()


def test_derivatives_pass_through_iterations_beyond_the_solution():
    """Of z^T z for S z = b: 2 S^-1 z by b. A division by a residual of 0 would make it infinite."""
    b = normal(5, D).requires_grad_()
    found, _ = conjugate_gradients(lambda p: (p @ SYSTEM, p), b, 250)
    (slope,) = torch.autograd.grad(found.square().sum(), b)
    solved = torch.linalg.solve(SYSTEM, b.detach().mT)
    expected = 2 * torch.linalg.solve(SYSTEM, solved).mT
    # Two solves with a condition of 100.
    torch.testing.assert_close(slope, expected, rtol=1e-8, atol=1e-8 * expected.abs().max().item())
