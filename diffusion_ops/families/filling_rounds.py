"""Operators that fill flagged cells in rounds: each makes coefficients from the image, and takes steps with them."""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod

import numpy as np

from diffusion_ops.blocks.block import Block, Bools, allocate
from diffusion_ops.blocks.statistic import Statistic
from diffusion_ops.evolution.operator import Iteration, with_parameters
from diffusion_ops.evolution.parameters import Number, NumberOrStatistic, number, parameter
from diffusion_ops.evolution.reach import Cells, Reach, chained
from diffusion_ops.evolution.schedule import Cycle
from diffusion_ops.families.parameters import SIGMA
from diffusion_ops.families.tensor_field import TensorField
from diffusion_ops.kernels.motions.lagged_variation import lagged_weights, take_weighted_steps

STEPS = 10
"""FSI steps of a round: as far as a cell is from what is known where a tenth of the cells is."""

WEIGHTINGS = 2
"""Times that a round of least variation makes its weights: it then still costs less than one with a tensor."""

SLOPE = Number(unit="image units per unit length", least=0, statistic=True)
"""Contrast of the rounds of a problem: a placeholder until the known values are surveyed; they do nothing with 0."""


class FilledInRounds(Iteration):
    """Iterations that fill flagged cells, a round each; a subclass has the parameter below.

    What is carried is above 0 at the cells that change: an array per channel, or one for all. Channels share the
    coefficients.
    """

    contrast: NumberOrStatistic

    couples_channels = True

    @abstractmethod
    def fill(self, block: Block, free: Bools, count: int) -> None:
        """Take the rounds on the cells that are free, (arrays, cells)."""

    @abstractmethod
    def margin(self, spacing: tuple[float, ...]) -> Cells:
        """Return how many cells around flagged ones they depend on, in any number of rounds, as all others stay."""

    def carried_arrays(self, ndim: int, channels: int) -> int:
        """Return the flags of unknown cells."""
        return 1

    def run(self, block: Block, cycle: Cycle, count: int) -> None:
        """Take the rounds, unless the image has no contrast."""
        assert block.carried is not None
        free = allocate(len(block.carried), block.spatial, np.dtype(bool))
        np.greater(block.carried, 0, out=free)
        # Most tiles of an image with few gaps have none.
        if free.any() and number(self.contrast) > 0:
            self.fill(block, free, count)


class AlongEdges(FilledInRounds):
    """Rounds along edges: each makes D from the image, and takes 10 FSI steps of ∂u/∂t = div(D ∇u).

    A subclass has the parameters below, and its own `law`.
    """

    sigma: float
    rho: float

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

    def margin(self, spacing: tuple[float, ...]) -> Cells:
        """Return the reach of the tensor and of one step."""
        reach = self.field.reach(spacing)
        return chained((reach.setup, reach.step), len(spacing))

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

    def fill(self, block: Block, free: Bools, count: int) -> None:
        """Take the rounds, the channels one after another with the same tensor."""
        field = self.field
        inner = Cycle(field.scheme.stable_dt(block.spacing), STEPS, inertial=True)
        for k in range(count):
            frozen = field.freeze(block, block.storage)
            for channel in range(len(block.storage)):
                part = dataclasses.replace(block, storage=block.storage[channel : channel + 1])
                field.take_steps(part, inner, frozen, free[min(channel, len(free) - 1)], before=k * STEPS)
                block.storage[channel] = part.storage[0]


@with_parameters
class EdgeRounds(AlongEdges):
    """The rounds along edges of a problem on one level; no step of a spec.

    Parameters
    ----------
    contrast : float or Statistic
        Square root of an eigenvalue that parts edges from flat areas, in image units per unit length.
    sigma, rho : float
        Noise scale and feature scale of the structure tensor, in units of the spacing.
    """

    contrast: NumberOrStatistic = parameter(SLOPE)
    sigma: float = parameter(SIGMA, default=0.5)
    rho: float = parameter(SIGMA, default=1.6)

    name = "rounds along edges"

    @property
    def law(self) -> str:
        """1 / sqrt(1 + (s/k)²)."""
        return "charbonnier"


@with_parameters
class VariationRounds(FilledInRounds):
    """The rounds of a problem towards the least total variation on one level; no step of a spec.

    Each makes the weights of lagged diffusivity from the image twice, and takes 10 FSI steps with them.

    Parameters
    ----------
    contrast : float or Statistic
        |∇u| below which the variation is smoothed, in image units per unit length.
    """

    contrast: NumberOrStatistic = parameter(SLOPE)

    name = "rounds of least variation"

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return what an iteration reads: weights reach no farther than the first step with them."""
        return Reach((WEIGHTINGS * STEPS,) * len(spacing))

    def margin(self, spacing: tuple[float, ...]) -> Cells:
        """Return 1: the weights of a cell's faces read no farther."""
        return (1,) * len(spacing)

    def extra_arrays(self, ndim: int, inertial: bool, channels: int) -> float:
        """Return the weights, the flags as bytes, and the state before."""
        return ndim + 0.25 * self.carried_arrays(ndim, channels) + channels

    def pace(self, ndim: int, channels: int) -> float:
        """Return values times iterations per second as measured in float32."""
        return 4e7 if ndim == 2 else 2.8e7

    def fill(self, block: Block, free: Bools, count: int) -> None:
        """Take the rounds, all channels together."""
        weights = Cycle(1.0, STEPS, inertial=True).weights
        for _ in range(count * WEIGHTINGS):
            faces = lagged_weights(block, number(self.contrast))
            take_weighted_steps(block, faces, free[0], weights)
