"""Coarser levels as graphs: rows of couplings, (A x)_i = sigma_i x_i + sum_j w_ij (x_i - x_j).

A graph is (starts, ends, w, sigma): the couplings of node i are w[starts[i] : starts[i + 1]] to the nodes of `ends`.
`groups` gives the node of the next coarser level that a node belongs to, below 0 for those left out, whose correction
is 0. Couplings are kept in float32: graphs serve corrections only, and what is left is measured on the pixels.
"""

from __future__ import annotations

import numpy as np

from diffusion_ops.kernels.lanes import copied, kernel


@copied
def _put(ends, weights, count, j, value):  # type: ignore[no-untyped-def]
    """Append a coupling unless it is 0; return how many there are."""
    if value > 0.0:
        ends[count] = j
        weights[count] = value
        count += 1
    return count


@kernel
def grid_graph(starts, ends, weights, w, shape, pad):  # type: ignore[no-untyped-def]
    """Fill the rows of the grid's cells; return the number of couplings."""
    _, ny, nx = shape
    up, deep = ny * nx, shape[0] > 1
    wz, wy, wx = w[0], w[1], w[2]
    count = 0
    starts[0] = 0
    for n in range(starts.shape[0] - 1):
        i = pad + n
        if deep:
            count = _put(ends, weights, count, n - up, wz[i - up])
        count = _put(ends, weights, count, n - nx, wy[i - nx])
        count = _put(ends, weights, count, n - 1, wx[i - 1])
        count = _put(ends, weights, count, n + 1, wx[i])
        count = _put(ends, weights, count, n + nx, wy[i])
        if deep:
            count = _put(ends, weights, count, n + up, wz[i])
        starts[n + 1] = count
    return count


@kernel
def row_sums(starts, w, sigma):  # type: ignore[no-untyped-def]
    """Return the diagonal, sigma plus all couplings of a row."""
    diagonal = np.empty(sigma.shape[0], np.float32)
    for i in range(sigma.shape[0]):
        s = 0.0
        for k in range(starts[i], starts[i + 1]):
            s += w[k]
        diagonal[i] = sigma[i] + s
    return diagonal


@kernel
def members_of(groups, count):  # type: ignore[no-untyped-def]
    """Return the nodes group by group, and where each group begins."""
    first = np.zeros(count + 1, np.int64)
    for i in range(groups.shape[0]):
        if groups[i] >= 0:
            first[groups[i] + 1] += 1
    for g in range(count):
        first[g + 1] += first[g]
    members, place = np.empty(first[count], np.int32), first[:-1].copy()
    for i in range(groups.shape[0]):
        if groups[i] >= 0:
            members[place[groups[i]]] = i
            place[groups[i]] += 1
    return members, first


@copied
def _join(ends, weights, last, begin, total, other, value):  # type: ignore[no-untyped-def]
    """Add a coupling to the row that begins at `begin`, and return how many couplings there are now."""
    if last[other] < begin:
        last[other] = total
        ends[total] = other
        weights[total] = value
        return total + 1
    weights[last[other]] += value
    return total


@kernel
def coarsen(starts, ends, w, sigma, groups, count):  # type: ignore[no-untyped-def]
    """Return the graph of `count` groups: couplings across are summed, those to nodes left out go into sigma."""
    members, first = members_of(groups, count)
    above, total = np.zeros(count + 1, np.int64), 0
    new_ends, new_w = np.empty(ends.shape[0], np.int32), np.empty(ends.shape[0], np.float32)
    new_sigma = np.zeros(count, np.float32)
    last = np.full(count, -1, np.int64)
    for g in range(count):
        begin, s = total, 0.0
        for m in range(first[g], first[g + 1]):
            i = members[m]
            s += sigma[i]
            for k in range(starts[i], starts[i + 1]):
                other = groups[ends[k]]
                if other < 0:
                    s += w[k]
                elif other != g:
                    total = _join(new_ends, new_w, last, begin, total, other, w[k])
        new_sigma[g] = s
        above[g + 1] = total
    return above, new_ends[:total].copy(), new_w[:total].copy(), new_sigma


@kernel
def coarsen_grid(w, sigma, groups, count, shape, pad):  # type: ignore[no-untyped-def]
    """Return the graph of `count` groups of the grid's cells, as `coarsen` of its own, larger graph."""
    members, first = members_of(groups, count)
    nx, up = shape[2], shape[1] * shape[2] if shape[0] > 1 else 0
    wz, wy, wx = w[0], w[1], w[2]
    steps = (-up, -nx, -1, 1, nx, up)
    room = groups.shape[0] * (6 if up else 4)
    above, total = np.zeros(count + 1, np.int64), 0
    new_ends, new_w = np.empty(room, np.int32), np.empty(room, np.float32)
    new_sigma = np.zeros(count, np.float32)
    last = np.full(count, -1, np.int64)
    for g in range(count):
        begin, s = total, 0.0
        for m in range(first[g], first[g + 1]):
            n = members[m]
            i = pad + n
            s += sigma[i]
            back, ahead = (wz[i - up], wz[i]) if up else (0.0, 0.0)
            values = (back, wy[i - nx], wx[i - 1], wx[i], wy[i], ahead)
            for k in range(6):
                if values[k] == 0.0:
                    continue
                other = groups[n + steps[k]]
                if other < 0:
                    s += values[k]
                elif other != g:
                    total = _join(new_ends, new_w, last, begin, total, other, values[k])
        new_sigma[g] = s
        above[g + 1] = total
    return above, new_ends[:total].copy(), new_w[:total].copy(), new_sigma


@kernel
def gather(groups, values, count, pad):  # type: ignore[no-untyped-def]
    """Return the sums of values over the groups, in the order of the nodes; values begin at `pad`."""
    sums = np.zeros(count)
    for i in range(groups.shape[0]):
        if groups[i] >= 0:
            sums[groups[i]] += values[pad + i]
    return sums


@kernel
def spread(x, groups, values, pad):  # type: ignore[no-untyped-def]
    """Add the values of their groups to the nodes, in place; x begins at `pad`."""
    for i in range(groups.shape[0]):
        if groups[i] >= 0:
            x[pad + i] += values[groups[i]]


@kernel
def graph_residual(r, b, x, starts, ends, w, sigma):  # type: ignore[no-untyped-def]
    """Fill r = b - A x."""
    for i in range(sigma.shape[0]):
        here = x[i]
        s = sigma[i] * here
        for k in range(starts[i], starts[i + 1]):
            s += w[k] * (here - x[ends[k]])
        r[i] = b[i] - s + 0.0


@kernel
def relax_graph(y, x, b, inverse, damping, starts, ends, w, sigma):  # type: ignore[no-untyped-def]
    """Fill y with a damped Jacobi step from x."""
    for i in range(sigma.shape[0]):
        here = x[i]
        s = sigma[i] * here
        for k in range(starts[i], starts[i + 1]):
            s += w[k] * (here - x[ends[k]])
        y[i] = here + damping * ((b[i] - s) * inverse[i])


@kernel
def held_nodes(starts, ends, sigma):  # type: ignore[no-untyped-def]
    """Return which nodes are connected with one whose sigma is not 0."""
    n = sigma.shape[0]
    held, waiting, count = sigma > 0.0, np.empty(n, np.int32), 0
    for i in range(n):
        if held[i]:
            waiting[count] = i
            count += 1
    while count > 0:
        count -= 1
        i = waiting[count]
        for k in range(starts[i], starts[i + 1]):
            if not held[ends[k]]:
                held[ends[k]] = True
                waiting[count] = ends[k]
                count += 1
    return held
