"""Difference of the extremes of the image."""

from __future__ import annotations

from dataclasses import dataclass

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.statistic import STATISTICS, Statistic, Tally, make_statistic, no_valid_cell


@STATISTICS.register("range")
@dataclass(frozen=True)
class Range(Statistic):
    """Largest less smallest valid value of all channels, in image units."""

    def radius(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        """Return 0: a cell contributes its own value."""
        return (0,) * len(spacing)

    def measure(self, block: Block, keep: tuple[slice, ...]) -> Tally:
        """Return the keys of both extremes, or an empty tally where no cell is valid."""
        return make_statistic("minimum").measure(block, keep) + make_statistic("maximum").measure(block, keep)

    def merge(self, first: Tally, second: Tally) -> Tally:
        """Return the tally of the outermost keys."""
        both = first + second
        ends = [make_statistic(name).merge(both, Tally()) for name in ("minimum", "maximum")]
        return ends[0] + ends[1]

    def value(self, tally: Tally) -> float:
        """Return the difference."""
        if not len(tally.keys):
            raise no_valid_cell("a range")
        return make_statistic("maximum").value(tally) - make_statistic("minimum").value(tally)
