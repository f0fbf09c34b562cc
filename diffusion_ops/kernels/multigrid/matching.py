"""Aggregation by matching: pairs of nodes that a constant correction serves well, and stars around pairs.

A pair i, j is good if mu = 2 D_i D_j / (D_i + D_j) / (w_ij + sigma_i sigma_j / (sigma_i + sigma_j)) is small (Notay
2010). It is admitted only if mu <= quality, and the same with D replaced by the sum of the finest level's D over the
members: without this second test the convergence is lost where couplings span many decades.

Nodes are matched within fixed cells only. A tile that holds a cell and what its diagonals need then makes the same
pairs as the whole image, by construction; cells of 8 and 16 pixels cost no iteration.
"""

from __future__ import annotations

import numpy as np

from diffusion_ops.kernels.lanes import copied, kernel

_ROUNDS = 6
"""Rounds of proposals; later ones find next to nothing."""

CLOSED = -2
"""Group of nodes that are coupled to nothing, and have no equation."""

_SLACK = 1.001
"""Factor by which the second test is laxer than the first."""


@copied
def _mixed(a, b, low):  # type: ignore[no-untyped-def]
    """Return a number of the pair of keys a, b that looks random, for ties."""
    small, large = np.uint64(min(a, b)), np.uint64(max(a, b))
    h = (small * np.uint64(2654435761) + large) * np.uint64(0x9E3779B97F4A7C15) + low
    h ^= h >> np.uint64(29)
    h *= np.uint64(0xBF58476D1CE4E5B9)
    return h ^ (h >> np.uint64(32))


@copied
def _parallel(a, b):  # type: ignore[no-untyped-def]
    """Return a b / (a + b)."""
    return np.float64(a) * np.float64(b) / (np.float64(a) + np.float64(b))


@kernel
def match(starts, ends, w, sigma, diagonal, fine, cells, keys, quality, leave_out):  # type: ignore[no-untyped-def]
    """Return the group of every node, -1 for those left out, CLOSED without an equation; and the number of groups.

    Parameters
    ----------
    starts, ends, w, sigma
        The graph.
    diagonal, fine : float arrays
        D, and the sum of the finest level's D over the members.
    cells : int array
        Nodes match only within one cell.
    keys : int array
        What breaks ties within a cell; must not depend on the tile.
    quality : float
        Largest mu.
    leave_out : bool
        Leave out nodes that sigma dominates; smoothing alone handles them.
    """
    n = sigma.shape[0]
    mate, wish = np.full(n, -1, np.int32), np.full(n, -1, np.int32)
    out = np.zeros(n, np.bool_)
    for i in range(n):
        strong = leave_out and diagonal[i] * (quality - 2.0) >= quality * (diagonal[i] - sigma[i])
        out[i] = strong or diagonal[i] == 0.0
    for _ in range(_ROUNDS):
        for i in range(n):
            wish[i] = -1
            if mate[i] >= 0 or out[i]:
                continue
            least, least_hash, best = quality, np.uint64(0xFFFFFFFFFFFFFFFF), -1
            for k in range(starts[i], starts[i + 1]):
                j = ends[k]
                if mate[j] >= 0 or out[j] or cells[i] != cells[j]:
                    continue
                strength = np.float64(w[k])
                if sigma[i] > 0.0 and sigma[j] > 0.0:
                    strength += _parallel(sigma[i], sigma[j])
                mu = 2.0 * _parallel(diagonal[i], diagonal[j]) / strength
                if mu > least:
                    continue
                if 2.0 * _parallel(fine[i], fine[j]) / strength > _SLACK * quality:
                    continue
                h = _mixed(keys[i], keys[j], np.uint64(0))
                if mu < least or h < least_hash:
                    least, least_hash, best = mu, h, j
            wish[i] = best
        found = 0
        for i in range(n):
            j = wish[i]
            if j >= 0 and wish[j] == i:
                mate[i] = j
                found += 1
        if found == 0:
            break
    return _number(starts, ends, w, diagonal, fine, cells, keys, quality, mate, out)


@kernel
def _number(starts, ends, w, diagonal, fine, cells, keys, quality, mate, out):  # type: ignore[no-untyped-def]
    """Let single nodes join the heaviest pair beside them where that is good; number the groups."""
    n = mate.shape[0]
    groups, count = np.full(n, -1, np.int32), 0
    join = np.full(n, -1, np.int32)
    for i in range(n):
        if mate[i] >= 0 or out[i]:
            continue
        heaviest, key, best = 0.0, 0, -1
        for k in range(starts[i], starts[i + 1]):
            j = ends[k]
            if mate[j] < 0 or cells[i] != cells[j]:
                continue
            if w[k] > heaviest or (w[k] == heaviest and keys[j] < key):
                heaviest, key, best = w[k], keys[j], j
        if 2.0 * diagonal[i] <= quality * heaviest and 2.0 * fine[i] <= _SLACK * quality * heaviest:
            join[i] = best
    for i in range(n):
        if diagonal[i] == 0.0:
            groups[i] = CLOSED
        if out[i] or join[i] >= 0:
            continue
        if mate[i] < 0 or i < mate[i]:
            groups[i] = count
            count += 1
        else:
            groups[i] = groups[mate[i]]
    for i in range(n):
        if join[i] >= 0:
            groups[i] = groups[join[i]]
    return groups, count
