"""Thresholds between classes of values (Otsu)."""

from __future__ import annotations

from dataclasses import dataclass

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.levels import best_cuts, count_levels, levels_of
from diffusion_ops.blocks.statistic import STATISTICS, Statistic, Tally, check_argument, no_valid_cell


@STATISTICS.register("otsu")
@dataclass(frozen=True)
class Otsu(Statistic):
    """A threshold that parts the valid values of all channels into classes of least variance, in image units.

    It is the largest value of the class below it: what is above the threshold belongs to higher classes. Whole numbers
    up to 2^17 are counted one by one, other values in bins of 0.1 %; see `diffusion_ops/blocks/levels.py`.

    Parameters
    ----------
    classes : int
        Number of classes, at least 2.
    number : int
        Number of the threshold, from 1 for the lowest to one less than the classes.

    References
    ----------
    Otsu: A threshold selection method from gray-level histograms. IEEE Trans. SMC 1979. Liao, Chen, Chung: A fast
    algorithm for multilevel thresholding. J. Information Science and Engineering 2001.
    """

    classes: int = 2
    number: int = 1

    def __post_init__(self) -> None:
        check_argument("otsu", "classes", self.classes, least=2)
        check_argument("otsu", "number", self.number, least=1, below=self.classes)

    def radius(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        """Return 0: a cell contributes its own value."""
        return (0,) * len(spacing)

    def measure(self, block: Block, keep: tuple[slice, ...]) -> Tally:
        """Return the counts of the values."""
        return count_levels(block, keep)

    def value(self, tally: Tally) -> float:
        """Return the threshold; of an image of one value, this value.

        Raises
        ------
        ValueError
            Where the image has fewer values than classes, but more than one.
        """
        levels = levels_of(tally)
        if not len(levels.values):
            raise no_valid_cell("thresholds")
        if len(levels.values) == 1 and self.classes == 2:
            return float(levels.tops[0])
        if len(levels.values) < self.classes:
            raise ValueError(
                f"otsu: the image has {len(levels.values)} different values, which are too few for {self.classes} "
                "classes. Use fewer classes, or give thresholds."
            )
        return float(levels.tops[best_cuts(levels, self.classes)[self.number - 1]])
