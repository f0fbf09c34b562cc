"""Second-order times of an array in memory, on the order of its first-order ones: see `kernels.fronts.second_order`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Bools
from diffusion_ops.families.fronts.window import WAITING, FrontWindow, Region
from diffusion_ops.kernels.fronts.front import FIXED
from diffusion_ops.kernels.fronts.second_order import (
    BLOCKED,
    KNOWN,
    build_second_order,
    build_second_violations,
)

SECOND_BYTES = 1
"""Bytes per cell that second-order times take beside themselves and a front: flags."""


@dataclass
class SecondOrder:
    """Second-order times beside the first-order ones of a window.

    Attributes
    ----------
    front : FrontWindow
        Window whose times are complete, also around what is computed.
    times : ndarray
        Padded as those of the front; infinite where they are not known.
    flags : uint8 ndarray
        Padded in the same way.
    """

    front: FrontWindow
    times: NDArray[Any]
    flags: NDArray[np.uint8]

    @classmethod
    def beginning(cls, front: FrontWindow, own: Region | None = None, known: NDArray[Any] | None = None) -> SecondOrder:
        """Return what is known before anything is computed: at cells that stand still, times are those of the front.

        Parameters
        ----------
        front : FrontWindow
            Flags are `FIXED` at cells that stand still, also around the window.
        own : tuple of slice, optional
            Cells of the padded arrays that are to be computed; by default the window.
        known : ndarray, optional
            Padded times that are known, infinite at others.
        """
        first, own = front.times, front.inner if own is None else own
        times = np.full(first.shape, np.inf, first.dtype) if known is None else known
        flags = np.full(first.shape, BLOCKED, np.uint8)
        flags[own] = 0
        flags[times < np.inf] |= KNOWN
        still = (front.flags & FIXED > 0) & (first < np.inf)
        flags[still], times[still] = KNOWN | FIXED, first[still]
        flags[~(first < np.inf)] = BLOCKED
        return cls(front, times, flags)

    @property
    def waiting(self) -> Bools:
        """True at cells, around what is computed too, that are reached and not known."""
        found: Bools = (self.flags & KNOWN == 0) & (self.front.times < np.inf)
        return found

    def run(self, image: NDArray[Any], speeds: bool, spacing: tuple[float, ...]) -> None:
        """Compute what can be computed; see `FrontWindow.run`."""
        chain = np.empty(max(1024, self.flags.size // WAITING), np.int32)
        state, numbers = self._arguments(image, spacing)
        build_second_order(self.times.ndim, speeds)(*state, chain, numbers)

    def violations(self, image: NDArray[Any], speeds: bool, spacing: tuple[float, ...]) -> int:
        """Return how many of the cells to be computed are not known, or not what they should be to the last bit."""
        state, numbers = self._arguments(image, spacing)
        return int(build_second_violations(self.times.ndim, speeds)(*state, numbers))

    def _arguments(
        self, image: NDArray[Any], spacing: tuple[float, ...]
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        (first, _, land, _), (pitch, _, *numbers, _) = self.front.arguments(image, spacing, np.inf)
        return (first, self.times.reshape(-1), land, self.flags.reshape(-1)), (pitch, *numbers)
