"""Perona-Malik diffusion: smoothing that stops at edges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.statistic import Statistic, make_statistic
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import Operator, register
from diffusion_ops.evolution.parameters import Choice, NumberOrStatistic, parameter
from diffusion_ops.evolution.reach import Reach
from diffusion_ops.evolution.schedule import Cycle
from diffusion_ops.families.edge_stopping import CONDUCTANCE, CONTRAST
from diffusion_ops.families.parameters import SIGMA
from diffusion_ops.families.stencil import make_stencil, take_cycle
from diffusion_ops.kernels.conductance import CONDUCTANCES, FROZEN
from diffusion_ops.kernels.faces import cell_faces, edge_faces
from diffusion_ops.kernels.gaussian import gaussian_radius, smoothed
from diffusion_ops.kernels.sums.potential import POTENTIALS

_MULTIPLES = {"exponential": 2.56, "rational": 1.04, "charbonnier": 0.064, "tukey": 2.12, "weickert": 2.8}

_REGULARISED_MULTIPLES = {
    "exponential": 1.0,
    "rational": 0.24,
    "charbonnier": 0.02,
    "tukey": 0.85,
    "weickert": 1.0,
}


def _suited(values: Mapping[str, Any]) -> Statistic:
    """Return the contrast that suits the image's noise.

    A multiple of what white noise makes between neighbours (`NoiseGradient`). The multiples gave the best PSNR
    on photographs with noise of 25 grey levels, each at its best time; half or twice as much costs 0.1 to 0.3 dB
    (next to nothing for "charbonnier"), also with noise of 15 and 50.
    """
    multiples = _REGULARISED_MULTIPLES if values["sigma"] > 0 else _MULTIPLES
    return make_statistic("noise-gradient", multiples[values["conductance"]])


@register("perona-malik")
class PeronaMalik(Operator):
    """Nonlinear isotropic diffusion, ∂u/∂t = div(g(|∇u_sigma|) ∇u).

    With sigma = 0 the gradient is the difference across each face, read anew at every explicit step and once per FSI
    cycle. With sigma > 0 (Catte regularisation) it is the central difference of the Gaussian-smoothed image at cell
    centres, read once per cycle and averaged onto the faces. Channels share one conductance of Σ_c |∇u_c|² (Di Zenzo).
    The smoothing leaves walls out of its mean but reaches over them: no flux crosses a wall thinner than its radius,
    yet the conductances on one side then know of edges on the other.

    Parameters
    ----------
    contrast : float or Statistic
        Gradient magnitude k that parts edges from noise, in image units per unit length. A statistic, such as
        `GradientQuantile(0.9)` or {"quantile": 0.9}, is reduced over the whole image first. "auto" is a multiple
        of the noise, which depends on the conductance.
    conductance : str
        "exponential" exp(-(s/k)²), "rational" 1 / (1 + (s/k)²), "charbonnier" 1 / sqrt(1 + (s/k)²), "tukey"
        max(1 - s²/(5k²), 0)², "weickert" 1 - exp(-3.31488 (k/s)⁸).
    sigma : float
        Standard deviation of the Catte regularisation, in units of the spacing.
    neighbours : int or None
        4 (default) or 8 in 2-D, 6 in 3-D.

    Raises
    ------
    ValueError
        For a contrast that is not positive, an unknown conductance, a negative sigma.

    References
    ----------
    Perona, Malik: Scale-space and edge detection using anisotropic diffusion. PAMI 1990. Catte, Lions,
    Morel, Coll: Image selective smoothing and edge detection by nonlinear diffusion. SIAM J. Numer. Anal. 1992.
    """

    contrast: NumberOrStatistic = parameter(CONTRAST, automatic=_suited)
    conductance: str = parameter(CONDUCTANCE, default="exponential")
    sigma: float = parameter(SIGMA, default=0.0)
    neighbours: int | None = parameter(Choice((4, 6, 8), optional=True), default=None)

    equation = "∂u/∂t = div(g(|∇u_sigma|) ∇u)"
    reference = "Perona and Malik 1990; Catte et al. 1992"
    samples = Samples(
        (
            {"contrast": 1e4},
            {"contrast": 60.0, "sigma": 0.75},
            {"contrast": 20.0, "conductance": "rational"},
        )
    )
    picture = Picture("noisy scene", {"contrast": 20, "sigma": 1.0}, {"time": 6})
    couples_channels = True
    keeps_maximum = True
    keeps_mean = True

    def __post_init__(self) -> None:
        if self.neighbours == 8 and self.sigma > 0:
            raise ValueError(
                "neighbours=8 goes with sigma=0 only: regularised conductances live on the axes' faces."
            )

    def energy(self) -> Statistic | None:
        """Return the functional whose gradient flow it is: with sigma = 0, and where the integral of g is known."""
        if self.sigma > 0 or self.conductance not in POTENTIALS or self.neighbours == 8:
            return None
        # Whether there is one is asked before the contrast is known.
        contrast = 1.0 if isinstance(self.contrast, Statistic) else self.contrast
        return make_statistic("potential", contrast=contrast, conductance=self.conductance)

    def stable_dt(self, spacing: tuple[float, ...]) -> float:
        """Return 1 / Σ w over the neighbours; 1 / (2 Σ 1/h²) for 4 or 6 of them."""
        return make_stencil(spacing, self.neighbours).stable_dt

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return what a step and the conductances read.

        Returns
        -------
        setup
            the reach of the regularised gradient; differences across faces add none
        """
        setup = gaussian_radius(self.sigma, spacing) if self.sigma > 0 else ()
        return Reach((1,) * len(spacing), setup=tuple([1 + r for r in setup]))

    def extra_arrays(self, ndim: int, inertial: bool, channels: int) -> float:
        """Return the frozen faces and the state before, or the smoothed channels and a plane while faces are made."""
        if self.sigma > 0:
            return ndim + channels + 1
        return channels + ndim + (2 if self.neighbours == 8 else 0) if inertial else 0

    def pace(self, ndim: int, channels: int) -> float:
        """Return what was measured in float32; about 0.6 of it in 3-D."""
        return _PACE[self.conductance] * (1.0 if ndim == 2 else 0.6)

    def run(self, block: Block, cycle: Cycle, count: int) -> None:
        """Take the steps in the compiled flux-form kernel, with conductances frozen where the cycle asks for it."""
        assert isinstance(self.contrast, int | float)
        kind, stencil = CONDUCTANCES.index(self.conductance), make_stencil(block.spacing, self.neighbours)
        scales = stencil.scales(self.contrast)
        if self.sigma > 0:
            faces = cell_faces(block, smoothed(block, self.sigma), kind, scales)
            take_cycle(block, cycle, count, FROZEN, stencil, faces=faces)
        elif cycle.inertial:
            faces = edge_faces(block, kind, scales, stencil.diagonal)
            take_cycle(block, cycle, count, FROZEN, stencil, faces=faces)
        else:
            take_cycle(block, cycle, count, kind, stencil, self.contrast)


_PACE = {"exponential": 1.9e9, "rational": 5.5e9, "charbonnier": 3.6e9, "tukey": 5.2e9, "weickert": 1.1e9}
