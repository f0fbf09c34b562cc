"""Diffusion tensors of an image and the steps with them: the common part of anisotropic operators."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from diffusion_ops.blocks.block import Block, Bools, Floats, allocate
from diffusion_ops.blocks.statistic import Statistic
from diffusion_ops.evolution.operator import Operator
from diffusion_ops.evolution.parameters import Choice, Number, NumberOrStatistic, number
from diffusion_ops.evolution.reach import Reach, chained
from diffusion_ops.evolution.schedule import Cycle
from diffusion_ops.kernels.gaussian import gaussian_radius
from diffusion_ops.kernels.tensors import fluxes, lattice
from diffusion_ops.kernels.tensors.diffusivity import to_diffusivity
from diffusion_ops.kernels.tensors.structure import corner_structure, corners_to_cells, tensor_arrays

_CORNERS = {2: 1.01, 3: 1.06}
"""Corners per cell of a tile of about 50 cells or more along each axis."""


class Scheme(ABC):
    """A discretisation of div(D ∇u): the coefficients that it freezes, and its steps."""

    condition: float = math.inf
    """Largest ratio of the eigenvalues of D that it allows."""
    keeps_maximum: ClassVar[bool] = False

    @abstractmethod
    def stable_dt(self, spacing: tuple[float, ...]) -> float:
        """Return the largest stable explicit step where no eigenvalue of D is above 1."""

    @abstractmethod
    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return the reach of a step, and as `setup` that of its coefficients beyond the Gaussians."""

    @abstractmethod
    def coefficients(self, block: Block, corners: Floats) -> Any:
        """Return the coefficients of the steps, from D at the corners."""

    @abstractmethod
    def arrays(self, ndim: int) -> float:
        """Return how many arrays of one channel's size the coefficients take."""

    @abstractmethod
    def take_steps(
        self, block: Block, states: list[Floats], coefficients: Any, cycle: Cycle, free: Bools | None
    ) -> None:
        """Take the steps of a cycle on one or two states."""


@dataclass(frozen=True)
class Nonstandard(Scheme):
    """Differences at the corners of the cells: radius 1 at any ratio of eigenvalues; see `kernels.tensors.fluxes`."""

    alpha: float = 0.4

    def stable_dt(self, spacing: tuple[float, ...]) -> float:
        """Return h²/2 for equal spacing and alpha >= 1/4."""
        return fluxes.stable_tensor_dt(self.alpha, spacing)

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return 1 for a step: the differences of a corner reach no farther."""
        return Reach((1,) * len(spacing))

    def coefficients(self, block: Block, corners: Floats) -> Any:
        """Return D unchanged."""
        return corners

    def arrays(self, ndim: int) -> float:
        """Return the components of D at one more corner along each axis than there are cells."""
        return tensor_arrays(ndim) * _CORNERS[ndim]

    def take_steps(
        self, block: Block, states: list[Floats], coefficients: Any, cycle: Cycle, free: Bools | None
    ) -> None:
        """Take steps in the flux kernel."""
        fluxes.take_tensor_steps(block, states, coefficients, cycle.tau, cycle.weights, self.alpha, free)


@dataclass(frozen=True)
class Lattice(Scheme):
    """Weights that are never negative, on far neighbours; see `kernels.tensors.lattice`."""

    condition: float = 10.0
    keeps_maximum = True

    def stable_dt(self, spacing: tuple[float, ...]) -> float:
        """Return the step that keeps the extremes."""
        return lattice.stable_lattice_dt(self.condition, spacing)

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return the reach of the longest link that tensors of this condition need, and 1: D is a mean of corners."""
        return Reach(lattice.lattice_radius(self.condition, spacing), setup=(1,) * len(spacing))

    def coefficients(self, block: Block, corners: Floats) -> Any:
        """Return the weights of the links."""
        return lattice.lattice_links(block, corners_to_cells(block, corners), self.condition)

    def arrays(self, ndim: int) -> float:
        """Return a cell's weights, the numbers of their offsets in two bytes each, and the sum of a step."""
        return 1.5 * tensor_arrays(ndim) + 1

    def take_steps(
        self, block: Block, states: list[Floats], coefficients: Any, cycle: Cycle, free: Bools | None
    ) -> None:
        """Take steps link by link."""
        lattice.take_link_steps(block, states, coefficients, self.condition, cycle.tau, cycle.weights, free)


DISCRETISATIONS = ("www", "lattice")
"""Nonstandard differences (Weickert, Welk and Wickert 2013), and `Lattice`."""

DISCRETISATION = Choice(DISCRETISATIONS)
STENCIL = Number(unit="1", least=0, most=0.5)
CONDITION = Number(unit="1", least=1, most=100)
ALPHA = Number(unit="1", least=0, most=1, aliases=("Alpha",))
EXPONENT = Choice(range(1, 9), aliases=("Exponent",))
"""Parameters of the discretisation, and of how the diffusivity depends on the structure."""


@dataclass(frozen=True)
class TensorField:
    """Construction of D from the structure of an image, and discretisation of ∂u/∂t = div(D ∇u).

    An operator makes one from its parameters:

        field = TensorField(contrast=4.0, law="rational", enhancement="eed", sigma=0.8)
        frozen = field.freeze(block)
        field.take_steps(block, cycle, frozen, free=flagged)

    Parameters
    ----------
    contrast, law, enhancement, exponent, floor : see `kernels.tensors.diffusivity.to_diffusivity`
    sigma, rho : float
        Noise scale and feature scale, in units of the spacing.
    scheme : Scheme
        The discretisation.
    """

    contrast: float
    law: str = "rational"
    enhancement: str = "eed"
    exponent: int = 2
    floor: float = 0.0
    sigma: float = 0.0
    rho: float = 0.0
    scheme: Scheme = Nonstandard()

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return the reach of a step, and as `setup` that of D."""
        own = self.scheme.reach(spacing)
        parts = (gaussian_radius(self.sigma, spacing), gaussian_radius(self.rho, spacing), own.setup)
        return Reach(own.step, setup=chained(parts, len(spacing)))

    def freeze(self, block: Block, of: Floats | None = None) -> Any:
        """Return the frozen coefficients of the steps.

        `of` is the image to read, (channels, cells): by default `block.structure`, the guide or the state.
        """
        corners = to_diffusivity(
            corner_structure(block, self.sigma, self.rho, of),
            self.contrast,
            self.law,
            self.enhancement,
            self.exponent,
            self.floor,
            self.scheme.condition,
        )
        return self.scheme.coefficients(block, corners)

    def take_steps(
        self, block: Block, cycle: Cycle, frozen: Any, free: Bools | None = None, before: int = 0
    ) -> None:
        """Take the steps of a cycle in place, after `before` steps of the same call.

        Only cells where `free`, (cells,), is True change.
        """
        states = [block.storage]
        if cycle.inertial:
            states.append(allocate(len(block.storage), block.spatial, block.storage.dtype))
            states[1][...] = block.storage
        lost = tuple([before * r for r in self.scheme.reach(block.spacing).step])
        self.scheme.take_steps(block.after(lost), states, frozen, cycle, free)
        block.storage = states[cycle.steps % len(states)]


class TensorDiffusion(Operator):
    """∂u/∂t = div(D ∇u), D from the structure of the image or of a guide; a subclass determines how D depends on it.

    A subclass has the parameters below, its own `law` and `enhancement`.
    """

    contrast: NumberOrStatistic
    sigma: float
    rho: float
    enhancement: str
    alpha: float
    exponent: int
    discretisation: str
    stencil: float
    condition: float

    reads_guide = True
    couples_channels = True
    keeps_mean = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "keeps_maximum", self.scheme.keeps_maximum)

    @property
    @abstractmethod
    def law(self) -> str:
        """How a diffusivity depends on its eigenvalue."""

    @property
    def scheme(self) -> Scheme:
        """The discretisation."""
        return Nonstandard(self.stencil) if self.discretisation == "www" else Lattice(self.condition)

    @property
    def field(self) -> TensorField:
        """Construction of the tensor; the contrast is NaN while it is a statistic."""
        contrast = math.nan if isinstance(self.contrast, Statistic) else number(self.contrast)
        shape = (self.law, self.enhancement, self.exponent, self.alpha)
        return TensorField(contrast, *shape, self.sigma, self.rho, self.scheme)

    def stable_dt(self, spacing: tuple[float, ...]) -> float:
        """Return the stable step of the discretisation."""
        return self.scheme.stable_dt(spacing)

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return what a step reads, and the tensor.

        Returns
        -------
        step
            1, or the reach of the lattice
        setup
            the reach of both Gaussians, and of the lattice's own mean
        """
        return self.field.reach(spacing)

    def extra_arrays(self, ndim: int, inertial: bool, channels: int) -> float:
        """Return the size of the coefficients, and of the state before in FSI cycles."""
        return self.scheme.arrays(ndim) + (channels if inertial else 0)

    def setup_arrays(self, ndim: int, channels: int) -> float:
        """Return the temporary arrays of the coefficients: smoothed channels, J before it is smoothed, D at cells."""
        corners = tensor_arrays(ndim) * _CORNERS[ndim]
        if self.discretisation == "lattice":
            return corners + tensor_arrays(ndim)
        return max(channels if self.sigma > 0 else 0, corners if self.rho > 0 else 0)

    def pace(self, ndim: int, channels: int) -> float:
        """Return the pace measured in float32 with a new tensor at every step, the most costly way."""
        if self.discretisation == "lattice":
            return 1.8e7 if ndim == 2 else 5e6
        return (3e8 if self.rho == 0 else 1e8) if ndim == 2 else 3e7

    def run(self, block: Block, cycle: Cycle, count: int) -> None:
        """Freeze the tensor and take the steps of the cycle, `count` times."""
        for k in range(count):
            self.field.take_steps(block, cycle, self.field.freeze(block), before=k * cycle.steps)
