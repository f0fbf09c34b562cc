"""`evolve` on xarray: dimensions by name, frames one by one, coordinates, attributes and encoding kept."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from diffusion_ops.blocks.fields import check_nodata
from diffusion_ops.evolution.arguments import as_operators
from diffusion_ops.evolution.operator import Operator
from diffusion_ops.lazy_modules import LazyModule

if TYPE_CHECKING:
    import dask.array as da
    import xarray as xr
else:
    da, xr = LazyModule("dask.array"), LazyModule("xarray")

SPATIAL = frozenset(
    ["x", "y", "z", "lat", "lon", "latitude", "longitude", "easting", "northing", "rlat", "rlon", "xc", "yc"]
    + ["row", "rows", "col", "cols", "column", "columns", "plane", "planes", "height", "width", "depth"]
)
"""Names of dimensions that are taken as spatial, in small letters."""

CHANNELS = frozenset(["band", "bands", "c", "ch", "channel", "channels", "rgb"])
"""Names of dimensions that are taken as channels, which share one conductance."""

FRAMES = frozenset(["time", "t", "date", "frame", "frames"])
"""Names of dimensions that are never taken as spatial."""

_PER_FRAME = ("mask", "guide", "markers", "known")
"""Arguments that are images themselves, of which a frame gets its own part."""

_EVEN = 1e-3
"""Coordinates are evenly spaced where no step differs from the mean by more than this part."""

_FILL_NAMES = ("_FillValue", "missing_value", "fill_value", "nodata")
_FILL_PER_BAND = "nodatavals"
# How a file packs integers does not apply to floats.
_PACKING = ("dtype", "rasterio_dtype", "_Unsigned")


@dataclass(frozen=True)
class _Roles:
    """Roles of the dimensions of an image."""

    spatial: tuple[Hashable, ...]
    channel: Hashable | None
    frames: tuple[Hashable, ...]

    def order(self, dims: Sequence[Hashable]) -> tuple[int, ...]:
        """Return the axes with frames first and the others in their order."""
        own = [d for d in dims if d not in self.frames]
        return tuple(dims.index(d) for d in (*self.frames, *own))

    def channel_axis(self, dims: Sequence[Hashable]) -> int | None:
        """Return the axis of the channels within one frame."""
        if self.channel is None:
            return None
        return [d for d in dims if d not in self.frames].index(self.channel)


def evolve(
    evolve_array: Callable[..., Any],
    image: Any,
    operator: Any,
    *,
    channel_axis: Any,
    spacing: Any,
    **arguments: Any,
) -> Any:
    """Return the evolution of a DataArray or a Dataset; see `diffusion_ops.evolve`.

    Dimensions named as in `SPATIAL` are spatial and those named as in `CHANNELS` are channels; where none is
    named so, all are spatial as for NumPy. Further dimensions, such as time, are frames that evolve
    independently. Of a Dataset, all numeric variables with the spatial dimensions evolve; others pass.

    Parameters
    ----------
    evolve_array : callable
        `diffusion_ops.evolve` for one frame as a NumPy or Dask array.
    image : DataArray or Dataset
        The data may be a Dask array and stays lazy then.
    operator : Operator, str or sequence of them
        As in `diffusion_ops.evolve`.
    channel_axis : str or int, optional
        Name (or, for a DataArray, number) of the dimension of channels.
    spacing : number, sequence, mapping or "coords", optional
        1 by default. The keys of a mapping from dimensions to spacings are the spatial dimensions. "coords" takes the
        spacing of the coordinates, which must be evenly spaced numbers: then time is in their squared units.
    **arguments
        The others of `diffusion_ops.evolve`. `mask` may be a DataArray; `nodata` is read from the attributes,
        the encoding of integers, or from rioxarray.

    Raises
    ------
    ValueError
        Where the spatial dimensions cannot be determined, or the coordinates are not evenly spaced.
    """
    if isinstance(image, xr.Dataset):
        return _evolve_dataset(evolve_array, image, operator, channel_axis, spacing, arguments)
    channel = _channel_name(image, channel_axis)
    roles = _find_roles(image.dims, channel, spacing)
    return _evolve_image(evolve_array, image, operator, roles, spacing, arguments)


def _channel_name(image: xr.DataArray, channel_axis: Hashable | None) -> Hashable | None:
    if channel_axis is None:
        return None
    if isinstance(channel_axis, int) and channel_axis not in image.dims:
        if not -image.ndim <= channel_axis < image.ndim:
            raise ValueError(f"channel_axis={channel_axis} is not an axis of dimensions {image.dims}.")
        return image.dims[channel_axis]
    if channel_axis not in image.dims:
        raise ValueError(
            f"channel_axis={channel_axis!r} is not a dimension. Allowed: {', '.join(map(repr, image.dims))}."
        )
    return channel_axis


def _find_roles(dims: Sequence[Hashable], channel: Hashable | None, spacing: Any) -> _Roles:
    """Return the roles of the dimensions, from their names or from the user's arguments."""
    if isinstance(spacing, Mapping):
        missing = [d for d in spacing if d not in dims]
        if missing:
            raise ValueError(f"spacing names {missing}, but the dimensions are {tuple(dims)}.")
        spatial = [d for d in dims if d in spacing and d != channel]
    else:
        spatial = [d for d in dims if str(d).lower() in SPATIAL and d != channel]
    if channel is None:
        found = [d for d in dims if str(d).lower() in CHANNELS and d not in spatial]
        channel = found[0] if len(found) == 1 else None
        if len(found) > 1:
            raise ValueError(
                f"The dimensions {found} may all be channels. Say which: channel_axis={found[0]!r}."
            )
    spatial = spatial or [d for d in dims if d != channel and str(d).lower() not in FRAMES]
    if len(spatial) not in (2, 3):
        raise ValueError(
            f"Of the dimensions {tuple(dims)}, {len(spatial)} are spatial: {spatial}. Allowed: 2 or 3. "
            "Name the spatial ones by spacing, such as spacing={'y': 1, 'x': 1}; channels by channel_axis."
        )
    frames = tuple(d for d in dims if d not in spatial and d != channel)
    return _Roles(tuple(spatial), channel, frames)


def _evolve_dataset(
    evolve_array: Callable[..., Any],
    dataset: xr.Dataset,
    operator: Any,
    channel_axis: Any,
    spacing: Any,
    arguments: dict[str, Any],
) -> xr.Dataset:
    if channel_axis is not None and channel_axis not in dataset.dims:
        raise ValueError(
            f"channel_axis={channel_axis!r} is not a dimension of the Dataset. "
            f"Allowed: {', '.join(map(repr, dataset.dims))}."
        )
    done = {}
    for name, variable in dataset.data_vars.items():
        channel = channel_axis if channel_axis in variable.dims else None
        if _is_image(variable, channel, spacing):
            roles = _find_roles(variable.dims, channel, spacing)
            image = _evolve_image(evolve_array, variable, operator, roles, spacing, arguments)
            # A Dataset has one length per dimension: a map of several channels loses the channel dimension.
            mapped = roles.channel is not None and image.sizes[roles.channel] != variable.sizes[roles.channel]
            done[name] = image.isel({roles.channel: 0}, drop=True) if mapped else image
    if not done:
        raise ValueError(
            f"No numeric variable of the Dataset has 2 or 3 spatial dimensions among {tuple(dataset.dims)}. "
            "Name the spatial ones by their spacing, such as spacing={'y': 1, 'x': 1}."
        )
    return dataset.assign(done)


def _is_image(variable: xr.DataArray, channel: Hashable | None, spacing: Any) -> bool:
    """Return whether a variable has numbers on the spatial dimensions; masks and text pass unchanged."""
    named = spacing if isinstance(spacing, Mapping) else SPATIAL
    known = [d for d in variable.dims if (d in named or str(d).lower() in named) and d != channel]
    wanted = len(spacing) if isinstance(spacing, Mapping) else 2
    return variable.dtype.kind in "iufc" and len(known) >= wanted


def _evolve_image(
    evolve_array: Callable[..., Any],
    image: xr.DataArray,
    operator: Any,
    roles: _Roles,
    spacing: Any,
    arguments: dict[str, Any],
) -> xr.DataArray:
    data = image.data
    if not isinstance(data, np.ndarray | da.Array):
        raise TypeError(
            f"The data are {type(data).__name__}. Allowed: NumPy or Dask arrays, such as image.as_numpy()."
        )
    nodata = _find_nodata(image) if arguments["nodata"] is None else arguments["nodata"]
    spacing = _find_spacing(image, roles, spacing)
    order = roles.order(image.dims)
    frames = data.transpose(order)
    per_frame = {
        word: (_frame_guides if word == "guide" else _frame_masks)(word, arguments[word], image, roles)
        for word in _PER_FRAME
        if word in arguments
    }
    fixed = {
        **arguments,
        "nodata": nodata,
        "spacing": spacing,
        "channel_axis": roles.channel_axis(image.dims),
    }
    lengths = frames.shape[: len(roles.frames)]
    results = [
        evolve_array(
            frames[index],
            operator,
            **{**fixed, **{w: next(v) for w, v in per_frame.items()}, "frame": number},
        )
        for number, index in enumerate(np.ndindex(*lengths))
    ]
    result = _stack(results, frames, len(lengths)).transpose(tuple(np.argsort(order).tolist()))
    wrapped = _wrap(image, result, roles.channel)
    # Samples and ensembles, which come this way too, make no labels.
    labels = isinstance(operator, str | Operator | Sequence) and as_operators(operator)[-1].gives_labels
    return _without_nodata(wrapped) if labels else wrapped


def _stack(results: list[Any], like: Any, count: int) -> Any:
    """Return frames as one array whose first `count` axes are those of `like`."""
    if not count:
        return results[0]
    if not results:
        raise ValueError(f"An image of shape {like.shape} has no frames. Give an image with pixels.")
    if not isinstance(like, da.Array):
        return np.stack(results).reshape(*like.shape[:count], *results[0].shape)
    stacked = da.stack(results).reshape(*like.shape[:count], *results[0].shape)
    return stacked.rechunk({axis: like.chunks[axis] for axis in range(count)})


def _wrap(image: xr.DataArray, result: Any, channel: Hashable | None) -> xr.DataArray:
    """Return the result with the image's coordinates and metadata; a map of several channels has no channel names."""
    if channel is not None and result.shape != image.shape:
        image = image.isel({channel: slice(0, 1)}).drop_vars([channel], errors="ignore")
    wrapped = image.copy(data=np.ascontiguousarray(result) if isinstance(result, np.ndarray) else result)
    wrapped.encoding = dict(image.encoding)
    if result.dtype != image.dtype:
        wrapped.encoding = {k: v for k, v in image.encoding.items() if k not in _PACKING}
    return wrapped


def _without_nodata(labels: xr.DataArray) -> xr.DataArray:
    """Return labels without the image's nodata value: the next step would take the label of that number for none."""
    names = (*_FILL_NAMES, _FILL_PER_BAND)
    labels.attrs = {k: v for k, v in labels.attrs.items() if k not in names}
    labels.encoding = {k: v for k, v in labels.encoding.items() if k not in names}
    return labels


def _frame_masks(word: str, mask: Any, image: xr.DataArray, roles: _Roles) -> Iterator[Any]:
    """Yield the mask of each frame, or another image that has no channels, such as markers."""
    if not isinstance(mask, xr.DataArray):
        return itertools.repeat(mask)
    dims = [d for d in image.dims if d in mask.dims and d != roles.channel]
    if set(mask.dims) != set(dims) or not set(roles.spatial) <= set(dims):
        raise ValueError(
            f"The {word} has dimensions {mask.dims}. Allowed: the spatial ones {roles.spatial}, "
            f"with or without the frames {roles.frames}."
        )
    _require_same_coordinates(word, mask, image)
    missing = {d: image.sizes[d] for d in roles.frames if d not in dims}
    full = (
        mask.expand_dims(missing)
        .transpose(*roles.frames, *(d for d in image.dims if d in roles.spatial))
        .data
    )
    return (full[index] for index in np.ndindex(*full.shape[: len(roles.frames)]))


def _frame_guides(word: str, guide: Any, image: xr.DataArray, roles: _Roles) -> Iterator[Any]:
    """Yield the guide of each frame; a DataArray has the image's dimensions, or lacks frames or channels."""
    if not isinstance(guide, xr.DataArray):
        return itertools.repeat(guide)
    if not set(roles.spatial) <= set(guide.dims) <= set(image.dims):
        raise ValueError(f"The {word} has dimensions {guide.dims}. Allowed: those of the image {image.dims}.")
    # Channels of a guide are others than the image's, so that their names and number are free.
    spared = [d for d in guide.dims if d == roles.channel]
    _require_same_coordinates(word, guide.isel(dict.fromkeys(spared, 0), drop=True), image)
    missing = {d: image.sizes[d] for d in roles.frames if d not in guide.dims}
    dims = [d for d in image.dims if d in guide.dims and d not in roles.frames]
    full = guide.expand_dims(missing).transpose(*roles.frames, *dims).data
    return (full[index] for index in np.ndindex(*full.shape[: len(roles.frames)]))


def _require_same_coordinates(name: str, other: xr.DataArray, image: xr.DataArray) -> None:
    try:
        xr.align(image, other, join="exact", copy=False)
    except ValueError as error:
        raise ValueError(
            f"The {name} has other coordinates than the image. Use {name}.reindex_like(image), or {name}.data."
        ) from error


def _find_nodata(image: xr.DataArray) -> float | None:
    """Return the nodata value of the data in memory, or None.

    The fill value in the encoding of floats is not used: decoding has replaced it by NaN. A value that no pixel can
    hold is ignored. rioxarray adds an accessor to every image once anything imports it; it is asked last, for what
    only it knows, so that the result is the same without it.
    """
    for value in _written_nodata(image):
        number = _held_number(value, image.dtype)
        if number is not None:
            return number
    return _held_number(_rioxarray_nodata(image), image.dtype)


def _written_nodata(image: xr.DataArray) -> Iterator[Any]:
    """Yield the nodata values in the attributes and the encoding of an image."""
    yield from (image.attrs.get(name) for name in _FILL_NAMES)
    values = image.attrs.get(_FILL_PER_BAND)
    yield next(iter(values), None) if isinstance(values, Iterable) else None
    if image.dtype.kind in "iu":
        yield from (image.encoding.get(name) for name in _FILL_NAMES)


def _rioxarray_nodata(image: xr.DataArray) -> Any:
    """Return the nodata value that rioxarray alone knows, such as that of `set_nodata`, or None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return image.rio.nodata
        except Exception:
            # It is not imported, or its value does not fit this dtype, or its file is closed.
            return None


def _held_number(value: Any, dtype: np.dtype[Any]) -> float | None:
    """Return an attribute, a number, text or array of one number, as a number that pixels can hold, else None."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.ravel()[0]
    try:
        number = value if isinstance(value, Real) else float(value)
        if math.isnan(number):
            return None
        check_nodata(number, dtype, "image")  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number  # type: ignore[return-value]


def _find_spacing(image: xr.DataArray, roles: _Roles, spacing: Any) -> Any:
    if isinstance(spacing, Mapping):
        return [spacing[d] for d in roles.spatial]
    if isinstance(spacing, str):
        if spacing != "coords":
            raise ValueError(f"spacing={spacing!r} is not known. Allowed: 'coords', numbers, or a mapping.")
        return [_coordinate_step(image, d) for d in roles.spatial]
    return spacing


def _coordinate_step(image: xr.DataArray, dim: Hashable) -> float:
    """Return the spacing of an evenly spaced coordinate."""
    advice = "Give spacing as numbers, or None for 1 per cell."
    if dim not in image.coords:
        raise ValueError(f"spacing='coords', but the dimension {dim!r} has no coordinate. {advice}")
    values = image.coords[dim].values
    if values.dtype.kind not in "iuf" or len(values) < 2:
        raise ValueError(
            f"spacing='coords' needs two or more numbers along {dim!r}, got {len(values)} of {values.dtype}. "
            f"{advice}"
        )
    steps = np.diff(values.astype(float))
    mean = float(steps.mean())
    if mean == 0 or not np.all(np.abs(steps - mean) <= _EVEN * abs(mean)):
        raise ValueError(
            f"The coordinate {dim!r} is not evenly spaced: its steps are {steps.min():g} to {steps.max():g}. "
            f"{advice}"
        )
    return abs(mean)
