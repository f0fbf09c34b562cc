"""Stain separation: how much of one stain a bright-field image shows, such as hematoxylin for nuclei."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.statistic import make_statistic
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.number_lists import Numbers, NumbersOrStatistics
from diffusion_ops.evolution.operator import Map, register
from diffusion_ops.evolution.parameters import AUTO, Choice, parameter
from diffusion_ops.evolution.reach import Reach
from diffusion_ops.kernels.pixels.absorbance import weighted_absorbance

_VECTORS = {
    "hematoxylin": (0.65, 0.70, 0.29),
    "eosin": (0.07, 0.99, 0.11),
    "dab": (0.27, 0.57, 0.78),
}
"""Absorbance in red, green and blue (Ruifrok and Johnston 2001)."""

_SETS = {
    "-".join(names): names for names in (("hematoxylin", "eosin"), tuple(_VECTORS), ("hematoxylin", "dab"))
}

_LN10 = 2.302585092994046

_LEAST_TRANSMITTANCE = 1e-6
"""Black has the absorbance 6, and not infinity."""

_LEAST_SINE = 0.02
"""Of the angle between a stain and all others: what is nearer to them is told apart by noise alone."""


class _Stains(Choice):
    """The name of a set of stains, or up to three vectors of equally many numbers, kept as tuples."""

    @property
    def plain_type(self) -> str:
        """A name, or vectors."""
        return "str | list of list of float"

    @property
    def plain_range(self) -> str:
        """All names, and what vectors are."""
        return f"{super().plain_range}, or a list of 1 to 3 vectors of numbers >= 0, one for each channel"

    def plain_schema(self) -> dict[str, Any]:
        """Return both as JSON Schema."""
        row = {"type": "array", "items": {"type": "number", "minimum": 0}, "minItems": 1}
        return {
            "anyOf": [super().plain_schema(), {"type": "array", "items": row, "minItems": 1, "maxItems": 3}]
        }

    def read(self, name: str, value: Any) -> Any:
        """Return a name, or a tuple of tuples."""
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if isinstance(value, str) or not isinstance(value, Sequence):
            return value
        return tuple([tuple(row) if isinstance(row, Sequence) else row for row in value])

    def fits(self, value: object) -> bool:
        """Return whether it is a known name, or vectors that can be told apart."""
        if not isinstance(value, tuple):
            return super().fits(value)
        rows = Numbers(unit="1", least=0)
        fit = 1 <= len(value) <= 3 and all(rows.fits(row) for row in value)
        return fit and len({len(row) for row in value}) == 1 and all(map(any, value))


@register("stain-separation")
class StainSeparation(Map):
    """Amount of one stain in a bright-field image: colour deconvolution of its optical densities (Beer-Lambert).

    Stains absorb light channel by channel: the optical densities d_c = log10(background / u_c) are the sum of each
    stain's vector times its amount. amount_s = sum_c P_sc d_c, P the pseudo-inverse of the matrix whose columns are the
    vectors, leaves the least of d unexplained: with as many stains as channels P is the inverse, as in scikit-image's
    `separate_stains`, whose numbers are a sixth of these. A negative amount counts as 0, and a transmittance below 1e-6
    as that.

    Parameters
    ----------
    stains : str or list of list of float
        Which stains there are, by name (vectors of Ruifrok and Johnston), or the absorbance of each of up to three
        stains in each channel, also as an ndarray with a row per stain. An amount of 1 has the absorbance of the vector
        itself; a vector twice as long halves the amounts.
    stain : str or int
        Which of them comes out: its name, or its number among `stains`, from 1.
    background : list of float or Statistic, or "auto"
        Light where nothing is in its way: one value, or one for each channel. "auto" is one number for all channels,
        the brightest value of the image.

    Raises
    ------
    ValueError
        For vectors that can not be told apart, a stain that is not among them, and an image of other channels.

    References
    ----------
    Ruifrok, Johnston: Quantification of histochemical staining by color deconvolution. Analytical and Quantitative
    Cytology and Histology 2001.
    """

    stains: str | Sequence[Sequence[float]] = parameter(
        _Stains(tuple(_SETS), unit="optical density"), default="hematoxylin-eosin"
    )
    stain: str | int = parameter(Choice((*_VECTORS, 1, 2, 3)), default=1)
    background: NumbersOrStatistics = parameter(
        Numbers(
            unit="image units", above=0, statistic=True, automatic=lambda _: (make_statistic("maximum"),)
        ),
        default=AUTO,
    )

    equation = "-log10(u / background) = Σ amount_s vector_s"
    reference = "Ruifrok and Johnston 2001"
    samples = Samples(({"stains": [[0.5]], "background": 250.0}, {"stain": "eosin", "background": 250.0}))
    picture = Picture("stained tissue", {"stains": "hematoxylin-dab", "stain": "dab"}, shown="stretched")
    couples_channels = True
    new_quantity = True

    def __post_init__(self) -> None:
        assert isinstance(self.background, tuple)
        if len(self.background) not in (1, self.channels):
            raise ValueError(
                f"background={self.background!r} are {len(self.background)} values. Allowed: one, or one for each "
                f"of the {self.channels} channels."
            )
        self._weights()

    @property
    def channels(self) -> int:
        """As many as a vector has numbers."""
        return len(self._vectors()[0])

    def result_channels(self, channels: int) -> int:
        """Return 1."""
        return 1

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return 0: a cell has the stain that its own colour shows."""
        return Reach((0,) * len(spacing))

    def extra_arrays(self, ndim: int, inertial: bool, channels: int) -> float:
        """Return the result."""
        return 1

    def pace(self, ndim: int, channels: int) -> float:
        """Return what was measured in float32."""
        return 6e8

    def apply(self, block: Block) -> None:
        """Put the amount in the place of the state."""
        assert isinstance(self.background, tuple)
        background = self.background * (self.channels if len(self.background) == 1 else 1)
        block.storage = weighted_absorbance(block, background, self._weights(), _LEAST_TRANSMITTANCE)

    def _vectors(self) -> Sequence[Sequence[float]]:
        if isinstance(self.stains, str):
            return [_VECTORS[name] for name in _SETS[self.stains]]
        return self.stains

    def _position(self) -> int:
        """Return the position of the wanted stain among the vectors."""
        names = _SETS[self.stains] if isinstance(self.stains, str) else ()
        numbers = range(1, len(self._vectors()) + 1)
        if self.stain not in (*names, *numbers):
            allowed = ", ".join(map(str, (*names, *numbers)))
            raise ValueError(f"stain={self.stain!r} is not among the stains. Allowed with these: {allowed}.")
        return names.index(self.stain) if self.stain in names else int(self.stain) - 1

    def _weights(self) -> list[float]:
        """Return the share of each channel's absorbance, by natural logarithms, that the wanted stain has.

        A row of the pseudo-inverse: what is left of the stain's vector without its projection on the others, over its
        squared length. In exact fractions: a library's inverse differs from machine to machine.
        """
        vectors = [[Fraction(x) for x in row] for row in self._vectors()]
        wanted = vectors.pop(self._position())
        rest = _without(wanted, vectors)
        if _dot(rest, rest) <= Fraction(_LEAST_SINE) ** 2 * _dot(wanted, wanted):
            raise ValueError(
                f"stains={self.stains!r} are too alike: stain {self.stain!r} is a mixture of the others, within "
                f"{_LEAST_SINE:.0%}. Give vectors that are farther apart, and no more of them than channels."
            )
        return [float(x / _dot(rest, rest)) / _LN10 for x in rest]


def _dot(one: Sequence[Fraction], other: Sequence[Fraction]) -> Fraction:
    return sum((a * b for a, b in zip(one, other, strict=True)), Fraction(0))


def _without(vector: Sequence[Fraction], others: Sequence[Sequence[Fraction]]) -> list[Fraction]:
    """Return what of a vector is at right angles to all others (Gram and Schmidt)."""
    rest = list(vector)
    axes: list[list[Fraction]] = []
    for other in others:
        axis = _without(other, axes)
        if any(axis):
            axes.append(axis)
    for axis in axes:
        share = _dot(rest, axis) / _dot(axis, axis)
        rest = [a - share * b for a, b in zip(rest, axis, strict=True)]
    return rest
