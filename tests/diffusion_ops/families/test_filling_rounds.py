"""Rounds of a filling read as far as they say, and no less."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Block, allocate, as_image
from diffusion_ops.evolution.advance import advance
from diffusion_ops.evolution.legs import Leg, total_halo
from diffusion_ops.evolution.schedule import Cycle
from diffusion_ops.families.filling_rounds import VariationRounds

LEG = Leg(VariationRounds(0.5), (Cycle(1.0),), begins=False)


def filled(u: NDArray[Any], free: NDArray[np.bool_]) -> NDArray[Any]:
    """Return an image after a round on the cells that are free."""
    block = Block.from_image(u, (1.0,) * free.ndim)
    block.carried = allocate(1, free.shape, u.dtype)
    as_image(block.carried, free.shape)[0] = free
    return advance(block, [LEG]).u.copy()


@pytest.mark.parametrize("sides", [(75, 77), pytest.param((57, 58, 59), marks=pytest.mark.slow)])
def test_a_window_has_the_bits_of_the_whole_and_a_smaller_one_has_not(sides: tuple[int, ...]) -> None:
    """Doubles of noise, in which the farthest cell shows."""
    random = np.random.default_rng(0)
    u, free = random.standard_normal((2, *sides)), random.random(sides) > 0.1
    whole, (halo, *_) = filled(u, free), total_halo([LEG], (1.0,) * len(sides))
    inner = tuple(slice(n // 2 - 8, n // 2 + 8) for n in sides)
    for short in (0, 1):
        outer = tuple(slice(s.start - halo + short, s.stop + halo - short) for s in inner)
        middle = (slice(None), *(slice(halo - short, short - halo) for _ in sides))
        found = filled(u[(slice(None), *outer)], free[outer])[middle]
        assert np.array_equal(found, whole[(slice(None), *inner)]) == (not short)
