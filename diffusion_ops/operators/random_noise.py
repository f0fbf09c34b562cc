"""Random noise: of a known law, the same on every tile and machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.statistic import STATISTICS, Statistic
from diffusion_ops.evolution.operator import Map, register
from diffusion_ops.evolution.parameters import check_choice, check_number
from diffusion_ops.evolution.reach import Reach
from diffusion_ops.kernels.philox import check_seed
from diffusion_ops.kernels.pixels.noise import LAWS, put_noise


@register("random-noise")
@dataclass(frozen=True)
class RandomNoise(Map):
    """Noise that depends on the seed and on the place in the image alone, u -> u + level n(x) or another law.

    Every cell draws its own Philox number, keyed by the seed, its channel and its frame, and counted by its index in
    the image. float32 and float64 images get the same numbers to rounding. Two steps of a chain with one seed add the
    same noise: give each a seed of its own.

    Parameters
    ----------
    level : float or Statistic
        "gaussian" and "uniform": the standard deviation, in image units. "speckle": that of the relative error.
        "poisson": image units per counted event. "impulse": the part of the pixels that is replaced, up to 1.
    law : str
        "gaussian" u + level n; "uniform" u + level sqrt(3) (2 r - 1), r in [0, 1); "speckle" u (1 + level n); "poisson"
        level times a Poisson count of mean u / level (0 where u <= 0); "impulse" half of the pixels that are
        replaced become `low`, half `high`.
    seed : int
        From 0 to 2**64 - 1.
    low, high : float or Statistic
        Values of pepper and salt, in image units; "auto" takes the extremes of the image.

    Raises
    ------
    ValueError
        For an unknown law, a seed or a level out of range.

    References
    ----------
    Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3. SC 2011. Box, Muller: A note on the
    generation of random normal deviates. 1958. Hörmann: The transformed rejection method for generating Poisson random
    variables. 1993.
    """

    level: float | Statistic
    law: str = "gaussian"
    seed: int = 0
    low: float | Statistic = 0.0
    high: float | Statistic = 255.0

    equation = "u -> u + level n(x)"
    reference = "Salmon et al. 2011"
    units: ClassVar[Mapping[str, str]] = {
        "level": "image units; 1 for speckle and impulses",
        "low": "image units",
        "high": "image units",
    }
    aliases: ClassVar[Mapping[str, str]] = {
        "std": "level",
        "amount": "level",
        "mode": "law",
        "rng": "seed",
        "pepper": "low",
        "salt": "high",
    }
    alias_values: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "mode": {**{law: law for law in LAWS}, "s&p": "impulse"}
    }

    def __post_init__(self) -> None:
        check_choice("law", self.law, LAWS)
        check_seed(self.seed)
        if not isinstance(self.level, Statistic):
            check_number("level", self.level, positive=self.law == "poisson", unit=self.units["level"])
            if self.law == "impulse" and self.level > 1:
                raise ValueError(
                    f"level={self.level!r} is not possible. Allowed: at most 1, the part of the pixels that "
                    "salt and pepper replace."
                )
        for name in ("low", "high"):
            value = getattr(self, name)
            if not isinstance(value, Statistic | Real) or (
                isinstance(value, Real) and not math.isfinite(value)
            ):
                raise ValueError(
                    f"{name}={value!r} is not possible. Allowed: a finite number, in image units."
                )

    def automatic(self, parameter: str) -> Statistic:
        """Return the extremes of the image for `low` and `high`."""
        if parameter in ("low", "high"):
            return STATISTICS["minimum" if parameter == "low" else "maximum"]()
        return super().automatic(parameter)

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return 0: cells do not know of each other."""
        return Reach((0,) * len(spacing))

    def pace(self, ndim: int, channels: int) -> float:
        """Return what was measured in float32; counts are drawn one by one."""
        return 2e7 if self.law == "poisson" else 3e8

    def apply(self, block: Block) -> None:
        """Draw one number per cell; counts draw until one is accepted."""
        numbers = (self.level, self.low, self.high)
        put_noise(block, self.law, [float(x) for x in numbers if not isinstance(x, Statistic)], self.seed)
