"""Shortest paths: the way that a front took to marked pixels, on a map of its times."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.evolution.arguments import resolve_spacing
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import register
from diffusion_ops.evolution.parameters import Number, parameter
from diffusion_ops.evolution.problems.problem import LABELS, Setting
from diffusion_ops.families.fronts.land import as_floats
from diffusion_ops.families.fronts.paths import (
    NO_MARKER,
    Path,
    PathProblem,
    Tracing,
    as_rows,
    draw,
    unreached,
)


@register("shortest-path")
class ShortestPath(PathProblem):
    """Shortest paths from marked pixels to where a front began, dx/ds = -∇T / |∇T| on a map T of its times.

    The image holds times, such as those of `Eikonal`, which are 0 where the front began. Paths run between pixels, in
    steps of fixed length down the gradient of the interpolated times; where these are not smooth, as beside walls, from
    pixel to pixel. The result has the label of a marker at every pixel that its path passes, the smallest where several
    do, and 0 elsewhere; `lines` returns the points themselves. Of a run over files GeoJSON and CSV hold them, in the
    coordinates of the image. Paths have the same bits for any tiles.

    Parameters
    ----------
    step : float
        Length of a step, in pixels of the smallest spacing.

    Raises
    ------
    ValueError
        For markers that no front has reached, several channels, and times that are not those of a front.

    References
    ----------
    Cohen, Kimmel: Global minimum for active contour models: a minimal path approach. International Journal of Computer
    Vision 1997.
    """

    step: float = parameter(Number(unit="pixels", above=0, most=1), default=0.5)

    equation = "dx/ds = -∇T / |∇T| from the markers to T = 0"
    reference = "Cohen & Kimmel 1997"
    samples = Samples(image="times")
    picture = Picture("times of vessels", shown="labels", markers=((20, 150), (150, 110), (150, 20)))

    def solve(self, setting: Setting) -> NDArray[Any]:
        """Return the pixels that paths pass, by label."""
        self.require_channels(len(setting.fields))
        times, markers = as_floats(setting.fields[0]), setting.markers
        assert markers is not None
        if setting.valid is not None:
            times = np.where(setting.valid, times, np.nan)
        labels = np.zeros((1, *setting.spatial), np.int64)
        paths = self.lines(times, markers, setting.spacing)
        draw(as_rows(paths, times.ndim), _whole(setting.spatial), labels[0])
        return labels.astype(LABELS)

    def lines(self, times: NDArray[Any], markers: NDArray[Any], spacing: Any = None) -> list[Path]:
        """Return the paths themselves, in the order of their markers, rows first.

        Parameters
        ----------
        times : ndarray of 2 or 3 axes
            Times of a front; infinite or NaN where it has not been.
        markers : ndarray of integers, of the same shape
            Where paths end: labels > 0.
        spacing : float or sequence, optional
            Grid spacing per axis; 1 by default.

        Returns
        -------
        list of Path
            Each has its `label` and its `points`: rows of time and position, in pixels, 0 at the centre of the first.

        Raises
        ------
        ValueError
            As the problem itself.
        """
        markers = np.asarray(markers)
        if markers.shape != times.shape:
            raise ValueError(f"markers has shape {markers.shape}, the times {times.shape}. They must agree.")
        cells = np.argwhere(markers > 0)
        if not len(cells):
            raise ValueError(NO_MARKER)
        if int(markers.max()) > np.iinfo(LABELS).max:
            raise ValueError(
                f"The marker {markers.max()} is too large. Allowed: at most {np.iinfo(LABELS).max:,}."
            )
        ends = {tuple(cell.tolist()): int(markers[tuple(cell)]) for cell in cells}
        lost = {cell: label for cell, label in ends.items() if not math.isfinite(times[cell])}
        if lost:
            raise ValueError(unreached(lost))
        shape = times.shape
        tracing = Tracing(times.__getitem__, shape, shape, resolve_spacing(spacing, times.ndim), self.step)
        return tracing.trace(ends)


def _whole(shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in shape)
