"""A block holds its image, walls and padding apart, also in memory that another block had before."""

from __future__ import annotations

import numpy as np
import pytest

from diffusion_ops.blocks.block import LANES, Block, as_image


@pytest.mark.parametrize("shape", [(1, 5, 7), (3, 4, 16), (2, 3, 4, 33)])
def test_released_memory_is_clean_for_the_next_block(shape):
    spacing = (1.0,) * (len(shape) - 1)
    first = Block.from_image(np.full(shape, np.nan, np.float32), spacing)
    first.storage[...] = np.nan
    address = first.storage.ctypes.data
    first.release(np.zeros(1))
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    second = Block.from_image(image, spacing)
    assert second.storage.ctypes.data == address
    assert np.array_equal(second.u, image)
    assert np.isfinite(second.storage).all()
    assert second.storage.shape[1] % LANES == 0


def test_a_result_that_is_a_view_keeps_its_memory():
    image = np.ones((1, 4, LANES), np.float32)
    block = Block.from_image(image, (1.0, 1.0))
    result = block.u[:, 1:3]
    block.release(result)
    other = Block.from_image(image * 7, (1.0, 1.0))
    assert (result == 1).all()
    assert not np.may_share_memory(other.storage, result)


def test_a_state_that_an_operator_replaced_is_not_kept():
    block = Block.from_image(np.ones((1, 4, 5), np.float32), (1.0, 1.0))
    block.storage = block.storage.copy()
    block.release(np.zeros(1))
    assert np.array_equal(Block.from_image(np.ones((1, 4, 5), np.float32), (1.0, 1.0)).u, np.ones((1, 4, 5)))


def test_walls_hold_finite_numbers_and_padding_is_no_part_of_the_image():
    image = np.ones((2, 3, 5), np.float32)
    image[1, 1, 2] = np.nan
    valid = np.isfinite(image).all(0)
    block = Block.from_image(image, (1.0, 1.0), valid)
    assert np.isfinite(block.storage).all()
    assert np.array_equal(block.valid, valid)
    assert not as_image(block.valid_storage, (3, 5))[0, ~valid].any()
