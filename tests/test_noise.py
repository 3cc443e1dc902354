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

from scoresde import SOLVERS, VPSDE, Denoiser, Noise, predict, sample
from scoresde.noise import philox
from tests.problems import ALONE, Net, calls

SHAPES = [(), (1,), (3,), (4,), (7,), (3, 5, 5), (1, 28, 28)]


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_the_published_words(counter: tuple[int, ...], key: tuple[int, int], words: str) -> None:
    """kat_vectors of Random123, the authors' own library: philox4x32, 10 rounds."""
    result = philox(tuple(map(torch.tensor, counter)), key)  # type: ignore[arg-type]
    assert " ".join(f"{word.item():08x}" for word in result) == words


def philox_in_python(counter: list[int], key: list[int]) -> list[int]:
    """The paper's rounds in integers of any length: nothing can overflow."""
    for _ in range(10):
        p, q = counter[0] * 0xD2511F53, counter[2] * 0xCD9E8D57
        counter = [
            q >> 32 ^ counter[1] ^ key[0],
            q % 2**32,
            p >> 32 ^ counter[3] ^ key[1],
            p % 2**32,
        ]
        key = [(key[0] + 0x9E3779B9) % 2**32, (key[1] + 0xBB67AE85) % 2**32]
    return counter


words32 = st.integers(0, 2**32 - 1)


@given(st.tuples(*[words32] * 4), st.tuples(words32, words32))
def test_philox_is_the_papers_for_any_counter_and_key(counter: tuple[int, ...], key: tuple[int, int]) -> None:
    result = [word.item() for word in philox(tuple(map(torch.tensor, counter)), key)]  # type: ignore[arg-type]
    assert result == philox_in_python(list(counter), list(key))


@given(
    st.integers(-(2**70), 2**70), st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**20), st.integers(0, 9)
)
def test_noise_is_box_muller_of_philox(seed: int, sample_id: int, draw: int, i: int) -> None:
    """Written out in Python floats: pair by pair, counter (block, draw, id low, id high), key the seed."""
    z = Noise(seed, torch.tensor([sample_id]), (10,))(draw)[0, i].item()
    words = philox_in_python(
        [i // 4, draw, sample_id % 2**32, (sample_id >> 32) % 2**32], [seed % 2**32, (seed >> 32) % 2**32]
    )
    radius, angle = ((word + 0.5) / 2**32 for word in words[i % 4 // 2 * 2 :][:2])
    turn = (math.cos, math.sin)[i % 2](2 * math.pi * angle)
    expected = math.sqrt(-2 * math.log(radius)) * turn
    # Words are rounded to float32, 2^-24 of them; near u = 1, sqrt(-2 log u) has only the digits of 1 - u.
    assert z == pytest.approx(expected, abs=1e-3 if radius > 0.999 else 4e-6)


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


def test_every_place_of_a_block_is_normal() -> None:
    """Cosine and sine of two pairs: each of the four by itself."""
    z = Noise(8, torch.arange(50_000), (4,))(0).double()
    for place in z.T:
        assert stats.kstest(place.numpy(), "norm").pvalue > 1e-3


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
        "pairs": z.roll(2, 1),
        "transposed": z.T,
    }
    for name, other in others.items():
        for power in (1, 2):
            a, b = z**power, other.double() ** power
            correlation = torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()
            # Its deviation is 1 / 400, or twice that where each pair counts twice; 5 of them.
            assert abs(correlation) < 5 * 2**0.5 / 400, name


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
