"""Solve a steady state of a whole image in memory: the reference that tiles have the bits of."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from diffusion_ops.blocks.block import Bools, Floats
from diffusion_ops.steady.aggregates import set_up
from diffusion_ops.steady.conjugate import Steps
from diffusion_ops.steady.couplings import Couplings
from diffusion_ops.steady.cycle import Coarse, Fine
from diffusion_ops.steady.lattice import coarse_levels, reached, require_room, spread_out

Operation = Callable[[Floats], Floats]

CYCLES = 200
"""Most cycles; 15 to 40 are usual."""


@dataclass(frozen=True)
class Solution:
    """A solution and how good it is.

    Attributes
    ----------
    x : ndarray
        In the layout of the operator.
    correction : float
        max |z|, the largest correction that a further cycle would make.
    cycles : int
    """

    x: Floats
    correction: float
    cycles: int


def stored(values: Floats) -> Floats:
    """Return values of the fourth level as tiles store them, in float32: it is a correction that they are part of."""
    return values.astype(np.float32).astype(np.float64)


class Solver:
    """A solver for right sides that share an operator.

    Parameters
    ----------
    grid : Couplings
        Operator on the whole image.

    Raises
    ------
    ValueError
        Where walls cut the image into more pieces than the fourth level has room for.
    """

    def __init__(self, grid: Couplings) -> None:
        self.grid = grid
        self.labels, rows, crowded = set_up(grid)
        require_room(crowded)
        self.fine = Fine(grid, self.labels)
        self.coarse: Coarse
        self.coarse, _ = coarse_levels([rows], grid.shape, len(grid.spatial))

    def correction(self, r: Floats) -> Floats:
        """Return z = M r."""
        way, rest = self.fine.down(r)
        return self.fine.up(r, way, stored(self.coarse.correction(stored(rest))))

    def reached(self) -> Bools:
        """Return which unknown cells some known cell holds, in the layout of the operator."""
        held = spread_out(self.coarse.held().astype(np.float64), np.diff(self.fine.base), self.grid.shape)
        return reached(self.grid, self.labels, held)

    def solve(self, b: Floats, tolerance: float, most: int = CYCLES, start: Floats | None = None) -> Solution:
        """Return x of A x = b, up to corrections of `tolerance`."""
        grid = self.grid
        residual = functools.partial(grid.residual, b)
        return conjugate_gradients(grid, b, grid.applied, residual, self.correction, tolerance, most, start)


def conjugate_gradients(
    grid: Couplings,
    b: Floats,
    applied: Operation,
    residual: Operation,
    correction: Operation,
    tolerance: float,
    most: int,
    start: Floats | None = None,
) -> Solution:
    """Return x of A x = b, from functions that give A x, b - A x and z = M r; see `conjugate`."""
    before: Steps | None = None
    x, p = np.zeros(b.size) if start is None else start.copy(), np.zeros(b.size)
    for cycle in itertools.count():
        r = residual(x)
        z = correction(r)
        largest = float(np.abs(z).max())
        if largest <= tolerance or cycle == most:
            return Solution(x, largest, cycle)
        gamma, delta = (math.fsum(grid.products(z, v)) for v in (r, applied(z)))
        before = Steps.after(gamma, delta, before)
        p *= before.beta
        p += z
        x += before.alpha * p
    raise AssertionError
