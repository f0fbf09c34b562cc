"""March ∂u/∂t = div(g ∇u) through a block: each face once, many steps per visit to the cache, in place.

The sweep is a wavefront over rows. While step s works on row r, step s + 1 works on row r - lag, where lag is one row in
2-D and one plane of rows in 3-D, so a few rows per step stay in cache and memory is crossed once for a whole group of
steps. The flux through the faces below a row is kept until the next row needs it, so a row can be overwritten as soon as
its own step is done: no second copy of the image, no redundant work, and every cell is summed in the same order wherever
its tile begins.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import njit

from diffusion_ops.block import LANES, Block, Floats, allocate
from diffusion_ops.kernels.conductance import CONSTANT, FROZEN, conductance

# A group of steps should keep its rows in half of a 1 MiB second-level cache; measured flat between 4 and 32 steps.
_GROUP_BYTES = 1 << 19
_GROUP_STEPS = 16


@njit(inline="always")
def _weigh(kind, masked, weight, w, u, now, a, b, n, scale, valid):  # type: ignore[no-untyped-def]
    """Fill weight[w : w + n] with the conductances between cells a + j and b + j, one for all channels."""
    for c in range(u.shape[1]):
        if c == 0:
            for j in range(n):
                d = u[now, c, b + j] - u[now, c, a + j]
                weight[w + j] = d * d
        else:
            for j in range(n):
                d = u[now, c, b + j] - u[now, c, a + j]
                weight[w + j] += d * d
    for j in range(n):
        weight[w + j] = conductance(kind, weight[w + j] * scale)
    if masked:
        for j in range(n):
            weight[w + j] = weight[w + j] if valid[0, a + j] & valid[0, b + j] else scale - scale


@njit(inline="always")
def _flux(kind, masked, out, pad, u, now, a, b, n, rate, scale, faces, face, weight, valid):  # type: ignore[no-untyped-def]
    """Fill out[c, pad : pad + n] with rate * g * (u[c, b:] - u[c, a:]).

    a and b are the flat indices of the first cells on the two sides of a row of n faces. All indices are unsigned: then
    there is no test for negative ones and the loops vectorise.
    """
    channels = u.shape[1]
    if kind == FROZEN:
        for c in range(channels):
            for j in range(n):
                out[c, pad + j] = (u[now, c, b + j] - u[now, c, a + j]) * (rate * faces[face, a + j])
    elif kind == CONSTANT:
        for c in range(channels):
            for j in range(n):
                out[c, pad + j] = (u[now, c, b + j] - u[now, c, a + j]) * rate
    elif channels == 1:
        for j in range(n):
            d = u[now, 0, b + j] - u[now, 0, a + j]
            out[0, pad + j] = d * (rate * conductance(kind, (d * d) * scale))
    else:
        _weigh(kind, masked, weight, np.uintp(0), u, now, a, b, n, scale, valid)
        for c in range(channels):
            for j in range(n):
                out[c, pad + j] = (u[now, c, b + j] - u[now, c, a + j]) * (rate * weight[j])
    if masked:
        for c in range(channels):
            for j in range(n):
                out[c, pad + j] = out[c, pad + j] if valid[0, a + j] & valid[0, b + j] else rate - rate


@njit(inline="always")
def _no_flux(out, n):  # type: ignore[no-untyped-def]
    """Fill out[:, :n] with zeros: nothing crosses a wall."""
    for c in range(out.shape[0]):
        for j in range(n):
            out[c, j] = out.dtype.type(0)


@njit(inline="always")
def _close(out, end):  # type: ignore[no-untyped-def]
    """Put walls before the first and after the last face of a row."""
    for c in range(out.shape[0]):
        out[c, 0] = out.dtype.type(0)
        out[c, end] = out.dtype.type(0)


@njit(inline="always")
def _difference(flux, kept, s, out, into, n, fresh):  # type: ignore[no-untyped-def]
    """Turn the flux leaving a row downwards into leaving minus entering, and keep it for the row below.

    Cell j loses flux[c, out + j] and has gained kept[s, c, into + j]; the shifts differ for the two diagonals.
    """
    for c in range(flux.shape[0]):
        if fresh:
            for j in range(n + np.uintp(1)):
                kept[s, c, j] = flux.dtype.type(0)
        for j in range(n):
            d = flux[c, out + j] - kept[s, c, into + j]
            kept[s, c, j] = flux[c, j]
            flux[c, j] = d


@functools.cache
def build_sweep(kind: int, masked: bool, volume: bool, diagonal: bool, inertial: bool) -> Callable[..., None]:
    """Compile the sweep for one conductance and one sort of block.

    The five choices are constants of the closure: branches on them vanish in the compiler, and its cache on disk tells
    the variants apart by them. One source serves all of them.
    """

    @njit(nogil=True, cache=True, error_model="numpy")
    def sweep(u, faces, valid, grid, rates, scales, weights, first, low, high, scratch):  # type: ignore[no-untyped-def]
        """Take the steps first, first + 1, ... of a cycle in place.

        Parameters
        ----------
        u : array of shape (1 or 2, channels, cells); inertial steps write over the older of the two states
        faces : array of shape (axes, cells), frozen conductances of the faces that start at each cell
        valid : bool array of shape (1, cells)
        grid : (planes, rows, columns, pitch)
        rates, scales : (4,), tau / h² and 1 / (contrast h)² along x, y, z and the diagonals
        weights : (group,), of the FSI recurrence
        low, high : (3, 2), cells already spoilt at each side, and how many more each step spoils (0 or 1)
        scratch : what `_scratch` returned
        """
        fx, fy, fz, fa, fb, below, behind, aslant, g = scratch
        planes, rows, columns, pitch = grid
        lag = rows if volume else 1
        group = weights.shape[0]
        one = weights.dtype.type(1)
        i0, i1 = np.uintp(0), np.uintp(1)
        for t in range(planes * rows + (group - 1) * lag):
            for s in range(group):
                row = t - s * lag
                if row < 0:
                    break
                if row >= planes * rows:
                    continue
                p = row // rows if volume else 0
                m, k = row - p * rows, first + s
                p0, p1 = low[0, 0] + k * low[0, 1], planes - high[0, 0] - k * high[0, 1]
                m0, m1 = low[1, 0] + k * low[1, 1], rows - high[1, 0] - k * high[1, 1]
                # Whole groups of lanes; the cells beyond the last column are junk that no flux carries back.
                j0 = (low[2, 0] + k * low[2, 1]) // LANES * LANES
                width = (columns - high[2, 0] - k * high[2, 1] + LANES - 1) // LANES * LANES - j0
                if p < p0 or p >= p1 or m < m0 or m >= m1 or width <= 0:
                    continue
                now = k % 2 if inertial else 0
                n, a, end = np.uintp(width), np.uintp(row * pitch + j0), np.uintp(min(width, columns - j0))
                down, back = a + np.uintp(pitch), a + np.uintp(rows * pitch)
                _flux(kind, masked, fx, i1, u, now, a, a + i1, n, rates[0], scales[0], faces, 0, g, valid)
                _close(fx, end)
                if m + 1 < m1:
                    _flux(kind, masked, fy, i0, u, now, a, down, n, rates[1], scales[1], faces, 1, g, valid)
                    if diagonal:
                        _flux(kind, masked, fa, i1, u, now, a, down + i1, n, rates[3], scales[3], faces, 2, g, valid)
                        _flux(kind, masked, fb, i1, u, now, a + i1, down, n, rates[3], scales[3], faces, 3, g, valid)
                        _close(fa, end)
                        _close(fb, end)
                else:
                    _no_flux(fy, n)
                    if diagonal:
                        _no_flux(fa, n + i1)
                        _no_flux(fb, n + i1)
                _difference(fy, below, s, i0, i0, n, m == m0)
                if diagonal:
                    _difference(fa, aslant, s, i1, i0, n, m == m0)
                    _difference(fb, aslant, group + s, i0, i1, n, m == m0)
                if volume:
                    if p + 1 < p1:
                        _flux(kind, masked, fz, i0, u, now, a, back, n, rates[2], scales[2], faces, 2, g, valid)
                    else:
                        _no_flux(fz, n)
                    _difference(fz, behind, s * rows + m, i0, i0, n, p == p0)
                w = weights[s]
                for c in range(u.shape[1]):
                    for j in range(n):
                        value = (fx[c, i1 + j] - fx[c, j]) + fy[c, j]
                        if volume:
                            value = value + fz[c, j]
                        if diagonal:
                            value = value + (fa[c, j] + fb[c, j])
                        value = u[now, c, a + j] + value
                        if inertial:
                            u[1 - now, c, a + j] = w * value + (one - w) * u[1 - now, c, a + j]
                        else:
                            u[now, c, a + j] = value

    return sweep


@functools.cache
def build_faces(kind: int, masked: bool, volume: bool, diagonal: bool) -> Callable[..., None]:
    """Compile the filling of frozen face conductances for one conductance and one sort of block."""

    @njit(nogil=True, cache=True, error_model="numpy")
    def fill(faces, u, valid, grid, scales):  # type: ignore[no-untyped-def]
        """Fill faces[0..3] (x, y, z or falling diagonal, rising diagonal) from the state u of shape (1, channels, cells).

        A rising face, between the cell at the right and the one below left, is stored at the right cell.
        """
        planes, rows, columns, pitch = grid
        n, i1 = np.uintp(pitch), np.uintp(1)
        last = planes * rows - 1
        for row in range(planes * rows):
            a = np.uintp(row * pitch)
            down, back = a + np.uintp(pitch), a + np.uintp(rows * pitch)
            m = row % rows
            _weigh(kind, masked, faces[0], a, u, 0, a, a + i1, n, scales[0], valid)
            if m + 1 < rows:
                _weigh(kind, masked, faces[1], a, u, 0, a, down, n, scales[1], valid)
                if diagonal:
                    _weigh(kind, masked, faces[2], a, u, 0, a, down + i1, n, scales[3], valid)
                    _weigh(kind, masked, faces[3], a + i1, u, 0, a + i1, down, n, scales[3], valid)
            if volume and row + rows <= last:
                _weigh(kind, masked, faces[2], a, u, 0, a, back, n, scales[2], valid)

    return fill


@functools.cache
def build_cell_faces(kind: int, volume: bool, masked: bool) -> Callable[..., None]:
    """Compile the filling of face conductances from the gradient at cell centres (Catte et al. 1992)."""

    @njit(nogil=True, cache=True, error_model="numpy")
    def fill(faces, cell, u, valid, grid, scales):  # type: ignore[no-untyped-def]
        """Fill faces[0..2] (x, y, z) with the mean of the conductance of |∇u|² in the two cells.

        |∇u|² is by central differences, where a neighbour beyond a wall repeats the cell itself; `cell` is scratch.
        """
        planes, rows, columns, pitch = grid
        quarter, half = u.dtype.type(0.25), u.dtype.type(0.5)
        zero = quarter - quarter
        step = (rows * pitch, pitch, 1)
        size = (planes, rows, columns)
        for row in range(planes * rows):
            place = (row // rows, row % rows)
            a = row * pitch
            for j in range(pitch):
                cell[0, a + j] = zero
            for c in range(u.shape[0]):
                for axis in range(0 if volume else 1, 2):
                    i = place[axis]
                    before = a - step[axis] if i > 0 else a
                    after = a + step[axis] if i + 1 < size[axis] else a
                    for j in range(columns):
                        x = u[c, a + j]
                        lower, upper = u[c, before + j], u[c, after + j]
                        if masked:
                            lower = lower if valid[0, before + j] else x
                            upper = upper if valid[0, after + j] else x
                        d = upper - lower
                        cell[0, a + j] += d * d * (quarter * scales[2 - axis])
                for j in range(columns):
                    x = u[c, a + j]
                    lower = u[c, a + j - 1] if j > 0 else x
                    upper = u[c, a + j + 1] if j + 1 < columns else x
                    if masked:
                        lower = lower if j > 0 and valid[0, a + j - 1] else x
                        upper = upper if j + 1 < columns and valid[0, a + j + 1] else x
                    d = upper - lower
                    cell[0, a + j] += d * d * (quarter * scales[0])
            for j in range(columns):
                cell[0, a + j] = conductance(kind, cell[0, a + j])
        for axis in range(0 if volume else 1, 3):
            for row in range(planes * rows):
                place = row // rows if axis == 0 else row % rows
                if axis < 2 and place + 1 == size[axis]:
                    continue
                a = row * pitch
                b = a + step[axis]
                for j in range(columns - 1 if axis == 2 else columns):
                    mean = half * (cell[0, a + j] + cell[0, b + j])
                    if masked:
                        mean = mean if valid[0, a + j] & valid[0, b + j] else zero
                    faces[2 - axis, a + j] = mean

    return fill


class Workspace(threading.local):
    """Row buffers of one thread, reused from call to call."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] = ()
        self._arrays: tuple[Floats, ...] = ()

    def rows(self, group: int, channels: int, grid: tuple[int, ...], volume: bool, dtype: Any) -> tuple[Floats, ...]:
        """Return the scratch of a sweep; contents are whatever the last sweep left."""
        key = (group, channels, grid[1] if volume else 1, grid[3], np.dtype(dtype))
        if key != self._key:
            width, depth = grid[3] + LANES, grid[1] if volume else 1
            now = tuple(np.zeros((channels, width), dtype) for _ in range(5))
            kept = tuple(np.zeros((n, channels, width), dtype) for n in (group, group * depth, 2 * group))
            self._key, self._arrays = key, (*now, *kept, np.zeros(width, dtype))
        return self._arrays


_WORKSPACE = Workspace()


def group_length(steps: int, channels: int, grid: tuple[int, ...], itemsize: int) -> int:
    """Return how many steps share one pass through memory: as many as keep their rows in cache."""
    depth = grid[1] if grid[0] > 1 else 1
    row_bytes = 2 * channels * depth * grid[3] * itemsize
    return max(1, min(steps, _GROUP_STEPS, max(2, _GROUP_BYTES // row_bytes)))


def march(
    block: Block,
    states: Floats,
    kind: int,
    rates: Sequence[float],
    scales: Sequence[float],
    weights: Sequence[float],
    faces: Floats | None = None,
    diagonal: bool = False,
) -> None:
    """Take len(weights) steps of ∂u/∂t = div(g ∇u) on the states of a block, in place.

    Parameters
    ----------
    block : Block
        Gives the grid, the walls and the spoilt margin (which is not changed here).
    states : ndarray of shape (1 or 2, channels, cells)
        With two, the steps are inertial and the result is in states[len(weights) % 2].
    kind : int
        Number of the conductance, CONSTANT or FROZEN.
    rates, scales : sequences of 4 floats
        tau w and 1 / (contrast h)² along x, y, z and the diagonals, w the weight of the face in the Laplacian.
    weights : sequence of float
        alpha_k of the FSI recurrence; only their number counts for explicit steps.
    faces : ndarray of shape (axes, cells), optional
        Frozen conductances.
    diagonal : bool
        Whether the eight-neighbour stencil is used.
    """
    dtype, grid = states.dtype, block.grid
    channels, volume, inertial = states.shape[1], grid[0] > 1, states.shape[0] == 2
    # Frozen faces are zero at walls already.
    masked = block.valid_storage is not None and kind != FROZEN
    sweep = build_sweep(kind, masked, volume, diagonal, inertial)
    group = group_length(len(weights), channels, grid, dtype.itemsize)
    low, high = _margins(block, 0), _margins(block, 1)
    empty = np.zeros((4, 1), dtype)
    for first in range(0, len(weights), group):
        some = np.array(weights[first : first + group], dtype)
        sweep(
            states,
            empty if faces is None else faces,
            _walls(block),
            grid,
            np.array(rates, dtype),
            np.array(scales, dtype),
            some,
            first,
            low,
            high,
            _WORKSPACE.rows(len(some), channels, grid, volume, dtype),
        )


def _margins(block: Block, side: int) -> Any:
    """Return (3, 2): cells spoilt at one side of z, y, x and how many more each step spoils."""
    rows = [(0, 0)] * (3 - len(block.spatial))
    for spoilt, sides in zip(block.spoilt, block.open_sides, strict=True):
        rows.append((spoilt, 1) if sides[side] else (0, 0))
    return np.array(rows, np.int64)


def edge_faces(block: Block, kind: int, scales: Sequence[float], diagonal: bool) -> Floats:
    """Return frozen conductances of shape (axes, cells) from the differences across each face."""
    states = block.storage[None]
    faces = allocate(4 if diagonal else len(block.spatial), block.spatial, states.dtype)
    fill = build_faces(kind, block.valid_storage is not None, block.grid[0] > 1, diagonal)
    fill(faces, states, _walls(block), block.grid, np.array(scales, states.dtype))
    return faces


def cell_faces(block: Block, smoothed: Floats, kind: int, scales: Sequence[float]) -> Floats:
    """Return frozen conductances of shape (axes, cells) from |∇u|² of a smoothed state of shape (channels, cells)."""
    faces = allocate(len(block.spatial), block.spatial, smoothed.dtype)
    cell = allocate(1, block.spatial, smoothed.dtype)
    fill = build_cell_faces(kind, block.grid[0] > 1, block.valid_storage is not None)
    fill(faces, cell, smoothed, _walls(block), block.grid, np.array(scales, smoothed.dtype))
    return faces


def _walls(block: Block) -> Any:
    """Return the mask for a kernel; where there is none, something of its type that is not read."""
    return np.ones((1, 1), bool) if block.valid_storage is None else block.valid_storage
