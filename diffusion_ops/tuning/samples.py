"""Read sample tiles of an image in any container, at positions that do not depend on its chunks."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from diffusion_ops.blocks.block import Block, Floats, allocate, as_image
from diffusion_ops.blocks.fields import channels_first, check_image, check_mask, guide_fields, make_block
from diffusion_ops.blocks.probe import uniform_numbers
from diffusion_ops.blocks.statistic import Statistic
from diffusion_ops.containers import xarray_objects
from diffusion_ops.evolution.arguments import resolve_spacing
from diffusion_ops.evolution.parameters import check_count
from diffusion_ops.kernels.philox import check_seed

_MOST_DRAWS = 4
"""Largest number of draws of positions, where tiles have no valid cell."""

_POSITION_STREAM = 1 << 32
"""First random stream of positions; those of samples begin at 0."""

SamplePosition = tuple[int, tuple[tuple[int, int], ...]]
"""Number of the frame that a sample is of, and its (begin, end) along each spatial axis."""


@dataclass(frozen=True)
class Frame:
    """One image that evolves on its own, still in its container.

    Attributes
    ----------
    fields : array of shape (channels, *spatial)
        Array in memory or Dask array; only its shape and its slices are used.
    spacing : tuple of float
        Grid spacing per spatial axis.
    nodata : float or None
        Value that marks invalid pixels.
    mask : bool array of the spatial shape, or None
        True where valid.
    guide : array of shape (guide channels, *spatial), or None
        Image whose structure is followed.
    """

    fields: Any
    spacing: tuple[float, ...]
    nodata: float | None = None
    mask: Any = None
    guide: Any = None

    @classmethod
    def of(
        cls, image: Any, spacing: Any, channel_axis: int | None, nodata: Any, mask: Any, guide: Any
    ) -> Frame:
        """Return the frame of an array, which is checked as `evolve` does."""
        if isinstance(image, np.ma.MaskedArray):
            raise TypeError(
                "Masked arrays carry their mask inverted. Pass image.data and mask=~image.mask instead."
            )
        check_image(image.shape, image.dtype, channel_axis, None, nodata)
        fields = channels_first(image, channel_axis)
        spatial = fields.shape[1:]
        mask = None if mask is None else check_mask(_array(mask), spatial)
        guide = None if guide is None else guide_fields(_array(guide), image.ndim, channel_axis, spatial)
        return cls(fields, resolve_spacing(spacing, len(spatial)), nodata, mask, guide)


def read_samples(
    image: Any,
    *,
    spacing: Any = None,
    channel_axis: Any = None,
    mask: Any = None,
    nodata: float | None = None,
    guide: Any = None,
    samples: int = 16,
    size: int = 256,
    seed: int = 0,
) -> tuple[list[SamplePosition], list[Block]]:
    """Return the positions of sample tiles of an image, and the tiles as independent blocks.

    An image of at most samples * size² cells is taken whole. Of a larger one, `samples` tiles of about size² cells
    (whatever the number of axes) are taken from a grid of tiles, one drawn from each of `samples` equal parts of the
    grid; tiles without a valid cell are drawn again. Positions depend on the shape and the seed alone. Of a Dask array
    only the tiles are computed, within this call.

    Parameters
    ----------
    image : ndarray, dask array or DataArray
        As in `evolve`; the frames of a DataArray share the samples.
    spacing, channel_axis, mask, nodata, guide
        As in `evolve`.
    samples, size, seed : int
        Number of samples, their size as above, and the key of the random positions.

    Raises
    ------
    TypeError, ValueError
        As `evolve`; for a Dataset; where no tile has a valid cell.
    """
    frames = _frames(image, spacing=spacing, channel_axis=channel_axis, mask=mask, nodata=nodata, guide=guide)
    return sample_frames(frames, samples, size, seed)


def sample_frames(
    frames: Sequence[Frame], samples: int = 16, size: int = 256, seed: int = 0
) -> tuple[list[SamplePosition], list[Block]]:
    """Return tiles of the frames of one image as `read_samples` does.

    Raises
    ------
    ValueError
        For impossible numbers; where no tile has a valid cell.
    """
    check_count("samples", samples)
    check_count("size", size)
    check_seed(seed)
    found: dict[SamplePosition, Block] = {}
    for draw in _draws(frames[0].fields.shape[1:], len(frames), samples, size, seed):
        for position, block in zip(draw, _read(frames, draw), strict=True):
            if len(found) < len(draw) and (block.valid is None or block.valid.any()):
                found.setdefault(position, block)
        if len(found) == len(draw):
            break
    if not found:
        raise ValueError(
            "No sample of the image has a valid cell. Take more or larger samples, or give the parameters themselves."
        )
    return list(found), list(found.values())


def _frames(image: Any, **arguments: Any) -> list[Frame]:
    """Return the frames of a DataArray, or an array as the only one."""
    if hasattr(image, "data_vars"):
        raise TypeError(
            "The variables of a Dataset have units of their own. Choose for one of them at a time."
        )
    found: list[Frame] = []

    def take(array: Any, _: Any, frame: int = 0, **own: Any) -> Any:
        found.append(Frame.of(array, **own))
        return array

    if hasattr(image, "dims"):
        xarray_objects.evolve(take, image, None, **arguments)
    else:
        take(_array(image), None, **arguments)
    return found


def _array(values: Any) -> Any:
    """Return values as an array that can be sliced in its container."""
    return values if hasattr(values, "__array_function__") else np.asarray(values)


def _draws(
    spatial: tuple[int, ...], frames: int, samples: int, size: int, seed: int
) -> Iterator[list[SamplePosition]]:
    """Yield lists of positions to try, one list after another."""
    whole = tuple((0, n) for n in spatial)
    if frames * math.prod(spatial) <= samples * size**2:
        yield [(frame, whole) for frame in range(frames)]
        return
    tile = tile_shape(spatial, size)
    grid = (frames, *(-(-n // t) for n, t in zip(spatial, tile, strict=True)))
    cells = math.prod(grid)
    count = min(samples, cells)
    for turn in range(_MOST_DRAWS):
        parts = (np.arange(count) + uniform_numbers(seed, _POSITION_STREAM + turn, count)) * (cells / count)
        index = np.stack(np.unravel_index(np.minimum(parts.astype(np.int64), cells - 1), grid), axis=1)
        yield [(frame, _tile(at, tile, spatial)) for frame, *at in index.tolist()]


def tile_shape(spatial: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Return the shape of about size² cells that is as near to a square or a cube as the image allows."""
    tile, room = [0] * len(spatial), float(size**2)
    for i, axis in enumerate(sorted(range(len(spatial)), key=lambda a: spatial[a])):
        tile[axis] = min(spatial[axis], max(1, round(room ** (1 / (len(spatial) - i)))))
        room /= tile[axis]
    return tuple(tile)


def _tile(
    index: Sequence[int], tile: tuple[int, ...], spatial: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    """Return the (begin, end) of a grid tile per axis; the last tile along an axis is moved back into the image."""
    starts = [min(i * t, n - t) for i, t, n in zip(index, tile, spatial, strict=True)]
    return tuple((a, a + t) for a, t in zip(starts, tile, strict=True))


def _read(frames: Sequence[Frame], positions: Sequence[SamplePosition]) -> list[Block]:
    """Return the tiles at some positions, all of one shape and read together."""
    tiles = [(frames[f], tuple(slice(*ends) for ends in tile)) for f, tile in positions]
    images = _gather([frame.fields[(slice(None), *tile)] for frame, tile in tiles])
    masks = _gather([None if frame.mask is None else frame.mask[tile] for frame, tile in tiles])
    guides = _gather(
        [None if frame.guide is None else frame.guide[(slice(None), *tile)] for frame, tile in tiles]
    )
    blocks = []
    for (f, tile), (frame, _), image, mask, guide in zip(
        positions, tiles, images, masks, guides, strict=True
    ):
        block = make_block(image, frame.spacing, frame.nodata, mask, guide=guide)
        block.origin, block.frame = tuple(start for start, _ in tile), f
        blocks.append(block)
    return blocks


def _gather(parts: Sequence[Any]) -> Sequence[Any]:
    """Return arrays in memory; lazy ones are stacked first, so that they are computed together."""
    return parts if parts[0] is None else list(np.asarray(np.stack(parts)))


def with_state(block: Block, image: Floats) -> Block:
    """Return a block with the same walls and a copy of another state of shape (channels, *spatial)."""
    storage = allocate(len(image), block.spatial, block.storage.dtype)
    as_image(storage, block.spatial)[...] = image
    return replace(block, storage=storage, carried=None)


def measure(statistics: Mapping[str, Statistic], blocks: Sequence[Block]) -> dict[str, float]:
    """Return the values of statistics over all blocks together; each block is a whole image."""
    everything = (slice(None),) * len(blocks[0].spatial)
    return {
        name: s.value(functools.reduce(s.merge, [s.measure(block, everything) for block in blocks]))
        for name, s in statistics.items()
    }
