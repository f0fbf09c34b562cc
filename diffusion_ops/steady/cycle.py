"""One cycle of the preconditioner z = M r: down to the fourth level, its correction, and up again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import LANES, Bools, Floats
from diffusion_ops.kernels.multigrid.elimination import eliminate, solve_eliminated
from diffusion_ops.kernels.multigrid.graph import (
    coarsen,
    coarsen_grid,
    gather,
    graph_residual,
    held_nodes,
    relax_graph,
    row_sums,
    spread,
)
from diffusion_ops.kernels.multigrid.grid import relax_grid
from diffusion_ops.kernels.multigrid.packing import SIDES, cell_numbers, numbers_of_labels
from diffusion_ops.steady.aggregates import Graph, cell_grid, codes_of, twice_matched
from diffusion_ops.steady.couplings import CELL, Couplings

DOWN_HALO, UP_HALO = 64, 128
"""Cells around a tile that the way down reads, 53, and the way up, 101, in whole cells.

Down: the residual of the third level reads two nodes further, of 16 pixels each, that of the second level two of 8; the
finest residual and its sweeps from 0 read 5 cells. Up: sweeps and what is summed of the result read 5 cells, in 8;
sweeps of the second level two nodes more, 24, in 32 of the third level; its sweeps two nodes, 64, and their start one
more, 80. Its residual needs what the way down reads of the finer levels, 21.
"""

SWEEPS, DAMPING, STEP = 2, 0.6, 1.6
"""Sweeps before and after, damping of Jacobi's, and the step of both cycles of levels from the fourth on."""

_PARITY = 1.0 - np.arange(LANES + 1) % 2

_SMALL, _LARGEST = 300, 2000
"""Rows that are eliminated, and most that are where matching finds no more pairs."""


def inverted(graph: Graph) -> NDArray[np.float32]:
    """Return 1 / D, 0 where D is 0."""
    diagonal: NDArray[np.float32] = row_sums(graph[0], graph[2], graph[3])
    np.divide(1.0, diagonal, out=diagonal, where=diagonal > 0)
    return diagonal


@dataclass(frozen=True)
class Way:
    """What the way down leaves for the way up.

    Attributes
    ----------
    x : ndarray
        Correction of the finest level so far, in the layout of the grid.
    levels : list of (ndarray, ndarray)
        Residual of each graph, and its correction so far.
    """

    x: Floats
    levels: list[tuple[Floats, Floats]]


class Fine:
    """The three finest levels of a window: the grid and two graphs.

    Parameters
    ----------
    grid : Couplings
    labels : uint32 array of shape (pixels,)
        From `set_up`, in whole cells.
    """

    def __init__(self, grid: Couplings, labels: NDArray[np.uint32]) -> None:
        self.grid = grid
        self.graphs: list[Graph] = []
        self.groups: list[NDArray[np.int32]] = []
        nodes = np.arange(labels.size, dtype=np.int32)
        for level, side in enumerate(SIDES):
            codes, cells = codes_of(labels, level), int(np.prod(cell_grid(grid.shape, side)))
            pixels, self.base = numbers_of_labels(
                codes.astype(np.int32), cell_numbers(grid.shape, side), cells
            )
            inside, before = nodes >= 0, self.groups[-1:]
            groups = np.full(len(self.graphs[-1][3]) if before else labels.size, -1, np.int32)
            groups[nodes[inside]] = pixels[inside]
            self.groups.append(groups)
            nodes, count = pixels, int(self.base[-1])
            if side == CELL:
                break
            self.graphs.append(
                coarsen(*self.graphs[-1], groups, count)
                if before
                else coarsen_grid(grid.w, grid.sigma, groups, count, grid.shape, grid.pad)
            )
        self.inverses = [inverted(graph) for graph in self.graphs]

    def down(self, r: Floats) -> tuple[Way, Floats]:
        """Return what the way up needs, and the residual of the fourth level."""
        grid, levels = self.grid, []
        x = np.zeros(r.size)
        relax_grid(x, r, grid.inverse, grid.sigma, grid.w, _PARITY, grid.shape, grid.pad, SWEEPS, 0)
        rest, pad = grid.residual(r, x), grid.pad
        for groups, graph, inverse in zip(self.groups, self.graphs, self.inverses, strict=False):
            b = gather(groups, rest, len(inverse), pad)
            y = relaxed(graph, inverse, None, b)
            rest, pad = np.empty(y.size), 0
            graph_residual(rest, b, y, *graph)
            levels.append((b, y))
        return Way(x, levels), gather(self.groups[-1], rest, int(self.base[-1]), 0)

    def up(self, r: Floats, way: Way, correction: Floats) -> Floats:
        """Return z = M r from the correction of the fourth level; the way is used up."""
        grid = self.grid
        for k in reversed(range(len(self.graphs))):
            b, y = way.levels[k]
            spread(y, self.groups[k + 1], correction, 0)
            correction = relaxed(self.graphs[k], self.inverses[k], y, b)
        spread(way.x, self.groups[0], correction, grid.pad)
        relax_grid(way.x, r, grid.inverse, grid.sigma, grid.w, _PARITY, grid.shape, grid.pad, SWEEPS, 1)
        return way.x


def relaxed(graph: Graph, inverse: NDArray[np.float32], x: Floats | None, b: Floats) -> Floats:
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
    """The levels from the fourth one on, in memory."""

    def __init__(self, graph: Graph, quality: float) -> None:
        self.graphs, self.groups = [graph], []
        while len(graph[3]) > _SMALL:
            rows = np.arange(len(graph[3]), dtype=np.int32)
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
        x = self._cycle(b, level)
        x *= STEP
        rest = np.empty(x.size)
        graph_residual(rest, b, x, *graph)
        more = self._cycle(rest, level)
        more *= STEP
        x += more
        return x

    def held(self) -> Bools:
        """Return which nodes of the fourth level are connected with a known cell."""
        starts, ends, _, sigma = self.graphs[0]
        held: Bools = held_nodes(starts, ends, sigma)
        return held

    def _cycle(self, b: Floats, level: int) -> Floats:
        graph, inverse, groups = self.graphs[level], self.inverses[level], self.groups[level]
        x = relaxed(graph, inverse, None, b)
        rest = np.empty(x.size)
        graph_residual(rest, b, x, *graph)
        above = gather(groups, rest, len(self.graphs[level + 1][3]), 0)
        del rest
        spread(x, groups, self.correction(above, level + 1), 0)
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
