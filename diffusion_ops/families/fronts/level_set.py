"""Find where an image crosses a level, and how far the cells beside the crossing are from it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Bools, row_bands


def crossing_distances(
    image: NDArray[Any], level: float, valid: Bools | None, spacing: tuple[float, ...]
) -> NDArray[Any]:
    """Return how far cells beside a crossing of the level are from it, infinity at all others.

    These are cells with a neighbour on the other side. With v the value of a cell from the level, turned so that it is
    positive, and v_k the lower neighbour along axis k, the distance is v / sqrt(Σ ((v - v_k) / h_k)²): that to the
    plane that the image is near the crossing, and of a region of ones in zeros half a pixel. Its error is of the order
    of the spacing's square. A cell on the level has 0.

    Parameters
    ----------
    image : float ndarray of shape `spatial`
    level : float
    valid : bool ndarray of shape `spatial`, or None
        False at walls, which nothing crosses a level to.
    spacing : tuple of float

    Returns
    -------
    ndarray of the same shape and dtype

    Examples
    --------
    >>> crossing_distances(np.array([[3.0, 1.0, -3.0, -4.0]]), 0.0, None, (1.0, 1.0))
    array([[ inf, 0.25, 0.75,  inf]])
    """
    found = np.empty(image.shape, image.dtype)
    for band in row_bands(image.shape):
        first = max(0, band.start - 1)
        read, own = slice(first, band.stop + 1), slice(band.start - first, band.stop - first)
        offsets = image[read].astype(np.float64) - level
        if valid is not None:
            offsets[~valid[read]] = np.nan
        found[band] = _distances(offsets, spacing)[own]
    return found


def _distances(offsets: NDArray[np.float64], spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the distances of cells from the level, from how far their values are from it; NaN at walls."""
    heights, sides = np.abs(offsets), np.sign(offsets)
    squares, crossed = np.zeros(offsets.shape), np.zeros(offsets.shape, bool)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        for axis, h in enumerate(spacing):
            slope = np.zeros(offsets.shape)
            for here, there in ((np.s_[1:], np.s_[:-1]), (np.s_[:-1], np.s_[1:])):
                at, beside = (np.moveaxis(offsets, axis, 0)[part] for part in (here, there))
                side = np.moveaxis(sides, axis, 0)[here]
                # Comparisons with NaN are False, and `fmax` leaves it out.
                into = np.moveaxis(slope, axis, 0)[here]
                np.fmax(into, side * (at - beside) / h, out=into)
                np.moveaxis(crossed, axis, 0)[here] |= side * beside < 0
            squares += slope * slope
        found: NDArray[np.float64] = np.where(crossed, heights / np.sqrt(squares), np.inf)
    found[offsets == 0] = 0
    return found
