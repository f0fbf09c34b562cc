"""Complete an operator's result over the whole image: in memory, or lazily on the chunks of a Dask array."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.delayed import delayed
from numpy.typing import NDArray

from diffusion_ops.evolution.completion import Completion, Shape
from diffusion_ops.lazy_modules import LazyModule

if TYPE_CHECKING:
    import dask.array as da
else:
    da = LazyModule("dask.array")


def complete(image: Any, completion: Completion) -> Any:
    """Return an image of one channel, completed; the bits do not depend on the chunks.

    Parameters
    ----------
    image : ndarray or dask array
        Result of the operator.
    completion : Completion

    Returns
    -------
    ndarray or dask array
        Completed image of the same shape, chunks and dtype; NaN stays.

    Examples
    --------
    >>> from diffusion_ops.families.hysteresis import Hysteresis
    >>> classes = np.array([[1, 1, 0, 0, 2], [0, 0, 0, 1, 0], [1, 0, 1, 0, 0]])
    >>> complete(classes, Hysteresis())
    array([[0, 0, 0, 0, 1],
           [0, 0, 0, 1, 0],
           [0, 0, 1, 0, 0]])
    """
    if isinstance(image, da.Array):
        return _complete_chunks(image, completion)
    image = np.asarray(image)
    origin = (0,) * image.ndim
    merged = completion.merge([completion.tally(image, origin, image.shape)], image.shape)
    return _completed(image, completion, origin, image.shape, merged)


def _complete_chunks(image: Any, completion: Completion) -> Any:
    starts = [np.cumsum([0, *sizes[:-1]]).tolist() for sizes in image.chunks]
    origins = itertools.product(*starts)
    tallies = [
        delayed(completion.tally)(chunk, origin, image.shape)
        for origin, chunk in zip(origins, image.to_delayed().ravel(), strict=True)
    ]
    merged = delayed(completion.merge)(tallies, image.shape)
    meta = np.empty(0, image.dtype)
    return image.map_blocks(
        _complete_chunk, completion, starts, image.shape, merged, dtype=image.dtype, meta=meta
    )


def _complete_chunk(
    tile: NDArray[Any],
    completion: Completion,
    starts: list[list[int]],
    shape: Shape,
    merged: NDArray[np.int64],
    block_id: tuple[int, ...],
) -> NDArray[Any]:
    origin = tuple(some[i] for some, i in zip(starts, block_id, strict=True))
    return _completed(tile, completion, origin, shape, merged)


def _completed(
    tile: NDArray[Any], completion: Completion, origin: Shape, shape: Shape, merged: NDArray[np.int64]
) -> NDArray[Any]:
    done = completion.complete(tile, origin, shape, merged).astype(tile.dtype)
    if tile.dtype.kind == "f":
        done[np.isnan(tile)] = np.nan
    return done
