"""Public function `solve`: it takes a NumPy, Dask or xarray image and returns the same kind."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from diffusion_ops.containers import dask_solution, numpy_arrays, xarray_objects
from diffusion_ops.evolution.arguments import SpacingLike, resolve_aliases
from diffusion_ops.evolution.problems.problem import Problem
from diffusion_ops.evolution.problems.solve_request import refuse_stack
from diffusion_ops.lazy_modules import LazyModule

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr
else:
    da, xr = LazyModule("dask.array"), LazyModule("xarray")


def solve(
    image: Any,
    problem: Problem | str,
    *,
    markers: Any = None,
    known: Any = None,
    spacing: SpacingLike | None = None,
    channel_axis: Hashable | None = None,
    mask: Any = None,
    nodata: float | None = None,
    tolerance: float | None = None,
    dtype: DTypeLike | None = None,
    **aliases: object,
) -> Any:
    """Solve a problem whose answer at one pixel depends on the whole image, such as a travel time.

    The result has the same bits whatever the container, chunks or number of threads.

    Parameters
    ----------
    image : ndarray, dask array, DataArray or Dataset of 2 or 3 spatial axes
        What the problem says: a speed, a cost, an image to be cut into regions.
    problem : Problem or str
        Such as `Eikonal()`; a name stands for the problem with its default parameters.
    markers : array of integers of the spatial shape, optional
        Where fronts start, or labels: 0 for none. Pixels of negative markers are walls.
    known : bool array of the spatial shape, optional
        True where the image is known.
    spacing : float or sequence, optional
        Grid spacing per spatial axis; 1 by default.
    channel_axis : int, optional
        Axis of channels.
    mask : bool array of the spatial shape, optional
        True where valid. Invalid pixels are walls.
    nodata : float, optional
        Value that marks invalid pixels. NaN and infinite pixels are invalid too.
    tolerance : float, optional
        How near the answer has to be to the exact one, for problems that are solved by iterations.
    dtype : numpy dtype, optional
        Type of the result: by default the image's own float type, float32 for an image of integers, int32 for labels.
    **aliases
        Other names with the same meaning, such as voxelspacing.

    Returns
    -------
    Same container as `image`
        Of the same shape. Walls hold nodata or NaN, and 0 in labels, where the result is a new quantity.

    Notes
    -----
    A Dask array stays lazy; when it is computed, one task holds the whole image.

    Raises
    ------
    TypeError
        For images that are not numbers, markers that are no integers, and unknown arguments.
    ValueError
        For parameters out of range, with the allowed range, and for problems without an answer.

    Examples
    --------
    >>> import numpy as np, diffusion_ops as do
    >>> speed, seeds = np.ones((3, 4)), np.zeros((3, 4), int)
    >>> seeds[1, 0] = 1
    >>> do.solve(speed, do.Eikonal(), markers=seeds)[1]
    array([0., 1., 2., 3.])
    """
    arguments = resolve_aliases(
        "solve",
        aliases,
        {
            "markers": markers,
            "known": known,
            "spacing": spacing,
            "channel_axis": channel_axis,
            "mask": mask,
            "nodata": nodata,
            "tolerance": tolerance,
            "dtype": dtype,
        },
    )
    if isinstance(image, xr.DataArray | xr.Dataset | da.Array):
        refuse_stack(problem)
    if isinstance(image, xr.DataArray | xr.Dataset):
        return xarray_objects.evolve(_solve_frame, image, problem, **arguments)
    return _solve_frame(image, problem, **arguments)


def _solve_frame(image: Any, problem: Any, *, frame: int = 0, **arguments: Any) -> Any:
    """Return the answer for one frame, in NumPy or Dask; all frames are alike."""
    if isinstance(image, da.Array):
        return dask_solution.solve(image, problem, **arguments)
    return numpy_arrays.solve(np.asanyarray(image), problem, **arguments)
