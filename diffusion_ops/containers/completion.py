"""Complete an operator's result over the whole image: in memory, or lazily on the chunks of a Dask array."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.delayed import delayed
from numpy.typing import NDArray

from diffusion_ops.evolution.completion import Completion, Shape, refuse_narrow_type
from diffusion_ops.lazy_modules import LazyModule

if TYPE_CHECKING:
    import dask.array as da
else:
    da = LazyModule("dask.array")


def complete(image: Any, completion: Completion, result: np.dtype[Any] | None = None) -> Any:
    """Return an image of one channel, completed; the bits do not depend on the chunks.

    Parameters
    ----------
    image : ndarray or dask array
        Result of the operator.
    completion : Completion
    result : numpy dtype, optional
        Type that the completed image gets in the end; by default its own.

    Returns
    -------
    ndarray or dask array
        Completed image of the same shape, chunks and dtype; NaN stays.

    Raises
    ------
    ValueError
        Where a type cannot hold the values, here or when chunks are computed.

    Examples
    --------
    >>> from diffusion_ops.families.segmentation.hysteresis import Hysteresis
    >>> classes = np.array([[1, 1, 0, 0, 2], [0, 0, 0, 1, 0], [1, 0, 1, 0, 0]])
    >>> complete(classes, Hysteresis())
    array([[0, 0, 0, 0, 1],
           [0, 0, 0, 1, 0],
           [0, 0, 1, 0, 0]])
    """
    if isinstance(image, da.Array):
        return _complete_chunks(image, completion, result)
    image = np.asarray(image)
    origin = (0,) * image.ndim
    merged = completion.merge([completion.tally(image, origin, image.shape)], image.shape)
    _check_types(completion, merged, image.dtype, result)
    return _completed(image, completion, origin, image.shape, merged)


def _check_types(
    completion: Completion, merged: NDArray[np.int64], own: np.dtype[Any], result: np.dtype[Any] | None
) -> None:
    for dtype in (own, result or own):
        refuse_narrow_type(completion.largest(merged), dtype)


def _complete_chunks(image: Any, completion: Completion, result: np.dtype[Any] | None) -> Any:
    starts = [np.cumsum([0, *sizes[:-1]]).tolist() for sizes in image.chunks]
    origins = itertools.product(*starts)
    tallies = [
        delayed(completion.tally)(chunk, origin, image.shape)
        for origin, chunk in zip(origins, image.to_delayed().ravel(), strict=True)
    ]
    merged = delayed(completion.merge)(tallies, image.shape)
    meta = np.empty(0, image.dtype)
    return image.map_blocks(
        _complete_chunk, completion, starts, image.shape, merged, result, dtype=image.dtype, meta=meta
    )


def _complete_chunk(
    tile: NDArray[Any],
    completion: Completion,
    starts: list[list[int]],
    shape: Shape,
    merged: NDArray[np.int64],
    result: np.dtype[Any] | None,
    block_id: tuple[int, ...],
) -> NDArray[Any]:
    _check_types(completion, merged, tile.dtype, result)
    origin = tuple(some[i] for some, i in zip(starts, block_id, strict=True))
    return _completed(tile, completion, origin, shape, merged)


def _completed(
    tile: NDArray[Any], completion: Completion, origin: Shape, shape: Shape, merged: NDArray[np.int64]
) -> NDArray[Any]:
    done = completion.complete(tile, origin, shape, merged).astype(tile.dtype)
    if tile.dtype.kind == "f":
        done[np.isnan(tile)] = np.nan
    return done
