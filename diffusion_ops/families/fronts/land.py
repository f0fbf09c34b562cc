"""Check what fronts run through: speeds are positive, costs are not negative."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Bools, row_bands
from diffusion_ops.blocks.fields import working_dtype


@dataclass(frozen=True)
class Ground:
    """What a front runs through.

    Attributes
    ----------
    image : float32 or float64 ndarray of shape `spatial`
        Cost, the time per unit of the spacing, or speed. It may be the image itself.
    valid : bool ndarray of shape `spatial`, or None
        False at walls; what the image holds there means nothing.
    starts : ndarray of shape `spatial`, or None
        Times of cells that fronts start from without a marker, infinite at others.
    negative : bool ndarray of shape `spatial`, or None
        True where times count as negative.
    """

    image: NDArray[Any]
    valid: Bools | None = None
    starts: NDArray[Any] | None = None
    negative: Bools | None = None

    def part(self, region: tuple[slice, ...]) -> Ground:
        """Return a part of it."""
        every = (self.valid, self.starts, self.negative)
        return Ground(self.image[region], *(None if one is None else one[region] for one in every))

    def within(self, shape: tuple[int, ...], place: tuple[slice, ...]) -> Ground:
        """Return it as a part of something larger, where nothing else can be reached."""

        def inside(values: Any, outside: Any) -> Any:
            if values is None:
                return None
            larger = np.full(shape, outside, values.dtype)
            larger[place] = values
            return larger

        starts, negative = inside(self.starts, np.inf), inside(self.negative, False)
        return Ground(inside(self.image, 1), inside(self.valid, False), starts, negative)


class LandError(ValueError):
    """Values that no front can run through.

    Parameters
    ----------
    least : float
        The least of them.
    count : int
        Number of them.
    speeds : bool
        True where values are speeds, False where they are costs.
    """

    def __init__(self, least: float, count: int, speeds: bool) -> None:
        self.least, self.count = least, count
        if speeds:
            super().__init__(
                f"The speed is {least:g} at one of {count:,} pixels where it is not positive. Allowed: speeds > 0; say "
                "zero='wall' where 0 is a wall, or image_is='cost' where the image is the time per unit length."
            )
        else:
            super().__init__(
                f"The cost is {least:g} at one of {count:,} pixels where it is negative. Allowed: costs >= 0."
            )


def as_floats(channel: NDArray[Any]) -> NDArray[Any]:
    """Return a channel as floats; itself where it is."""
    floats: NDArray[Any] = channel.astype(working_dtype(channel.dtype), copy=False)
    return floats


def without_zeros(image: NDArray[Any], valid: Bools | None, speeds: bool, zero_is_wall: bool) -> Bools | None:
    """Return where a front may run; None for everywhere.

    Raises
    ------
    LandError
        For a speed that is not positive, or a negative cost, at a valid pixel.
    """
    kept, least, count = None, np.inf, 0
    for band in row_bands(image.shape):
        low = image[band] <= 0 if speeds else image[band] < 0
        if valid is not None:
            low &= valid[band]
        if not low.any():
            continue
        unfit = low & (image[band] < 0) if zero_is_wall else low
        if unfit.any():
            least, count = min(least, float(image[band][unfit].min())), count + int(unfit.sum())
            continue
        if kept is None:
            kept = np.ones(image.shape, bool) if valid is None else valid.copy()
        kept[band] &= ~low
    if count:
        raise LandError(least, count, speeds)
    return valid if kept is None else kept
