"""Noise is a function of (seed, sample, draw), and it is normal."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

import scoresde.noise
from scoresde import SOLVERS, VPSDE, Denoiser, Noise, predict, sample
from tests.fake_device import DEVICE, OnDevice, with_device
from tests.live_memory import LiveMemory
from tests.operations import OnlyExact
from tests.problems import ALONE, Net, calls

KNOWN = [
    ["0x1.13cb5c0000000p+0", "-0x1.584b1e0000000p-2", "0x1.581c860000000p-4"],
    ["0x1.66b1960000000p+0", "0x1.2be25c0000000p-4", "0x1.e39c3c0000000p-2"],
    ["0x1.e15f8c0000000p-1", "0x1.2639160000000p+0", "0x1.588dee0000000p+0"],
]
SHAPES = [(), (1,), (3,), (4,), (7,), (3, 5, 5), (1, 28, 28)]


def philox_in_python(counter: list[int], key: list[int]) -> list[int]:
    """The rounds of Salmon et al. 2011."""
    for _ in range(10):
        p, q = counter[0] * 0xD2511F53, counter[2] * 0xCD9E8D57
        counter = [q >> 32 ^ counter[1] ^ key[0], q % 2**32, p >> 32 ^ counter[3] ^ key[1], p % 2**32]
        key = [(key[0] + 0x9E3779B9) % 2**32, (key[1] + 0xBB67AE85) % 2**32]
    return counter


def splitmix_in_python(start: int, n: int, key: int = 0) -> int:
    """Number n of the stream that begins at ``start``."""
    x = (start + n * 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64 ^ key
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    return x ^ x >> 31


def noise_in_python(seed: int, sample_id: int, draw: int, i: int, size: int) -> tuple[float, float]:
    """Value i of a sample, and u, in integers of any length and Python floats."""
    words = philox_in_python([draw % 2**32, draw >> 32, 0, 0], [seed % 2**32, (seed >> 32) % 2**32])
    starts = [words[1] * 2**32 + words[0], words[3] * 2**32 + words[2]]
    start, key = (splitmix_in_python(one, sample_id) for one in starts)
    half = -(-size // 2)
    high, low = divmod(splitmix_in_python(start, i % half, key), 2**32)
    a, b = (word - (word >> 31 << 32) for word in (low, high))
    u = abs(b + 0.5) / 2**31
    angle = math.pi / 2 * a / 2**31
    r = math.sqrt(-2 * math.log(u))
    return r * (math.copysign(math.cos(angle), b) if i < half else math.sin(angle)), u


@given(
    st.integers(-(2**70), 2**70),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 2**40),
    st.integers(1, 20).flatmap(lambda size: st.tuples(st.integers(0, size - 1), st.just(size))),
)
def test_noise_is_that_of_integers(seed: int, sample_id: int, draw: int, place: tuple[int, int]) -> None:
    i, size = place
    z = Noise(seed, torch.tensor([sample_id]), (size,))(draw)[0, i].item()
    expected, u = noise_in_python(seed, sample_id, draw, i, size)
    # float32 has 24 bits of the words; near u = 1, sqrt(-2 log u) has only the digits of 1 - u.
    assert z == pytest.approx(expected, abs=1e-3 if u > 0.999 else 4e-6)


def test_noise_has_the_bits_that_it_had() -> None:
    """A change of them is a change of every sample: it belongs into the list of changes."""
    z = Noise(2**40 + 5, torch.tensor([0, 1, 2**33]), (3,))(7)
    assert [[value.hex() for value in row] for row in z.tolist()] == KNOWN


@pytest.mark.parametrize("shape", SHAPES)
def test_a_samples_noise_is_the_same_in_any_batch(shape: tuple[int, ...]) -> None:
    whole = Noise(3, torch.arange(130), shape)(2)
    assert whole.shape == (130, *shape)
    assert whole.dtype == torch.float32
    for batch in (1, 2, 7, 64):
        parts = [Noise(3, ids, shape)(2) for ids in torch.arange(130).split(batch)]
        assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_samples_noise_is_the_same_in_any_order(shape: tuple[int, ...]) -> None:
    order = torch.randperm(130, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Noise(3, order, shape)(2), Noise(3, torch.arange(130), shape)(2)[order])


def test_ids_count_in_all_their_bits() -> None:
    ids = torch.tensor([0, 1, 2**32, 2**32 + 1, 2**40, 2**62, -1, -(2**32)])
    z = Noise(0, ids, (50,))(0)
    for i, one in enumerate(ids):
        assert torch.equal(Noise(0, one[None], (50,))(0)[0], z[i])
    assert len({tuple(row) for row in z.tolist()}) == len(ids)


@pytest.mark.parametrize(
    "other",
    [
        lambda: Noise(1, torch.arange(20), (9,))(0),
        lambda: Noise(2**32, torch.arange(20), (9,))(0),
        lambda: Noise(-1, torch.arange(20), (9,))(0),
        lambda: Noise(0, torch.arange(20), (9,))(1),
        lambda: Noise(0, torch.arange(20) + 20, (9,))(0),
        lambda: Noise(0, torch.arange(20) + 2**32, (9,))(0),
    ],
    ids=["seed", "high half of the seed", "negative seed", "draw", "ids", "high half of the ids"],
)
def test_another_seed_draw_or_sample_is_other_noise(other: Callable[[], Tensor]) -> None:
    """No number in common: that one of 180 agrees by chance, in 24 bits, happens once in 100,000 times."""
    assert not (Noise(0, torch.arange(20), (9,))(0) == other()).any()


def test_noise_is_standard_normal() -> None:
    z = Noise(5, torch.arange(1000), (1000,))(3).double()
    n = z.numel()
    for power, moment in enumerate([0, 1, 0, 3, 0, 15], 1):
        error = math.sqrt(math.prod(range(1, 2 * power, 2)) / n)  # of the mean of z^power: E z^(2 power) / n
        assert abs((z**power).mean().item() - moment) < 4.5 * error  # missed once in 100,000 seeds
    assert z.abs().max() > 4.5  # of a million
    assert stats.kstest(z.flatten().numpy(), "norm").pvalue > 1e-3


def test_every_place_of_a_sample_is_normal() -> None:
    """Cosine and sine of two pairs: each of the four by itself."""
    z = Noise(8, torch.arange(50_000), (4,))(0).double()
    for place in z.T:
        assert stats.kstest(place.numpy(), "norm").pvalue > 1e-3


@pytest.mark.parametrize("deviation", [1.0, 2.0, 3.0, 4.0, 4.5])
def test_tails_have_their_probability(deviation: float) -> None:
    z = Noise(11, torch.arange(1000), (4000,))(0)
    p = stats.norm.sf(deviation)
    for beyond in (z > deviation, z < -deviation):
        # 13 values beyond 4.5, give or take 4; missed once in 30,000 seeds.
        assert stats.binomtest(int(beyond.sum()), z.numel(), p).pvalue > 1e-5


def test_noise_is_uncorrelated() -> None:
    """Across draws, samples, seeds, and the numbers of a sample, and in their squares."""
    ids = torch.arange(400)
    z = Noise(0, ids, (400,))(0).double()
    others = {
        "draws": Noise(0, ids, (400,))(1),
        "seeds": Noise(1, ids, (400,))(0),
        "high seeds": Noise(2**32, ids, (400,))(0),
        "samples": z.roll(1, 0),
        "numbers": z.roll(1, 1),
        "pairs": z.roll(200, 1),  # of one radius
        "transposed": z.T,
    }
    for name, other in others.items():
        for power in (1, 2):
            a, b = z**power, other.double() ** power
            correlation = torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()
            # Its deviation is 1 / 400, or twice that where each pair counts twice; 5 of them.
            assert abs(correlation) < 5 * 2**0.5 / 400, name


@pytest.mark.parametrize("shape", SHAPES)
def test_the_size_of_the_parts_that_are_made_at_a_time_does_not_matter(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Noise(3, torch.arange(130), shape)(2)
    for pairs in (1, 100, 1000):
        monkeypatch.setattr(scoresde.noise, "PAIRS", pairs)
        assert torch.equal(Noise(3, torch.arange(130), shape)(2), whole)


def test_a_draw_is_contiguous_and_on_the_device_of_the_samples() -> None:
    with with_device():
        for shape in SHAPES:
            here, there = (Noise(3, ids, shape)(2) for ids in (torch.arange(5), torch.arange(5).to(DEVICE)))
            assert isinstance(there, OnDevice)
            assert torch.equal(there.cpu(), here)
            assert here.is_contiguous()


def test_every_operation_of_a_draw_has_one_result() -> None:
    """So devices that follow IEEE 754 make the same bits."""
    integers = {"arange", "clone", "expand", "unsqueeze", "unbind", "split", "alias"}
    with OnlyExact(frozenset(integers)):
        Noise(0, torch.arange(3), (5,))(1)


def test_memory_is_that_of_what_is_alive() -> None:
    """Of the counter itself, for the tests below."""
    before = torch.ones(1000)
    with LiveMemory() as memory:
        a = before + 1  # 4,000 bytes
        a.add_(before[:1])  # in place, and a view
        b = a.double()  # and 8,000
        del a
        c = b[::2] * 2  # 8,000 and 4,000
        del b, c
        d = torch.ones(10)
    assert memory.peak == 12_000
    assert len(memory.alive) == 1
    assert memory.operations == 7
    assert d.sum() == 10


@pytest.mark.parametrize(
    ("samples", "shape", "times"),
    [
        (64, (3, 32, 32), 1.8),  # in two parts
        (64, (3, 64, 64), 1.3),
        (1, (3, 256, 256), 3.0),  # all at once
        (32, (1, 28, 28), 2.7),
        (100_000, (2,), 3.0),
        (100_001, (3,), 3.0),  # with a copy, for the last of four is not needed
    ],
)
def test_a_draw_takes_three_times_its_memory_at_most(
    samples: int, shape: tuple[int, ...], times: float
) -> None:
    """The result included, which is once its memory."""
    noise = Noise(0, torch.arange(samples), shape)
    with LiveMemory() as memory:
        z = noise(1)
    assert z.numel() * 4 < memory.peak <= times * z.numel() * 4


def test_a_draw_takes_few_operations() -> None:
    """Each costs some microseconds before its first value; here are two parts of about 95, views included."""
    noise = Noise(0, torch.arange(64), (3, 32, 32))
    with LiveMemory() as memory:
        noise(1)
    assert memory.operations <= 190


@pytest.mark.parametrize("name", SOLVERS)
def test_the_global_random_state_is_neither_read_nor_changed(name: str) -> None:
    denoiser = Denoiser(Net(), VPSDE(), predict.noise)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    x = sample(denoiser, name, (3, 2), nfe=calls(name, 12))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(sample(denoiser, name, (3, 2), nfe=calls(name, 12)), x)


@pytest.mark.parametrize("shape", [(), (3, 3)])
@pytest.mark.parametrize("name", ALONE)
def test_a_sample_is_the_same_bits_in_any_batch(name: str, shape: tuple[int, ...]) -> None:
    """With a network that treats every sample by itself, to the bit."""
    denoiser = Denoiser(Net(), VPSDE(), predict.noise)
    whole = sample(denoiser, name, (65, *shape), nfe=calls(name, 6))
    assert torch.isfinite(whole).all()
    for n, batch_size in ((3, 1), (7, 2), (30, 7), (65, 64)):
        part = sample(denoiser, name, (n, *shape), nfe=calls(name, 6), batch_size=batch_size)
        assert torch.equal(part, whole[:n])
    ids = torch.tensor([40, 2, 64, 0])
    assert torch.equal(sample(denoiser, name, (4, *shape), nfe=calls(name, 6), ids=ids), whole[ids])


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_ids_may_be_integers_of_any_width(dtype: torch.dtype) -> None:
    denoiser = Denoiser(Net(), VPSDE(), predict.noise)
    ids = torch.tensor([7, 3, 100])
    narrow = sample(denoiser, "em", (3, 2), nfe=4, ids=ids.to(dtype))
    assert torch.equal(narrow, sample(denoiser, "em", (3, 2), nfe=4, ids=ids))


@pytest.mark.parametrize("name", SOLVERS)
def test_eight_threads_give_the_noise_of_one(name: str) -> None:
    denoiser = Denoiser(Net(), VPSDE(), predict.noise)

    def run(seed: int) -> Tensor:
        return sample(denoiser, name, (5, 3), nfe=calls(name, 4), seed=seed)

    serial = [run(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        threads = list(pool.map(run, range(8)))
    for a, b in zip(threads, serial, strict=True):
        assert torch.equal(a, b)
    assert len({tuple(x.flatten().tolist()) for x in serial}) == 8
