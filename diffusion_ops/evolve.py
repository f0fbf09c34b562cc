"""Public function `evolve`: it takes a NumPy, Dask or xarray image and returns the same kind."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from diffusion_ops.containers import dask_arrays, numpy_arrays, xarray_objects
from diffusion_ops.evolution.arguments import (
    OneOrEach,
    OperatorLike,
    ScheduleLike,
    SpacingLike,
    TimeLike,
    resolve_aliases,
)
from diffusion_ops.lazy_modules import LazyModule
from diffusion_ops.tuning.tune import asks_for_time, resolve_automatic_time

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr
else:
    da, xr = LazyModule("dask.array"), LazyModule("xarray")


def evolve(
    image: Any,
    operator: OperatorLike | Sequence[OperatorLike],
    *,
    time: OneOrEach[TimeLike] = None,
    steps: OneOrEach[int] = None,
    dt: OneOrEach[float] = None,
    schedule: OneOrEach[ScheduleLike] = None,
    spacing: SpacingLike | None = None,
    channel_axis: Hashable | None = None,
    mask: Any = None,
    nodata: float | None = None,
    dtype: DTypeLike | None = None,
    batch: int | None = None,
    guide: Any = None,
    **aliases: object,
) -> Any:
    """Diffuse an image with an operator, or a chain of them.

    The result has the same bits whatever the container, chunks, batch or number of threads.

    Parameters
    ----------
    image : ndarray, dask array, DataArray or Dataset of 2 or 3 spatial axes
        Integers are computed in float32 in their own units. A Dask array stays lazy.
    operator : Operator, str or sequence of them
        One PDE, or a chain that is applied in turn.
    time : float, "auto" or sequence, optional
        Diffusion time, in squared units of the spacing. Alone, the schedule chooses the steps. "auto" takes the time
        of the least estimated error for white Gaussian noise, from samples that are read within this call; see `tune`.
    steps : int or sequence, optional
        Number of explicit steps. Alone, each is 0.8 of the largest stable one.
    dt : float or sequence, optional
        Size of an explicit step. Any two of time, steps and dt fix the third.
    schedule : Schedule, Adaptive, "explicit", "cycles", {"cycles": count} or {"adaptive": tolerance}, optional
        `Explicit` keeps the maximum principle; `Cycles` (FSI, the default for time alone) needs the fewest steps;
        `Adaptive` takes steps as large as an error in image units allows (not for a Dask array, which is lazy).
    spacing : float or sequence, optional
        Grid spacing per spatial axis; 1 by default.
    channel_axis : int, optional
        Axis of channels; they share one conductance.
    mask : bool array of the spatial shape, optional
        True where valid. Nothing flows across invalid pixels; they keep their values.
    nodata : float, optional
        Value that marks invalid pixels. NaN and infinite pixels are invalid too.
    dtype : numpy dtype, optional
        Type of the result, rounded to nearest and clipped; float types are kept and integers become float32 by default.
    batch : int, optional
        Steps per exchange between chunks of a Dask array; chosen from the chunk size by default.
    guide : ndarray, dask array or DataArray, optional
        Image of the same spatial shape, or with channels along the same axis, whose edges and structure are
        followed instead of the image's own. Pixels where it has no value are walls.
    **aliases
        Other names with the same meaning, such as niter, gamma and voxelspacing.

    Returns
    -------
    Same container as `image`
        Of the same shape. In a new quantity, such as an angle, invalid pixels hold nodata, else NaN, or 0 in integers;
        labels have no nodata, as any number may be one.

    Notes
    -----
    While a Dask array is computed, a thread holds two and a half to three times a chunk with its halo as floats, and
    more for operators that keep further arrays; with what the allocator keeps of what is freed, up to five times. With
    one batch, a chunk is read, computed and handed on. With several, Dask holds up to two states of the whole array:
    give larger chunks or `batch`, or run a spec over Zarr, whose memory has a limit.

    Raises
    ------
    TypeError
        For images that are not numbers, and unknown arguments.
    ValueError
        For parameters out of range, with the allowed range.

    Examples
    --------
    >>> import numpy as np, diffusion_ops as do
    >>> image = np.zeros((5, 5)); image[2, 2] = 1
    >>> float(do.evolve(image, do.Heat(), steps=1, dt=0.25)[2, 1])
    0.25
    """
    arguments = resolve_aliases(
        "evolve",
        aliases,
        {
            "time": time,
            "steps": steps,
            "dt": dt,
            "schedule": schedule,
            "spacing": spacing,
            "channel_axis": channel_axis,
            "mask": mask,
            "nodata": nodata,
            "dtype": dtype,
            "batch": batch,
            "guide": guide,
        },
    )
    if asks_for_time(arguments["time"]):
        arguments["time"] = resolve_automatic_time(
            image,
            operator,
            **{key: value for key, value in arguments.items() if key not in ("dtype", "batch")},
        )
    if isinstance(image, xr.DataArray | xr.Dataset):
        return xarray_objects.evolve(_evolve_frame, image, operator, **arguments)
    return _evolve_frame(image, operator, **arguments)


def _evolve_frame(image: Any, operator: Any, **arguments: Any) -> Any:
    """Return the evolution of one frame, in NumPy or Dask."""
    if isinstance(image, da.Array):
        return dask_arrays.evolve(image, operator, **arguments)
    return numpy_arrays.evolve(np.asanyarray(image), operator, **arguments)
