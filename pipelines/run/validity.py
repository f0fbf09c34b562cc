"""Refuse an image without a valid pixel, before anything is written."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from diffusion_ops.blocks.fields import valid_cells
from pipelines.image.source import Source, read_canonical
from pipelines.image.window import Grid
from pipelines.plan.plan import Plan
from pipelines.refusal import RefusedError


def require_valid_pixels(source: Source, plan: Plan) -> None:
    """Read tiles, spread over the image, until one has a valid pixel; nearly always that is the first.

    Raises
    ------
    RefusedError
        Where the whole image is NaN or nodata.
    """
    info = source.info
    if (info.nodata is None and info.dtype.kind in "iu") or not info.by_region:
        return
    axes = plan.frames.axes
    grid = Grid(tuple(info.size(a) for a in axes), plan.geometry.tile)
    for tile in _spread(len(grid)):
        try:
            values = read_canonical(source, dict(zip(axes, grid.region(tile), strict=True)))
        except Exception:  # a network's error, or any codec's
            # A read that fails now may succeed later: the run tries again, and names the tile if it never does.
            return
        valid = valid_cells(values.reshape(1, -1), info.nodata)
        if valid is None or np.any(valid):
            return
    raise RefusedError(
        f"Every pixel of the image is NaN or nodata ({info.nodata!r}): there is nothing to diffuse. "
        "Check the file, or give the right value as source.nodata."
    )


def _spread(count: int) -> Iterator[int]:
    """Yield 0 ... count - 1 in long jumps from the middle on: invalid regions mostly lie at borders."""
    step = max(1, round(count * 0.618))
    while math.gcd(step, count) != 1:
        step += 1
    for i in range(count):
        yield (count // 2 + i * step) % count
