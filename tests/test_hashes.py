"""The hashes are the published ones, and each bit of what they hash counts."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from scoresde.hashes import counters, philox, splitmix
from scoresde.noise import keys, starts


def signed(n: int) -> int:
    n %= 2**64
    return n - (n >> 63 << 64)


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
    assert " ".join(f"{word:08x}" for word in philox(counter, key)) == words  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seed", "published"),
    [
        (0, [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]),
        (
            1234567,
            [
                6457827717110365317,
                3203168211198807973,
                9817491932198370423,
                4593380528125082431,
                16408922859458223821,
            ],
        ),
    ],
)
def test_splitmix_without_a_key_gives_the_published_numbers(seed: int, published: list[int]) -> None:
    """The first numbers of the generator that Java has as SplittableRandom."""
    x = counters(torch.arange(1, len(published) + 1)) + seed
    assert splitmix(x).tolist() == [signed(n) for n in published]


def splitmix_in_python(x: int, key: int = 0) -> int:
    """In integers of any length: no product overflows, no shift has a sign."""
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64 ^ key
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    return x ^ x >> 31


words64 = st.integers(0, 2**64 - 1)


@given(words64, words64, st.integers(-(2**63), 2**63 - 1))
def test_splitmix_is_that_of_integers(x: int, key: int, n: int) -> None:
    as_tensors = torch.tensor([signed(x)]), torch.tensor([signed(key)])
    assert splitmix(*as_tensors).item() == signed(splitmix_in_python(x, key))
    assert counters(torch.tensor([n])).item() == signed(n * 0x9E3779B97F4A7C15)


def bits_of(x: Tensor) -> Tensor:
    return x[..., None] >> torch.arange(64) & 1


def test_each_bit_of_a_sample_and_a_place_changes_half_of_the_bits() -> None:
    """The strict avalanche criterion, for each bit of the input and each of the output."""
    n = 4096
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(-(2**63), 2**63 - 1, (n,), generator=generator)
    places = torch.randint(0, 2**30, (n,), generator=generator)

    def words(ids: Tensor, places: Tensor) -> Tensor:
        start, key = keys(*starts(5, 3), ids)
        return bits_of(splitmix(counters(places.clone()) + start[:, 0], key[:, 0]))

    before = words(ids, places)
    flips = [words(ids ^ 1 << bit, places) ^ before for bit in range(63)]
    flips += [words(ids, places ^ 1 << bit) ^ before for bit in range(30)]
    share = torch.stack(flips).double().mean(1)
    assert share.shape == (93, 64)
    # The deviation is 1 / (2 sqrt n); the largest of 6,000 exceeds 5.5 of them once in 4,000 times.
    assert (share - 0.5).abs().max() < 5.5 / (2 * n**0.5)


def test_each_bit_of_a_seed_and_a_draw_changes_half_of_the_bits() -> None:
    n = 256
    both = torch.randint(0, 2**31, (n, 2), generator=torch.Generator().manual_seed(0)).tolist()

    def words(bit: int, draw_bit: int) -> Tensor:
        return bits_of(torch.tensor([starts(seed ^ bit, draw ^ draw_bit) for seed, draw in both]))

    before = words(0, 0)
    flips = [words(1 << bit, 0) ^ before for bit in range(64)]
    flips += [words(0, 1 << bit) ^ before for bit in range(64)]
    share = torch.stack(flips).double().mean(1)
    assert share.shape == (128, 2, 64)
    assert (share - 0.5).abs().max() < 5.5 / (2 * n**0.5)  # the largest of 16,000: once in 1,600 times
