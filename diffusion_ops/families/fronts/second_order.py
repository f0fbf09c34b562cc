"""Second-order times of an array in memory, on the order of its first-order ones: see `kernels.fronts.second_order`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Bools
from diffusion_ops.families.fronts.window import WAITING, FrontWindow
from diffusion_ops.kernels.fronts.front import FIXED
from diffusion_ops.kernels.fronts.second_order import (
    BLOCKED,
    KNOWN,
    build_second_order,
    build_second_violations,
)

SECOND_BYTES = 4
"""Bytes per cell that second-order times take beside themselves and a front: flags, and what they are made of."""


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
    def beginning(
        cls, front: FrontWindow, starts: NDArray[Any] | None = None, known: NDArray[Any] | None = None
    ) -> SecondOrder:
        """Return what is known before anything is computed: where fronts start, times are those of the front.

        Parameters
        ----------
        front : FrontWindow
        starts : ndarray of the shape of `front.body`, optional
            Times at which fronts start by themselves, infinite at other cells.
        known : ndarray, optional
            Padded times that are known, infinite at others.
        """
        first, reached = front.times, front.times < np.inf
        times = np.full(first.shape, np.inf, first.dtype) if known is None else known
        flags = np.full(first.shape, BLOCKED, np.uint8)
        flags[front.inner] = 0
        flags[times < np.inf] |= KNOWN
        flags[~reached], times[~reached] = BLOCKED, np.inf
        still = first == 0
        if starts is not None:
            still[front.body] |= starts < np.inf
        flags[still], times[still] = KNOWN | FIXED, first[still]
        return cls(front, times, flags)

    def gains(self, before: Bools) -> dict[int, float]:
        """Return the sides beyond which a cell waits for one that is known now and was not before, with its time.

        Parameters
        ----------
        before : bool ndarray
            Padded; True where times were known.
        """
        front, found = self.front, {}
        for side in range(2 * self.times.ndim):
            ours, theirs = (front.face(*divmod(side, 2), outside=outside) for outside in (False, True))
            gained = (self.flags[ours] & KNOWN > 0) & ~before[ours]
            waiting = (self.flags[theirs] & KNOWN == 0) & (front.times[theirs] < np.inf)
            needed = gained & waiting & (front.times[ours] < front.times[theirs])
            if needed.any():
                found[side] = float(front.times[ours][needed].min())
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
