"""Operators: their values, adjoints and solves against dense matrices; bad input."""

import re

import pytest
import torch

from scoresde.conditioning.linear import Linear, from_deepinv, matrix_of
from scoresde.conditioning.operators import Blur, Grey, Known, Matrix, Pool
from tests.conditioning.normal_pictures import DENSE, LEFT, LINEAR, OPERATORS, SHAPE, D
from tests.problems import normal

ALL = OPERATORS | {"linear": LINEAR, "tall": Matrix(normal(40, D, seed=2), SHAPE)}
each_operator = pytest.mark.parametrize("operator", ALL.values(), ids=ALL)
LIKE = torch.zeros((), dtype=torch.float64)


def observation(operator, n, seed=0):
    """Random numbers in the shape of n observations."""
    shape = operator.forward(torch.zeros(n, *SHAPE, dtype=torch.float64)).shape
    return normal(*shape, seed=seed)


@each_operator
def test_the_adjoint_is_the_transposed_matrix(operator):
    dense = matrix_of(operator, SHAPE, LIKE)
    v = observation(operator, 5)
    expected = v.flatten(1) @ dense
    # Sums of at most 40 numbers of size 1.
    torch.testing.assert_close(operator.adjoint(v).flatten(1), expected, rtol=0, atol=1e-13)
    assert operator.adjoint(v).shape == (5, *SHAPE)


@each_operator
@pytest.mark.parametrize("r2", [1.0, 0.3, torch.tensor([0.1, 1.0, 5.0, 1e-4, 2.0], dtype=torch.float64)])
@pytest.mark.parametrize(
    "tau2", [0.25, 0.01, torch.tensor([0.1, 1.0, 5.0, 0.2, 2.0], dtype=torch.float64), 0]
)
def test_solve_is_the_inverse_of_the_dense_matrix(operator, r2, tau2):
    if operator.singular and not isinstance(tau2, torch.Tensor) and tau2 == 0:
        return
    dense = matrix_of(operator, SHAPE, LIKE)
    v = observation(operator, 5)
    unit = torch.eye(len(dense), dtype=torch.float64)
    ones = torch.ones(5, 1, 1, dtype=torch.float64)
    r2s, tau2s = (ones * (n[:, None, None] if isinstance(n, torch.Tensor) else n) for n in (r2, tau2))
    expected = torch.linalg.solve(r2s * (dense @ dense.mT) + tau2s * unit, v.flatten(1)[..., None])
    # Roundings, times the condition of A A^T, at most 1e3 here; CG ends within 15 of its 10 directions.
    torch.testing.assert_close(
        operator.solve(v, r2, tau2).flatten(1), expected[..., 0], rtol=1e-9, atol=1e-9 * expected.abs().max()
    )


@each_operator
def test_only_the_tall_matrix_has_no_inverse(operator):
    dense = matrix_of(operator, SHAPE, LIKE)
    assert operator.singular == (torch.linalg.matrix_rank(dense) < len(dense))


def test_known_numbers_in_order():
    x = torch.arange(D, dtype=torch.float64).reshape(1, *SHAPE)
    assert Known(LEFT).forward(x).tolist() == [
        [[16 * c + 4 * i + j for i in range(4) for j in (0, 1)] for c in range(2)]
    ]
    one = torch.zeros(SHAPE)
    one[1, 2, 3] = 1
    assert Known(one).forward(x).tolist() == [[16 + 8 + 3]]
    assert Known(one.bool()).adjoint(torch.tensor([[7.0]])).tolist() == (7 * one)[None].tolist()


def test_pool_is_the_mean_of_squares():
    x = normal(2, *SHAPE)
    expected = (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4
    torch.testing.assert_close(Pool(2).forward(x), expected, rtol=0, atol=1e-15)


def test_grey_is_the_weighted_sum_of_channels():
    x = normal(2, *SHAPE)
    expected = 0.2 * x[:, :1] + 0.7 * x[:, 1:]
    torch.testing.assert_close(Grey((0.2, 0.7)).forward(x), expected, rtol=0, atol=1e-15)
    colours = normal(2, 3, 5)
    torch.testing.assert_close(Grey().forward(colours), colours.mean(1, keepdim=True), rtol=0, atol=1e-15)


def test_blur_is_the_periodic_convolution():
    """(k * x)(p) = sum over q of k(q) x(p - q), with the middle of the kernel at q = 0."""
    kernel, x = normal(3, 5), normal(2, 7, 6, seed=1)
    expected = sum(kernel[i, j] * x.roll((i - 1, j - 2), (-2, -1)) for i in range(3) for j in range(5))
    torch.testing.assert_close(Blur(kernel, (7, 6)).forward(x), expected, rtol=0, atol=1e-13)


def test_blur_of_one_dimension_and_of_one_point():
    x = normal(2, 3, 9)
    same = Blur(torch.ones(1), (9,))
    torch.testing.assert_close(same.forward(x), x, rtol=0, atol=1e-15)
    assert not same.singular


def test_a_gaussian_blur_keeps_the_mean_and_spreads_a_point():
    blur = Blur.gaussian(1.5, (31, 32))
    point = torch.zeros(1, 31, 32, dtype=torch.float64)
    point[0, 15, 16] = 1
    seen = blur.forward(point)[0]
    assert seen.sum().item() == pytest.approx(1, abs=1e-13)
    places = torch.arange(31, dtype=torch.float64) - 15
    # The deviation of a normal density sampled at whole numbers is its own to 1e-9 for 1.5.
    assert (seen.sum(1) @ places**2).item() == pytest.approx(1.5**2, rel=1e-6)
    torch.testing.assert_close(seen, seen.flip(0), rtol=0, atol=1e-15)
    assert Blur.gaussian(3.0, (32, 32)).singular  # frequencies of 1e-20
    assert not Blur.gaussian(0.5, (32, 32)).singular


@each_operator
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_sample_has_the_same_bits_in_any_batch(operator, dtype):
    x, v = normal(13, *SHAPE).to(dtype), observation(operator, 13).to(dtype)
    r2 = torch.linspace(0.1, 2, 13, dtype=torch.float64)

    def all_three(part):
        return operator.forward(x[part]), operator.adjoint(v[part]), operator.solve(v[part], r2[part], 0.1)

    whole = all_three(slice(None))
    assert all(value.dtype == dtype for value in whole)
    for size in (1, 2, 3, 7):
        parts = [all_three(slice(first, first + size)) for first in range(0, 13, size)]
        for one, several in zip(whole, zip(*parts, strict=True), strict=True):
            assert torch.equal(one, torch.cat(several))


@each_operator
def test_float32_is_as_good_as_it_can_be(operator):
    x, v = normal(5, *SHAPE), observation(operator, 5)
    for wide, single in [
        (operator.forward(x), operator.forward(x.float())),
        (operator.adjoint(v), operator.adjoint(v.float())),
        (operator.solve(v, 1.0, 0.1), operator.solve(v.float(), 1.0, 0.1)),
    ]:
        # 1e-7 times the number of terms in a sum, and 1e2, the condition of the system.
        torch.testing.assert_close(single.double(), wide, rtol=0, atol=3e-5 * wide.abs().max().item())


class Physics:
    """What deepinv's linear physics has of it: A and its adjoint; calling it adds noise."""

    def A(self, x):
        return DENSE.forward(x)

    def A_adjoint(self, y):
        return DENSE.adjoint(y)

    def __call__(self, x):
        raise AssertionError("its noise is not used")


def test_a_physics_of_deepinv_is_an_operator():
    operator = from_deepinv(Physics(), iterations=15)
    x, v = normal(5, *SHAPE), normal(5, 10, seed=1)
    assert torch.equal(operator.forward(x), DENSE.forward(x))
    assert torch.equal(operator.adjoint(v), DENSE.adjoint(v))
    torch.testing.assert_close(operator.solve(v, 0.5, 0.1), DENSE.solve(v, 0.5, 0.1), rtol=1e-9, atol=1e-9)


def test_a_physics_of_deepinv_itself():
    deepinv = pytest.importorskip("deepinv")
    operator = from_deepinv(deepinv.physics.Inpainting((1, 8, 8), mask=0.5))
    v = normal(2, 1, 8, 8).float()
    assert torch.equal(operator.forward(v), operator.adjoint(v))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Known(torch.tensor([0.0, 0.5])), ValueError, "mask must hold 0 and 1, got 0.0 to 0.5"),
        (lambda: Known(torch.tensor([0.0, torch.nan])), ValueError, "mask must hold 0 and 1"),
        (lambda: Pool(0), ValueError, "k must be at least 1, got 0"),
        (lambda: Pool(2.0), TypeError, "k must be an integer, got 2.0"),
        (lambda: Grey((0.0, 0.0)), ValueError, "weights must be finite and not all 0"),
        (lambda: Grey((torch.inf, 0.0)), ValueError, "weights must be finite"),
        (lambda: Blur(torch.ones(2, 3), (4, 4)), ValueError, "odd sizes, each at most that of the samples"),
        (lambda: Blur(torch.ones(5, 3), (4, 4)), ValueError, "got (5, 3) for (4, 4)"),
        (lambda: Blur(torch.ones(3), (4, 4)), ValueError, "got (3,) for (4, 4)"),
        (lambda: Blur(torch.full((1, 1), torch.nan), (4, 4)), ValueError, "kernel must be finite"),
        (lambda: Blur.gaussian(0, (4, 4)), ValueError, "deviation must be positive and finite, got 0"),
        (lambda: Matrix(torch.ones(3)), ValueError, "matrix must be (m, d) and finite, got shape (3,)"),
        (lambda: Matrix(torch.full((1, 1), torch.nan)), ValueError, "matrix must be (m, d) and finite"),
        (lambda: Matrix(torch.ones(2, 3), (2,)), ValueError, "shape must hold 3 numbers"),
        (lambda: Linear(None, torch.clone), TypeError, "forward must be a function of a batch, got NoneType"),
        (lambda: Linear(torch.clone, 3), TypeError, "adjoint must be a function of a batch, got int"),
        (lambda: Linear(torch.clone, torch.clone, 0), ValueError, "iterations must be at least 1, got 0"),
        (lambda: from_deepinv(torch.clone), TypeError, "physics must have A and A_adjoint"),
    ],
)
def test_wrong_operators_are_refused(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    ("operator", "shape"),
    [
        (Known(LEFT), (2, 2, 4, 5)),
        (Pool(2), (2, 2, 3, 4)),
        (Pool(2), (2, 4)),
        (Grey(), (2, 1, 4, 4)),
        (Blur.gaussian(1.0, (4, 4)), (2, 2, 4, 5)),
        (DENSE, (2, 32)),
        (DENSE, (2, 2, 4, 5)),
    ],
)
def test_a_sample_of_another_shape_is_refused(operator, shape):
    with pytest.raises(ValueError, match="must"):
        operator.forward(torch.zeros(shape))


@pytest.mark.parametrize(
    ("operator", "shape"), [(Known(LEFT), (2, 3, 7)), (Grey(), (2, 3, 4, 4)), (DENSE, (2, 9))]
)
def test_an_observation_of_another_shape_is_refused(operator, shape):
    with pytest.raises(ValueError, match="must"):
        operator.adjoint(torch.zeros(shape))
