"""Round a nodata value to the pixel type, and drop a value that the type cannot hold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def stored_nodata(value: float | None, dtype: np.dtype[Any]) -> float | None:
    """Return the nodata value as pixels of this type hold it, None if they cannot.

    Files often carry a value that does not fit their pixels, such as -9999 for bytes; no pixel is then
    invalid.

    Examples
    --------
    >>> stored_nodata(-9999, np.dtype("uint8")), stored_nodata(0.1, np.dtype("float32"))
    (None, 0.10000000149011612)
    """
    if value is None or dtype.kind not in "iufc":
        return None
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        whole = math.isfinite(value) and float(value).is_integer()
        return value if whole and limits.min <= value <= limits.max else None
    part = np.empty(0, dtype).real.dtype
    if math.isfinite(value) and abs(value) > float(np.finfo(part).max):
        return None
    return float(part.type(value))


def nodata_range(dtype: np.dtype[Any]) -> str:
    """Return the values that can mark invalid pixels, in words."""
    if dtype.kind in "iu":
        return f"whole numbers from {np.iinfo(dtype).min} to {np.iinfo(dtype).max}"
    return f"numbers from {np.finfo(dtype).min} to {np.finfo(dtype).max}, nan, inf"
