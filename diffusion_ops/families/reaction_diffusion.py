"""Common part of the equations of two reacting fields: start from an image, initial noise, and conversion back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from diffusion_ops.blocks.block import Block, Floats, allocate
from diffusion_ops.blocks.statistic import Statistic, make_statistic
from diffusion_ops.evolution.operator import Operator, with_parameters
from diffusion_ops.evolution.parameters import Choice, Number, NumberOrStatistic, parameter
from diffusion_ops.evolution.reach import Reach
from diffusion_ops.evolution.schedule import Cycle
from diffusion_ops.families.alignment import align, at_corners
from diffusion_ops.families.parameters import SEED, SIGMA
from diffusion_ops.kernels.pixels.noise import put_noise
from diffusion_ops.kernels.reaction import take_reaction_steps
from diffusion_ops.kernels.tensors.structure import structure_radius, tensor_arrays

DIFFUSION = Number(unit="squared unit length / time", least=0)
"""How fast a field spreads."""

GRAIN = Choice((1, 2, 4, 8, 16, 32, 64))
"""Width in cells of the squares of the noise at the start."""

RATE = Number(unit="1 / time", least=0)
"""How fast a reaction goes."""

_PACE = {2: 2.5e9, 3: 1e9}
_CORNERS = {2: 1.01, 3: 1.06}
"""Corners per cell of a tile of about 50 cells along each axis."""


def _brightest(values: Mapping[str, Any]) -> Statistic:
    """Return the maximum of the image."""
    return make_statistic("maximum")


@with_parameters
class ReactionDiffusion(Operator):
    """Two fields, ∂u/∂t = D Δu + f(u, v) and ∂v/∂t = E Δv + g(u, v); the visible one, u, starts as the image.

    A subclass gives the reaction: the kernel's row and its numbers, the range of the visible field, the start of the
    other field, and the largest rate at which a field leaves a cell. The other field is carried from batch to batch.

    Attributes
    ----------
    diffusion, other_diffusion : float
        Diffusion coefficients of the visible field and of the other.
    white : float or Statistic
        Image value that stands for the upper of `ends`; 0 stands for the lower.
    perturbation, grain, seed : float, int, int
        Standard deviation of the initial noise of the visible field, the width in cells of its squares, its key.
    anisotropy, sigma, rho : float
        How much less both fields diffuse across the structures of the image or its guide than along them, and the
        scales at which these are found. The image is read at the start.
    """

    diffusion: float = parameter(DIFFUSION)
    other_diffusion: float = parameter(DIFFUSION)
    white: NumberOrStatistic = parameter(
        Number(unit="image units", above=0, statistic=True, automatic=_brightest), default=1.0
    )
    perturbation: float = parameter(Number(unit="concentration", least=0), default=0.0)
    grain: int = parameter(GRAIN, default=1)
    seed: int = parameter(SEED, default=0)
    anisotropy: float = parameter(Number(unit="1", least=0, most=1), default=0.0)
    sigma: float = parameter(SIGMA, default=1.0)
    rho: float = parameter(SIGMA, default=3.0)

    inertial_cycles = False
    row: ClassVar[Callable[..., None]]
    """Compiled update of a row of both fields."""
    ends: ClassVar[tuple[float, float]] = (0.0, 1.0)
    """Concentrations of the visible field that black and white stand for."""

    def __post_init__(self) -> None:
        # One tensor, from the guide or the image, couples all channels; without anisotropy there is none.
        for promise in ("reads_guide", "couples_channels"):
            object.__setattr__(self, promise, self.anisotropy > 0)

    @property
    @abstractmethod
    def limits(self) -> tuple[float, float]:
        """Concentrations that the visible field is clipped to at the start."""

    @property
    @abstractmethod
    def rates(self) -> tuple[float, float]:
        """Largest rates at which the reaction takes each field from a cell, per unit of time, within the limits."""

    @abstractmethod
    def reaction(self, tau: float) -> tuple[float, ...]:
        """Return the numbers of the reaction's row for a step of size `tau`."""

    @abstractmethod
    def partner(self, visible: Floats) -> Any:
        """Return the initial other field for a visible one."""

    def stable_dt(self, spacing: tuple[float, ...]) -> float:
        """Return 1 / (2 D Σ 1/h² + rate) of the more restrictive field: no step takes more than a cell holds."""
        axes = 2 * sum(1 / h**2 for h in spacing)
        fields = zip((self.diffusion, self.other_diffusion), self.rates, strict=True)
        return 1 / max(d * axes + rate for d, rate in fields)

    def carried_arrays(self, ndim: int, channels: int) -> int:
        """Return one other field per channel, and the tensor."""
        return channels + (tensor_arrays(ndim) if self.anisotropy else 0)

    def extra_arrays(self, ndim: int, inertial: bool, channels: int) -> float:
        """Return both fields of one channel, side by side, and the tensor at the corners."""
        return 2 + (tensor_arrays(ndim) * _CORNERS[ndim] if self.anisotropy else 0)

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return what a step and the start read.

        Returns
        -------
        start
            the reach of the structure tensor
        """
        start = structure_radius(self.sigma, self.rho, spacing) if self.anisotropy else ()
        return Reach((1,) * len(spacing), start=start)

    def pace(self, ndim: int, channels: int) -> float:
        """Return the pace measured in float32, of one step of both fields."""
        return _PACE[ndim] * (0.07 if self.anisotropy else 1.0)

    def start(self, block: Block) -> None:
        """Convert the image into the visible field, perturb it, and compute the other field from it."""
        assert isinstance(self.white, int | float)
        low, high = self.ends
        state = block.storage
        channels, ndim = len(state), len(block.spatial)
        block.carried = allocate(self.carried_arrays(ndim, channels), block.spatial, state.dtype)
        if self.anisotropy:
            align(block.carried[channels:], block, self.anisotropy, self.sigma, self.rho)
        np.multiply(state, (high - low) / self.white, out=state)
        np.add(state, low, out=state)
        np.clip(state, *self.limits, out=state)
        if self.perturbation:
            put_noise(block, "gaussian", (self.perturbation,), self.seed, grain=self.grain)
            np.clip(state, *self.limits, out=state)
        block.carried[:channels] = self.partner(state)

    def finish(self, block: Block) -> None:
        """Convert the visible field into image values."""
        assert isinstance(self.white, int | float)
        low, high = self.ends
        np.subtract(block.storage, low, out=block.storage)
        np.multiply(block.storage, self.white / (high - low), out=block.storage)

    def run(self, block: Block, cycle: Cycle, count: int) -> None:
        """Take steps of both fields in the compiled kernel."""
        assert block.carried is not None
        tensor = at_corners(block, block.carried[len(block.storage) :]) if self.anisotropy else None
        diffusions = (self.diffusion, self.other_diffusion)
        take_reaction_steps(
            block, type(self).row, count, cycle.tau, diffusions, self.reaction(cycle.tau), tensor
        )
