"""Moments and distances against closed forms, against the whole, and against other implementations."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg
from torch import Tensor, nn

from scoresde.data.pixels import to_float, to_uint8
from scoresde.files import read_tensors, write_tensors
from scoresde.metrics.frechet import feature_moments, frechet_distance
from scoresde.metrics.moments import Moments, gaussian_moments

NAN, INF = math.nan, math.inf


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moments_of(*batches: Tensor) -> Moments:
    moments = Moments()
    for batch in batches:
        moments.add(batch)
    return moments


def correlated(n: int, d: int, rank: int, seed: int = 0) -> Tensor:
    return normal(n, rank, seed=seed) @ normal(rank, d, seed=seed + 1) + normal(d, seed=seed + 2)


def rotation(d: int) -> Tensor:
    turn: Tensor = torch.linalg.qr(normal(d, d, seed=9))[0]
    return turn


def assert_same(a: Moments, b: Moments, tolerance: float) -> None:
    assert a.count == b.count
    torch.testing.assert_close(a.mean, b.mean, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(a.cov, b.cov, rtol=tolerance, atol=tolerance)


def test_moments_are_those_of_torch() -> None:
    x = correlated(50, 4, 4)
    moments = moments_of(x)
    assert moments.count == 50
    # The same sums in another order: a few roundings of float64.
    torch.testing.assert_close(moments.mean, x.mean(0), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(moments.cov, torch.cov(x.T), rtol=1e-13, atol=1e-13)


@settings(deadline=None, max_examples=50)
@given(
    sizes=st.lists(st.integers(1, 7), min_size=2, max_size=8),
    offset=st.floats(-1e4, 1e4),
    d=st.integers(1, 5),
)
def test_streaming_gives_the_whole(sizes: list[int], offset: float, d: int) -> None:
    x = normal(sum(sizes), d) + offset
    # Roundings of numbers up to 1e4 come to 1e-12, and a mean over up to 56 numbers has few of them.
    assert_same(moments_of(*torch.split(x, sizes)), moments_of(x), 1e-9)


@settings(deadline=None, max_examples=50)
@given(first=st.integers(1, 39), d=st.integers(1, 5), offset=st.floats(-1e4, 1e4))
def test_halves_merge_to_the_whole(first: int, d: int, offset: float) -> None:
    x = normal(40, d) + offset
    half, other = moments_of(x[:first]), moments_of(x[first:])
    both = half + other
    assert_same(both, moments_of(x), 1e-9)  # roundings of numbers up to 1e4, as above
    assert (half.count, other.count) == (first, 40 - first)  # a sum leaves its terms alone
    half.merge(other)
    assert_same(half, both, 0.0)


def test_a_far_mean_costs_no_digits_of_the_covariance() -> None:
    x = normal(1000, 3)
    # At 1e6 the features themselves are rounded to 1e-10; sums of squares would be left with 1e-4.
    torch.testing.assert_close(
        moments_of(*torch.split(x + 1e6, 10)).cov, torch.cov(x.T), rtol=1e-8, atol=1e-8
    )


def test_nothing_merged_changes_nothing() -> None:
    moments = moments_of(normal(5, 2))
    assert_same(moments + Moments(), moments, 0.0)
    assert_same(Moments() + moments, moments, 0.0)
    assert (Moments() + Moments()).count == 0


def test_float32_features_are_summed_in_float64() -> None:
    x = normal(20, 3).float()
    assert_same(moments_of(x), moments_of(x.double()), 0.0)


def test_features_come_in_batches() -> None:
    x = normal(23, 3)
    # The same numbers, summed in another order.
    assert_same(feature_moments(lambda batch: batch**2, x, batch_size=10), moments_of(x**2), 1e-12)


def test_a_file_keeps_every_bit(tmp_path: Path) -> None:
    moments, other = moments_of(normal(9, 3)), moments_of(normal(4, 2))
    path = tmp_path / "moments.safetensors"
    write_tensors(path, moments.tensors("a.") | other.tensors("b."))
    tensors, _ = read_tensors(path)
    assert_same(Moments.from_tensors(tensors, "a."), moments, 0.0)
    assert_same(Moments.from_tensors(tensors, "b."), other, 0.0)


def test_one_dimension_is_known_by_hand() -> None:
    a = gaussian_moments(torch.tensor([1.0]), torch.tensor([[4.0]]))
    b = gaussian_moments(torch.tensor([4.0]), torch.tensor([[25.0]]))
    assert frechet_distance(a, b) == pytest.approx((4 - 1) ** 2 + (5 - 2) ** 2, rel=1e-14)  # whole numbers


@settings(deadline=None, max_examples=50)
@given(
    first=st.lists(st.floats(0, 100), min_size=3, max_size=3),
    second=st.lists(st.floats(0, 100), min_size=3, max_size=3),
    apart=st.lists(st.floats(-10, 10), min_size=3, max_size=3),
)
def test_commuting_covariances_differ_by_their_roots(
    first: list[float], second: list[float], apart: list[float]
) -> None:
    turn = rotation(3)
    zero, s1, s2, m = torch.zeros(3), *(torch.tensor(v, dtype=torch.float64) for v in (first, second, apart))
    a = gaussian_moments(zero, turn @ s1.diag() @ turn.T)
    b = gaussian_moments(m, turn @ s2.diag() @ turn.T)
    expected = (m.square().sum() + (s1.sqrt() - s2.sqrt()).square().sum()).item()
    # A variance is known to 1e-16 of the largest, 100: where it should be 0 its root is off by 1e-7, and that
    # is multiplied by another root, of at most 10.
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9, abs=1e-5)


def test_scaling_by_c_scales_the_distance_by_c_squared() -> None:
    x, y = correlated(200, 6, 6), correlated(200, 6, 6, seed=5)
    base = frechet_distance(moments_of(x), moments_of(y))
    # Roundings of float64 over six dimensions.
    assert frechet_distance(moments_of(3 * x), moments_of(3 * y)) == pytest.approx(9 * base, rel=1e-11)


def test_the_distance_is_symmetric_and_ignores_rotation_and_count() -> None:
    x, y, turn = correlated(200, 6, 6), correlated(300, 6, 6, seed=5), rotation(6)
    a, b = moments_of(x), moments_of(y)
    base = frechet_distance(a, b)
    # Roundings of float64 over six dimensions.
    assert frechet_distance(b, a) == pytest.approx(base, rel=1e-11)
    assert frechet_distance(moments_of(x @ turn), moments_of(y @ turn)) == pytest.approx(base, rel=1e-11)
    assert frechet_distance(gaussian_moments(a.mean, a.cov, 7), b) == pytest.approx(base, rel=1e-11)


@pytest.mark.parametrize("rank", [1, 20, 64])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 10.0])
def test_nothing_is_apart_from_itself(rank: int, scale: float) -> None:
    moments = moments_of(scale * correlated(500, 64, rank))
    # The trace is up to 4e5 here, so that float64 leaves 1e-10 of noise.
    assert 0 <= frechet_distance(moments, moments) < 1e-6


def test_covariances_without_full_rank_have_a_distance() -> None:
    d = 5
    a = gaussian_moments(torch.zeros(d), torch.diag(torch.tensor([4.0, 9.0, 0.0, 0.0, 0.0])))
    b = gaussian_moments(torch.zeros(d), torch.diag(torch.tensor([1.0, 0.0, 16.0, 0.0, 0.0])))
    assert frechet_distance(a, b) == pytest.approx(1 + 9 + 16, rel=1e-14)  # whole numbers
    point = gaussian_moments(torch.ones(d), torch.zeros(d, d))
    assert frechet_distance(a, point) == pytest.approx(5 + 13, rel=1e-14)
    few, many = moments_of(correlated(10, 30, 30)), moments_of(correlated(1000, 30, 30))
    # Nine directions only; the formula with a root that scipy finds by eigenvalues.
    values, vectors = linalg.eigh(few.cov.numpy())
    root = torch.from_numpy(vectors * values.clip(0) ** 0.5 @ vectors.T)
    cross = linalg.eigvalsh((root @ many.cov @ root).numpy()).clip(0) ** 0.5
    expected = (few.mean - many.mean).square().sum() + few.cov.trace() + many.cov.trace() - 2 * cross.sum()
    # Eigenvalues of the product that should be 0 come to 1e-12, their roots to 1e-6; there are 21 of them.
    assert frechet_distance(few, many) == pytest.approx(expected.item(), abs=1e-4)


def test_the_distance_agrees_with_a_matrix_square_root() -> None:
    a, b = moments_of(correlated(400, 16, 16)), moments_of(correlated(300, 16, 16, seed=5))
    root = linalg.sqrtm(a.cov.numpy() @ b.cov.numpy())
    expected = (
        (a.mean - b.mean).square().sum().item() + (a.cov + b.cov).trace().item() - 2 * root.trace().real
    )
    # Both in float64; condition numbers are below 1e5.
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_the_distance_agrees_with_torchmetrics() -> None:
    fid = pytest.importorskip("torchmetrics.image.fid")
    torch.manual_seed(0)
    features = (
        nn.Sequential(nn.Flatten(), Floating(), nn.Linear(27, 12), nn.ReLU()).double().requires_grad_(False)
    )
    real = torch.randint(0, 256, (300, 3, 3, 3), dtype=torch.uint8)
    fake = torch.randint(40, 200, (250, 3, 3, 3), dtype=torch.uint8)
    theirs = fid.FrechetInceptionDistance(feature=features, input_img_size=(3, 3, 3)).set_dtype(torch.float64)
    for batch in torch.split(real, 64):
        theirs.update(batch, real=True)
    for batch in torch.split(fake, 64):
        theirs.update(batch, real=False)
    ours = frechet_distance(feature_moments(features, real, 64), feature_moments(features, fake, 64))
    # They sum squares and take roots of eigenvalues of a product without symmetry, all in float64.
    assert ours == pytest.approx(theirs.compute().item(), rel=1e-6)


class Floating(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.double() / 255


def test_pixels_survive_the_way_to_floats_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(pixels)), pixels)
    assert torch.equal(to_uint8(to_float(pixels).double()), pixels)


def test_pixels_are_clamped_and_rounded() -> None:
    x = torch.tensor([[-7.0, -1.0, -0.999, -0.9961, -0.9960], [0.0039, 0.0040, 0.9960, 1.0, 7.0]])
    # Half a level is 1 / 255: -1 + 0.0039 is 0.497 levels up from 0, and -1 + 0.0040 is 0.51.
    assert to_uint8(x).tolist() == [[0, 0, 0, 0, 1], [128, 128, 254, 255, 255]]
    assert to_uint8(x).dtype == torch.uint8


def two(d: int) -> Moments:
    return moments_of(normal(2, d))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Moments().add(torch.zeros(3)), r"\(B, d\) real numbers, got \(3,\)"),
        (lambda: Moments().add(torch.zeros(2, 3, 4)), r"got \(2, 3, 4\)"),
        (lambda: Moments().add(torch.zeros(0, 3)), r"got \(0, 3\)"),
        (lambda: Moments().add(torch.zeros(2, 3, dtype=torch.uint8)), "uint8"),
        (lambda: Moments().add(torch.tensor([[0.0, NAN], [0.0, 1.0]])), "finite, 1 of 2 are not"),
        (lambda: Moments().add(torch.tensor([[0.0, INF]])), "finite, 1 of 1"),
        (lambda: two(2).add(torch.zeros(1, 3)), "one length, got 2 and 3"),
        (lambda: two(2).merge(two(3)), "one length, got 2 and 3"),
        (lambda: two(2) + two(3), "one length, got 2 and 3"),
        (lambda: frechet_distance(two(2), two(3)), "one length, got 2 and 3"),
        (lambda: Moments().cov, "at least 2 features, got 0"),
        (lambda: moments_of(torch.zeros(1, 3)).cov, "at least 2 features, got 1"),
        (lambda: frechet_distance(two(2), Moments()), "at least 2 features, got 0"),
        (lambda: Moments.from_tensors(two(2).tensors(), "a."), "a.count is missing"),
        (lambda: Moments.from_tensors(two(2).tensors() | {"mean": torch.zeros(3)}), r"\(3,\) and \(2, 2\)"),
        (lambda: Moments.from_tensors(two(2).tensors() | {"count": torch.tensor(2.5)}), "one integer"),
        (lambda: gaussian_moments(torch.zeros(2), torch.eye(3)), r"\(2,\) and \(3, 3\)"),
        (lambda: gaussian_moments(torch.zeros(0), torch.eye(0)), "empty"),
        (lambda: gaussian_moments(torch.zeros(2), NAN * torch.eye(2)), "finite"),
        (lambda: gaussian_moments(torch.zeros(2), torch.tensor([[1.0, 0.0], [1.0, 1.0]])), "symmetric"),
        (lambda: gaussian_moments(torch.zeros(2), torch.diag(torch.tensor([1.0, -1.0]))), "negative"),
        (lambda: gaussian_moments(torch.zeros(2), torch.eye(2), 1), "count must be at least 2, got 1"),
        (lambda: to_uint8(torch.zeros(2, dtype=torch.uint8)), "uint8"),
        (lambda: to_uint8(torch.tensor([NAN])), "finite"),
        (lambda: to_uint8(torch.tensor([0.5, NAN, -0.5])), "finite, 1 of 3 numbers are not"),
        (lambda: to_uint8(torch.tensor([[0.5, INF], [-INF, NAN]])), "finite, 3 of 4 numbers are not"),
    ],
)
def test_bad_input_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_refused_batch_changes_nothing() -> None:
    moments = moments_of(normal(5, 2))
    with pytest.raises(ValueError, match="finite"):
        moments.add(torch.tensor([[0.0, NAN]]))
    assert_same(moments, moments_of(normal(5, 2)), 0.0)
