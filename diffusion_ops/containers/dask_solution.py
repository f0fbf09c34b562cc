"""`solve` on Dask arrays: lazy, in one task that holds the whole image, with the user's chunks kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from dask.delayed import delayed

from diffusion_ops.blocks.fields import check_mask
from diffusion_ops.containers import numpy_arrays
from diffusion_ops.containers.dask_arrays import check_container
from diffusion_ops.evolution.problems.solve_request import check_beside, make_solve_request
from diffusion_ops.lazy_modules import LazyModule

if TYPE_CHECKING:
    import dask.array as da
else:
    da = LazyModule("dask.array")


def solve(image: Any, problem: Any, *, mask: Any, markers: Any, known: Any, **arguments: Any) -> Any:
    """Return the lazy answer of a problem on a Dask array, in the same chunks; see `diffusion_ops.solve`.

    Raises
    ------
    TypeError, ValueError
        As for NumPy, and for unknown chunk sizes and chunks that are not NumPy arrays.
    """
    check_container(image)
    beside = {w: as_array(a) for w, a in (("markers", markers), ("known", known)) if a is not None}
    request = make_solve_request(image, problem, given=tuple(beside), **arguments)
    axis = request.channel_axis
    spatial = tuple(n for a, n in enumerate(image.shape) if a != axis)
    if mask is not None:
        mask = check_mask(as_array(mask), spatial)
    for word, one in beside.items():
        check_beside(word, one, spatial)
    images = {"mask": mask, "markers": None, "known": None, **beside}
    channels = 1 if axis is None else image.shape[axis]
    shape = list(image.shape)
    chunks = list(image.chunks)
    if axis is not None:
        shape[axis] = request.problem.result_channels(channels)
        chunks[axis] = (shape[axis],) if shape[axis] != channels else image.chunks[axis]
    whole = delayed(numpy_arrays.solve, pure=True)(image, request.problem, **images, **arguments)
    meta = np.empty((0,) * image.ndim, request.result_type)
    return da.from_delayed(whole, tuple(shape), meta=meta).rechunk(tuple(chunks))


def as_array(image: Any) -> Any:
    """Return an image beside the image as a Dask or NumPy array."""
    return image if isinstance(image, da.Array) else np.asarray(image)
