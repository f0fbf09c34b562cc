"""The Gray-Scott reaction: spots that divide, mazes, worms, holes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from diffusion_ops.blocks.block import Floats
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import register
from diffusion_ops.evolution.parameters import Choice, parameter
from diffusion_ops.families.reaction_diffusion import DIFFUSION, GRAIN, RATE, ReactionDiffusion
from diffusion_ops.kernels.reaction import gray_scott_row

PATTERNS: Mapping[str, tuple[float, float]] = {
    "spots": (0.035, 0.065),
    "mitosis": (0.0367, 0.0649),
    "mazes": (0.029, 0.057),
    "holes": (0.039, 0.058),
    "worms": (0.078, 0.061),
    "chaos": (0.026, 0.051),
    "moving": (0.014, 0.054),
}
"""Feed and kill rates by the pattern that they make with diffusions 0.1 and 0.2."""


@register("gray-scott")
class GrayScott(ReactionDiffusion):
    """Gray-Scott reaction, ∂v/∂t = Dv Δv + u v² - (F + K) v and ∂u/∂t = Du Δu - u v² + F (1 - u).

    The visible field is v: the image over `white`, clipped to 0 ... 1; u starts as 1 - v. A faint v dies out: an image
    without strong marks needs a perturbation, and so does a constant one. Patterns need a time of some thousands.
    Explicit steps keep u within 0 ... 1 and v >= 0 as long as v <= 1: it starts there, and stayed in every pattern.

    Parameters
    ----------
    pattern : str
        Name of a pair of rates: "spots", "mitosis", "mazes", "holes", "worms", "chaos", "moving".
    feed, kill : float or None
        Rates F and K, in the place of the pattern's.
    diffusion, other_diffusion : float
        Dv and Du, in squared units of the spacing per unit of time. Patterns grow with their roots.
    white : float or Statistic
        Image value that stands for v = 1, also in the result; "auto" takes the maximum.
    perturbation : float
        Standard deviation of the noise that v starts with, in concentration, such as 0.5.
    grain : int
        Width in cells of its squares, 1, 2, 4 ... 64: specks of one cell vanish before they react.
    seed : int
        Key of that noise, from 0 to 2**64 - 1.
    anisotropy : float
        How much less both fields diffuse across the structures of the image, or of a guide, than along them: 0 to 1.
        Stripes then follow them, and values may leave their bounds a little.
    sigma, rho : float
        Noise scale and feature scale at which structures are found at the start, in units of the spacing.

    Raises
    ------
    ValueError
        For an unknown pattern, or a number out of range.

    References
    ----------
    Gray, Scott: Autocatalytic reactions in the isothermal, continuous stirred tank reactor. Chem. Eng. Sci. 1984.
    Pearson: Complex patterns in a simple system. Science 1993.
    """

    diffusion: float = parameter(DIFFUSION, aliases=("Dv",), default=0.1)
    other_diffusion: float = parameter(DIFFUSION, aliases=("Du",), default=0.2)
    grain: int = parameter(GRAIN, default=16)
    pattern: str = parameter(Choice(tuple(PATTERNS), aliases=("preset",)), default="spots")
    feed: float | None = parameter(RATE, optional=True, aliases=("F", "f"), default=None)
    kill: float | None = parameter(RATE, optional=True, aliases=("k",), default=None)

    equation = "∂v/∂t = Dv Δv + u v² - (F + K) v, ∂u/∂t = Du Δu - u v² + F (1 - u)"
    reference = "Gray and Scott 1984; Pearson 1993"
    samples = Samples(({"white": 200.0},))
    picture = Picture("grey", {"white": 300, "pattern": "mazes", "perturbation": 0.3}, {"time": 5000})
    row = staticmethod(gray_scott_row)
    limits: ClassVar[Any] = (0.0, 1.0)

    @property
    def feed_and_kill(self) -> tuple[float, float]:
        """F and K."""
        feed, kill = PATTERNS[self.pattern]
        return feed if self.feed is None else self.feed, kill if self.kill is None else self.kill

    @property
    def rates(self) -> tuple[float, float]:
        """F + K of v, F + v² of u."""
        feed, kill = self.feed_and_kill
        return feed + kill, feed + 1

    def reaction(self, tau: float) -> tuple[float, ...]:
        """Return tau, tau F, tau (F + K)."""
        feed, kill = self.feed_and_kill
        return tau, tau * feed, tau * (feed + kill)

    def partner(self, visible: Floats) -> Any:
        """Return 1 - v."""
        return 1 - visible
