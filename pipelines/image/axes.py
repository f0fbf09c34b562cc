"""Decide which letter of "tczyx" each axis of an image gets: from the file, from the user, or by default."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.image.info import CANONICAL
from pipelines.image.source import SourceSpec, UnreadableSourceError
from pipelines.store.addresses import shown

NAMES = {
    "t": "t time date datetime frame frames",
    "c": "c channel channels ch band bands sample samples wavelength rgb",
    "z": "z depth plane planes slice slices level lev altitude elevation",
    "y": "y lat latitude row rows line lines height northing projection_y_coordinate",
    "x": "x lon longitude col cols column columns width easting projection_x_coordinate",
}
LETTERS = {name: letter for letter, names in NAMES.items() for name in names.split()}


def axis_letter(name: str | None) -> str | None:
    """Return the letter of a dimension name, None for names that say nothing.

    Examples
    --------
    >>> axis_letter("Latitude"), axis_letter("band"), axis_letter("dim_0")
    ('y', 'c', None)
    """
    return LETTERS.get(name.lower()) if name else None


def named_axes(names: Sequence[str | None] | None) -> str | None:
    """Return the letters of dimension names, or None where they do not tell every axis apart.

    Examples
    --------
    >>> named_axes(["time", "lat", "lon"])
    'tyx'
    """
    letters = [axis_letter(n) for n in names or ()]
    if not letters or None in letters or len(set(letters)) < len(letters):
        return None
    return "".join(a for a in letters if a)


def default_axes(shape: Sequence[int], dtype: np.dtype[Any]) -> str | None:
    """Return the axes of an image whose file does not name them, None where no guess is safe.

    Two axes are "yx". Three axes are "yxc" if the last is 3 or 4 long and pixels are unsigned with 8 or 16
    bits, as colour pictures are; otherwise "zyx". More axes must be named by the user.
    """
    if len(shape) == 2:
        return "yx"
    if len(shape) == 3:
        colours = shape[-1] in (3, 4) and dtype.kind == "u" and dtype.itemsize <= 2
        return "yxc" if colours else "zyx"
    return None


def resolve_axes(
    spec: SourceSpec, shape: Sequence[int], dtype: np.dtype[Any], names: Sequence[str | None] | None = None
) -> str:
    """Return the axes of an image without the user's override, which `with_options` applies later.

    Raises
    ------
    UnreadableSourceError
        If neither the file, nor the number of axes, nor the user tells which axis is which.
    """
    told = named_axes(names)
    if told is None and any(axis_letter(n) for n in names or ()) and spec.axes is None:
        raise UnreadableSourceError(
            f"{shown(spec.uri)!r} has the axes {list(names or ())} of lengths {tuple(shape)}, "
            f"which do not all mean one of {CANONICAL!r} once. "
            f"Give `axes`, one letter of {CANONICAL!r} per axis, with y and x."
        )
    axes = told or default_axes(shape, dtype) or check_axes(spec, len(shape))
    if axes is None:
        raise UnreadableSourceError(
            f"{shown(spec.uri)!r} has shape {tuple(shape)} and does not say which axis is which. "
            f"Give `axes`, one letter of {CANONICAL!r} per axis, with y and x; at least two axes are needed."
        )
    return axes


def check_axes(spec: SourceSpec, ndim: int) -> str | None:
    """Return the axes the user gave, checked against the number of axes; None where none were given."""
    if spec.axes is None:
        return None
    letters = set(spec.axes)
    good = len(spec.axes) == len(letters) == ndim and letters <= set(CANONICAL) and {"y", "x"} <= letters
    if not good:
        raise UnreadableSourceError(
            f"axes={spec.axes!r} does not fit {shown(spec.uri)!r}, which has {ndim} axes. "
            f"Give {ndim} different letters of {CANONICAL!r}, with y and x."
        )
    return spec.axes
