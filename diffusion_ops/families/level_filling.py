"""Fill unknown pixels in rounds of a nonlinear diffusion on every level of a pyramid, coarse to fine.

A level is a `Partial` image. The next coarser one has the means of what is known in 2 cells along every axis, and walls
that stay closed. Cells that no value reaches on a coarse level are walls there, so they start nothing. A level starts
from the filled coarser one, and takes the rounds of an operator, `FilledInRounds`, as any evolution does: so tiles and
batches of rounds change no bit.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffusion_ops.blocks.block import Block, Bools, Floats, allocate, as_image
from diffusion_ops.blocks.boxes import windows_apart
from diffusion_ops.blocks.statistic import make_statistic
from diffusion_ops.blocks.window import Window, doubled, doubling_window
from diffusion_ops.evolution.advance import advance
from diffusion_ops.evolution.legs import Leg
from diffusion_ops.evolution.parameters import NumberOrStatistic
from diffusion_ops.evolution.problems.problem import Setting
from diffusion_ops.evolution.schedule import Cycle
from diffusion_ops.families.filling_rounds import FilledInRounds
from diffusion_ops.families.steady_state import Part, SteadyState, finite_fields, valid_cells_of
from diffusion_ops.kernels.pixels.means import known_means
from diffusion_ops.steady.walls import coarse_walls, spread, unpaired

HALVED_HALO = 4
"""Cells around a window of a finer level that its coarser cells depend on: a block for walls, and one of them."""

STARTED_HALO = 4
"""Cells around a window that its start depends on; walls of the coarser level are 2 cells wide."""


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

    def part(self, region: tuple[slice, ...]) -> Partial:
        """Return a region."""
        return Partial(self.fields[(slice(None), *region)], self.known[region], self.valid[region])

    def halved(self) -> Partial:
        """Return the means of what is known in 2 cells along every axis; the last one of an odd number is alone.

        Walls are those of `coarse_walls`. What is known in them goes to the cells beside them where nothing is.
        Of a window whose first cell has even indices these are the cells of the whole image, but for `HALVED_HALO`.
        """
        walls = coarse_walls(self.valid)
        lost = unpaired(walls, self.known.shape) & self.known if walls.any() else walls
        means, known = known_means(self.fields, self.known & ~lost if lost.any() else self.known)
        if lost.any():
            near = spread(self.fields, lost, self.valid, HALVED_HALO // 2)
            others, has = known_means(*near)
            means, known = np.where(known, means, others), known | has
        known &= ~walls
        return Partial(np.where(known, means, 0).astype(self.fields.dtype), known, ~walls)

    @staticmethod
    def halved_bytes(channels: int, itemsize: int, walls: bool) -> float:
        """Return the bytes per cell that `halved` holds at its peak beside these, its result included.

        Known cells in walls of the coarser level, which are spread to those beside, take most.
        """
        return 34 + 2 * channels * (1 + itemsize) if walls else 1 + channels * (4 + itemsize / 4)

    def started(self, below: Floats, valid: Bools, window: Window) -> tuple[Floats, Bools]:
        """Return the fields, with a start where they are not known, and which cells have one.

        It is interpolated linearly between cells of the coarser level. Beside its walls it is the value of the coarse
        cell, and in them it is spread from cells beside: all but `STARTED_HALO` are the cells of the whole image.

        Parameters
        ----------
        below, valid : ndarray of shape (channels, *coarse), bool ndarray of shape `coarse`
            Filled cells, and which of them have a value.
        window : Window
            What is read of the coarser level, and written of this one, along the spatial axes.
        """
        whole = doubled(valid.astype(np.float64), window) == 1
        own = np.ix_(
            *(
                np.arange(w.start, w.stop) // 2 - r.start
                for w, r in zip(window.write, window.read, strict=True)
            )
        )
        has = self.known | (valid[own] & self.valid)
        start = np.empty_like(self.fields)
        for channel, fine, coarse in zip(self.fields, start, below, strict=True):
            smooth = doubled(np.where(valid, coarse, 0).astype(np.float64), window)
            fine[...] = np.where(self.known, channel, np.where(whole, smooth, coarse[own]))
        start[:, ~has] = 0
        return spread(start, has, self.valid, STARTED_HALO)

    @staticmethod
    def started_bytes(channels: int, itemsize: int, walls: bool) -> float:
        """Return the bytes per cell that `started` holds at its peak beside these, its result included."""
        return 44 + 2.5 * channels * itemsize if walls else 24 + channels * (itemsize + 2)

    def block(self, start: Floats, has: Bools, spacing: tuple[float, ...]) -> Block:
        """Return a block that starts so, with its unknown cells flagged; cells without a start are walls."""
        block = Block.from_image(start, spacing, has)
        block.carried = allocate(1, self.known.shape, start.dtype)
        as_image(block.carried, self.known.shape)[0] = has & ~self.known
        return block


class FilledByLevels(SteadyState):
    """A problem that may be solved in rounds from coarse to fine; a subclass has the parameter below."""

    rounds: int

    @property
    @abstractmethod
    def steep(self) -> float:
        """The contrast of the rounds, as a part of the range of the known values per finest cell."""

    @abstractmethod
    def operator_on(self, level: int, contrast: NumberOrStatistic) -> FilledInRounds:
        """Return the operator of the rounds on a level, which is halved so many times."""

    def contrast_of(self, parts: Sequence[Part], spacing: tuple[float, ...]) -> float:
        """Return the contrast in image units per unit length, on every level."""
        return self.steep * max(part.span for part in parts) / min(spacing)

    def numbers(self, parts: list[Part], spacing: tuple[float, ...]) -> dict[str, float]:
        """Return the contrast of the rounds."""
        return {"contrast": self.contrast_of(parts, spacing)}

    def leg(self, level: int, contrast: float | None = None) -> Leg:
        """Return the rounds on a level, which is halved so many times; they have begun with what is carried.

        Without a contrast it is a statistic, to be replaced by `contrast_of`.
        """
        slope = make_statistic("range") if contrast is None else contrast
        return Leg(self.operator_on(level, slope), (Cycle(1.0),) * self.rounds, begins=False)

    def fill(
        self, image: Partial, spacing: tuple[float, ...], parts: Sequence[Part], level: int = 0
    ) -> tuple[Floats, Bools]:
        """Return the fields of a whole level, filled, and which cells have a value: on the finest, all but walls.

        Known cells stay, so boxes of unknown ones that are farther apart than a round reads do not depend on each
        other: each takes all its rounds alone.
        """
        contrast = self.contrast_of(parts, tuple([h / 2**level for h in spacing]))
        leg, reads = self.leg(level, contrast), self.operator_on(level, contrast).margin(spacing)
        margin = tuple([max(n, STARTED_HALO) for n in reads])
        windows = windows_apart(image.valid & ~image.known, margin)
        if not windows or not image.known.any():
            return image.fields, image.known
        coarse = image.halved()
        below, reached = self.fill(coarse, tuple([2 * h for h in spacing]), parts, level + 1)
        done = []
        for window in windows:
            coarser = doubling_window(window.read, coarse.known.shape, (True,) * len(spacing))
            under = below[(slice(None), *coarser.read)], reached[coarser.read]
            part = image.part(window.read)
            block = part.block(*self.begun(*part.started(*under, coarser), part, parts, level), spacing)
            values = advance(block, [leg]).u[(slice(None), *window.keep)].copy()
            done.append(
                (window.write, values, True if block.valid is None else block.valid[window.keep].copy())
            )
        # Not before: the rounds take the most memory.
        filled, has = image.fields.copy(), image.known.copy()
        for box, values, some in done:
            filled[(slice(None), *box)], has[box] = values, some
        return filled, has

    def begun(
        self, start: Floats, has: Bools, image: Partial, parts: Sequence[Part], level: int
    ) -> tuple[Floats, Bools]:
        """Return the start of a level; on the finest, cells that no coarser one can start are amid the known values."""
        if level:
            return start, has
        for part in parts:
            start[part.index][image.valid & ~has] = part.low + part.span / 2
        return start, image.valid

    def settle(self, filled: Floats, parts: Sequence[Part]) -> None:
        """Give channels whose known values are all equal that value, in place: rounding may miss it."""
        for part in parts:
            if part.span == 0:
                filled[part.index] = part.low
