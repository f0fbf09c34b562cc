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
    residual : ndarray
        b - A x.
    """

    x: Floats
    correction: float
    cycles: int
    residual: Floats


def largest(_: Floats, z: Floats) -> float:
    """Return the largest correction of a cycle."""
    return float(np.abs(z).max())


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

    def bound(self, residuals: Floats) -> Floats:
        """Return a bound of the errors of solutions whose residuals' magnitudes add up to `residuals`.

        A is an M-matrix: where A phi >= s / 2 and s >= |b - A x| everywhere, |x - x_exact| <= 2 phi. See `barrier`.

        Raises
        ------
        ValueError
            Where no phi is found.
        """
        grid, there = self.grid, self.reached()
        total = math.fsum(grid.products(np.where(there, residuals, 0.0), np.ones(residuals.size)))
        s = barrier(residuals, there, floor_of(total, int(np.count_nonzero(there))))
        found = conjugate_gradients(
            grid,
            s,
            grid.applied,
            functools.partial(grid.residual, s),
            self.correction,
            BARRIER_LEFT,
            CYCLES,
            left=lambda r, _: left_of_barrier(r, s),
        )
        if found.correction > BARRIER_LEFT:
            raise ValueError(f"No bound of the error was found within {CYCLES} cycles.")
        bound: Floats = 2 * found.x
        return bound


BARRIER_LEFT = 0.5
"""Largest part of s that A phi may lack."""


def floor_of(total: float, cells: int) -> float:
    """Return what is added to residuals of that total: a thousandth of their mean."""
    return 1e-3 * total / cells if cells else 0.0


def barrier(residuals: Floats, there: Bools, floor: float) -> Floats:
    """Return s > 0 at the cells that have an equation and an answer, such that A phi = s bounds the errors."""
    s: Floats = np.where(there, residuals + floor, 0.0)
    return s


def left_of_barrier(r: Floats, s: Floats) -> float:
    """Return the largest part of s that A phi = s - r lacks."""
    parts = np.divide(r, s, out=np.zeros(r.shape), where=s > 0)
    return float(parts.max())


def conjugate_gradients(
    grid: Couplings,
    b: Floats,
    applied: Operation,
    residual: Operation,
    correction: Operation,
    tolerance: float,
    most: int,
    start: Floats | None = None,
    left: Callable[[Floats, Floats], float] = largest,
) -> Solution:
    """Return x of A x = b, from functions that give A x, b - A x and z = M r; see `conjugate`.

    It ends where `left`, a number that follows from r and z, is at most the tolerance.
    """
    before: Steps | None = None
    x, p = np.zeros(b.size) if start is None else start.copy(), np.zeros(b.size)
    for cycle in itertools.count():
        r = residual(x)
        z = correction(r)
        found = left(r, z)
        if found <= tolerance or cycle == most:
            return Solution(x, found, cycle, r)
        gamma, delta = (math.fsum(grid.products(z, v)) for v in (r, applied(z)))
        before = Steps.after(gamma, delta, before)
        p *= before.beta
        p += z
        x += before.alpha * p
    raise AssertionError
