"""Define the interface of a problem whose answer at one pixel depends on the whole image."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Block, Bools
from diffusion_ops.blocks.window import Region
from diffusion_ops.evolution.operator import Operator
from diffusion_ops.evolution.reach import Reach
from diffusion_ops.evolution.schedule import Cycle

LABELS = np.dtype(np.int32)
"""Type of labels where the user asks for none."""


@dataclass(frozen=True)
class Setting:
    """What a problem is solved on: an image in memory and all that is known beside it.

    Attributes
    ----------
    fields : ndarray of shape (channels, *spatial)
        The image as it is stored, of any numeric dtype; what invalid pixels hold means nothing.
    spacing : tuple of float
        Grid spacing per spatial axis.
    valid : bool ndarray of shape `spatial`, or None
        False at walls: where the mask is False, a channel is NaN, infinite or nodata, or a marker is negative. None
        where every pixel is valid.
    markers : integer ndarray of shape `spatial`, or None
        Markers, 0 for none; never negative.
    known : bool ndarray of shape `spatial`, or None
        True where the image is known.
    tolerance : float or None
        How near the answer has to be to the exact one, in the unit that the problem says; None for its default.
    dtype : numpy dtype
        Type of the result; a problem may compute in another one.
    own_valid : bool ndarray of shape `spatial`, or None
        As `valid`, but for negative markers: they are walls, and yet have a value that a gradient beside them reads.
    """

    fields: NDArray[Any]
    spacing: tuple[float, ...]
    valid: Bools | None
    markers: NDArray[np.integer[Any]] | None
    known: Bools | None
    tolerance: float | None
    dtype: np.dtype[Any]
    own_valid: Bools | None = None

    @property
    def spatial(self) -> tuple[int, ...]:
        """Shape without channels."""
        return self.fields.shape[1:]

    def part(self, region: Region) -> Setting:
        """Return a region of it."""
        parts: dict[str, Any] = {
            name: None if (one := getattr(self, name)) is None else one[region]
            for name in ("valid", "markers", "known", "own_valid")
        }
        return replace(self, fields=self.fields[(slice(None), *region)], **parts)


class Problem(Operator):
    """A problem whose answer at one pixel depends on the whole image, such as a travel time.

    It is registered as every operator, so that specs, the command line, plans and the documentation pick it up by
    themselves; `diffusion_ops.solve` is to it what `evolve` is to a PDE. `work_kind` names the kind of work that
    carries it out over files.
    """

    controlled_by = "convergence"
    inertial_cycles = False
    new_quantity = True
    takes_tolerance: ClassVar[bool] = False
    """Whether the answer is found up to a tolerance; False where it is exact, or takes rounds."""
    fills: ClassVar[bool] = False
    """Whether pixels without a value are unknown ones, which get one, rather than walls."""
    stacks: ClassVar[bool] = False
    """Whether the result has a new first axis, whose length depends on the markers."""

    @property
    @abstractmethod
    def work_kind(self) -> str:
        """Name of the kind of work that carries it out over files."""

    @abstractmethod
    def solve(self, setting: Setting) -> NDArray[Any]:
        """Return the answer as (channels, *spatial), of any dtype; values at walls mean nothing, NaN makes one.

        Raises
        ------
        ValueError
            For a setting without an answer, with what to do.
        """

    def result_type(self, dtype: np.dtype[Any], wanted: Any) -> np.dtype[Any]:
        """Return the type of the result for an image of `dtype`: the wanted one, int32 for labels."""
        if self.gives_labels and wanted is None:
            return LABELS
        return super().result_type(dtype, wanted)

    def fill_value(self, dtype: np.dtype[Any], nodata: float | None) -> float:
        """Return what walls get: 0 for labels, else as any new quantity."""
        return 0.0 if self.gives_labels else super().fill_value(dtype, nodata)

    def stable_dt(self, spacing: tuple[float, ...]) -> float:
        """Return infinity: there is no step."""
        return math.inf

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return the whole image."""
        raise NotImplementedError(f"{self.name} reads the whole image.")

    def run(self, block: Block, cycle: Cycle, count: int) -> None:
        """Refuse: it takes no steps."""
        raise NotImplementedError(f"{self.name} is solved, not evolved.")
