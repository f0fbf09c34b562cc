"""A checksum of a tile is zlib's CRC-32 of its bytes in canonical order."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from pipelines.tasks.values import checksum


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_it_is_that_of_zlib_whatever_the_strides(dtype):
    values = np.random.default_rng(0).integers(0, 100, (3, 50, 70)).astype(dtype)
    for part in (values, values[1:, 3:9, ::2], values.transpose(2, 0, 1)):
        assert checksum(part) == zlib.crc32(part.tobytes())
    assert checksum(values[1:], checksum(values[:1])) == zlib.crc32(values.tobytes())
