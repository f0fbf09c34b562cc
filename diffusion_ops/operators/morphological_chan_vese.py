"""Morphological Chan-Vese: a contour between two regions, moved by morphological operators."""

from __future__ import annotations

import numpy as np

from diffusion_ops.blocks.block import Block, as_image
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import register
from diffusion_ops.evolution.parameters import Count, Number, parameter
from diffusion_ops.evolution.reach import Reach
from diffusion_ops.evolution.schedule import Cycle
from diffusion_ops.families.segmentation.contours import (
    bands,
    contour_of,
    keep_contour,
    on_contour,
    smoothed_contour,
)
from diffusion_ops.families.segmentation.phases import Segmentation

WEIGHT = Number(unit="1", least=0)


@register("morphological-chan-vese")
class MorphologicalChanVese(Segmentation):
    """Active contours without edges by morphological operators: 0 outside and 1 inside.

    An iteration gives each cell of the contour to the region whose mean is nearer, weighted, then smooths the contour
    by the largest minima and smallest maxima along lines through each cell. From the same contour it is bit by bit
    scikit-image's `morphological_chan_vese`, up to the rounding of means, over images of any size. Distances of the
    channels are added up. Lines are of three cells, whatever the spacing. A guide is the data in place of the image.

    Parameters
    ----------
    thresholds : list of float or Statistic, or "auto"
        Value above which cells are inside at the start, in image units; of several channels the mean is taken. "auto"
        is Otsu's.
    start_from : str
        "thresholds", "labels" where the image itself is 0 outside and 1 inside, as with a guide, or "checkerboard" of
        squares of 5 cells.
    means : list of float, or "auto"
        Value outside and inside, or for each one of each channel. "auto" are the means over the regions as they are.
    every : int
        Number of iterations that share measured means.
    smoothing : int
        Number of smoothings of an iteration, 0 to 16.
    lambda1, lambda2 : float
        Weights of the distances from the means inside and outside, without unit.

    Raises
    ------
    ValueError
        For parameters out of range, means that do not fit the channels, labels that are not 0 or 1.

    References
    ----------
    Marquez-Neila, Baumela, Alvarez: A morphological approach to curvature-based evolution of curves and surfaces. PAMI
    2014. Chan, Vese: Active contours without edges. IEEE Trans. Image Processing 2001.
    """

    smoothing: int = parameter(Count(unit="smoothings", least=0, most=16), default=1)
    lambda1: float = parameter(WEIGHT, default=1.0)
    lambda2: float = parameter(WEIGHT, default=1.0)

    equation = "u = 1 where lambda1 |f - c_1|² < lambda2 |f - c_0|² on the contour, then (SI IS) u"
    reference = "Marquez-Neila, Baumela and Alvarez 2014"
    samples = Samples(
        (
            {"thresholds": 70.0, "means": [60.0, 160.0]},
            {"thresholds": 90.0, "means": [60.0, 140.0], "smoothing": 0, "lambda2": 1.5},
        ),
        decisive="a contour has to be hit at the right place",
    )
    picture = Picture("coins", far={"steps": 40}, shown="stretched")
    usual_steps = 50

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return 1 for the contour, and 2 for each smoothing."""
        return Reach((1 + 2 * self.smoothing,) * len(spacing))

    def extra_arrays(self, ndim: int, inertial: bool, channels: int) -> float:
        """Return bytes of the contour, of where it is and of its smoothing."""
        return 2.5

    def pace(self, ndim: int, channels: int) -> float:
        """Return what was measured in float32."""
        return 2e7

    def run(self, block: Block, cycle: Cycle, count: int) -> None:
        """Take `count` iterations."""
        u, inside = contour_of(block), block.valid
        outer, inner = self.values_of_phases(block).astype(np.float64)
        data = as_image(block.structure, block.spatial)
        for k in range(count):
            edge = on_contour(u, inside)
            for band in bands(u.shape):
                here = edge[band]
                values = data[:, band][:, here].astype(np.float64)
                pull = self.lambda1 * ((values - inner[:, None]) ** 2).sum(axis=0)
                pull -= self.lambda2 * ((values - outer[:, None]) ** 2).sum(axis=0)
                u[band][here] = (pull < 0) | (u[band][here] & (pull == 0))
            u = smoothed_contour(u, inside, self.smoothing, (block.step + k) * self.smoothing)
        keep_contour(block, u)
