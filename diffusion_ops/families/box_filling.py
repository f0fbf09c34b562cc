"""Fill unknown pixels hole by hole: each is enclosed by a box, and solved whole within a margin around it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from diffusion_ops.blocks.block import Bools, Floats
from diffusion_ops.blocks.boxes import windows_apart
from diffusion_ops.evolution.problems.problem import Setting
from diffusion_ops.families.steady_state import Part, SteadyState, valid_cells_of


class FilledByBoxes(SteadyState):
    """A problem whose answer in a hole depends on a margin around it alone.

    Known pixels stay, so boxes of unknown ones that are farther apart than the margin do not depend on each other.
    """

    for_large_holes: ClassVar[str]
    """What to do where a hole is too large for the memory of a task, as a sentence."""

    @abstractmethod
    def box_margin(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        """Return how many cells around a box its answer depends on, per axis."""

    @abstractmethod
    def box_bytes(self, shape: tuple[int, ...], channels: int) -> int:
        """Return the memory that filling a box takes, beside its setting; the shape is that with the margin."""

    @abstractmethod
    def fill_box(self, setting: Setting, parts: Sequence[Part]) -> Floats:
        """Return the answer (channels, *spatial) for a box with its margin; only unknown cells count.

        Raises
        ------
        ValueError
            Where the tolerance is not reached.
        """

    def unknown(self, setting: Setting) -> Bools:
        """Return which cells are to be filled."""
        return valid_cells_of(setting) & ~self.known(setting)

    def fill_boxes(self, setting: Setting, parts: Sequence[Part]) -> Floats:
        """Return the answers of all boxes of an image, 0 elsewhere."""
        done = []
        for window in windows_apart(self.unknown(setting), self.box_margin(setting.spacing)):
            answer = self.fill_box(setting.part(window.read), parts)
            done.append((window.write, answer[(slice(None), *window.keep)].copy()))
        # Not before: the solutions take the most memory.
        filled = np.zeros(setting.fields.shape)
        for box, values in done:
            filled[(slice(None), *box)] = values
        return filled
