"""Inpainting: unknown pixels get the steady state of a diffusion between the known ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Bools, Floats
from diffusion_ops.blocks.statistic import Tally, ordered_key, value_of_key
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import register
from diffusion_ops.evolution.parameters import Choice, parameter
from diffusion_ops.evolution.problem import Setting
from diffusion_ops.families.steady_state import Part, SteadyState, valid_cells_of
from diffusion_ops.steady.couplings import uniform

WAYS = ("harmonic",)


@register("inpainting")
class Inpainting(SteadyState):
    """Fill unknown pixels from the known ones around them.

    Unknown are pixels where `known` is False, and those that are NaN, infinite or nodata; where `known` is not given,
    those alone. Known pixels come back as they are. Channels are filled one by one. The tolerance, 1e-4 by default, is
    a part of the range of the known values.

    Parameters
    ----------
    by : str
        "harmonic": Δu = 0.

    Raises
    ------
    ValueError
        Where walls part unknown pixels from all known ones; for a tolerance below rounding, and one not reached.

    References
    ----------
    Galić, Weickert, Welk, Bruhn, Belyaev, Seidel: Image compression with anisotropic diffusion. J. Math. Imaging Vis.
    2008.
    """

    by: str = parameter(Choice(WAYS), default="harmonic")

    equation = "Δu = 0 at unknown pixels"
    reference = "Galić et al. 2008"
    picture = Picture("man")
    samples = Samples(({},))
    reads = ("known",)
    new_quantity = False
    fills = True
    couples_channels = True

    def weights(self, fields: Floats, spacing: tuple[float, ...]) -> tuple[Floats, ...]:
        """Return the couplings of the Laplacian, 1 along the finest axis."""
        return uniform(fields.shape[1:], spacing)

    def known(self, setting: Setting) -> Bools:
        """Return where the image is known."""
        assert setting.known is not None
        return setting.known

    def values(self, setting: Setting, part: Part) -> Floats:
        """Return the known values of a channel, counted from the smallest."""
        channel = setting.fields[part.number].astype(np.float64)
        return np.where(self.known(setting), channel - part.low, 0.0)

    def survey(self, setting: Setting) -> Tally:
        """Return the extremes of the known values: keys 2 c and 2 c + 1 of channel c, each counted by its order."""
        known = self.known(setting) & valid_cells_of(setting)
        if not known.any():
            return Tally()
        ends = [f(channel[known]) for channel in setting.fields for f in (np.min, np.max)]
        return Tally(np.arange(len(ends)), np.array([ordered_key(float(v)) for v in ends], np.int64))

    def merge_surveys(self, first: Tally, second: Tally) -> Tally:
        """Return the outermost extremes."""
        if not len(first.keys) or not len(second.keys):
            return first if len(first.keys) else second
        ends = np.where(
            first.keys % 2, np.maximum(first.counts, second.counts), np.minimum(first.counts, second.counts)
        )
        return Tally(first.keys, ends)

    def parts(self, survey: Tally) -> list[Part]:
        """Return the channels."""
        if not len(survey.keys):
            raise ValueError("No pixel is known. Allowed: known is True at some pixels that hold a value.")
        ends = [value_of_key(key) for key in survey.counts.tolist()]
        return [
            Part(c, c, low, high - low)
            for c, (low, high) in enumerate(zip(ends[::2], ends[1::2], strict=True))
        ]

    def collected_arrays(self, parts: int) -> int:
        """Return one per channel."""
        return parts

    def collect(self, collected: Floats, part: Part, answer: Floats | None) -> None:
        """Put a channel in its place."""
        assert answer is not None
        collected[part.index] = answer + part.low

    def finish(self, collected: Floats, setting: Setting, reached: Bools) -> NDArray[np.generic]:
        """Return the image, with known pixels as they are."""
        known, valid = self.known(setting), valid_cells_of(setting)
        lost = int(np.count_nonzero(valid & ~known & ~reached))
        if lost:
            raise ValueError(
                f"{lost} unknown pixels have no known one to be filled from, as walls part them from all. "
                "Set them to False in the mask."
            )
        return np.where(known, setting.fields, collected)
