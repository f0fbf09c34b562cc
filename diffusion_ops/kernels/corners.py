"""Index the corners between the cells of a block: each axis has one corner more than cells, walls included.

Corner (p, m, j) lies between the cells with indices p - 1 and p, m - 1 and m, j - 1 and j. A corner is valid where a
cell around it is, so that a side of the image and the edge of nodata look alike.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from diffusion_ops.blocks.block import Block, allocate, as_image
from diffusion_ops.kernels.faces import left_of
from diffusion_ops.kernels.lanes import between, choose, fill, inlined, load, store, where


def corner_block(block: Block) -> Block:
    """Return a block of the corners, without a state of its own: grid, spacing, open sides and walls."""
    spatial = tuple(n + 1 for n in block.spatial)
    walls = None
    if block.valid is not None:
        walls = allocate(1, spatial, np.dtype(bool))
        found = as_image(walls, spatial)[0]
        for offset in np.ndindex((2,) * len(spatial)):
            found[tuple(slice(s, s + n) for s, n in zip(offset, block.spatial, strict=True))] |= block.valid
    empty = np.zeros((0, 0), block.storage.dtype)
    return dataclasses.replace(block, storage=empty, spatial=spatial, valid_storage=walls)


@inlined
def corner_side(masked, u, valid, row, there, j, columns):  # type: ignore[no-untyped-def]
    """Return the cells of a row left and right of a group of corners, and 1 for each that is valid, else 0."""
    right, left = load(u, row + j), left_of(u, row + j, row)
    one = fill(u[0] - u[0]) + 1.0
    stop = columns if there else 0
    vr, vl = where(between(0, stop - j), one), where(between(1 - j, stop + 1 - j if there else 0), one)
    if masked:
        return left, right, where(left_of(valid, row + j, row), vl), where(load(valid, row + j), vr)
    return left, right, vl, vr


@inlined
def mirror_pairs(low, high, vlow, vhigh, low_side, high_side):  # type: ignore[no-untyped-def]
    """Return two opposite cells and whether they are valid, one copied to the other where that one's side is not."""
    no_low, no_high = low_side < 0.5, high_side < 0.5
    return (
        choose(no_low, high, low),
        choose(no_high, low, high),
        choose(no_low, vhigh, vlow),
        choose(no_high, vlow, vhigh),
    )


@inlined
def fold_pairs(low, high, low_side, high_side):  # type: ignore[no-untyped-def]
    """Return the forces on two opposite cells, with what acts on a mirror image added to its cell."""
    return low + where(high_side < 0.5, high), high + where(low_side < 0.5, low)


@inlined
def add_to(to, j, lanes):  # type: ignore[no-untyped-def]
    """Add to a group of numbers."""
    store(to, j, load(to, j) + lanes)
