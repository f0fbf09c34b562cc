"""Known answers of Philox4x32-10, and numbers that are what they should be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray
from scipy import stats

from diffusion_ops.blocks.block import Block
from diffusion_ops.kernels.philox import check_seed, first_index, gaussian, philox, stream_key, uniform


def words(text: str) -> list[np.uint64]:
    return [np.uint64(int(word, 16)) for word in text.split()]


@njit
def generated(counter: Any, key: Any) -> Any:
    return philox(counter[0], counter[1], counter[2], counter[3], key[0], key[1])


@pytest.mark.parametrize(
    ("counter", "key", "known"),
    [
        ("0 0 0 0", "0 0", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff " * 4, "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            "243f6a88 85a308d3 13198a2e 03707344",
            "a4093822 299f31d0",
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_the_generator_gives_the_known_answers(counter: str, key: str, known: str) -> None:
    assert list(generated(tuple(words(counter)), tuple(words(key)))) == words(known)


@njit
def draw(law: int, out: Any, key: Any) -> None:
    for j in range(out.shape[0]):
        four = philox(np.uint64(j), np.uint64(0), np.uint64(0), np.uint64(0), key[0], key[1])
        out[j] = uniform(out[0], four) if law == 0 else gaussian(out[0], four)


def drawn(law: int, dtype: Any = np.float64, count: int = 1 << 20, key: Any = (1, 2)) -> NDArray[Any]:
    out = np.zeros(count, dtype)
    draw(law, out, tuple(np.uint64(k) for k in key))
    return out


@njit
def from_words(law: int, four: Any, like: Any) -> Any:
    return uniform(like, four) if law == 0 else gaussian(like, four)


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_numbers_obey_their_law(real: Any) -> None:
    for law, known in ((0, stats.uniform), (1, stats.norm)):
        x = drawn(law, real)
        assert stats.kstest(x.astype(np.float64), known.cdf).pvalue > 1e-3
        n = len(x)
        assert abs(x.mean(dtype=np.float64) - known.mean()) < 4 * known.std() / math.sqrt(n)
        fourth = (known.stats(moments="k") + 2) * known.var() ** 2
        assert abs(x.var(dtype=np.float64) - known.var()) < 4 * math.sqrt(fourth / n)


@pytest.mark.thorough
def test_neighbours_and_streams_are_not_correlated() -> None:
    x, other = drawn(1), drawn(1, key=stream_key(5, 1, 0))
    limit = 4 / math.sqrt(len(x))
    assert all(abs(np.mean(x[lag:] * x[:-lag])) < limit for lag in (1, 2, 64))
    assert abs(np.mean(x * other)) < limit


@pytest.mark.thorough
def test_the_formula_is_that_of_box_and_muller_to_rounding() -> None:
    four = (np.arange(4 * 2000, dtype=np.uint64).reshape(-1, 4) * np.uint64(2654435761)) & np.uint64(
        0xFFFFFFFF
    )
    for a, b, c, d in four[:2000]:
        u = ((int(a) >> 1) + 0.5 * 2**-22 + (int(c) >> 10) * 2.0**-22) * 2.0**-31
        v = ((int(b) >> 1) + (int(d) >> 10) * 2.0**-22) * 2.0**-31
        known = math.sqrt(-2 * math.log(u)) * math.cos(2 * math.pi * v)
        assert from_words(1, (a, b, c, d), 0.0) == pytest.approx(known, rel=1e-14, abs=1e-14)
        if u > 2**-12:
            assert from_words(1, (a, b, c, d), np.float32(0)) == pytest.approx(known, rel=2e-6, abs=2e-6)


@pytest.mark.parametrize("like", [0.0, np.float32(0)])
def test_extreme_words_give_finite_numbers(like: Any) -> None:
    ends = (np.uint64(0), np.uint64(0xFFFFFFFF))
    for a in ends:
        for b in ends:
            assert 0 <= from_words(0, (a, b, a, b), like) < 1
            assert abs(from_words(1, (a, b, a, b), like)) < 9


def test_more_bits_only_refine() -> None:
    for law in (0, 1):
        np.testing.assert_allclose(drawn(law, np.float32, 4096), drawn(law, count=4096), rtol=1e-4, atol=3e-5)


def test_every_channel_and_frame_of_a_seed_has_its_own_key() -> None:
    assert stream_key(2**40 + 7, 0, 0) == (7, 2**8)
    keys = {stream_key(seed, c, f) for seed in range(4) for c in range(8) for f in range(8)}
    assert len(keys) == 4 * 8 * 8


def test_a_block_knows_its_place() -> None:
    plane = Block(np.zeros((1, 32), np.float32), (2, 16), (1.0, 1.0), origin=(3, 5))
    assert first_index(plane) == (5, 3, 0)
    volume = Block(np.zeros((1, 32), np.float32), (1, 2, 16), (1.0,) * 3, origin=(7, 3, 5))
    assert first_index(volume) == (5, 3, 7)


@pytest.mark.parametrize("seed", [-1, 1.5, True, 2**64, "1"])
def test_other_seeds_are_refused(seed: Any) -> None:
    with pytest.raises(ValueError, match=r"^seed=.* Allowed: a whole number"):
        check_seed(seed)
