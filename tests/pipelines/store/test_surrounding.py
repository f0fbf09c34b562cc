"""A part of an array is read and written through the contiguous array around it, and nothing outside is touched."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusion_ops.blocks.block import Block, block_memory
from diffusion_ops.blocks.spare import release_spare
from pipelines.store.arrays import Chunking, create_array, read_region, use_fast_codecs
from pipelines.store.surrounding import surrounding
from pipelines.tasks.values import checksum


@st.composite
def parts(draw):
    """Return a part of an array that lies at any place of a memory of bytes."""
    shape = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    before, behind = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    count = int(np.prod(shape))
    memory = np.zeros(4 * (before + count + behind), np.uint8)
    whole = memory[4 * before : 4 * (before + count)].view(np.float32).reshape(shape)
    whole[...] = np.arange(1, count + 1).reshape(shape)
    starts = [draw(st.integers(0, n - 1)) for n in shape]
    return whole[tuple(slice(a, draw(st.integers(a + 1, n))) for a, n in zip(starts, shape, strict=True))]


@given(parts())
def test_a_part_is_found_in_the_array_around_it(part):
    around, begins = surrounding(part)
    found = around[tuple(slice(a, a + n) for a, n in zip(begins, part.shape, strict=True))]
    assert around.flags.c_contiguous
    assert (found.ctypes.data, found.shape) == (part.ctypes.data, part.shape)
    assert np.array_equal(found, part)
    assert checksum(part) == checksum(part.copy())


@pytest.mark.parametrize("turn", [lambda a: a.T, lambda a: a[::-1], lambda a: a[:, ::2]])
def test_other_views_have_none(turn):
    assert surrounding(turn(np.zeros((4, 6))[:, :5])) is None


@pytest.mark.parametrize("compression", ["none", "lz4"])
def test_blocks_are_read_and_written_in_place(tmp_path, compression):
    use_fast_codecs()
    values = np.random.default_rng(1).random((100, 90)).astype(np.float32)
    values[32:64, 32:64] = 0  # a chunk of the fill value is written too
    arrays = [
        create_array(
            str(tmp_path),
            n,
            values.shape,
            values.dtype,
            Chunking((32, 32)),
            axes="yx",
            compression=compression,
        )
        for n in "ab"
    ]
    arrays[0][...] = values
    image = read_region(arrays[0], (slice(5, 100), slice(3, 90)), block_memory)
    block = Block.from_image(image[None], (1.0, 1.0), in_place=True)
    assert np.shares_memory(block.storage, image)
    assert np.array_equal(block.u[0], values[5:, 3:])
    assert not block.storage.reshape(95, -1)[:, 87:].any()
    block.u[0][...] += 1
    before = block.storage.copy()  # the halo beside what is written
    arrays[1][32:100, 32:90] = block.u[0][27:, 29:]
    assert np.array_equal(block.storage, before)
    assert np.array_equal(arrays[1][32:100, 32:90], values[32:, 32:] + 1)
    assert len(list((tmp_path / "b").rglob("c/*/*"))) == 6
    release_spare()
