"""Fill cells in the order of their times from cells of smaller times around them."""

from __future__ import annotations

from diffusion_ops.kernels.lanes import copied, kernel

_LEAST_DIRECTION = 1e-6
"""Least weight of a direction, so that cells across the way of the front still count where there are no others."""


@copied
def _slope(times, i, step, before, after):  # type: ignore[no-untyped-def]
    """Return the time's difference per cell along an axis at i, from neighbours with smaller times."""
    low = before and times[i - step] < times[i]
    high = after and times[i + step] < times[i]
    if low and high:
        return (times[i + step] - times[i - step]) / 2.0
    if low:
        return times[i] - times[i - step]
    if high:
        return times[i + step] - times[i]
    return 0.0


@copied
def _seen(open_, shape, cell, offset):  # type: ignore[no-untyped-def]
    """Return whether no wall lies between a cell and the one at an offset, on the straight line of nearest cells."""
    most = max(abs(offset[0]), abs(offset[1]), abs(offset[2]))
    for k in range(1, most):
        z = cell[0] + (2 * k * offset[0] + most) // (2 * most)
        y = cell[1] + (2 * k * offset[1] + most) // (2 * most)
        x = cell[2] + (2 * k * offset[2] + most) // (2 * most)
        if not open_[(z * shape[1] + y) * shape[2] + x]:
            return False
    return True


@kernel
def fill_in_order(fields, times, open_, order, offsets, lengths, shape, steps):  # type: ignore[no-untyped-def]
    """Fill the cells of `order` in place.

    Parameters
    ----------
    fields : ndarray of shape (channels, cells), float64
    times : ndarray of shape (cells,), float64
        In units of the finest spacing.
    open_ : bool ndarray of shape (cells,)
        False at walls.
    order : ndarray of int64
        Cells by time; only cells of smaller times are read.
    offsets : ndarray of shape (neighbours, 3), int64
    lengths : ndarray of shape (neighbours,), float64
        Their lengths, in units of the finest spacing.
    shape : tuple of three int
    steps : ndarray of shape (3,), float64
        Spacing per axis, in units of the finest.
    """
    nz, ny, nx = shape
    strides = (ny * nx, nx, 1)
    for p in order:
        cell = (p // (ny * nx), p // nx % ny, p % nx)
        time = times[p]
        # The time rises away from what is known: its slope is of cells that are filled before.
        tz = _slope(times, p, strides[0], cell[0] > 0, cell[0] < nz - 1) / steps[0]
        ty = _slope(times, p, strides[1], cell[1] > 0, cell[1] < ny - 1) / steps[1]
        tx = _slope(times, p, strides[2], cell[2] > 0, cell[2] < nx - 1) / steps[2]
        steepness = (tz * tz + ty * ty + tx * tx) ** 0.5
        total = 0.0
        for channel in range(fields.shape[0]):
            fields[channel, p] = 0.0
        for k in range(offsets.shape[0]):
            z, y, x = cell[0] + offsets[k, 0], cell[1] + offsets[k, 1], cell[2] + offsets[k, 2]
            if not (0 <= z < nz and 0 <= y < ny and 0 <= x < nx):
                continue
            q = (z * ny + y) * nx + x
            if not times[q] < time or not _seen(
                open_, shape, cell, (offsets[k, 0], offsets[k, 1], offsets[k, 2])
            ):
                continue
            dz, dy, dx = -offsets[k, 0] * steps[0], -offsets[k, 1] * steps[1], -offsets[k, 2] * steps[2]
            along = abs(dz * tz + dy * ty + dx * tx)
            direction = max(along / (lengths[k] * steepness) if steepness > 0.0 else 1.0, _LEAST_DIRECTION)
            weight = direction / (lengths[k] * lengths[k]) / (1.0 + (time - times[q]))
            total += weight
            for channel in range(fields.shape[0]):
                fields[channel, p] += weight * fields[channel, q]
        for channel in range(fields.shape[0]):
            fields[channel, p] /= total
