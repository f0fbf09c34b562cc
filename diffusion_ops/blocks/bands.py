"""Cut a block into bands, so that the temporary arrays of a statistic are small."""

from __future__ import annotations

from collections.abc import Iterator

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.window import window_of

PARTS = 8
"""Approximate number of bands of a block."""


def bands(
    block: Block, keep: tuple[slice, ...], radius: tuple[int, ...]
) -> Iterator[tuple[Block, tuple[slice, ...]]]:
    """Yield copies of bands of a block with `radius` cells around, and the slices of each that are kept.

    Together the kept slices cover `keep`, each cell once.
    """
    ends = [slice_.indices(size)[:2] for slice_, size in zip(keep, block.spatial, strict=True)]
    if any(low >= high for low, high in ends):
        return
    # Rows stay whole: kernels run along them.
    axis = max(range(len(ends) - 1), key=lambda i: ends[i][1] - ends[i][0])
    low, high = ends[axis]
    length = max(-(-(high - low) // PARTS), 4 * radius[axis], 16)
    for start in range(low, high, length):
        ends[axis] = (start, min(start + length, high))
        window = window_of(tuple(slice(*end) for end in ends), block.spatial, radius)
        valid = None if block.valid is None else block.valid[window.read]
        yield Block.from_image(block.u[(slice(None), *window.read)], block.spacing, valid), window.keep
