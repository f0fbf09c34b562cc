"""Threshold dynamics: labels are blurred, weighed against the data, and sharpened again (Merriman, Bence, Osher)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from diffusion_ops.blocks.block import FEW_CELLS, Block, Floats, allocate, row_bands
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import register
from diffusion_ops.evolution.parameters import AUTO, Choice, Number, NumberOrStatistic, parameter
from diffusion_ops.evolution.reach import Reach
from diffusion_ops.evolution.schedule import Cycle
from diffusion_ops.families.segmentation.phases import WEIGHT, Segmentation, distances
from diffusion_ops.families.segmentation.thresholds import CLASSES
from diffusion_ops.kernels.gaussian import gaussian_radius, smoothed


@register("threshold-dynamics")
class ThresholdDynamics(Segmentation):
    """Segmentation into phases by threshold dynamics (MBO): minimise Σ_k ∫_{Σk} |f - c_k|² + weight · length.

    The length is that of the borders between phases. An iteration smooths the indicator of every phase with a Gaussian
    and gives each cell to the phase of the largest K_sigma * u_k - s |f - c_k|², with s = sigma / (sqrt(2π) weight);
    c_k is the mean of the data f over the phase. The energy falls for any sigma. Without data the borders move by their
    curvature for a time of sigma² / 2 per iteration; where that moves them by less than about a tenth of a cell they
    stay: take a sigma of 4 cells for circles of a radius up to 60. Labels come out. Channels are weighed together. A
    guide is the data in the place of the image.

    Parameters
    ----------
    thresholds : list of float or Statistic, or "auto"
        Values between the phases at the start, one less than phases, in image units; of several channels the mean is
        taken. "auto" are Otsu's.
    start_from : str
        "thresholds"; "labels" where the image itself holds labels from 0 to classes - 1, as with a guide; or
        "checkerboard" of squares of 5 cells.
    means : list of float, or "auto"
        Value of each phase, or for each phase one of each channel. "auto" are the means over the phases as they are.
    every : int
        Number of iterations that share measured means.
    classes : int
        Number of phases, labelled 0, 1, ...
    data : str
        "linear" as above (Chan and Vese); "relaxed" draws the smoothed indicators towards the data first (Esedoglu and
        Tsai): the largest of the w_k wins that sum up to 1 and have the least Σ (w_k - K u_k)² + s w_k² |f - c_k|²;
        "none" leaves the data out.
    weight : float or Statistic, or "auto"
        Weight of the length of the borders, in squared image units times unit length. "auto" is 4 times the
        variance of the image times the unit length: the squared difference of two phases of equal area.
    sigma : float
        Standard deviation of the Gaussian, in units of the spacing.

    Raises
    ------
    ValueError
        For parameters out of range, thresholds or means that do not fit the phases, labels out of range.

    References
    ----------
    Merriman, Bence, Osher: Motion of multiple junctions: a level set approach. J. Comput. Phys. 1994. Esedoglu, Tsai:
    Threshold dynamics for the piecewise constant Mumford-Shah functional. J. Comput. Phys. 2006. Esedoglu, Otto:
    Threshold dynamics for networks with arbitrary surface tensions. CPAM 2015. Wang, Li, Wei, Wang: An efficient
    iterative thresholding method for image segmentation. J. Comput. Phys. 2017.
    """

    classes: int = parameter(CLASSES, default=2)
    data: str = parameter(Choice(("linear", "relaxed", "none")), default="linear")
    weight: NumberOrStatistic = parameter(WEIGHT, default=AUTO)
    sigma: float = parameter(Number(unit="unit length", above=0), default=2.0)

    equation = "argmax_k K_sigma * u_k - sigma |f - c_k|² / (sqrt(2π) weight)"
    reference = "Merriman, Bence and Osher 1994; Esedoglu and Tsai 2006"
    samples = Samples(
        (
            {"thresholds": 100.0, "means": [60.0, 140.0], "weight": 3e4, "sigma": 1.0},
            {
                "classes": 3,
                "thresholds": [70.0, 130.0],
                "means": [40.0, 100.0, 160.0],
                "data": "relaxed",
                "weight": 3e4,
                "sigma": 0.75,
            },
        ),
        decisive="a label is the largest of sums that the ends of the Gaussian add 0.03 % to",
    )
    picture = Picture("coins", {"weight": 3e4}, shown="stretched")
    usual_steps = 20

    @property
    def phases(self) -> int:
        """Number of phases."""
        return self.classes

    def refreshed(self) -> Any:
        """Return the means of the phases, unless they are given or there is no data."""
        return None if self.data == "none" else super().refreshed()

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return the reach of the Gaussian."""
        return Reach(gaussian_radius(self.sigma, spacing))

    def extra_arrays(self, ndim: int, inertial: bool, channels: int) -> float:
        """Return the indicators and the smoothed indicators of all phases but the first, and bands of the weighing."""
        return 2.0 * (self.phases - 1) + 0.5

    def pace(self, ndim: int, channels: int) -> float:
        """Return what was measured in float32 with sigma = 2."""
        return 1e8 / (self.phases - 1)

    def run(self, block: Block, cycle: Cycle, count: int) -> None:
        """Take `count` iterations."""
        assert block.carried is not None
        values = None if self.data == "none" else self.values_of_phases(block)
        labels = block.carried[0]
        inside = allocate(self.phases - 1, block.spatial, block.storage.dtype)
        for _ in range(count):
            for phase in range(1, self.phases):
                np.equal(labels, phase, out=inside[phase - 1])
            shares = smoothed(_with_state(block, inside), self.sigma)
            for band in row_bands(labels.shape, FEW_CELLS):
                scores = _shares_of_all(shares[:, band])
                if values is not None:
                    scores = self._weighed(scores, distances(block.structure[:, band], values))
                labels[band] = np.argmax(scores, axis=0)
            del shares

    def _weighed(self, shares: Floats, far: Floats) -> Floats:
        """Return what each cell weighs for each phase, from the smoothed indicators and the distances of the data."""
        assert isinstance(self.weight, int | float)
        s = shares.dtype.type(self.sigma / (math.sqrt(2 * math.pi) * self.weight))
        if self.data == "linear":
            return np.asarray(shares - s * far)
        weak = 1 / (1 + s * far)
        total, room = np.zeros_like(shares[0]), np.zeros_like(shares[0])
        for share, one in zip(shares, weak, strict=True):
            total += share * one
            room += one
        # The multiplier of the constraint that the weights sum up to 1.
        return np.asarray((shares + (1 - total) / room) * weak)


def _with_state(block: Block, state: Floats) -> Block:
    return Block(state, block.spatial, block.spacing, block.valid_storage, block.open_sides)


def _shares_of_all(shares: Floats) -> Floats:
    """Return the shares of all phases from those of all but the first."""
    first = np.ones_like(shares[0])
    for share in shares:
        first -= share
    return np.concatenate([first[None], shares])
