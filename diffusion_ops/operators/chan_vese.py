"""Chan-Vese segmentation as a convex problem: the best two regions for given means, whatever it starts from."""

from __future__ import annotations

import numpy as np

from diffusion_ops.blocks.block import FEW_CELLS, Block, Floats, allocate, row_bands
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import register
from diffusion_ops.evolution.parameters import AUTO, NumberOrStatistic, parameter
from diffusion_ops.evolution.schedule import Cycle
from diffusion_ops.families.segmentation.phases import WEIGHT, Segmentation, distances
from diffusion_ops.kernels import total_variation


@register("chan-vese")
class ChanVese(Segmentation):
    """Minimise ∫ |∇u| weight + ∫ (|f - c_1|² - |f - c_0|²) u over 0 <= u <= 1; the label is 1 where u is above 1/2.

    For given values c_0 and c_1 every minimiser is one of Chan and Vese's functional for the regions u > t, for almost
    every t: the best of all, not the nearest. Primal-dual iterations; every few of them the values are measured anew
    as the means over both regions. Channels are weighed together. Differences are taken to the next cell of each axis
    and put in one norm, so corners that look one way are treated a little differently from others. A guide is the data
    in the place of the image.

    Parameters
    ----------
    thresholds : list of float or Statistic, or "auto"
        Value above which the label is 1 at the start, in image units; of several channels the mean is taken. "auto" is
        Otsu's.
    start_from : str
        "thresholds"; "labels" where the image itself is 0 and 1, as with a guide; or "checkerboard" of squares of 5
        cells.
    means : list of float, or "auto"
        Value of both regions, or for each one of each channel. "auto" are the means over the regions as they are.
    every : int
        Number of iterations that share measured means.
    weight : float or Statistic, or "auto"
        Weight of the length of the border, in squared image units times unit length. "auto" is 4 times the variance of
        the image times the unit length: the squared difference of two regions of equal area.

    Raises
    ------
    ValueError
        For parameters out of range, means that do not fit the channels, labels that are not 0 or 1.

    References
    ----------
    Chan, Esedoglu, Nikolova: Algorithms for finding global minimizers of image segmentation and denoising models. SIAM
    J. Appl. Math. 2006. Chambolle, Pock: A first-order primal-dual algorithm for convex problems with applications to
    imaging. JMIV 2011.
    """

    weight: NumberOrStatistic = parameter(WEIGHT, default=AUTO)

    equation = "min_u weight ∫ |∇u| + ∫ (|f - c_1|² - |f - c_0|²) u, 0 <= u <= 1"
    reference = "Chan, Esedoglu and Nikolova 2006"
    samples = Samples(
        (
            {"thresholds": 100.0, "means": [60.0, 140.0], "weight": 3e4},
            {"thresholds": 90.0, "means": [60.0, 160.0], "weight": 1e5},
        ),
        lopsided="one norm of the differences to the next cell of each axis: a flip puts it in other cells",
        decisive="the label is the side of 1/2 that a value between 0 and 1 is on",
    )
    picture = Picture("coins", shown="stretched")

    def carried_arrays(self, ndim: int, channels: int) -> int:
        """Return u, the difference of the distances, the extrapolated u and the dual."""
        return 1 + total_variation.carried_arrays(ndim, 1)

    def extra_arrays(self, ndim: int, inertial: bool, channels: int) -> float:
        """Return what is made of a few rows at a time."""
        return 0.5

    def pace(self, ndim: int, channels: int) -> float:
        """Return what was measured in float32: the force is found anew in every batch."""
        return 0.65 * total_variation.pace(ndim, 1) / channels

    def start(self, block: Block) -> None:
        """Begin at the labels with a dual of 0."""
        ndim, dtype = len(block.spatial), block.storage.dtype
        block.carried = allocate(self.carried_arrays(ndim, 1), block.spatial, dtype)
        self.begin_labels(block, block.carried[0])
        block.carried[2] = block.carried[0]

    def run(self, block: Block, cycle: Cycle, count: int) -> None:
        """Take `count` iterations."""
        assert block.carried is not None
        assert isinstance(self.weight, int | float)
        u, others = block.carried[:1], block.carried[1:]
        values = self.values_of_phases(block)
        for band in row_bands((block.structure.shape[1],), FEW_CELLS):
            others[0][band] = _pull(block.structure[:, band], values)
        total_variation.iterate_between(block, u, others, self.weight, count)


def _pull(data: Floats, values: Floats) -> Floats:
    """Return |f - c_1|² - |f - c_0|², one sign everywhere where a region is empty."""
    most = np.finfo(data.dtype).max / 4
    for value, sign in ((values[1], 1), (values[0], -1)):
        if not np.isfinite(value).all():
            return np.full(data.shape[1], sign * most, data.dtype)
    outer, inner = distances(data, values)
    return np.asarray(inner - outer)
