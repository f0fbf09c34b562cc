"""Segmentation into phases by iterations: how they start, what their data is, and their means over the whole image.

The image stays the state until the end, and what is carried beside it begins with the field of labels: 0 to the number
of phases less 1, or with two phases a relaxed one between 0 and 1, whose phase is the nearer number. So the means of
phases can be measured from what a batch passes on to the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from diffusion_ops.blocks import exact_sum
from diffusion_ops.blocks.block import FEW_CELLS, Block, Bools, Floats, allocate, as_image, row_bands
from diffusion_ops.blocks.statistic import Statistic, Tally, make_statistic
from diffusion_ops.evolution.number_lists import Numbers, NumbersOrStatistics
from diffusion_ops.evolution.operator import Iteration, with_parameters
from diffusion_ops.evolution.parameters import AUTO, Choice, Count, Number, parameter
from diffusion_ops.evolution.refreshed import Refreshed
from diffusion_ops.families.segmentation.thresholds import THRESHOLDS, check_thresholds, classes_of
from diffusion_ops.kernels.sums.measure import sum_cells, valid_cells

_CHANNELS = 1 << 12
"""More than the channels of any image: the means of a phase are numbered from this many times its own number."""


def _measured(values: Mapping[str, Any]) -> Any:
    """Return "auto": the means are no statistics of the image, but of the phases as they are."""
    return AUTO


MEANS = Numbers(unit="image units", automatic=_measured)
SQUARE = 5
"""Cells per side of a square of a checkerboard."""

START = Choice(("thresholds", "labels", "checkerboard"))
EVERY = Count(unit="iterations", least=1)


def _variance(values: Mapping[str, Any]) -> Statistic:
    """Return the squared difference of two phases of equal area: a single cell among others then changes its phase."""
    return make_statistic("variance", multiple=4)


WEIGHT = Number(
    unit="squared image units times unit length",
    above=0,
    statistic=True,
    automatic=_variance,
    aliases=("mu",),
)
"""Weight of the length of borders against squared distances of the data."""


@dataclass(frozen=True)
class PhaseMeans(Refreshed):
    """Mean of each phase and channel of the data, over the whole image; exact until it is rounded once at the end.

    Parameters
    ----------
    every : int
        Number of iterations that share the means.
    phases : int
    """

    phases: int

    def radius(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        """Return 0: a cell contributes its own value."""
        return (0,) * len(spacing)

    def extra_arrays(self, ndim: int, channels: int) -> float:
        """Return the cells of a phase."""
        return 0.75

    def measure(self, block: Block, keep: tuple[slice, ...]) -> Tally:
        """Return the exact sums of the channels over each phase, each with its number of cells."""
        assert block.carried is not None
        labels, found = np.rint(block.carried[:1]), {}
        for phase in range(self.phases):
            inside = allocate(1, block.spatial, np.dtype(bool))
            np.equal(labels, phase, out=inside)
            if block.valid_storage is not None:
                inside &= block.valid_storage
            part = replace(block, valid_storage=inside)
            if not (number := valid_cells(part, keep)):
                continue
            for channel, values in enumerate(block.structure):
                sums = sum_cells(replace(part, storage=values[None]), keep)
                found[phase * _CHANNELS + channel] = exact_sum.tally_of(sums, values.dtype, number)
        return exact_sum.side_by_side(found)

    def numbers(self, tally: Tally) -> dict[str, float]:
        """Return the means; a phase without cells has none."""
        sums = exact_sum.apart(tally)
        return {
            mean_name(*divmod(number, _CHANNELS)): exact_sum.mean(one, "means")
            for number, one in sums.items()
        }


def mean_name(phase: int, channel: int) -> str:
    """Return the name of the mean of a phase in a channel."""
    return f"mean {phase}" + (f" of channel {channel}" if channel else "")


@with_parameters
class Labelled(Iteration):
    """Iterations that move the borders of phases: labels 0, 1, ... come out, one channel of them.

    Parameters
    ----------
    thresholds : list of float or Statistic, or "auto"
        Values between the phases at the start.
    start_from : str
        What the labels are at the start.
    """

    thresholds: NumbersOrStatistics = parameter(THRESHOLDS, default=AUTO)
    start_from: str = parameter(START, default="thresholds")

    couples_channels = True
    reads_guide = True
    new_quantity = True
    gives_labels = True

    @property
    def phases(self) -> int:
        """Number of phases."""
        return 2

    @property
    def takes_labels(self) -> bool:
        """True where the labels at the start are the image."""
        return self.start_from == "labels"

    def __post_init__(self) -> None:
        if isinstance(self.thresholds, tuple):
            check_thresholds(self.thresholds, self.phases)

    def result_channels(self, channels: int) -> int:
        """Return 1: the labels."""
        return 1

    def carried_arrays(self, ndim: int, channels: int) -> int:
        """Return the labels."""
        return 1

    def start(self, block: Block) -> None:
        """Carry the labels."""
        block.carried = allocate(1, block.spatial, block.storage.dtype)
        self.begin_labels(block, block.carried[0])

    def begin_labels(self, block: Block, labels: Floats) -> None:
        """Put the labels at the start into an array of shape (cells,): of the mean of the channels, or the image."""
        if self.start_from == "checkerboard":
            labels[...] = _checkerboard(block, self.phases)
            return
        for band in row_bands(labels.shape, FEW_CELLS):
            valid = None if block.valid_storage is None else block.valid_storage[0, band]
            labels[band] = self._labels_of(block.storage[:, band], valid)

    def _labels_of(self, image: Floats, valid: Bools | None) -> Floats:
        """Return the labels of some cells of shape (channels, cells)."""
        if self.start_from == "labels":
            return _checked(np.rint(image[0]), self.phases, valid)
        assert isinstance(self.thresholds, tuple)
        total = image[0]
        for channel in image[1:]:
            total = total + channel
        return classes_of(total / total.dtype.type(len(image)), self.thresholds)

    def finish(self, block: Block) -> None:
        """Put the labels in the place of the state."""
        assert block.carried is not None
        block.storage = np.rint(block.carried[:1], out=allocate(1, block.spatial, block.storage.dtype))


@with_parameters
class Segmentation(Labelled):
    """Iterations that compare the data with a value of each phase: its mean, unless the value is given.

    Parameters
    ----------
    thresholds : list of float or Statistic, or "auto"
        Values between the phases at the start.
    start_from : str
        What the labels are at the start.
    means : list of float, or "auto"
        Value of each phase.
    every : int
        Number of iterations that share the means.
    """

    means: NumbersOrStatistics = parameter(MEANS, default=AUTO)
    every: int = parameter(EVERY, default=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.means, tuple) and len(self.means) % self.phases:
            raise ValueError(
                f"means={self.means!r} are {len(self.means)} for {self.phases} phases. Allowed: one for each phase, "
                "or for each phase one for each channel, or 'auto'."
            )

    def refreshed(self) -> Refreshed | None:
        """Return the means of the phases, unless they are given."""
        return None if isinstance(self.means, tuple) else PhaseMeans(self.every, self.phases)

    def values_of_phases(self, block: Block) -> Floats:
        """Return the value of each phase in each channel of the data, infinity where a phase has no cells.

        Raises
        ------
        ValueError
            For means that do not fit the channels.
        """
        channels = len(block.structure)
        if isinstance(self.means, tuple):
            return _laid_out(self.means, self.phases, channels).astype(block.storage.dtype)
        assert block.numbers is not None, "means have to be measured first"
        return np.array(
            [
                [block.numbers.get(mean_name(phase, channel), np.inf) for channel in range(channels)]
                for phase in range(self.phases)
            ],
            block.storage.dtype,
        )


def _laid_out(means: Sequence[Any], phases: int, channels: int) -> Floats:
    each = len(means) // phases
    if each not in (1, channels):
        raise ValueError(
            f"means={tuple(means)!r} give {each} values per phase, but the image has {channels} channels. "
            f"Allowed: {phases} or {phases * channels} values."
        )
    return np.broadcast_to(np.reshape(np.array(means, np.float64), (phases, each)), (phases, channels))


def _checkerboard(block: Block, phases: int) -> Floats:
    """Return labels that take turns from square to square, squares of the image."""
    found = allocate(1, block.spatial, block.storage.dtype)
    axes = [(np.arange(n) + start) // SQUARE for n, start in zip(block.spatial, block.origin, strict=True)]
    as_image(found, block.spatial)[0] = sum(np.ix_(*axes)) % phases
    return np.asarray(found[0])


def _checked(labels: Floats, phases: int, valid: Bools | None) -> Floats:
    """Return labels, or refuse those that are none of the phases at a valid cell."""
    wrong = (labels < 0) | (labels >= phases)
    if valid is not None:
        wrong &= valid
    if wrong.any():
        raise ValueError(
            f"The image holds the label {labels[wrong][0]:g}. Allowed with start_from='labels': 0 to {phases - 1}, "
            f"for classes={phases}."
        )
    return labels


def distances(data: Floats, values: Floats) -> Floats:
    """Return the squared distance of every cell from each phase, summed over channels: (phases, cells)."""
    found = np.zeros((len(values), data.shape[1]), data.dtype)
    for phase, row in enumerate(values):
        for channel, value in zip(data, row, strict=True):
            difference = channel - value
            found[phase] += difference * difference
    return found
