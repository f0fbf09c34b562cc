"""Perona-Malik diffusion by finite elements: smoothing that stops at edges, with one conductance per element."""

from __future__ import annotations

from diffusion_ops.blocks.block import Block
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import Operator, register
from diffusion_ops.evolution.parameters import NumberOrStatistic, parameter
from diffusion_ops.evolution.reach import Reach
from diffusion_ops.evolution.schedule import Cycle
from diffusion_ops.families.edge_stopping import CONDUCTANCE, CONTRAST
from diffusion_ops.families.elements import (
    MASS_KIND,
    mass_arrays,
    stable_step,
    step_reach,
    take_element_steps,
)
from diffusion_ops.families.parameters import SIGMA
from diffusion_ops.kernels.conductance import CONDUCTANCES
from diffusion_ops.kernels.gaussian import gaussian_radius, smoothed


@register("finite-element-perona-malik")
class FiniteElementPeronaMalik(Operator):
    """Nonlinear isotropic diffusion, ∂u/∂t = div(g(|∇u_sigma|) ∇u), in bilinear or trilinear elements.

    The nodes are the cells; g is constant in an element and reads the mean of |∇u_sigma|² over it (exactly, as Gauss
    points would), once per cycle for sigma > 0 and inertial steps, else anew at every step. So a conductance knows the
    gradient in all directions where differences across faces know one. Channels share the conductance of Σ_c |∇u_c|².

    Parameters
    ----------
    contrast : float or Statistic
        Gradient magnitude k that parts edges from noise, in image units per unit length, or a statistic such as
        {"quantile": 0.9}.
    conductance : str
        "exponential" exp(-(s/k)²), "rational" 1 / (1 + (s/k)²), "charbonnier" 1 / sqrt(1 + (s/k)²), "tukey"
        max(1 - s²/(5k²), 0)², "weickert" 1 - exp(-3.31488 (k/s)⁸).
    sigma : float
        Standard deviation of the regularisation, in units of the spacing; it sees walls as `PeronaMalik` does.
    mass : str
        "lumped" or "consistent", see `FiniteElementHeat`.

    Raises
    ------
    ValueError
        For a contrast that is not positive, an unknown conductance or mass, a negative sigma.

    References
    ----------
    Perona, Malik: Scale-space and edge detection using anisotropic diffusion. PAMI 1990. Kačur, Mikula: Solution of
    nonlinear diffusion appearing in image smoothing and edge detection. Appl. Numer. Math. 1995.
    """

    contrast: NumberOrStatistic = parameter(CONTRAST)
    conductance: str = parameter(CONDUCTANCE, default="exponential")
    sigma: float = parameter(SIGMA, default=0.0)
    mass: str = parameter(MASS_KIND, default="lumped")

    equation = "∂u/∂t = div(g(|∇u_sigma|) ∇u), g constant per element"
    reference = "Perona and Malik 1990; Kačur and Mikula 1995"
    samples = Samples(
        (
            {"contrast": 1e4},
            {"contrast": 60.0, "sigma": 0.75},
            {"contrast": 20.0, "conductance": "rational"},
        )
    )
    picture = Picture("noisy man", {"contrast": 12, "sigma": 1.0}, {"time": 5})
    couples_channels = True
    keeps_mean = True

    def stable_dt(self, spacing: tuple[float, ...]) -> float:
        """Return 2 over the largest eigenvalue of an element, also of one cut by walls; 1/3 h² in 2-D, lumped."""
        return stable_step(self.mass, spacing)

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return what a step and the conductances read.

        Returns
        -------
        step
            1, or with the consistent mass the reach of its inversion
        setup
            the reach of the regularisation; the gradient of an element adds none to the step's
        """
        step = (step_reach(self.mass, len(spacing)),) * len(spacing)
        return Reach(step, setup=gaussian_radius(self.sigma, spacing))

    def extra_arrays(self, ndim: int, inertial: bool, channels: int) -> float:
        """Return the state before, frozen conductances, what solves for the mass, and the rows of a sweep."""
        frozen = 1.1 if inertial or self.sigma > 0 else 0
        return channels * inertial + frozen + mass_arrays(self.mass, ndim, channels)

    def setup_arrays(self, ndim: int, channels: int) -> float:
        """Return the smoothed channels and the planes of the convolution."""
        return channels + 0.2 if self.sigma > 0 else 0

    def pace(self, ndim: int, channels: int) -> float:
        """Return what was measured in float32."""
        return _PACE[self.mass] / (1.0 if ndim == 2 else 3.5)

    def run(self, block: Block, cycle: Cycle, count: int) -> None:
        """Take the steps in the compiled sweep over elements."""
        assert isinstance(self.contrast, int | float)
        kind, structure = CONDUCTANCES.index(self.conductance), None
        if self.sigma > 0:
            structure = smoothed(block, self.sigma)
        take_element_steps(block, cycle, count, self.mass, kind, self.contrast, structure)


_PACE = {"lumped": 6e8, "consistent": 3e7}
