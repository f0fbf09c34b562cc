"""Names of aggregates within fixed cells of the image, the same for every tile; rows of the fourth level per cell.

An aggregate of the second level lies in a cell of 8 pixels a side, one of the third level in a cell of 16, and one of
the fourth in a cell of 32. Within its cell it has a number from 1 on, and a pixel's label holds the three of them. A
number of 0 stands for a node that is left out, all bits for one of a closed region without any known cell.
"""

from __future__ import annotations

import numpy as np

from diffusion_ops.kernels.lanes import copied, kernel

SIDES = (8, 16, 32)
"""Pixels along a side of the cells of the second, third and fourth level."""

SHIFTS, BITS = (0, 10, 21), (10, 11, 11)
"""Where the number of each of these levels begins in a label, and how many bits it has."""


@kernel
def cell_numbers(shape, side):  # type: ignore[no-untyped-def]
    """Return the number of the cell that each pixel lies in, cells in row-major order."""
    nz, ny, nx = shape
    rows, columns = ny // side, nx // side
    cells = np.empty(nz * ny * nx, np.int32)
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                cells[(z * ny + y) * nx + x] = (z // side * rows + y // side) * columns + x // side
    return cells


@kernel
def ranks_in_cells(cells, groups, count, most):  # type: ignore[no-untyped-def]
    """Return the cell of each group, and its rank in the cell, in order of the groups; -1 from `most` on."""
    home, rank = np.full(count, -1, np.int32), np.empty(count, np.int32)
    for i in range(groups.shape[0]):
        if groups[i] >= 0:
            home[groups[i]] = cells[i]
    found = np.zeros(cells.max() + 1 if cells.shape[0] else 0, np.int32)
    for g in range(count):
        rank[g] = found[home[g]] if found[home[g]] < most else -1
        found[home[g]] += 1
    return home, rank


@kernel
def numbers_of_labels(labels, cells, count):  # type: ignore[no-untyped-def]
    """Return the group of each label, -1 without, in order of the cells; and the first group of each cell."""
    base = np.zeros(count + 1, np.int64)
    for i in range(labels.shape[0]):
        if labels[i] > base[cells[i] + 1]:
            base[cells[i] + 1] = labels[i]
    for c in range(count):
        base[c + 1] += base[c]
    groups = np.empty(labels.shape[0], np.int32)
    for i in range(labels.shape[0]):
        groups[i] = base[cells[i]] + labels[i] - 1 if labels[i] > 0 else -1
    return groups, base


@copied
def _face(here, there, columns):  # type: ignore[no-untyped-def]
    """Return 0 for the same cell, 1 ... 6 for the next one along -z, -y, -x, +x, +y, +z."""
    step = there - here
    if step == 0:
        return 0
    if step == -1:
        return 3
    if step == 1:
        return 4
    if step == -columns:
        return 2
    if step == columns:
        return 5
    return 1 if step < 0 else 6


@kernel
def pack_rows(out, starts, ends, w, sigma, home, rank, columns, slots):  # type: ignore[no-untyped-def]
    """Write the rows of each cell's nodes into out[cell]: their number, then sigma, the number of couplings, couplings.

    A coupling is (slots * face + rank, w), with the face that the other node's cell lies at. Nodes are in the order of
    their cells' ranks.
    """
    place = np.ones(out.shape[0], np.int64)
    out[:, 0] = 0.0
    for i in range(sigma.shape[0]):
        cell = home[i]
        at = place[cell]
        out[cell, 0] += 1.0
        out[cell, at], out[cell, at + 1] = sigma[i], starts[i + 1] - starts[i]
        at += 2
        for k in range(starts[i], starts[i + 1]):
            j = ends[k]
            out[cell, at] = slots * _face(cell, home[j], columns) + rank[j]
            out[cell, at + 1] = w[k]
            at += 2
        place[cell] = at


@kernel
def count_rows(rows, counts):  # type: ignore[no-untyped-def]
    """Fill the number of nodes per cell; return the number of all couplings."""
    total = 0
    for c in range(rows.shape[0]):
        counts[c] = int(rows[c, 0])
        at = 1
        for _ in range(counts[c]):
            degree = int(rows[c, at + 1])
            total += degree
            at += 2 + 2 * degree
    return total


@kernel
def unpack_rows(rows, first, nodes, starts, ends, w, sigma, base, grid, slots):  # type: ignore[no-untyped-def]
    """Write the rows of the cells from `first` on into a graph, after the `nodes` that it has; return the new number.

    `base` is the first node of every cell, `grid` the number of cells per axis.
    """
    _, ny, nx = grid
    steps = (0, -ny * nx, -nx, -1, 1, nx, ny * nx)
    count = starts[nodes]
    for c in range(rows.shape[0]):
        at = 1
        for _ in range(int(rows[c, 0])):
            sigma[nodes] = rows[c, at]
            degree = int(rows[c, at + 1])
            at += 2
            for _ in range(degree):
                code = int(rows[c, at])
                ends[count] = base[first + c + steps[code // slots]] + code % slots
                w[count] = rows[c, at + 1]
                count += 1
                at += 2
            nodes += 1
            starts[nodes] = count
    return nodes
