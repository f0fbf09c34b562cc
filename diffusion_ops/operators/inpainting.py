"""Inpainting: unknown pixels get the steady state of a diffusion between the known ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Bools, Floats
from diffusion_ops.blocks.fields import working_dtype
from diffusion_ops.blocks.statistic import Tally, ordered_key, value_of_key
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import register
from diffusion_ops.evolution.parameters import Choice, Count, Number, NumberOrStatistic, parameter
from diffusion_ops.evolution.problems.problem import Setting
from diffusion_ops.families.box_filling import FilledByBoxes
from diffusion_ops.families.filling_rounds import EdgeRounds, FilledInRounds, VariationRounds
from diffusion_ops.families.inpainting import (
    BIHARMONIC_RADIUS,
    fill_biharmonic,
    parted_cells,
    require_held,
)
from diffusion_ops.families.level_filling import FilledByLevels, Partial
from diffusion_ops.families.parameters import SIGMA
from diffusion_ops.families.steady_state import (
    Part,
    finite_fields,
    largest_correction,
    valid_cells_of,
)
from diffusion_ops.families.telea import distance_margin, fill_by_distance
from diffusion_ops.steady.couplings import padded_shape, uniform

WAYS = ("edge-enhancing", "harmonic", "biharmonic", "total-variation", "telea")

BY_LEVELS = ("edge-enhancing", "total-variation")
"""Ways that go from coarse to fine in rounds."""

SMOOTHED = 1e-3
"""Slopes below this part of the range of the known values per cell count as quadratic in the variation."""

TELEA_BYTES, BIHARMONIC_BYTES = 26, 270
"""Memory per cell of a box: of each channel and of the distances, and of the equation."""

KERNELS_BYTES = {
    "edge-enhancing": 68 << 20,
    "total-variation": 68 << 20,
    "biharmonic": 96 << 20,
    "telea": 46 << 20,
}
"""Resident memory of the kernels of some ways. Compiled ones of edges took 56 MiB, loaded ones 21; of the biharmonic
equation compiled ones took 93 MiB, loaded ones 20, of filling by distance compiled ones 43. Rounds of least variation
have fewer than those of edges.
"""


@register("inpainting")
class Inpainting(FilledByLevels, FilledByBoxes):
    """Fill unknown pixels from the known ones around them.

    Unknown are pixels where `known` is False, and those that are NaN, infinite or nodata; where `known` is not given,
    those alone. Known pixels come back as they are. The tolerance, 1e-4 by default, is a part of the range of the known
    values, of "harmonic" and "biharmonic"; the others have none. Over files "biharmonic" and "telea" fill holes
    one by one, and refuse those that do not fit into the memory of a task; the others fill holes of any size.

    Parameters
    ----------
    by : str
        "edge-enhancing": div(D ∇u) = 0, D as of edge-enhancing diffusion with the image itself. "total-variation":
        towards the least sum of |∇u|, which is smoothed below 1e-3 of the range per cell, by lagged diffusivity. Both
        take `rounds` on every level of a pyramid, and channels share D or |∇u|. Walls stay closed on all levels; what
        lies between walls too close for any of them, and farther than 4 cells from a start, starts at the middle of
        the range of the known values. "harmonic": Δu = 0. "biharmonic": Δ²u = 0, smooth beyond the rim of a hole. These
        two fill channels one by one. "telea": from the rim inwards, each pixel the weighted mean of pixels within
        `neighbourhood` that are nearer to known ones; fast, and for thin gaps.
    contrast : float
        Gradient that parts edges from flat areas, as a part of the range of the known values per cell; of
        "edge-enhancing".
    sigma, rho : float
        Noise scale and feature scale of the structure tensor, in units of the spacing; of "edge-enhancing".
    rounds : int
        Rounds of "edge-enhancing" and "total-variation" on every level: each makes D anew and takes 10 FSI steps, or
        makes the weights of the variation twice and takes 10 with either.
    neighbourhood : float
        How far "telea" looks, in units of the finest spacing.

    Raises
    ------
    ValueError
        Where walls part unknown pixels from all known ones; for a tolerance below rounding, and one not reached; for
        known values so far apart that the type of the image cannot hold what is computed of them.

    References
    ----------
    Galić, Weickert, Welk, Bruhn, Belyaev, Seidel: Image compression with anisotropic diffusion. J. Math. Imaging Vis.
    2008. Telea: An image inpainting technique based on the fast marching method. J. Graphics Tools 2004.
    """

    by: str = parameter(Choice(WAYS), default="edge-enhancing")
    contrast: float = parameter(Number(unit="1", above=0), default=0.004)
    sigma: float = parameter(SIGMA, default=0.5)
    rho: float = parameter(SIGMA, default=1.6)
    rounds: int = parameter(Count(unit="rounds", most=10_000), default=32)
    neighbourhood: float = parameter(Number(unit="finest spacing", least=1), default=5.0)

    equation = "div(D ∇u) = 0, Δu = 0, Δ²u = 0 or least ∫|∇u| at unknown pixels"
    reference = "Galić et al. 2008"
    picture = Picture("holed man")
    samples = Samples(({"by": "harmonic"}, {"rounds": 4}))
    reads = ("known",)
    new_quantity = False
    fills = True
    survey_bytes = 2
    for_large_holes = "Take by: edge-enhancing, harmonic or total-variation, which fill holes of any size."
    couples_channels = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "takes_tolerance", self.by in ("harmonic", "biharmonic"))
        object.__setattr__(self, "is_linear", self.by == "harmonic")
        object.__setattr__(self, "rehearsed_sparse", self.by not in ("biharmonic", "telea"))
        if self.by in KERNELS_BYTES:
            object.__setattr__(self, "kernels_bytes", KERNELS_BYTES[self.by])

    @property
    def work_kind(self) -> str:
        """Levels of a pyramid in rounds, boxes, or cycles over tiles."""
        if self.by in BY_LEVELS:
            return "fill-by-levels"
        return super().work_kind if self.is_linear else "fill-by-boxes"

    @property
    def steep(self) -> float:
        """The contrast of edges, or where the variation is smoothed."""
        return SMOOTHED if self.by == "total-variation" else self.contrast

    def operator_on(self, level: int, contrast: NumberOrStatistic) -> FilledInRounds:
        """Return the rounds; scales are in units of the finest spacing's, so they double with the spacing."""
        if self.by == "total-variation":
            return VariationRounds(contrast)
        wide = 2.0**level
        return EdgeRounds(contrast, self.sigma * wide, self.rho * wide)

    def solve(self, setting: Setting) -> NDArray[np.generic]:
        """Return the image with all its pixels."""
        if self.is_linear:
            return super().solve(setting)
        known, valid = self.known(setting), valid_cells_of(setting)
        largest_correction(setting.tolerance)
        parts = self.parts(self.survey(setting))
        self.require_range(parts, setting.spacing, setting.fields.dtype)
        require_held(parted_cells(known, valid))
        if self.by in BY_LEVELS:
            answers, _ = self.fill(Partial.of(setting, known), setting.spacing, parts)
            self.settle(answers, parts)
        else:
            answers = self.fill_boxes(setting, parts)
        return np.where(known, setting.fields, answers)

    def box_margin(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        """Return what the equation reads around a cell, or the neighbourhood."""
        if self.by == "telea":
            return distance_margin(spacing, self.neighbourhood)
        return (BIHARMONIC_RADIUS,) * len(spacing)

    def box_bytes(self, shape: tuple[int, ...], channels: int) -> int:
        """Return what was measured, and a tenth more: the equation takes whole cells of the multigrid."""
        if self.by == "telea":
            return TELEA_BYTES * (1 + channels) * math.prod(shape)
        return (BIHARMONIC_BYTES + 8 * channels) * math.prod(padded_shape(shape))

    def fill_box(self, setting: Setting, parts: Sequence[Part]) -> Floats:
        """Return the means of what is near, or the solutions of the channels one by one."""
        known, valid = self.known(setting), valid_cells_of(setting)
        if self.by == "telea":
            fields = finite_fields(setting).astype(np.float64)
            return fill_by_distance(fields, known, valid, setting.spacing, self.neighbourhood)
        answers = np.empty(setting.fields.shape)
        for part in parts:
            correction = largest_correction(setting.tolerance) * part.span
            values = self.values(setting, part)
            answers[part.index] = fill_biharmonic(values, known, valid, setting.spacing, correction)
            answers[part.index] += part.low
        return answers

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
        ends = [
            f(values) for channel in setting.fields for values in [channel[known]] for f in (np.min, np.max)
        ]
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

    def require_range(self, parts: list[Part], spacing: tuple[float, ...], dtype: np.dtype[Any]) -> None:
        """Refuse known values of which four times as much overflows, and a range of which squared slopes do."""
        kind = working_dtype(dtype if self.by in BY_LEVELS else np.float64)
        widest = most = float(np.finfo(kind).max) / 4
        if self.by == "edge-enhancing":
            widest = math.sqrt(most / (len(parts) * len(spacing))) * min(spacing)
        span = max(part.span for part in parts)
        far = max(abs(end) for part in parts for end in (part.low, part.low + part.span))
        if not (span <= widest and far <= most):
            raise ValueError(
                f"The known values go up to {far:g} and have a range of {span:g}, which overflows in {kind}. Allowed "
                f"with by={self.by!r} and this spacing: {most:.3g} and {widest:.3g}. Give the image in a larger unit, "
                "or float32 as float64."
            )

    def collected_arrays(self, parts: int) -> int:
        """Return one per channel."""
        return parts

    def collect(self, collected: Floats, part: Part, answer: Floats | None) -> None:
        """Put a channel in its place."""
        assert answer is not None
        collected[part.index] = answer + part.low

    def result(self, collected: Floats, setting: Setting, reached: Bools) -> NDArray[np.generic]:
        """Return the image, with known pixels as they are."""
        known, valid = self.known(setting), valid_cells_of(setting)
        lost = int(np.count_nonzero(valid & ~known & ~reached))
        require_held(lost)
        return np.where(known, setting.fields, collected)
