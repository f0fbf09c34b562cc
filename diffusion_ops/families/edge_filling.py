"""Fill unknown pixels along edges: rounds of edge-enhancing diffusion on every level of a pyramid, coarse to fine.

A level is a `Partial` image. The next coarser one has the means of what is known in 2 cells along every axis. A level
starts from the filled coarser one, and takes the rounds of an operator, `AlongEdges`, as any evolution does: so tiles
and batches of rounds change no bit.
"""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Block, Bools, Floats, allocate, as_image
from diffusion_ops.blocks.statistic import Statistic, make_statistic
from diffusion_ops.blocks.window import Window, doubled, doubling_window
from diffusion_ops.evolution.advance import advance
from diffusion_ops.evolution.legs import Leg
from diffusion_ops.evolution.operator import Iteration, with_parameters
from diffusion_ops.evolution.parameters import Number, NumberOrStatistic, number, parameter
from diffusion_ops.evolution.problems.problem import Setting
from diffusion_ops.evolution.reach import Reach
from diffusion_ops.evolution.schedule import Cycle
from diffusion_ops.families.parameters import SIGMA
from diffusion_ops.families.steady_state import Part, SteadyState, finite_fields, valid_cells_of
from diffusion_ops.families.tensor_field import TensorField

STEPS = 10
"""FSI steps with one tensor: as far as a cell is from what is known where a tenth of the cells is."""


class AlongEdges(Iteration):
    """Iterations that fill flagged cells: each makes D from the image as it is, and takes 10 FSI steps with it.

    A subclass has the parameters below, and its own `law`. What is carried is above 0 at the cells that change: an
    array per channel, or one for all. Channels share D.
    """

    contrast: NumberOrStatistic
    sigma: float
    rho: float

    couples_channels = True

    @property
    @abstractmethod
    def law(self) -> str:
        """How the flow across an edge depends on its slope."""

    @property
    def field(self) -> TensorField:
        """How the tensor is made; the contrast is a number by now, or does not matter."""
        contrast = math.nan if isinstance(self.contrast, Statistic) else number(self.contrast)
        return TensorField(contrast, self.law, sigma=self.sigma, rho=self.rho)

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return what an iteration and its tensor read.

        Returns
        -------
        step
            the reach of the steps with one tensor
        setup
            the reach of the tensor
        """
        field = self.field.reach(spacing)
        return Reach(tuple([STEPS * r for r in field.step]), field.setup)

    def extra_arrays(self, ndim: int, inertial: bool, channels: int) -> float:
        """Return D and the flags as bytes."""
        return self.field.scheme.arrays(ndim) + 0.25 * self.carried_arrays(ndim, channels)

    def setup_arrays(self, ndim: int, channels: int) -> float:
        """Return the smoothed channels or J before it is smoothed while D is made, then the state before."""
        smooth, rough = channels if self.sigma else 0, self.field.scheme.arrays(ndim) if self.rho else 0
        return max(1, smooth, rough)

    def pace(self, ndim: int, channels: int) -> float:
        """Return values times iterations per second as measured in float32."""
        return 5e7 if ndim == 2 else 1.2e7

    def run(self, block: Block, cycle: Cycle, count: int) -> None:
        """Take the iterations, the channels one after another with the same tensor."""
        assert block.carried is not None
        field = self.field
        free = allocate(len(block.carried), block.spatial, np.dtype(bool))
        np.greater(block.carried, 0, out=free)
        if not free.any():
            # Most tiles of an image with few gaps.
            return
        inner = Cycle(field.scheme.stable_dt(block.spacing), STEPS, inertial=True)
        for k in range(count):
            frozen = field.freeze(block, block.storage)
            for channel in range(len(block.storage)):
                part = dataclasses.replace(block, storage=block.storage[channel : channel + 1])
                field.take_steps(part, inner, frozen, free[min(channel, len(free) - 1)], before=k * STEPS)
                block.storage[channel] = part.storage[0]


@with_parameters
class Rounds(AlongEdges):
    """The rounds of a problem on one level; no step of a spec.

    Parameters
    ----------
    contrast : float or Statistic
        Square root of an eigenvalue that parts edges from flat areas, in image units per unit length. A statistic is a
        placeholder; the number is `contrast_of` the known values. With 0 there are no edges, and it does nothing.
    sigma, rho : float
        Noise scale and feature scale of the structure tensor, in units of the spacing.
    """

    contrast: NumberOrStatistic = parameter(
        Number(unit="image units per unit length", least=0, statistic=True)
    )
    sigma: float = parameter(SIGMA, default=0.5)
    rho: float = parameter(SIGMA, default=1.6)

    name = "rounds along edges"

    @property
    def law(self) -> str:
        """1 / sqrt(1 + (s/k)²)."""
        return "charbonnier"

    def carried_arrays(self, ndim: int, channels: int) -> int:
        """Return the flags of unknown cells."""
        return 1

    def run(self, block: Block, cycle: Cycle, count: int) -> None:
        """Take the rounds, unless all known values are equal."""
        if number(self.contrast) > 0:
            super().run(block, cycle, count)


@dataclass(frozen=True)
class Partial:
    """An image of which some cells are known.

    Attributes
    ----------
    fields : ndarray of shape (channels, *spatial)
        Of the working type; finite everywhere.
    known, valid : bool ndarray of shape `spatial`
        Known cells are valid.
    """

    fields: Floats
    known: Bools
    valid: Bools

    @classmethod
    def of(cls, setting: Setting, known: Bools) -> Partial:
        """Return what is known of what is solved, with 0 at the other cells."""
        valid = valid_cells_of(setting)
        known = known & valid
        return cls(np.where(known, finite_fields(setting), 0), known, valid)

    def halved(self) -> Partial:
        """Return the means of what is known in 2 cells along every axis; the last one of an odd number is alone.

        Of a window whose first cell has even indices these are the cells of the whole image.
        """
        counts = _pairs(np.add, self.known.astype(np.float64))
        means = np.stack([self._means(channel, counts) for channel in self.fields])
        return Partial(means.astype(self.fields.dtype), counts > 0, _pairs(np.logical_or, self.valid))

    def _means(self, channel: Floats, counts: Floats) -> Floats:
        """Return the means of what is known of a channel; 0 where nothing is."""
        sums = _pairs(np.add, np.where(self.known, channel, 0).astype(np.float64))
        means = np.divide(sums, counts, out=sums, where=counts > 0)
        # Rounding: the mean of three 0.1 is above 0.1.
        least = _pairs(np.minimum, np.where(self.known, channel, np.inf))
        np.maximum(means, least, out=means, where=counts > 0)
        most = _pairs(np.maximum, np.where(self.known, channel, -np.inf))
        return np.minimum(means, most, out=means, where=counts > 0)

    def started(self, below: Floats, valid: Bools, window: Window) -> Floats:
        """Return the fields, where they are not known interpolated linearly between cells of the coarser level.

        Parameters
        ----------
        below, valid : ndarray of shape (channels, *coarse), bool ndarray of shape `coarse`
            Filled cells, and which of them count.
        window : Window
            What is read of the coarser level, and written of this one, along the spatial axes.
        """
        weight = doubled(valid.astype(np.float64), window)
        sums = (doubled(np.where(valid, channel, 0).astype(np.float64), window) for channel in below)
        found = (np.divide(s, weight, out=np.zeros_like(s), where=weight > 0) for s in sums)
        return np.stack([np.where(self.known, c, f) for c, f in zip(self.fields, found, strict=True)]).astype(
            self.fields.dtype
        )

    def block(self, start: Floats, spacing: tuple[float, ...]) -> Block:
        """Return a block that starts so, with its unknown cells flagged."""
        block = Block.from_image(start, spacing, self.valid)
        block.carried = allocate(1, self.known.shape, start.dtype)
        as_image(block.carried, self.known.shape)[0] = self.valid & ~self.known
        return block


def _pairs(reduce: np.ufunc, values: NDArray[Any]) -> NDArray[Any]:
    """Return the sum, or else, of every 2 cells along each axis; the last one of an odd number stands alone."""
    for axis, n in enumerate(values.shape):
        values = reduce.reduceat(values, np.arange(0, n, 2), axis=axis)
    return values


class FilledAlongEdges(SteadyState):
    """A problem that may be solved by rounds along edges, from coarse to fine; a subclass has the parameters below."""

    contrast: float
    sigma: float
    rho: float
    rounds: int

    def contrast_of(self, parts: list[Part], spacing: tuple[float, ...]) -> float:
        """Return the contrast in image units per unit length, on every level."""
        return self.contrast * max(part.span for part in parts) / min(spacing)

    def numbers(self, parts: list[Part], spacing: tuple[float, ...]) -> dict[str, float]:
        """Return the contrast of the rounds."""
        return {"contrast": self.contrast_of(parts, spacing)}

    def leg(self, level: int, contrast: float | None = None) -> Leg:
        """Return the rounds on a level, which is halved so many times; they have begun with what is carried.

        Without a contrast it is a statistic, to be replaced by `contrast_of`.
        """
        wide = 2.0**level
        slope = make_statistic("range") if contrast is None else contrast
        rounds = Rounds(slope, self.sigma * wide, self.rho * wide)
        return Leg(rounds, (Cycle(1.0),) * self.rounds, begins=False)

    def fill(self, image: Partial, spacing: tuple[float, ...], contrast: float, level: int = 0) -> Floats:
        """Return the fields of a whole level, filled; at walls they mean nothing."""
        if image.known[image.valid].all():
            return image.fields
        coarse = image.halved()
        below = self.fill(coarse, tuple([2 * h for h in spacing]), contrast, level + 1)
        everywhere = tuple(slice(0, n) for n in image.valid.shape)
        window = doubling_window(everywhere, coarse.valid.shape, (True,) * len(spacing))
        block = image.block(image.started(below, coarse.valid, window), spacing)
        filled: Floats = advance(block, [self.leg(level, contrast)]).u.copy()
        return filled

    def settle(self, filled: Floats, parts: Sequence[Part]) -> None:
        """Give channels whose known values are all equal that value, in place: rounding may miss it."""
        for part in parts:
            if part.span == 0:
                filled[part.index] = part.low
