"""Morphological geodesic active contour: a contour that stops at edges, moved by morphological operators."""

from __future__ import annotations

import numpy as np

from diffusion_ops.blocks.block import Block, Floats, as_image
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import register
from diffusion_ops.evolution.parameters import Count, Number, parameter
from diffusion_ops.evolution.reach import Reach
from diffusion_ops.evolution.schedule import Cycle
from diffusion_ops.families.segmentation.contours import (
    contour_of,
    grown_contour,
    keep_contour,
    slope_along,
    smoothed_contour,
)
from diffusion_ops.families.segmentation.phases import Labelled


@register("morphological-geodesic-contour")
class MorphologicalGeodesicContour(Labelled):
    """Geodesic active contours by morphological operators: 0 outside and 1 inside a contour that stops at edges.

    The data g is near 0 at edges and near 1 elsewhere, as the operator for edge stopping makes it: the guide, or the
    image itself. An iteration moves the contour outwards or inwards where g is high, then towards lower g where ∇g·∇u
    is not 0, then smooths it. From the same contour it is bit by bit scikit-image's
    `morphological_geodesic_active_contour`. Of several channels of g the mean is taken. Lines are of three cells,
    whatever the spacing.

    Parameters
    ----------
    thresholds : list of float or Statistic, or "auto"
        Value above which cells are inside at the start, in image units; of several channels the mean is taken. "auto"
        is Otsu's.
    start_from : str
        "thresholds", "labels" where the image itself is 0 outside and 1 inside, as with a guide, or "checkerboard" of
        squares of 5 cells.
    smoothing : int
        Number of smoothings of an iteration, 0 to 16.
    balloon : float
        Force without unit that moves the contour outwards, or inwards where it is negative, in places where g is above
        threshold / |balloon|; 0 for none.
    threshold : float
        Value of g below which is an edge, in units of g.

    Raises
    ------
    ValueError
        For parameters out of range, labels that are not 0 or 1.

    References
    ----------
    Marquez-Neila, Baumela, Alvarez: A morphological approach to curvature-based evolution of curves and surfaces. PAMI
    2014. Caselles, Kimmel, Sapiro: Geodesic active contours. IJCV 1997.
    """

    smoothing: int = parameter(Count(unit="smoothings", least=0, most=16), default=1)
    balloon: float = parameter(Number(unit="1"), default=0.0)
    threshold: float = parameter(Number(unit="units of g"), default=0.5)

    equation = "u = 1 where ∇g·∇u > 0, 0 where it is < 0, then (SI IS) u"
    reference = "Marquez-Neila, Baumela and Alvarez 2014"
    samples = Samples(
        (
            {"thresholds": 100.0},
            {"thresholds": 90.0, "balloon": 1.0, "threshold": 50.0, "smoothing": 0},
            {"thresholds": 70.0, "balloon": -1.0, "threshold": 150.0, "smoothing": 0},
        ),
        decisive="a contour has to be hit at the right place",
    )
    picture = Picture(
        "coins",
        {"thresholds": 150.0, "balloon": 1.0, "threshold": 100.0, "smoothing": 2},
        far={"steps": 20},
        shown="stretched",
    )
    usual_steps = 50

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return 1 for the balloon, 1 for the slopes, and 2 for each smoothing."""
        return Reach((1 + (self.balloon != 0) + 2 * self.smoothing,) * len(spacing))

    def extra_arrays(self, ndim: int, inertial: bool, channels: int) -> float:
        """Return the slopes of g, a slope of the contour with its neighbours, the products, and g of channels."""
        return ndim + 5.0 + (channels > 1)

    def pace(self, ndim: int, channels: int) -> float:
        """Return what was measured in float32."""
        return 2e7

    def run(self, block: Block, cycle: Cycle, count: int) -> None:
        """Take `count` iterations."""
        u, inside, g = contour_of(block), block.valid, _mean_of_channels(block)
        steep = [slope_along(g, inside, axis) for axis in range(g.ndim)]
        free = g > self.threshold / abs(self.balloon) if self.balloon else None
        for k in range(count):
            if free is not None:
                u = np.where(free, grown_contour(u, inside, self.balloon), u)
            pull = np.zeros_like(g)
            for axis, one in enumerate(steep):
                pull += one * slope_along(u.astype(g.dtype), inside, axis)
            u = (pull > 0) | (u & (pull == 0))
            del pull
            u = smoothed_contour(u, inside, self.smoothing, (block.step + k) * self.smoothing)
        keep_contour(block, u)


def _mean_of_channels(block: Block) -> Floats:
    fields = as_image(block.structure, block.spatial)
    if len(fields) == 1:
        return np.asarray(fields[0])
    total = fields[0].copy()
    for field in fields[1:]:
        total += field
    total /= total.dtype.type(len(fields))
    return np.asarray(total)
