"""Hold the couplings of a window, the finest level of the operator."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Bools, Floats
from diffusion_ops.kernels.multigrid import couplings as kernels
from diffusion_ops.kernels.multigrid.grid import apply_grid, cell_products, grid_residual
from diffusion_ops.kernels.multigrid.packing import SIDES

CELL = SIDES[-1]
"""Side of the cells that windows are made of; sums are taken cell by cell."""

Triple = tuple[int, int, int]


def padded_shape(spatial: tuple[int, ...]) -> Triple:
    """Return a shape of three axes, in whole cells; an image of two axes is one plane."""
    z, y, x = (1,) * (3 - len(spatial)) + tuple(-(-n // CELL) * CELL for n in spatial)
    return z, y, x


@dataclass(frozen=True)
class Couplings:
    """The operator (A x)_i = sigma_i x_i + sum_j w_ij (x_i - x_j) on the unknown cells of a window.

    Attributes
    ----------
    spatial : tuple of int
        Shape of the window.
    shape : tuple of int
        Shape in whole cells, three axes; cells beyond the window are walls.
    w : tuple of float64 arrays
        Couplings to the next cell along z, y, x, between unknown cells.
    edge : tuple of float64 arrays
        The same to known cells too.
    kind : int8 array
    sigma, inverse : float64 arrays
        Couplings to known cells, and 1 / D.
    """

    spatial: tuple[int, ...]
    shape: Triple
    w: tuple[Floats, Floats, Floats]
    edge: tuple[Floats, Floats, Floats]
    kind: NDArray[np.int8]
    sigma: Floats
    inverse: Floats

    @classmethod
    def between(
        cls, weights: tuple[Floats, ...], spatial: tuple[int, ...], unknown: Bools, known: Bools
    ) -> Couplings:
        """Return the operator of the weights per axis between a cell and the next one, flat as `flat` makes them.

        `unknown` and `known` are of shape `spatial`; cells that are neither are walls. The weights become the
        operator's own.
        """
        shape = padded_shape(spatial)
        kind = flat(known.astype(np.int8) * kernels.KNOWN + unknown.astype(np.int8) * kernels.UNKNOWN, shape)
        pad = padding(shape)
        edge = ((np.zeros(1),) if len(weights) == 2 else ()) + tuple(weights)
        for axis in range(3 - len(weights), 3):
            # Beyond both ends there are no cells to be coupled to.
            edge[axis][:pad] = edge[axis][-pad:] = 0
            kernels.close_edges(edge[axis], kind, shape, axis, pad)
        sigma, inverse = np.zeros(kind.size), np.zeros(kind.size)
        kernels.known_flow(sigma, edge, kind, np.ones(kind.size), shape, pad)
        inner = tuple(array.copy() for array in edge)
        for axis in range(3 - len(weights), 3):
            kernels.cut_known(inner[axis], kind, steps_of(shape)[axis], pad)
        kernels.invert_diagonal(inverse, sigma, inner, shape, pad)
        return cls(spatial, shape, inner, edge, kind, sigma, inverse)  # type: ignore[arg-type]

    @functools.cached_property
    def pad(self) -> int:
        """Number of numbers before the first cell and after the last one."""
        return padding(self.shape)

    def flat(self, image: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return an image of the window in the operator's layout, 0 beyond it."""
        return flat(image, self.shape)

    def image(self, values: Floats) -> Floats:
        """Return a view of an array of the operator's layout as an image of the window."""
        inner = values[self.pad : values.size - self.pad].reshape(self.shape)
        return (
            inner[tuple(slice(0, n) for n in (1,) * (3 - len(self.spatial)) + self.spatial)].reshape(
                self.spatial
            )
            if len(self.spatial) == 3
            else inner[0, : self.spatial[0], : self.spatial[1]]
        )

    def flow(self, value: Floats) -> Floats:
        """Return the right side that known cells of a value make: b_i = sum of w_ij value_j."""
        b = np.zeros(self.sigma.size)
        kernels.known_flow(b, self.edge, self.kind, value, self.shape, self.pad)
        return b

    def residual(self, b: Floats, x: Floats) -> Floats:
        """Return b - A x."""
        r = np.zeros(x.size)
        grid_residual(r, b, x, self.sigma, self.w, self.shape, self.pad)
        return r

    def applied(self, x: Floats) -> Floats:
        """Return A x."""
        y = np.zeros(x.size)
        apply_grid(y, x, self.sigma, self.w, self.shape, self.pad)
        return y

    def products(self, x: Floats, y: Floats) -> Floats:
        """Return the sums of x times y, one per cell of 32 pixels a side, in row-major order."""
        depth = -(-self.shape[0] // CELL)
        sums = np.zeros(depth * (self.shape[1] // CELL) * (self.shape[2] // CELL))
        cell_products(sums, x, y, self.shape, CELL, self.pad)
        return sums


def padding(shape: Triple) -> int:
    """Return how many numbers come before the first cell: a plane, or a row of a single plane, and one more."""
    return (shape[1] * shape[2] if shape[0] > 1 else shape[2]) + 1


def steps_of(shape: Triple) -> Triple:
    """Return how far the next cell along z, y, x is in memory."""
    return shape[1] * shape[2], shape[2], 1


def flat(image: NDArray[np.generic], shape: Triple) -> NDArray[np.generic]:
    """Return an image, two or three axes, as a flat array of whole cells with padding, 0 beyond the image."""
    pad = padding(shape)
    values = np.zeros(math.prod(shape) + 2 * pad, image.dtype)
    inner = values[pad : values.size - pad].reshape(shape)
    inner = inner if image.ndim == 3 else inner[0]
    inner[tuple(slice(0, n) for n in image.shape)] = image
    return values


def similarity(image: Floats, factors: tuple[float, ...], floor: float) -> tuple[Floats, ...]:
    """Return exp(-factor * sum over channels of (difference)²) + floor between neighbours, per axis.

    Parameters
    ----------
    image : ndarray of shape (channels, *spatial)
        Finite numbers.
    factors : tuple of float
        One per axis.
    floor : float
        What is added, without unit.
    """
    shape = padded_shape(image.shape[1:])
    pad, ndim = padding(shape), image.ndim - 1
    values = np.stack([flat(channel, shape)[pad:] for channel in image])
    weights = []
    for factor, ahead in zip(factors, steps_of(shape)[3 - ndim :], strict=True):
        w = np.zeros(math.prod(shape) + 2 * pad)
        kernels.fill_similarity(w, values, factor, floor, ahead, math.prod(shape), pad)
        weights.append(w)
    return tuple(weights)


def uniform(spatial: tuple[int, ...], spacing: tuple[float, ...]) -> tuple[Floats, ...]:
    """Return the couplings of the Laplacian per axis: (finest spacing / spacing)²."""
    shape = padded_shape(spatial)
    cells = math.prod(shape) + 2 * padding(shape)
    return tuple(np.full(cells, (min(spacing) / h) ** 2) for h in spacing)
