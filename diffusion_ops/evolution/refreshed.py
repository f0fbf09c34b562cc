"""Measure numbers of the whole image again every few steps, such as the mean of each class of a segmentation.

An operator that has them is cut in parts: its start alone, then as many steps at a time as share the numbers. After
every part but the last the numbers are tallied over all blocks, in integers, so that no tiling changes them, and the
next part gets them in `block.numbers`. They are named after the steps that were taken before: "mean 1 after 4 steps".
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from diffusion_ops.blocks.statistic import Reduction, Tally


@dataclass(frozen=True)
class Refreshed(Reduction):
    """Numbers that an operator needs of the state and what is carried beside it, measured every few steps.

    Parameters
    ----------
    every : int
        Number of steps that share the numbers.
    """

    every: int

    @abstractmethod
    def numbers(self, tally: Tally) -> Mapping[str, float]:
        """Return the numbers of the whole image, by name; those that it does not have are missing."""


def named_after(numbers: Mapping[str, float], steps: int) -> dict[str, float]:
    """Return numbers under names that say after how many steps they were measured."""
    return {f"{name} after {steps} steps": value for name, value in numbers.items()}


def measured_after(values: Mapping[str, float], steps: int) -> dict[str, float]:
    """Return the numbers that were measured after so many steps, under their own names."""
    end = f" after {steps} steps"
    return {name.removesuffix(end): value for name, value in values.items() if name.endswith(end)}
