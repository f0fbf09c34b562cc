"""Shock filters: blurred edges become sharp steps, as each side flows towards its own extreme."""

from __future__ import annotations

import dataclasses
import math

from diffusion_ops.blocks.block import Block, Floats, allocate
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import Operator, register
from diffusion_ops.evolution.parameters import Choice, Count, Number, parameter
from diffusion_ops.evolution.reach import Reach
from diffusion_ops.evolution.schedule import Cycle
from diffusion_ops.families.parameters import EPSILON, SIGMA
from diffusion_ops.kernels.gaussian import gaussian_radius, smoothed
from diffusion_ops.kernels.motions.curvature import flat_numbers
from diffusion_ops.kernels.motions.enhancement import (
    bend_across_row,
    bend_along_row,
    diffused_shock_row,
    guided_shock_row,
    shock_row,
)
from diffusion_ops.kernels.tensors.structure import (
    principal_axes,
    structure_radius,
    structure_tensor,
    tensor_arrays,
)
from diffusion_ops.kernels.wavefront import half_inverse, ring_arrays, take_row_steps

KINDS = ("osher-rudin", "alvarez-mazorra", "weickert")


@register("shock")
class Shock(Operator):
    """Shock filter, ∂u/∂t = -sgn(L(u)) |∇u|: dilation where L < 0, erosion where L > 0, a jump in between.

    "osher-rudin": L is the second derivative across level lines u_ηη, of the image itself; it sharpens noise too.
    "alvarez-mazorra": L = v_ηη of v = K_sigma * u, and `diffusion` u_ξξ is added, which smooths along level lines.
    "weickert", the coherence-enhancing shock filter: L = v_ww, where w is the direction across the structures, the
    first eigenvector of the structure tensor J_rho of v; lines and flows become connected.

    Where L is 0 nothing moves. |∇u| is upwind (Osher and Sethian 1988), so no value leaves the image's extremes. v and
    w are found anew every `refresh` steps. Time is in lengths: an edge moves by at most 1 per unit of time. Channels
    share the structure tensor and with it w; u_ηη of several channels is tr(J H) / tr J with their common J; all else
    is each channel's own.

    Parameters
    ----------
    kind : str
        "osher-rudin", "alvarez-mazorra" or "weickert".
    sigma : float
        Standard deviation of the smoothing for v, in units of the spacing; "osher-rudin" has none.
    rho : float
        Standard deviation over which the structure tensor is averaged, in units of the spacing; "weickert" only.
    diffusion : float
        Weight of u_ξξ, in unit lengths; 0 for "osher-rudin".
    ramp : float
        sgn(L) is L / (|L| + ramp), so that bends far below it, as of noise, move little; in image units per squared
        unit length. 0 is the sign.
    refresh : int
        Steps that share v and w.
    epsilon : float
        Gradient magnitude below which the direction of a level line means nothing, in image units per unit length.

    Raises
    ------
    ValueError
        For an unknown kind, a number out of range.

    References
    ----------
    Osher, Rudin: Feature-oriented image enhancement using shock filters. SIAM J. Numer. Anal. 1990. Alvarez, Mazorra:
    Signal and image restoration using shock filters and anisotropic diffusion. SIAM J. Numer. Anal. 1994. Weickert:
    Coherence-enhancing shock filters. DAGM 2003.
    """

    kind: str = parameter(Choice(KINDS, aliases=("method",)), default="weickert")
    sigma: float = parameter(SIGMA, default=1.0)
    rho: float = parameter(SIGMA, default=4.0)
    diffusion: float = parameter(Number(unit="unit length", least=0), default=0.0)
    ramp: float = parameter(Number(unit="image units per squared unit length", least=0), default=0.0)
    refresh: int = parameter(Count(unit="steps"), default=1)
    epsilon: float = parameter(EPSILON, default=1e-3)

    equation = "∂u/∂t = -sgn(L(u)) |∇u|"
    reference = "Osher and Rudin 1990; Alvarez and Mazorra 1994; Weickert 2003"
    samples = Samples(
        (
            {"kind": "osher-rudin", "ramp": 20.0},
            {"kind": "alvarez-mazorra", "sigma": 0.75, "ramp": 20.0, "diffusion": 0.3},
            {"kind": "weickert", "sigma": 0.75, "rho": 0.75, "ramp": 20.0},
            {"kind": "weickert", "sigma": 0.75, "rho": 0.75, "ramp": 20.0, "refresh": 2},
        )
    )
    picture = Picture(
        "blurred text", {"kind": "alvarez-mazorra", "sigma": 1.5, "diffusion": 0.2}, {"time": 2.5}
    )
    inertial_cycles = False
    couples_channels = True
    keeps_maximum = True

    def __post_init__(self) -> None:
        if self.diffusion and self.kind == "osher-rudin":
            raise ValueError(
                f"diffusion={self.diffusion!r} is not possible for kind='osher-rudin'. Allowed: 0; "
                "use kind='alvarez-mazorra'."
            )

    def stable_dt(self, spacing: tuple[float, ...]) -> float:
        """Return the limit of the maximum principle, 1 / (sqrt(2 Σ 1/h²) + 2 diffusion Σ 1/h²); 1/2 in 2-D."""
        total = 2 * sum(1 / h**2 for h in spacing)
        return 1 / (math.sqrt(total) + self.diffusion * total)

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return what a step reads, and the signs that are found once in `refresh` steps.

        Returns
        -------
        setup
            the reach of the sign: of v and a difference, or of w
        """
        step = (1,) * len(spacing)
        if self.kind == "osher-rudin":
            return Reach(step)
        if self.kind == "weickert":
            return Reach(step, setup=structure_radius(self.sigma, self.rho, spacing), refresh=self.refresh)
        setup = tuple([1 + r for r in gaussian_radius(self.sigma, spacing)])
        return Reach(step, setup=setup, refresh=self.refresh)

    def carried_arrays(self, ndim: int, channels: int) -> int:
        """Return the signs, where steps share them."""
        return channels if self._keeps_signs else 0

    def extra_arrays(self, ndim: int, inertial: bool, channels: int) -> float:
        """Return the signs, or v before they are made of it, and the rows between steps."""
        rings = ring_arrays(ndim, 1, channels)
        return rings if self.kind == "osher-rudin" else rings + channels

    def setup_arrays(self, ndim: int, channels: int) -> float:
        """Return the averaged structure tensor, and what it is made of or its eigenvalues and axis."""
        parts = tensor_arrays(ndim)
        return parts + max(parts, 2 * ndim) if self.kind == "weickert" else 0

    def pace(self, ndim: int, channels: int) -> float:
        """Return what was measured in 2-D for steps and for finding the signs; about 0.4 of it in 3-D."""
        step, signs = _PACE[self.kind]
        return (1.0 if ndim == 2 else 0.4) / (1 / step + 1 / (signs * self.refresh))

    @property
    def _keeps_signs(self) -> bool:
        return self.kind != "osher-rudin" and self.refresh > 1

    def start(self, block: Block) -> None:
        """Make room for the signs."""
        if self._keeps_signs:
            block.carried = allocate(len(block.storage), block.spatial, block.storage.dtype)

    def run(self, block: Block, cycle: Cycle, count: int) -> None:
        """Take all steps at once, or step by step with the signs as they were last found."""
        numbers = [*half_inverse(block.spacing), cycle.tau, *flat_numbers(self.epsilon, len(block.spatial))]
        numbers += [self.ramp, self.diffusion]
        if self.kind == "osher-rudin":
            take_row_steps(block, shock_row, cycle.steps * count, numbers, together=True)
            return
        signs = block.carried
        for step in range(block.step, block.step + cycle.steps * count):
            if step % self.refresh == 0:
                signs = self._signs(block, numbers)
                if block.carried is not None:
                    block.carried[...] = signs
            update = diffused_shock_row if self.diffusion else guided_shock_row
            take_row_steps(block, update, 1, numbers, data=signs)

    def _signs(self, block: Block, numbers: list[float]) -> Floats:
        """Return sgn(v_ηη) or sgn(v_ww), of shape (channels, cells)."""
        v = smoothed(block, self.sigma)
        axis, update = None, bend_across_row
        if self.kind == "weickert":
            axis, update = principal_axes(structure_tensor(block, 0.0, self.rho, of=v))[1], bend_along_row
        v = v.copy() if v is block.storage else v
        aside = dataclasses.replace(block, storage=v)
        take_row_steps(aside, update, 1, numbers, data=axis, together=True)
        return aside.storage


_PACE = {
    "osher-rudin": (1.8e9, math.inf),
    "alvarez-mazorra": (8e8, 5e8),
    "weickert": (1.5e9, 5e7),
}
