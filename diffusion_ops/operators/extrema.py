"""Extrema: cells that are the highest or the lowest for some way around, such as markers of objects."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffusion_ops.blocks.block import Block, allocate, as_image
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import Map, register
from diffusion_ops.evolution.parameters import Choice, Number, parameter
from diffusion_ops.evolution.reach import Reach


@register("extrema")
class Extrema(Map):
    """Local extrema: 1 where no value for some way around is higher, or none is lower; 0 elsewhere.

    The neighbourhood of a cell are the cells that are at most `distance` away along each axis, as in scikit-image's
    `peak_local_max`; those beyond the image's edge and invalid ones do not count. Equal cells may all be extrema, and
    `components` then makes one object of those that touch. Noise has extrema everywhere: smooth the image first. Each
    channel has its own.

    Parameters
    ----------
    of : str
        "maxima" or "minima".
    distance : float
        How far around it the value of an extremum is the first, along each axis, in units of the spacing.
    height : float
        How much more than this the values of the neighbourhood differ, in image units; so a flat area has no extremum.

    Raises
    ------
    ValueError
        For a negative distance or height, and where `distance` is less than a cell along all axes.

    References
    ----------
    Soille: Morphological image analysis. Springer 2003.
    """

    of: str = parameter(Choice(("maxima", "minima")), default="maxima")
    distance: float = parameter(Number(unit="unit length", above=0), default=3.0)
    height: float = parameter(Number(unit="image units", least=0), default=0.0)

    equation = "u = max over the neighbourhood, and max - min > height"
    reference = "Soille 2003"
    samples = Samples(
        ({"distance": 2.0}, {"of": "minima", "distance": 4.0, "height": 150.0}),
        decisive="only a cell that would be the first of its neighbourhood is swayed by the farthest",
    )
    picture = Picture("coins", {"distance": 12, "height": 40}, shown="stretched")
    new_quantity = True
    gives_labels = True
    compiles = False

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return the whole cells within the distance."""
        cells = tuple(int(self.distance / h) for h in spacing)
        if not any(cells):
            raise ValueError(
                f"distance={self.distance:g} is less than the spacing {spacing}, so that a cell has no neighbours. "
                f"Allowed: {min(spacing):g} or more, in units of the spacing."
            )
        return Reach(cells)

    def extra_arrays(self, ndim: int, inertial: bool, channels: int) -> float:
        """Return the values without walls, two filtered images and what is found."""
        return 4.0 * channels

    def pace(self, ndim: int, channels: int) -> float:
        """Return what was measured in float32."""
        return 2.5e7

    def apply(self, block: Block) -> None:
        """Put the extrema in the place of the state."""
        found = allocate(len(block.storage), block.spatial, block.storage.dtype)
        sizes = [2 * r + 1 for r in self.reach(block.spacing).step]
        for values, marks in zip(
            as_image(block.storage, block.spatial), as_image(found, block.spatial), strict=True
        ):
            low, high = (_filtered(values, block, sizes, highest) for highest in (False, True))
            marks[...] = (values == (high if self.of == "maxima" else low)) & (high - low > self.height)
            if block.valid is not None:
                marks *= block.valid
        block.storage = found


def _filtered(values: NDArray[Any], block: Block, sizes: list[int], highest: bool) -> NDArray[Any]:
    """Return the highest or lowest valid value of every neighbourhood."""
    function = ndimage.maximum_filter1d if highest else ndimage.minimum_filter1d
    if block.valid is not None:
        values = np.where(block.valid, values, values.dtype.type(-np.inf if highest else np.inf))
    for axis, size in enumerate(sizes):
        # The cell at the edge, which stands for those beyond it, is one of the neighbourhood.
        values = function(values, size, axis=axis, mode="nearest")
    return values
