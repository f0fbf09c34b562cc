"""Mean of the image."""

from __future__ import annotations

from dataclasses import dataclass

from diffusion_ops.blocks import exact_sum
from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.statistic import STATISTICS, Statistic, Tally
from diffusion_ops.kernels.sums.measure import sum_cells, valid_cells


@STATISTICS.register("mean")
@dataclass(frozen=True)
class Mean(Statistic):
    """Mean of all valid cells of all channels, in image units; exact until it is rounded once at the end."""

    def radius(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        """Return 0: a cell contributes its own value."""
        return (0,) * len(spacing)

    def measure(self, block: Block, keep: tuple[slice, ...]) -> Tally:
        """Return the exact sum and the number of values."""
        number = valid_cells(block, keep) * block.storage.shape[0]
        return exact_sum.tally_of(sum_cells(block, keep), block.storage.dtype, number)

    def value(self, tally: Tally) -> float:
        """Return the mean."""
        return exact_sum.mean(tally, "a mean")
