"""Resolve the evolution of one array in any container: dtype of the result, spacing, operators and their steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from diffusion_ops.blocks.fields import check_image, check_nodata
from diffusion_ops.evolution.arguments import (
    make_legs,
    makes_new_quantity,
    require_evolutions,
    require_guide_readers,
    resolve_spacing,
    split_batches,
)
from diffusion_ops.evolution.legs import Leg


@dataclass(frozen=True)
class Request:
    """A fully specified evolution of an array of known shape and dtype.

    Attributes
    ----------
    result_type : numpy dtype
    channel_axis : int or None
        Axis of the channels, counted from the first.
    spacing : tuple of float
        Grid spacing per spatial axis.
    legs : tuple of Leg
    nodata : float or None
        Value that marks invalid pixels.
    batch : int or None
        Largest number of steps in a batch.
    frame : int
        Number of the frame that the array is.
    """

    result_type: np.dtype[Any]
    channel_axis: int | None
    spacing: tuple[float, ...]
    legs: tuple[Leg, ...]
    nodata: float | None
    batch: int | None
    frame: int

    @property
    def result_nodata(self) -> float | None:
        """Value that marks invalid pixels of the result; None where these are labels."""
        return self.legs[-1].operator.result_nodata(self.nodata)

    @property
    def fill(self) -> float | None:
        """What invalid pixels get in a new quantity; None where they keep their values."""
        if not makes_new_quantity(self.legs):
            return None
        return self.legs[-1].operator.fill_value(self.result_type, self.nodata)


def make_request(
    image: Any,
    operator: Any,
    *,
    spacing: Any,
    channel_axis: int | None,
    nodata: float | None,
    dtype: Any,
    batch: int | None,
    guide: Any,
    frame: int = 0,
    **times: Any,
) -> Request:
    """Return the evolution of an array from its shape and dtype alone; see `diffusion_ops.evolve`.

    Raises
    ------
    TypeError, ValueError
        For an image that is not numeric, and for arguments that are impossible or contradict each other.
    """
    result_type = check_image(image.shape, image.dtype, channel_axis, dtype, nodata)
    axis = None if channel_axis is None else channel_axis % image.ndim
    spacing = resolve_spacing(spacing, image.ndim - (axis is not None))
    legs = make_legs(operator, spacing, **times)
    require_evolutions([leg.operator for leg in legs])
    require_guide_readers(legs, guide)
    split_batches(legs, batch)  # refuses an impossible batch
    request = Request(result_type, axis, spacing, legs, nodata, batch, frame)
    check_nodata(request.result_nodata, result_type, "result")
    return request
