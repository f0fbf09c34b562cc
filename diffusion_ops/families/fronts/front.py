"""What a problem says that a front solves, and how it runs through a whole image in memory."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Bools
from diffusion_ops.evolution.problems.problem import LABELS, Problem, Setting
from diffusion_ops.families.fronts.land import Ground
from diffusion_ops.families.fronts.patches import run_through
from diffusion_ops.families.fronts.second_order import SecondOrder
from diffusion_ops.families.fronts.window import FrontWindow

LONG_PATHS = 100_000
"""Cells of the image's sides together from which times are kept in float64: float32 would lose single steps."""


class Front(Problem):
    """A problem whose answer at a cell depends on what a front has reached before; `Eikonal` is the plainest."""

    reads: ClassVar[tuple[str, ...]] = ("markers",)
    requires: ClassVar[tuple[str, ...]] = ("markers",)

    kernels_bytes = 58 << 20
    """Resident memory of its kernels, and of what the compiler keeps where it has made them; 56 MiB were measured."""

    @property
    def work_kind(self) -> str:
        """The worklist of tiles."""
        return "front"

    @property
    def limit(self) -> float:
        """Time at which the front stops."""
        return math.inf

    @property
    def accuracy(self) -> int:
        """Order of the differences: 1, or 2."""
        return 1

    @property
    def lacks_start(self) -> str:
        """What is wrong where no front can start, and what to do."""
        return "There is no marker: all are 0. Give a whole number > 0 where the front starts."

    @property
    def is_speed(self) -> bool:
        """True where `land` gives speeds, False where it gives costs."""
        return False

    @property
    def refuses_values(self) -> bool:
        """True where `land` refuses some values: the whole image is looked through before a front starts."""
        return False

    @property
    def land_arrays(self) -> int:
        """Number of arrays of one channel's size that `land` holds beside the image and what it returns."""
        return 0

    def result_channels(self, channels: int) -> int:
        """Return 1."""
        return 1

    def land_radius(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        """Return the cells that `land` reads around a cell, per spatial axis."""
        return (0,) * len(spacing)

    @abstractmethod
    def land(self, fields: NDArray[Any], valid: Bools | None, spacing: tuple[float, ...]) -> Ground:
        """Return what the front runs through.

        Parameters
        ----------
        fields : ndarray of shape (channels, *spatial)
            The image as it is stored.
        valid : bool ndarray of shape `spatial`, or None
        spacing : tuple of float

        Raises
        ------
        LandError
            For values that are no costs or speeds.
        """


class TimedFront(Front):
    """A front whose times are the result: `until` ends it, and `order` is that of its differences."""

    until: float | None
    order: int

    @property
    def limit(self) -> float:
        """Time, or distance, at which the front stops."""
        return math.inf if self.until is None else self.until

    @property
    def accuracy(self) -> int:
        """Order of the differences."""
        return self.order

    @property
    def channels(self) -> int:
        """1: the speed or the cost."""
        return 1


def times_type(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type of times in an image: that of the result, and float64 where paths may be long."""
    wide = dtype == np.float64 or sum(shape) >= LONG_PATHS
    return np.dtype(np.float64 if wide else np.float32)


def run_front(problem: Front, setting: Setting, labelled: bool) -> FrontWindow:
    """Return the window of a whole image after the front has run through it.

    Raises
    ------
    ValueError
        Where there is no marker that a front can start from.
    """
    problem.require_channels(len(setting.fields))
    ground = problem.land(setting.fields, setting.own_valid, setting.spacing)
    window = FrontWindow.empty(setting.spatial, times_type(setting.spatial, setting.dtype), labelled)
    window.wall(ground.valid)
    window.wall(setting.valid)
    if setting.markers is not None:
        require_markers(problem, setting, labelled)
        window.start(setting.markers)
    if ground.starts is not None:
        if not (ground.starts < np.inf).any():
            raise ValueError(problem.lacks_start)
        window.hold(ground.starts, begin=True)
    run_through(window, ground.image, problem.is_speed, setting.spacing, problem.limit)
    if problem.accuracy == 2:
        second = SecondOrder.beginning(window, ground.starts)
        second.run(ground.image, problem.is_speed, setting.spacing)
        window.times = until(second.times, problem.limit)
    times = window.times[window.inner]
    if ground.negative is not None:
        np.negative(times, out=times, where=ground.negative)
    if ground.valid is not None and ground.valid is not setting.own_valid:
        times[~ground.valid] = np.nan
    return window


def until(times: NDArray[Any], limit: float) -> NDArray[Any]:
    """Return times, in place, of which those beyond a limit are infinite."""
    if limit < math.inf:
        times[times > limit] = np.inf
    return times


def require_markers(problem: Front, setting: Setting, labelled: bool) -> None:
    """Refuse a lack of markers, those that are all at walls, and labels that are too large.

    Raises
    ------
    ValueError
    """
    markers = setting.markers
    assert markers is not None
    most = int(markers.max())
    if most <= 0:
        raise ValueError(problem.lacks_start)
    if labelled and most > np.iinfo(LABELS).max:
        raise ValueError(f"The marker {most} is too large. Allowed: at most {np.iinfo(LABELS).max:,}.")
    seeds = markers > 0
    if setting.valid is not None and not (seeds & setting.valid).any():
        raise ValueError(
            f"All {int(seeds.sum())} marked pixels are walls: masked, nodata or NaN. Mark valid pixels."
        )
