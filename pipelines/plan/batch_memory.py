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
    result_in_place : bool
        Whether the kept part of the block is the result, so that no other memory holds it.
    measured : float
        Arrays, of one channel's size, that are held while statistics are measured after the steps.
    part : float
        How much of a frame of the mask is read at a time.
    """

    inputs: Inputs
    legs: tuple[Leg, ...]
    ndim: int
    result_in_place: bool
    measured: float = 0.0
    part: float = 1.0

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

    def largest(self, frame: int, given: int, done: int, frames: int, keeps: bool) -> int:
        """Return the largest memory of a task: that of reading, stepping, finishing or writing.

        Parameters
        ----------
        frame : int
            Cells of a frame with its halo.
        given : int
            Bytes of what invalid cells of a frame get back.
        done : int
            Bytes of the result.
        frames : int
            Number of frames, which are computed one by one.
        keeps : bool
            Whether the memory of windows is kept while a batch is computed.
        """
        kept = self._kept(frame, done, frames) if keeps else 0
        block, result = self.inputs.block_bytes(frame), max(kept, self._result(done, frames))
        stepping = block + int(frame * self._extra_arrays() * self._working) + kept
        finishing = block + frame * self._more_channels() * self._working + result + given
        writing = self.state(frame) + result + ENCODING_BYTES
        several = done if frames > 1 else 0
        return max(self._reading(frame, result, kept), stepping, finishing, writing) + several

    def spare(self, frame: int, done: int, frames: int, keeps: bool) -> int:
        """Return the bytes that a thread keeps for its next task; see `largest`."""
        kept = self._kept(frame, done, frames) if keeps else 0
        return self.state(frame) + max(kept, self._result(done, frames))

    def _kept(self, frame: int, done: int, frames: int) -> int:
        """Return the bytes of the memory that is kept: of pixels as they were read, or else of the result before."""
        return self._result(done, frames) if self.inputs.in_place else self.window(frame)

    def _result(self, done: int, frames: int) -> int:
        """Return the bytes of the result of a frame beside its block."""
        return 0 if self.result_in_place else done // frames

    def _reading(self, frame: int, result: int, kept: int) -> int:
        """Return the bytes while a task reads, into the memory of the result before: up to twice as large."""
        if self.inputs.in_place:
            return (
                max(self.inputs.reading_bytes(frame, self.part), self.inputs.loading_bytes(frame, self.part))
                + kept
            )
        loading = self.state(frame) + self.inputs.loading_bytes(frame, self.part)
        reused = min(self.window(frame), max(0, result - self.window(frame)))
        return max(self.inputs.reading_bytes(frame, self.part), loading) + reused

    def _more_channels(self) -> int:
        """Return how many channels the result has more."""
        channels = self.inputs.image.channels
        return sum(max(0, result_channels([leg], channels) - channels) for leg in self.legs)

    def _extra_arrays(self) -> float:
        """Return the most arrays, of one channel's size, that legs and statistics hold beside the state."""
        channels = self.inputs.image.channels
        most = max((sum(_arrays(leg, self.ndim, channels)) for leg in self.legs), default=0.0)
        if self.measured:
            most = max(most, self.legs[-1].carried_arrays(self.ndim, channels) + self.measured)
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
