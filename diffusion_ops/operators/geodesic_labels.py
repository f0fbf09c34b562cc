"""Geodesic labels: every pixel gets the label of the marker that a front reaches it from first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Bools, as_image
from diffusion_ops.blocks.fields import make_block
from diffusion_ops.evolution.examples import Picture
from diffusion_ops.evolution.operator import register
from diffusion_ops.evolution.parameters import Choice, Number, parameter
from diffusion_ops.evolution.problems.problem import Setting
from diffusion_ops.families.fronts.front import Front, run_front
from diffusion_ops.families.fronts.land import Ground, as_floats, without_zeros
from diffusion_ops.families.parameters import SIGMA
from diffusion_ops.kernels.gaussian import gaussian_radius, smoothed
from diffusion_ops.kernels.pixels.edges import slope_of

_COINS = tuple((row, column) for row in (28, 100, 155) for column in (27, 83, 133)) + ((62, 55),)
"""A pixel of each coin in the picture, and one between them."""


@register("geodesic-labels")
class GeodesicLabels(Front):
    """Label of the nearest marker by travel time, |∇u| = cost: geodesic Voronoi cells, or a seeded watershed.

    The cost of the gradient makes borders run along edges. A pixel has the label of its earliest neighbour, of several
    that are equally early the smallest; so the labels have the same bits in any order of computing. Pixels that no
    front reaches, and walls, have the label 0.

    Parameters
    ----------
    by : str
        Cost: "gradient", |∇u_sigma| of all channels together; or "image", the image itself, which is >= 0.
    sigma : float
        Standard deviation of the Gaussian before the gradient, in units of the spacing; 0 leaves it out.
    offset : float
        Cost of flat areas, added everywhere: the larger, the more it is distance that counts, and not edges. In image
        units per unit length by gradient, and in image units by image.

    Raises
    ------
    ValueError
        For a negative cost, and where there is no marker.

    References
    ----------
    Meyer: Topographic distance and watershed lines. Signal Processing 1994.
    """

    by: str = parameter(Choice(("gradient", "image")), default="gradient")
    sigma: float = parameter(SIGMA, default=1.0)
    offset: float = parameter(Number(unit="image units per unit length", least=0), default=0.0)

    equation = "label of argmin over markers of ∫ (|∇u_sigma| + offset) ds"
    reference = "Meyer 1994"
    picture = Picture("coins", {"sigma": 1.5}, shown="labels", markers=_COINS)
    gives_labels = True
    couples_channels = True

    @property
    def refuses_values(self) -> bool:
        """True where the image itself is the cost."""
        return self.by == "image"

    @property
    def land_arrays(self) -> int:
        """Number of arrays beside the image and the cost: a block, and what is smoothed."""
        return 3 if self.by == "gradient" else 1

    @property
    def channels(self) -> int | None:
        """1 where the image itself is the cost."""
        return 1 if self.by == "image" else None

    def require_channels(self, channels: int) -> None:
        """Refuse several channels where the image itself is the cost.

        Raises
        ------
        ValueError
        """
        if self.by == "image" and channels > 1:
            raise ValueError(
                f'geodesic-labels by="image" takes one channel, the image has {channels}. Give one of them, or their '
                'mean; by="gradient" takes several.'
            )

    def land_radius(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        """Return the reach of the Gaussian and of the central difference."""
        if self.by == "image":
            return super().land_radius(spacing)
        return tuple(1 + r for r in gaussian_radius(self.sigma, spacing))

    def land(self, fields: NDArray[Any], valid: Bools | None, spacing: tuple[float, ...]) -> Ground:
        """Return the cost."""
        if self.by == "image":
            cost = as_floats(fields[0])
            without_zeros(cost, valid, speeds=False, zero_is_wall=False)
        else:
            block = make_block(fields, spacing, None, valid)
            cost = as_image(slope_of(block, smoothed(block, self.sigma)), block.spatial)[0]
        return Ground(cost + cost.dtype.type(self.offset) if self.offset else cost, valid)

    def solve(self, setting: Setting) -> NDArray[Any]:
        """Return the labels."""
        window = run_front(self, setting, labelled=True)
        assert window.labels is not None
        return np.ascontiguousarray(window.labels[window.inner])[np.newaxis]
