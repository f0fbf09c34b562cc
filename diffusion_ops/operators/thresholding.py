"""Thresholds: an image becomes classes of values, such as a mask."""

from __future__ import annotations

import numpy as np

from diffusion_ops.blocks.block import Block
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.number_lists import NumbersOrStatistics
from diffusion_ops.evolution.operator import Map, register
from diffusion_ops.evolution.parameters import AUTO, Choice, parameter
from diffusion_ops.evolution.reach import Reach
from diffusion_ops.families.segmentation.thresholds import CLASSES, THRESHOLDS, check_thresholds, classes_of


@register("thresholding")
class Thresholding(Map):
    """Number of thresholds that a value is above, or not above: 0 or 1 with one threshold, 0 to n with n.

    Channels are classed each by themselves, with the same thresholds.

    Parameters
    ----------
    classes : int
        Number of classes.
    thresholds : list of float or Statistic, or "auto"
        One less than the classes, rising, in image units. "auto" are the thresholds of the whole image between which
        the classes have the least variance (Otsu); for images of whole numbers those of scikit-image.
    objects : str
        "bright", which numbers classes from dark to bright, or "dark", from bright to dark; 0 is the ground.

    Raises
    ------
    ValueError
        For thresholds that do not rise, or another number of them.

    References
    ----------
    Otsu: A threshold selection method from gray-level histograms. IEEE Trans. SMC 1979.
    """

    classes: int = parameter(CLASSES, default=2)
    thresholds: NumbersOrStatistics = parameter(THRESHOLDS, default=AUTO)
    objects: str = parameter(Choice(("bright", "dark")), default="bright")

    equation = "number of thresholds t with u > t, or with u <= t"
    reference = "Otsu 1979; Liao, Chen and Chung 2001"
    samples = Samples(({"thresholds": 90.0}, {"classes": 3, "thresholds": [60.0, 110.0], "objects": "dark"}))
    picture = Picture("coins", shown="stretched")
    new_quantity = True
    gives_labels = True
    compiles = False

    def __post_init__(self) -> None:
        assert isinstance(self.thresholds, tuple)
        check_thresholds(self.thresholds, self.classes)

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return 0: a cell is classed by its own value."""
        return Reach((0,) * len(spacing))

    def extra_arrays(self, ndim: int, inertial: bool, channels: int) -> float:
        """Return the classes, and where a threshold is passed."""
        return 1.25 * channels

    def pace(self, ndim: int, channels: int) -> float:
        """Return what was measured in float32."""
        return 2e9

    def apply(self, block: Block) -> None:
        """Put the classes in the place of the state."""
        assert isinstance(self.thresholds, tuple)
        above = classes_of(block.storage, self.thresholds)
        if self.objects == "dark":
            np.subtract(len(self.thresholds), above, out=above)
        block.storage[...] = above
