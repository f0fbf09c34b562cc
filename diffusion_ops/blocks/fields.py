"""Convert users' images into blocks and back: dtypes, channel axis, mask, nodata."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from diffusion_ops.blocks.block import Block, Bools, OpenSides, allocate, as_image, mask_memory, row_bands

Image = NDArray[Any]


def working_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return the float type that an image of `dtype` is computed in: float64 for float64, else float32.

    Raises
    ------
    TypeError
        For bool, complex and other types that have no values to diffuse.
    """
    dtype = np.dtype(dtype)
    if dtype.kind == "f" and dtype.itemsize <= 8:
        return np.dtype(np.float64 if dtype.itemsize == 8 else np.float32)
    if dtype.kind in "iu":
        return np.dtype(np.float32)
    advice = {
        "b": "Convert it, for example image.astype('float32'), or use it as a mask",
        "c": "Take its amplitude abs(image) or intensity abs(image)**2 first",
    }.get(dtype.kind, "Convert it to a float or an integer type")
    raise TypeError(
        f"An image of {dtype} cannot be diffused. Allowed: integers, float16, float32, float64. {advice}."
    )


def result_dtype(dtype: DTypeLike, wanted: DTypeLike | None) -> np.dtype[Any]:
    """Return the dtype of the result: the wanted one, else the image's own float type, float32 for integers."""
    working = working_dtype(dtype)
    if wanted is None:
        own = np.dtype(dtype)
        return own.newbyteorder("=") if own.kind == "f" else working
    result = np.dtype(wanted)
    if result.kind not in "iuf" or result.itemsize > 8:
        raise TypeError(
            f"dtype={result} is not possible for a result. Allowed: integers, float16, float32, float64."
        )
    return result


def check_nodata(nodata: float | None, dtype: np.dtype[Any], role: str) -> None:
    """Refuse a nodata value that pixels of `dtype` cannot hold."""
    if nodata is None or (isinstance(nodata, float) and math.isnan(nodata) and dtype.kind == "f"):
        return
    if dtype.kind == "f":
        fits = bool(np.isinf(nodata)) or abs(float(nodata)) <= float(np.finfo(dtype).max) * (1 + 1e-6)
    else:
        info = np.iinfo(dtype)
        fits = math.isfinite(nodata) and float(nodata).is_integer() and info.min <= nodata <= info.max
    if not fits:
        raise ValueError(
            f"nodata={nodata!r} cannot be held by {dtype}, the type of the {role}. "
            "Give a nodata value in its range, or another dtype."
        )


def check_image(
    shape: tuple[int, ...], dtype: Any, channel_axis: int | None, wanted: Any, nodata: float | None
) -> np.dtype[Any]:
    """Return the result's dtype, or refuse an image that cannot be diffused.

    Raises
    ------
    TypeError, ValueError
        For the dtype, the number of axes, empty axes, a missing channel axis, an impossible nodata.
    """
    result = result_dtype(dtype, wanted)
    if channel_axis is not None and not -len(shape) <= channel_axis < len(shape):
        raise ValueError(
            f"channel_axis={channel_axis} is not an axis of shape {shape}. Allowed: {-len(shape)} to {len(shape) - 1}."
        )
    ndim = len(shape) - (channel_axis is not None)
    if ndim not in (2, 3):
        raise ValueError(
            f"An image of shape {shape} has {ndim} spatial axes. Allowed: 2 or 3. Say channel_axis if one "
            f"of its axes holds channels."
        )
    if 0 in shape:
        raise ValueError(f"An image of shape {shape} has an axis of length zero. Give an image with pixels.")
    check_nodata(nodata, np.dtype(dtype), "image")
    return result


def check_mask(mask: Any, spatial: tuple[int, ...]) -> Any:
    """Return the mask, or refuse one that is not bool or not of the spatial shape."""
    if mask.dtype != bool:
        raise TypeError(f"The mask is {mask.dtype}. Allowed: bool, True where valid, such as labels > 0.")
    if mask.shape != spatial:
        raise ValueError(
            f"The mask has shape {mask.shape}, the image's spatial shape is {spatial}. They must agree."
        )
    return mask


def guide_fields(guide: Any, ndim: int, channel_axis: int | None, spatial: tuple[int, ...]) -> Any:
    """Return a guide as (guide channels, *spatial), or refuse one of another shape.

    It has the image's spatial shape, or as many axes as an image of `ndim` axes with its channels at `channel_axis`.
    """
    working_dtype(guide.dtype)
    fields = channels_first(guide, channel_axis if guide.ndim == ndim else None)
    if fields.shape[1:] != spatial:
        raise ValueError(
            f"The guide has shape {guide.shape}, the image's spatial shape is {spatial}. They must agree, "
            "but for channels along the image's own channel axis."
        )
    return fields


def _is_nodata(image: Image, nodata: float | None) -> Bools:
    """Return True where an image holds its nodata value, compared in its own dtype."""
    if nodata is None or math.isnan(nodata):
        return np.zeros(image.shape, bool)
    with np.errstate(over="ignore"):
        return np.asarray(image == image.dtype.type(nodata))


def valid_cells(
    image: Image,
    nodata: float | None = None,
    mask: Bools | None = None,
    empty: Callable[..., Bools] = np.empty,
) -> Bools | None:
    """Return True where all channels of an image of shape (channels, *spatial) hold a value, or None for everywhere.

    A pixel is a wall where any channel is NaN, infinite or nodata, or where the mask is False. `empty` makes an
    uninitialised array from its shape and dtype.
    """
    valid = None if mask is None else np.array(mask, bool)
    if image.dtype.kind == "f" or nodata is not None:
        # Most images have no walls, and then no mask of their size is made.
        for band in row_bands(image.shape[1:]):
            good = _all_channels_valid(image[:, band], nodata)
            if not good.all():
                if valid is None:
                    valid = empty(image.shape[1:], bool)
                    valid[...] = True
                valid[band] &= good
    return None if valid is None or valid.all() else valid


def _all_channels_valid(image: Image, nodata: float | None) -> Bools:
    valid = np.isfinite(image[0]) if image.dtype.kind == "f" else np.ones(image.shape[1:], bool)
    for c, channel in enumerate(image):
        if c and image.dtype.kind == "f":
            valid &= np.isfinite(channel)
        if nodata is not None:
            valid &= ~_is_nodata(channel, nodata)
    return valid


def channels_first(image: Image, channel_axis: int | None) -> Image:
    """Return a view of shape (channels, *spatial)."""
    return image[None] if channel_axis is None else np.moveaxis(image, channel_axis, 0)


def make_block(
    image: Image,
    spacing: tuple[float, ...],
    nodata: float | None = None,
    mask: Bools | None = None,
    open_sides: OpenSides = (),
    guide: Image | None = None,
    carried: int = 0,
    in_place: bool = False,
) -> Block:
    """Return an image of shape (channels, *spatial) as a block of floats with its walls.

    A guide of shape (guide channels, *spatial) is part of the block; a cell is a wall where either has no value. The
    last `carried` channels are carried arrays, not channels of the image. With `in_place` an image in `block_memory`
    becomes the block itself.
    """
    valid = valid_cells(image, nodata, mask, mask_memory if in_place else np.empty)
    if guide is not None:
        valid = valid_cells(guide, None, valid)
    dtype = working_dtype(image.dtype)
    block = Block.from_image(image, spacing, valid, open_sides, dtype, carried, in_place)
    if guide is not None:
        block.guide = allocate(len(guide), block.spatial, block.storage.dtype)
        np.copyto(as_image(block.guide, block.spatial), guide, where=True if valid is None else valid)
    return block


def cast(values: Image, dtype: np.dtype[Any], nodata: float | None = None) -> Image:
    """Return computed values as `dtype`: rounded to nearest and clipped for integers, and never equal to nodata.

    A valid pixel that would equal nodata gets the nearest other value, so that it stays valid.
    """
    if dtype == values.dtype:
        result = values
    elif dtype.kind == "f":
        with np.errstate(over="ignore"):
            result = values.astype(dtype)
    elif values.dtype.kind != "f":
        info, held = np.iinfo(dtype), np.iinfo(values.dtype)
        result = np.clip(values, max(info.min, held.min), min(info.max, held.max)).astype(dtype)
    else:
        info = np.iinfo(dtype)
        result = np.rint(values)
        # The largest float that is not above the largest integer: float32(2**31 - 1) would round up and wrap.
        top = np.nextafter(values.dtype.type(info.max), values.dtype.type(0))
        top = values.dtype.type(info.max) if int(values.dtype.type(info.max)) == info.max else top
        result = np.clip(result, values.dtype.type(info.min), top).astype(dtype)
    hit = _is_nodata(result, nodata)
    if nodata is not None and hit.any():
        result = result.copy() if result is values else result
        result[hit] = _beside(dtype.type(nodata), dtype)
    return result


def _beside(nodata: Any, dtype: np.dtype[Any]) -> Any:
    """Return the value next to nodata, towards zero if possible."""
    if dtype.kind == "f":
        return np.nextafter(nodata, dtype.type(1 if nodata <= 0 else 0))
    return nodata - 1 if nodata > 0 else nodata + 1


def finish_image(
    block: Block,
    original: Image,
    dtype: np.dtype[Any],
    nodata: float | None = None,
    keep: tuple[slice, ...] | None = None,
) -> Image:
    """Return the kept part of a block as an image of `dtype`; invalid pixels get back their values.

    Parameters
    ----------
    block : Block
        Finished state.
    original : ndarray of shape (channels, *kept spatial)
        Values of invalid pixels of the kept part: those of the image, or fill values.
    dtype : numpy dtype
        Type of the result.
    nodata : float, optional
        Value that marks invalid pixels; it also replaces NaN where `dtype` has none.
    keep : tuple of slice, optional
        Spatial part of the block; all of it by default.

    Raises
    ------
    ValueError
        Where NaN has to be written into integers and there is no nodata value.
    """
    keep = keep or (slice(None),) * len(block.spatial)
    result = cast_all(block.u[(slice(None), *keep)], dtype, nodata)
    if block.valid is not None:
        give_back(result, original, block.valid[keep], nodata)
    return result


def cast_all(
    values: Image,
    dtype: np.dtype[Any],
    nodata: float | None = None,
    empty: Callable[..., Image] = np.empty,
    in_place: bool = False,
) -> Image:
    """Return finished values of shape (channels, *spatial) as `dtype`: themselves, where nothing is converted.

    Values that are not contiguous are copied, unless `in_place` is True.
    """
    own = dtype == values.dtype and (in_place or values.flags.c_contiguous)
    result = values if own else empty(values.shape, dtype)
    for band in row_bands(values.shape[1:]):
        done = cast(values[:, band], dtype, nodata)
        if not np.may_share_memory(done, result):
            result[:, band] = done
    return result


def give_back(result: Image, original: Image, valid: Bools, nodata: float | None = None) -> None:
    """Put the values of invalid pixels into a finished image, in place.

    Parameters
    ----------
    result : ndarray of shape (channels, *spatial)
    original : ndarray of shape (channels, *spatial)
        Values of invalid pixels. A result of one channel takes those of the first.
    valid : bool ndarray of shape `spatial`
    nodata : float, optional
        Replaces NaN where the result's type has none.

    Raises
    ------
    ValueError
        Where NaN has to be written into integers and there is no nodata value.
    """
    original = original[:1] if len(original) != len(result) else original
    for band in row_bands(valid.shape):
        walls = ~valid[band]
        if walls.any():
            result[:, band][:, walls] = _cast_invalid(original[:, band][:, walls], result.dtype, nodata)


def filled_like(original: Image, fill: float | None) -> Image:
    """Return a fill value in every pixel of one channel of `original`; with None that itself."""
    return original if fill is None else np.broadcast_to(np.float64(fill), (1, *original.shape[1:]))


def fill_value(dtype: np.dtype[Any], nodata: float | None) -> float:
    """Return the fill value of invalid pixels in a new quantity: nodata, else NaN, or 0 in integers."""
    return nodata if nodata is not None else math.nan if dtype.kind == "f" else 0.0


def _cast_invalid(values: Image, dtype: np.dtype[Any], nodata: float | None) -> Image:
    if dtype.kind in "iu" and values.dtype.kind == "f" and not np.isfinite(values).all():
        if nodata is None:
            raise ValueError(
                f"The image has NaN or infinite pixels, which {dtype} cannot hold. "
                "Give nodata, the value to write there, or a float dtype."
            )
        values = np.where(np.isfinite(values), values, values.dtype.type(nodata))
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return values.astype(dtype)
    return cast(values, dtype)
