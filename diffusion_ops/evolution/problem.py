"""Settle an evolution of one array, wherever it is held: type of the result, spacing, operators and their steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from diffusion_ops.blocks.fields import check_image
from diffusion_ops.evolution.advance import Leg
from diffusion_ops.evolution.arguments import (
    make_legs,
    makes_new_quantity,
    require_guide_readers,
    resolve_spacing,
    split_batches,
)


@dataclass(frozen=True)
class Problem:
    """What an evolution of an array of a known shape and type comes to.

    Attributes
    ----------
    result_type : numpy dtype
    channel_axis : int or None
        Counted from the first axis.
    spacing : tuple of float
        Per spatial axis.
    legs : tuple of Leg
    nodata : float or None
        Value that marks invalid pixels.
    batch : int or None
        Most steps at a time.
    frame : int
        Number of the image that the array is a frame of.
    """

    result_type: np.dtype[Any]
    channel_axis: int | None
    spacing: tuple[float, ...]
    legs: tuple[Leg, ...]
    nodata: float | None
    batch: int | None
    frame: int

    @property
    def new_quantity(self) -> bool:
        """Whether what comes out is no image any more, so that invalid pixels have no value to get back."""
        return makes_new_quantity(self.legs)


def make_problem(
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
) -> Problem:
    """Return the evolution of an array, of which nothing but shape and type is looked at; see `diffusion_ops.evolve`.

    Raises
    ------
    TypeError, ValueError
        For an image that is not of numbers, and arguments that are not possible or contradict each other.
    """
    result_type = check_image(image.shape, image.dtype, channel_axis, dtype, nodata)
    axis = None if channel_axis is None else channel_axis % image.ndim
    steps = resolve_spacing(spacing, image.ndim - (axis is not None))
    legs = make_legs(operator, steps, **times)
    require_guide_readers(legs, guide)
    split_batches(legs, batch)  # refuses what is no number of steps
    return Problem(result_type, axis, steps, legs, nodata, batch, frame)
