"""Additive operator splitting: smoothing that stops at edges, in few large steps that keep the extremes."""

from __future__ import annotations

import itertools

import numpy as np

from diffusion_ops.blocks.block import Block, Floats
from diffusion_ops.blocks.partitions import whole_partitions
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import Operator, register
from diffusion_ops.evolution.parameters import Choice, Count, NumberOrStatistic, parameter
from diffusion_ops.evolution.reach import Reach
from diffusion_ops.evolution.schedule import Cycle
from diffusion_ops.families.edge_stopping import CONDUCTANCE, CONTRAST
from diffusion_ops.families.parameters import SIGMA
from diffusion_ops.families.stencil import make_stencil
from diffusion_ops.kernels.conductance import CONDUCTANCES, CONSTANT
from diffusion_ops.kernels.faces import cell_faces, edge_faces
from diffusion_ops.kernels.gaussian import gaussian_radius, smoothed
from diffusion_ops.kernels.splitting import split_axis

TRUNCATION = 2.0**-24
"""What the truncated form may be off at most, as a part of the image's range: half a unit in float32's last place."""

MOST_THETA = 1e5
"""Largest step of the exact form, over h² and times the axes; the solution is right to 4e-15 there."""

WHOLE = 1 << 30
"""Reach of the exact form: no line is longer, so every window is as long as the image."""


@register("additive-splitting")
class AdditiveSplitting(Operator):
    """Diffusion ∂u/∂t = div(g(|∇u_sigma|) ∇u) in steps of u_new = 1/N Σ_l (I - N τ A_l(u))⁻¹ u, l the N axes.

    Each step reads its conductances once, as `PeronaMalik` does, and solves a tridiagonal system along every line of
    every axis. All sums are of positive terms, so extremes are kept for any τ. Of first order in τ: at equal numbers of
    conductances FSI cycles are more accurate at edges and read less far; splitting is for strict extremes with large
    steps and for coefficients that span orders of magnitude.

    Lines are cut on a grid of `partition` cells that begins at the image's first cell, so that the bits are the same in
    any tile. Along an axis with τ N / h² = θ influence falls by q = (sqrt(1 + 4θ) - 1) / (sqrt(1 + 4θ) + 1) per cell;
    the truncated form lets a cell know its own and the two neighbouring partitions, and is off by at most 2 q^partition
    of the image's range. Steps that would make this more than 6e-8 are refused.

    Parameters
    ----------
    contrast : float, Statistic or None
        Gradient magnitude k that parts edges from noise, in image units per unit length, or a statistic such as
        {"quantile": 0.9}. None is g = 1, the heat equation.
    conductance : str
        "exponential", "rational", "charbonnier", "tukey" or "weickert", see `PeronaMalik`.
    sigma : float
        Standard deviation of the regularisation, in units of the spacing.
    partition : int
        Cells of a partition of a line, 2 to 4096. n steps of the truncated form read (n + 1) partitions on each side.
    form : str
        "truncated", or "exact": the whole line at once, for θ up to 1e5. It needs windows as large as the image.

    Raises
    ------
    ValueError
        For parameters out of range; where the exact form is given a part of the image.

    References
    ----------
    Weickert, ter Haar Romeny, Viergever: Efficient and reliable schemes for nonlinear diffusion filtering. IEEE TIP
    1998. Wang: A parallel method for tridiagonal equations. ACM TOMS 1981. Polizzi, Sameh: A parallel hybrid banded
    system solver: the SPIKE algorithm. Parallel Computing 2006.
    """

    contrast: NumberOrStatistic | None = parameter(CONTRAST, optional=True, default=None)
    conductance: str = parameter(CONDUCTANCE, default="exponential")
    sigma: float = parameter(SIGMA, default=0.0)
    partition: int = parameter(Count(unit="cells", least=2, most=4096), default=64)
    form: str = parameter(Choice(("truncated", "exact")), default="truncated")

    equation = "u_new = 1/N Σ (I - N τ A_l)⁻¹ u for ∂u/∂t = div(g(|∇u_sigma|) ∇u)"
    reference = "Weickert, ter Haar Romeny and Viergever 1998"
    samples = Samples(
        ({"contrast": 1e4, "partition": 16}, {"contrast": 60.0, "sigma": 0.75, "partition": 16}),
        placed="lines are cut on a grid that begins at the image's first cell",
    )
    picture = Picture("noisy man", {"contrast": 15, "sigma": 1.0}, {"steps": 4, "dt": 2})
    inertial_cycles = False
    couples_channels = True
    keeps_maximum = True
    keeps_mean = True

    def stable_dt(self, spacing: tuple[float, ...]) -> float:
        """Return the largest step whose truncation stays below 6e-8 of the range, or θ = 1e5 for the exact form."""
        q = (TRUNCATION / 2) ** (1 / self.partition)
        theta = MOST_THETA if self.form == "exact" else q / (1 - q) ** 2
        return theta * min(spacing) ** 2 / len(spacing)

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return what a step and the conductances read; only the first of equal steps meets a partition that is cut.

        Returns
        -------
        step
            the cells that one step reads, wherever the partitions lie
        setup
            the reach of the regularised gradient; differences across faces add none
        """
        step, further = (WHOLE, 0) if self.form == "exact" else (2 * self.partition - 1, self.partition)
        setup = () if self.contrast is None or self.sigma == 0 else gaussian_radius(self.sigma, spacing)
        return Reach(
            (step,) * len(spacing), setup=tuple([1 + r for r in setup]), further=(further,) * len(spacing)
        )

    def extra_arrays(self, ndim: int, inertial: bool, channels: int) -> float:
        """Return the faces of each axis and the mean of the axes' solutions."""
        return ndim + 1

    def setup_arrays(self, ndim: int, channels: int) -> float:
        """Return the smoothed channels and their conductances at cell centres."""
        return channels + 2 if any(self.reach((1.0,) * ndim).setup) else 0

    def pace(self, ndim: int, channels: int) -> float:
        """Return what was measured in float32."""
        return 3e8 / ndim

    def run(self, block: Block, cycle: Cycle, count: int) -> None:
        """Take the steps; partitions that an open side cuts are left out."""
        if self.form == "exact" and any(itertools.chain(*block.open_sides)):
            raise ValueError(
                "form='exact' needs windows as large as the image, and this one is a part of it. "
                "Use form='truncated', or give the image as one chunk."
            )
        ndim = len(block.spatial)
        lines = [whole_partitions(block, axis, self.partition) for axis in range(ndim)]
        out = np.empty_like(block.storage[0])
        for _ in range(count):
            faces = self._faces(block)
            for channel in block.storage:
                for axis, (h, partitions) in enumerate(zip(block.spacing, lines, strict=True)):
                    split_axis(
                        out,
                        channel,
                        faces[ndim - 1 - axis],
                        block.spatial,
                        axis,
                        theta=ndim * cycle.tau / h**2,
                        share=1 / ndim,
                        add=axis > 0,
                        partitions=partitions,
                        exact=self.form == "exact",
                    )
                channel[...] = out
            # Those of the next step take their place.
            del faces
            lines = [partitions.after_step() for partitions in lines]

    def _faces(self, block: Block) -> Floats:
        """Return the conductances of the state, of shape (axes, cells)."""
        if self.contrast is None:
            return edge_faces(block, CONSTANT, (0.0,) * 4, False)
        assert isinstance(self.contrast, int | float)
        kind, scales = CONDUCTANCES.index(self.conductance), make_stencil(block.spacing).scales(self.contrast)
        if self.sigma == 0:
            return edge_faces(block, kind, scales, False)
        return cell_faces(block, smoothed(block, self.sigma), kind, scales)
