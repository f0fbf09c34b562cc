"""Take steps of Perona-Malik and heat diffusion, ∂u/∂t = div(g ∇u), on a block, in place; each face once.

The sweep is a wavefront over the outermost axis (rows of an image, planes of a volume). While step s works at
row r, step s + 1 works at row r - 1, so a few rows per step stay in cache and memory is crossed once for a
whole group of steps. The flux through the faces below a row is kept until the next row needs it, so a row can
be overwritten as soon as its own step is done: no second copy of the image, no redundant work, and every cell
is summed in the same order wherever its tile begins. In a volume the front goes through one band of rows
after another, each band one row higher per step, so that a step keeps a strip of a plane in cache instead of
the plane.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from diffusion_ops.blocks.block import LANES, Block, Floats, aligned_zeros
from diffusion_ops.kernels.conductance import CONSTANT, FROZEN, conductance
from diffusion_ops.kernels.faces import kernel_grid, kernel_walls, left_of, open_faces, right_of, weigh_row
from diffusion_ops.kernels.lanes import (
    begin,
    between,
    copied,
    fill,
    inlined,
    kernel,
    load,
    previous,
    shift,
    store,
    where,
)
from diffusion_ops.kernels.wavefront import level_bounds, step_bounds

# A group of steps should keep its rows in half of a 1 MiB second-level cache; measured flat between 4 and 32
# steps, and for bands of 4 to 64 rows.
_GROUP_BYTES = 1 << 19
_GROUP_STEPS = 16
_BAND = 16


@inlined
def _flux(kind, masked, d, rate, scale, faces, f, valid, i, j):  # type: ignore[no-untyped-def]
    """Return rate g d of the faces between the cells i and j, which differ by d; a frozen g is faces[f]."""
    if kind == FROZEN:
        return d * (load(faces, f) * rate)
    if kind == CONSTANT:
        return open_faces(masked, valid, i, j, d * rate)
    return open_faces(masked, valid, i, j, d * (conductance(kind, d * d * scale) * rate))


@inlined
def _exchange(kept, i, leaving):  # type: ignore[no-untyped-def]
    """Return what leaves through the lower faces less what entered by the upper; keep it for the next row."""
    change = leaving - load(kept, i)
    store(kept, i, leaving)
    return change


@inlined
def _clear(kept, n, zero):  # type: ignore[no-untyped-def]
    """Let nothing enter from above."""
    for j in range(0, n, LANES):
        store(kept, j, fill(zero))


@copied
def _step_row(kind, form, u, new, w, faces, stride, valid, row, ends, kept, rates, scales):  # type: ignore[no-untyped-def]
    """Take one step of one channel of a row: fluxes to the right, below and behind, each lane the same sum.

    Parameters
    ----------
    kind, form : int, tuple of bool
        Conductance; whether masked, a volume, with diagonals, inertial.
    u, new : addresses
        The channel in the state that is read and in the one that is written.
    w : tuple of 2 floats
        Weights of this step and of the state before it.
    faces, stride : address, int
        The row's frozen conductances along x, and how far on those of the next axis are.
    row : tuple of int
        Where the cells of the row, their lower neighbours and those behind begin in a channel.
    ends : tuple of int
        Cells of the row, its faces along x, its faces to below right, the first of its faces to below left.
    kept : addresses
        Fluxes that enter from behind, above, above left and above right.
    """
    masked, volume, diagonal, inertial = form
    here, down, back = row
    n, right_end, down_end, left_start = ends
    behind, above, above_left, above_right = kept
    flux = falling = fill(rates[0] - rates[0])
    for j in range(0, n, LANES):
        i, before = here + j, flux
        centre = load(u, i)
        d = right_of(u, i, here + n - LANES) - centre
        flux = _flux(kind, masked, d, rates[0], scales[0], faces, j, valid, i, i + 1)
        flux = where(between(0, right_end - j), flux)
        change = flux - previous(before, flux)
        d = load(u, down + j) - centre
        leaving = _flux(kind, masked, d, rates[1], scales[1], faces, stride + j, valid, i, down + j)
        if volume:
            change = change + _exchange(above, j, leaving)
            d = load(u, back + j) - centre
            leaving = _flux(kind, masked, d, rates[2], scales[2], faces, 2 * stride + j, valid, i, back + j)
        change = change + _exchange(behind, j, leaving)
        if diagonal:
            k, before, f = down + j, falling, 2 * stride + j
            d = right_of(u, k, down + n - LANES) - centre
            falling = _flux(kind, masked, d, rates[3], scales[3], faces, f, valid, i, k + 1)
            falling = where(between(0, down_end - j), falling)
            d = left_of(u, k, down) - centre
            # Only an image of one row would read before the mask, and it has no such faces.
            rising = _flux(kind, masked, d, rates[3], scales[3], faces, f + stride, valid, i, max(k - 1, 0))
            rising = where(between(left_start - j, down_end + 1 - j), rising)
            change = change + ((falling - load(above_left, j)) + (rising - load(above_right, j + 1)))
            store(above_left, j, previous(before, falling))
            store(above_right, j, rising)
        value = centre + change
        if inertial:
            value = value * w[0] + load(new, i) * w[1]
        store(new, i, value)


@copied
def _entering(volume, diagonal, kept, offsets, fresh, n, zero):  # type: ignore[no-untyped-def]
    """Return the addresses of the fluxes that enter a row; into the first row of a plane or an image none do.

    Parameters
    ----------
    kept, offsets : addresses, ints
        What the rows before left: behind, above, above left and above right, and where the row's part of it begins.
    fresh : tuple of bool
        Whether no row is behind, and whether none is above.
    """
    behind, above = shift(kept[0], offsets[0]), shift(kept[1], offsets[1])
    left, right = shift(kept[2], offsets[2]), shift(kept[2], offsets[3])
    if fresh[0]:
        _clear(behind, n, zero)
        if diagonal:
            _clear(left, n + LANES, zero)
            _clear(right, n + LANES, zero)
    if volume and fresh[1]:
        _clear(above, n, zero)
    return behind, above, left, right


@functools.cache
def build_sweep(
    kind: int, masked: bool, volume: bool, diagonal: bool, inertial: bool, coupled: bool
) -> Callable[..., None]:
    """Compile the sweep for one conductance and one sort of block.

    The six choices are constants of the closure: branches on them vanish in the compiler, and its cache on disk tells
    the variants apart by them. `coupled` channels share conductances, which are found row by row before the channels
    take their step as with frozen ones.
    """
    step_kind, step_masked = (FROZEN, False) if coupled else (kind, masked)
    slant = 1 if volume else 0

    @kernel
    def sweep(u, older, faces, valid, grid, rates, scales, weights, first, bounds, band, scratch):  # type: ignore[no-untyped-def]
        """Take the steps first, first + 1, ... of a cycle in place.

        Parameters
        ----------
        u, older : arrays of (channels, cells), flat: the state, and for inertial steps the one before, which they
            write over, by turns; else the state again
        faces : array of (axes, cells), flat: frozen conductances of the faces that start at each cell
        valid : bool array of (cells,)
        grid : (channels, outer, middle, columns, pitch), see `kernel_grid`
        rates, scales : (4,), tau / h² and 1 / (contrast h)² along x, y, z and the diagonals
        weights : (group,), of the FSI recurrence
        bounds : (steps, 3, 2), what `level_bounds` returned: first and last + 1 of what a step may read
        band : middle rows that a step takes at a time
        scratch : what `Workspace.rows` returned
        """
        channels, outer, middle, columns, pitch = grid
        cells, wide, group = outer * middle * pitch, pitch + LANES, weights.shape[0]
        one, zero = u.dtype.type(1), u.dtype.type(0)
        states, faces, valid = (begin(u), begin(older)), begin(faces), begin(valid)
        room, shared = (begin(scratch[0]), begin(scratch[1]), begin(scratch[2])), begin(scratch[3])
        for start in range(0, middle + slant * (group - 1), band):
            for t in range(outer + group - 1):
                for s in range(max(0, t - outer + 1), min(group, t + 1)):
                    p, k, top = t - s, first + s, start - slant * s
                    (p0, p1), (m0, m1), (j0, n) = step_bounds(bounds, k)
                    if p < p0 or p >= p1 or n <= 0:
                        continue
                    end, w = columns - 1 - j0, (weights[s], one - weights[s])
                    ends = (n, end, end if p + 1 < p1 else -1, 1 if j0 == 0 else 0)
                    now, new = (states[1], states[0]) if k % 2 else states
                    for m in range(max(m0, top), min(m1, top + band)):
                        # The last row is its own neighbour: the difference, and with it the flux, is 0.
                        here = (p * middle + m) * pitch + j0
                        back = here + middle * pitch if p + 1 < p1 else here
                        row = (here, (here + pitch if m + 1 < m1 else here) if volume else back, back)
                        g, stride = (shared, wide) if coupled else (shift(faces, here), cells)
                        if coupled:
                            sort, size = (masked, volume, diagonal), (channels, cells)
                            weigh_row(kind, sort, g, stride, now, size, valid, row, n, scales)
                        for c in range(channels):
                            line, fresh = s * channels + c, (p == p0, m == m0)
                            starts = ((line * band + m - top) * wide, (line * outer + p) * wide)
                            aslant = (line * wide, (group * channels + line) * wide)
                            kept = _entering(volume, diagonal, room, starts + aslant, fresh, n, zero)
                            form = (step_masked, volume, diagonal, inertial)
                            x, y = shift(now, c * cells), shift(new, c * cells)
                            _step_row(
                                step_kind, form, x, y, w, g, stride, valid, row, ends, kept, rates, scales
                            )

    return sweep


class Workspace(threading.local):
    """Row buffers of one thread, reused from call to call."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] = ()
        self._arrays: tuple[Floats, ...] = ()

    def rows(
        self, group: int, band: int, grid: tuple[int, ...], dtype: np.dtype[Any], volume: bool
    ) -> tuple[Floats, ...]:
        """Return the scratch of a sweep; contents are whatever the last sweep left."""
        channels, outer, _, _, pitch = grid
        # Only in a volume does a row have others above it in its plane.
        planes = outer if volume else 0
        key = (group, band, channels, planes, pitch, dtype)
        if key != self._key:
            # What enters from behind, from above, aslant; and the conductances of one row along each axis.
            counts = (group * band * channels, group * planes * channels, 2 * group * channels, 4)
            self._arrays = tuple(aligned_zeros(n * (pitch + LANES), dtype) for n in counts)
            self._key = key
        return self._arrays


_WORKSPACE = Workspace()


def group_shape(steps: int, grid: tuple[int, ...], itemsize: int) -> tuple[int, int]:
    """Return the steps that share one pass through memory and the rows of a band: what stays in cache."""
    channels, _, middle, _, pitch = grid
    band = min(_BAND, middle)
    fitting = _GROUP_BYTES // (2 * channels * band * pitch * itemsize)
    return max(1, min(steps, _GROUP_STEPS, max(2, fitting))), band


def take_steps(
    block: Block,
    states: Sequence[Floats],
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
    states : one or two ndarrays of shape (channels, cells)
        With two, the steps are inertial and the result is in states[len(weights) % 2].
    kind : int
        Number of the conductance, CONSTANT or FROZEN.
    rates, scales : sequences of 4 floats
        tau w and 1 / (contrast h)² along x, y, z and the diagonals, w the weight of the face in the
        Laplacian.
    weights : sequence of float
        alpha_k of the FSI recurrence; only their number counts for explicit steps.
    faces : ndarray of shape (axes, cells), optional
        Frozen conductances.
    diagonal : bool
        Whether the eight-neighbour stencil is used.
    """
    dtype, channels = states[0].dtype, len(states[0])
    volume, inertial, coupled = len(block.spatial) == 3, len(states) == 2, kind >= 0 and channels > 1
    # Frozen faces are zero at walls already.
    masked = block.valid_storage is not None and kind != FROZEN
    sweep = build_sweep(kind, masked, volume, diagonal, inertial, coupled)
    grid = kernel_grid(block, channels)
    group, band = group_shape(len(weights), grid, dtype.itemsize)
    bounds = level_bounds(block, 1, 0, len(weights))
    for first in range(0, len(weights), group):
        some = np.array(weights[first : first + group], dtype)
        sweep(
            states[0].reshape(-1),
            states[-1].reshape(-1),
            np.zeros(1, dtype) if faces is None else faces.reshape(-1),
            kernel_walls(block),
            grid,
            tuple(dtype.type(x) for x in rates),
            tuple(dtype.type(x) for x in scales),
            some,
            first,
            bounds,
            band,
            _WORKSPACE.rows(len(some), band, grid, dtype, volume),
        )
