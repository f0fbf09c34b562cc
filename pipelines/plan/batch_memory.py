"""Predict the memory of a task that carries out a batch of steps, from numbers alone."""

from __future__ import annotations

from dataclasses import dataclass

from diffusion_ops.blocks.fields import working_dtype
from diffusion_ops.evolution.legs import Leg, result_channels
from pipelines.tasks.inputs import Inputs
from pipelines.tasks.pixels import ENCODING_BYTES


@dataclass(frozen=True)
class BatchMemory:
    """The bytes that a task holds while it reads, steps, finishes and writes.

    Attributes
    ----------
    inputs : Inputs
        What it reads. Walls are counted, as any tile may have some.
    legs : tuple of Leg
    ndim : int
        Number of spatial axes.
    puts_back_first : bool
        Whether invalid cells get back their values before the result is copied from the block.
    """

    inputs: Inputs
    legs: tuple[Leg, ...]
    ndim: int
    puts_back_first: bool

    @property
    def _carried(self) -> int:
        return 0 if self.inputs.carried is None else self.inputs.carried.count

    @property
    def _working(self) -> int:
        return working_dtype(self.inputs.image.dtype).itemsize

    def state(self, frame: int) -> int:
        """Return the bytes of a state of a frame, with the arrays that it carries."""
        return frame * (self.inputs.image.channels + self._carried) * self._working

    def window(self, frame: int) -> int:
        """Return the bytes of the pixels of a frame as they are read."""
        return frame * self.inputs.image.channels * self.inputs.image.stored_itemsize

    def largest(self, frame: int, given: int, done: int, frames: int, window: int) -> int:
        """Return the largest memory of a task: that of reading, stepping, finishing or writing.

        Parameters
        ----------
        frame : int
            Cells of a frame with its halo.
        given : int
            Bytes of what invalid cells of a frame get back.
        done : int
            Bytes of the result; 0 where the block becomes it.
        frames : int
            Number of frames, which are computed one by one.
        window : int
            Bytes that are kept while a batch is computed; the result takes them over.
        """
        block, result = self.inputs.block_bytes(frame), max(window, done // frames)
        stepping = block + int(frame * self._extra_arrays() * self._working) + window
        finishing = block + frame * self._more_channels() * self._working
        finishing += max(result, window + given) if self.puts_back_first else result + given
        writing = self.state(frame) + result + ENCODING_BYTES
        several = done if frames > 1 else 0
        return max(self._reading(frame, result), stepping, finishing, writing) + several

    def _reading(self, frame: int, result: int) -> int:
        """Return the bytes while a task reads, into the memory of the result before: up to twice as large."""
        loading = self.state(frame) + self.inputs.loading_bytes(frame)
        reused = min(self.window(frame), max(0, result - self.window(frame)))
        return max(self.inputs.reading_bytes(frame), loading) + reused

    def _more_channels(self) -> int:
        """Return how many channels the result has more."""
        channels = self.inputs.image.channels
        return sum(max(0, result_channels([leg], channels) - channels) for leg in self.legs)

    def _extra_arrays(self) -> float:
        """Return the most arrays, of one channel's size, that a leg holds beside the state and what is carried."""
        channels = self.inputs.image.channels
        most = max((sum(_arrays(leg, self.ndim, channels)) for leg in self.legs), default=0.0)
        return max(0.0, most - self._carried)


def _arrays(leg: Leg, ndim: int, channels: int) -> tuple[float, ...]:
    """Return the numbers of arrays, of one channel's size, that a leg holds beside the state."""
    operator = leg.operator
    more = max(0, result_channels([leg], channels) - channels)
    inertial = any(cycle.inertial for cycle in leg.cycles)
    return (
        operator.extra_arrays(ndim, inertial, channels),
        operator.setup_arrays(ndim, channels),
        operator.carried_arrays(ndim, channels),
        more,
    )
