"""One cycle of the preconditioner z = M r: down to the third level, its correction, and up again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import LANES, Bools, Floats
from diffusion_ops.kernels.multigrid.elimination import eliminate, solve_eliminated
from diffusion_ops.kernels.multigrid.graph import (
    coarsen_grid,
    gather,
    graph_residual,
    held_nodes,
    relax_graph,
    row_sums,
    spread,
)
from diffusion_ops.kernels.multigrid.grid import relax_grid
from diffusion_ops.kernels.multigrid.packing import SIDE, cell_numbers, numbers_of_labels
from diffusion_ops.steady.aggregates import Graph, cell_grid, twice_matched
from diffusion_ops.steady.couplings import CELL, Couplings

DOWN_HALO, UP_HALO = 32, 48
"""Cells around a tile that the way down reads, 21, and the way up, 37, in whole cells.

Down: the residual of the second level reads two nodes further, of 8 pixels each; the finest residual and its sweeps
from 0 read 5 cells. Up: sweeps and what is summed of the result read 5 cells, in 8; sweeps of the second level two
nodes more, and their own start, residual and sweeps what the way down reads.
"""

SWEEPS, DAMPING, STEP = 2, 0.6, 1.6
"""Sweeps before and after, damping of Jacobi's, and the step of each of the two cycles of a level below the second."""

_PARITY = 1.0 - np.arange(LANES + 1) % 2

_SMALL, _LARGEST = 300, 2000
"""Rows that are eliminated, and most that are where matching finds no more pairs."""


def inverted(graph: Graph) -> Floats:
    """Return 1 / D, 0 where D is 0."""
    diagonal = row_sums(graph[0], graph[2], graph[3])
    inverse = np.zeros(diagonal.size)
    np.divide(1.0, diagonal, out=inverse, where=diagonal > 0)
    return inverse


@dataclass(frozen=True)
class Way:
    """What the way down leaves for the way up.

    Attributes
    ----------
    x : ndarray
        Correction of the finest level so far, in the layout of the grid.
    r, y : ndarray
        Residual of the second level, and its correction so far.
    """

    x: Floats
    r: Floats
    y: Floats


class Fine:
    """The two finest levels of a window.

    Parameters
    ----------
    grid : Couplings
    labels : uint32 array of shape (pixels,)
        From `set_up`, in whole cells.
    """

    def __init__(self, grid: Couplings, labels: NDArray[np.uint32]) -> None:
        self.grid = grid
        lower = (labels & np.uint32(0xFFFF)).astype(np.int32)
        small = cell_grid(grid.shape, SIDE)
        self.groups, base = numbers_of_labels(lower, cell_numbers(grid.shape, SIDE), int(np.prod(small)))
        count = int(base[-1])
        self.graph: Graph = coarsen_grid(grid.w, grid.sigma, self.groups, count, grid.shape, grid.pad)
        self.inverse = inverted(self.graph)
        upper = (labels >> np.uint32(16)).astype(np.int32)
        pixels, self.base = numbers_of_labels(
            upper, cell_numbers(grid.shape, CELL), int(np.prod(cell_grid(grid.shape)))
        )
        self.above = np.full(count, -1, np.int32)
        inside = self.groups >= 0
        self.above[self.groups[inside]] = pixels[inside]
        self.count = int(self.base[-1])

    def down(self, r: Floats) -> tuple[Way, Floats]:
        """Return what the way up needs, and the residual of the third level."""
        grid = self.grid
        x = np.zeros(r.size)
        relax_grid(x, r, grid.inverse, grid.sigma, grid.w, _PARITY, grid.shape, grid.pad, SWEEPS, 0)
        second = gather(self.groups, grid.residual(r, x), len(self.inverse), grid.pad)
        y = relaxed(self.graph, self.inverse, None, second)
        rest = np.empty(y.size)
        graph_residual(rest, second, y, *self.graph)
        return Way(x, second, y), gather(self.above, rest, self.count, 0)

    def up(self, r: Floats, way: Way, correction: Floats) -> Floats:
        """Return z = M r from the correction of the third level; the way is used up."""
        grid = self.grid
        spread(way.y, self.above, correction, 0)
        y = relaxed(self.graph, self.inverse, way.y, way.r)
        spread(way.x, self.groups, y, grid.pad)
        relax_grid(way.x, r, grid.inverse, grid.sigma, grid.w, _PARITY, grid.shape, grid.pad, SWEEPS, 1)
        return way.x


def relaxed(graph: Graph, inverse: Floats, x: Floats | None, b: Floats) -> Floats:
    """Return x after the damped Jacobi sweeps of a level; None is 0."""
    sweeps = SWEEPS
    if x is None:
        x, sweeps = DAMPING * (b * inverse), SWEEPS - 1
    other = np.empty(x.size)
    for _ in range(sweeps):
        relax_graph(other, x, b, inverse, DAMPING, *graph)
        x, other = other, x
    return x


class Coarse:
    """The levels from the third one on, in memory."""

    def __init__(self, graph: Graph, quality: float) -> None:
        self.graphs, self.groups = [graph], []
        while len(graph[3]) > _SMALL:
            rows = np.arange(len(graph[3]), dtype=np.int64)
            groups, count, above = twice_matched(graph, np.zeros(rows.size, np.int32), rows, quality)
            if not count or count > 0.8 * rows.size:
                break
            self.groups.append(groups)
            self.graphs.append(above)
            graph = above
        self.inverses = [inverted(one) for one in self.graphs]
        self.factors = eliminate(*graph) if len(graph[3]) <= _LARGEST else None

    def correction(self, b: Floats, level: int = 0) -> Floats:
        """Return two cycles on a level for the residual b, or the solution on the coarsest level."""
        if level == len(self.groups):
            return self._coarsest(b)
        graph = self.graphs[level]
        x = STEP * self._cycle(b, level)
        rest = np.empty(x.size)
        graph_residual(rest, b, x, *graph)
        return x + STEP * self._cycle(rest, level)

    def held(self) -> Bools:
        """Return which nodes of the third level are connected with a known cell."""
        starts, ends, _, sigma = self.graphs[0]
        held: Bools = held_nodes(starts, ends, sigma)
        return held

    def _cycle(self, b: Floats, level: int) -> Floats:
        graph, inverse, groups = self.graphs[level], self.inverses[level], self.groups[level]
        x = relaxed(graph, inverse, None, b)
        rest = np.empty(x.size)
        graph_residual(rest, b, x, *graph)
        above = self.correction(gather(groups, rest, len(self.graphs[level + 1][3]), 0), level + 1)
        spread(x, groups, above, 0)
        return relaxed(graph, inverse, x, b)

    def _coarsest(self, b: Floats) -> Floats:
        if self.factors is not None:
            solved: Floats = solve_eliminated(*self.factors, b)
            return solved
        x: Floats | None = None
        for _ in range(10):
            x = relaxed(self.graphs[-1], self.inverses[-1], x, b)
        assert x is not None
        return x
