"""Operators whose explicit step is a compiled update of a row, which `kernels/wavefront.py` applies to a block."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

from diffusion_ops.blocks.block import Block
from diffusion_ops.evolution.operator import Operator
from diffusion_ops.evolution.schedule import Cycle
from diffusion_ops.kernels.wavefront import half_inverse, ring_arrays, take_row_steps


class RowOperator(Operator):
    """An operator with explicit steps alone, given by the update of a row and its numbers."""

    inertial_cycles = False
    pace_2d: ClassVar[float] = 1e9
    """Values times steps per second of one core in 2-D and float32."""

    @abstractmethod
    def update(self) -> Callable[..., None]:
        """Return the update, see `kernels/wavefront.py`."""

    @abstractmethod
    def numbers(self, spacing: tuple[float, ...], tau: float) -> list[float]:
        """Return the numbers of the update that follow 1 / (2 h) along x, y, z and the step size."""

    def prepare(self) -> Callable[..., None] | None:
        """Return the function that computes one more field before each step, or None."""
        return None

    def extra_arrays(self, ndim: int, inertial: bool, channels: int) -> float:
        """Return the size of the rows that are held between the steps of a wavefront."""
        return ring_arrays(ndim, self.reach((1.0,) * ndim).step[0], channels if self.couples_channels else 1)

    def pace(self, ndim: int, channels: int) -> float:
        """Return the pace measured in 2-D, and about 0.4 of it in 3-D."""
        return self.pace_2d * (1.0 if ndim == 2 else 0.4)

    def run(self, block: Block, cycle: Cycle, count: int) -> None:
        """Take all steps."""
        prepare = self.prepare()
        levels = 1 if prepare is None else 2
        take_row_steps(
            block,
            self.update(),
            cycle.steps * count,
            [*half_inverse(block.spacing), cycle.tau, *self.numbers(block.spacing, cycle.tau)],
            radius=self.reach(block.spacing).step[0] // levels,
            together=self.couples_channels,
            prepare=prepare,
            fields=levels - 1,
        )
