"""Solve the coarsest level directly, without a subtraction (Grassmann, Taksar and Heyman 1985)."""

from __future__ import annotations

import numpy as np

from diffusion_ops.kernels.lanes import kernel


@kernel
def eliminate(starts, ends, w, sigma):  # type: ignore[no-untyped-def]
    """Return the factors (couplings, diagonal) of a small graph, for `solve_eliminated`.

    All sums are of positive terms, so that every entry has a small relative error, however large the range of the
    couplings is. A part of the graph that is held by nothing gets a diagonal of 0 in its last node.
    """
    n = sigma.shape[0]
    full, diagonal, held = np.zeros((n, n)), np.empty(n), sigma.astype(np.float64)
    for i in range(n):
        for k in range(starts[i], starts[i + 1]):
            full[i, ends[k]] = w[k]
    for k in range(n):
        s = held[k]
        for j in range(k + 1, n):
            s += full[k, j]
        diagonal[k] = s
        if s == 0.0:
            continue
        for i in range(k + 1, n):
            if full[i, k] == 0.0:
                continue
            part = full[i, k] / s
            held[i] += part * held[k]
            for j in range(k + 1, n):
                if j != i:
                    full[i, j] += part * full[k, j]
    return full, diagonal


@kernel
def solve_eliminated(full, diagonal, b):  # type: ignore[no-untyped-def]
    """Return x of A x = b; 0 where nothing holds it."""
    n = diagonal.shape[0]
    x = b.copy()
    for k in range(n):
        if diagonal[k] == 0.0:
            continue
        part = x[k] / diagonal[k]
        for i in range(k + 1, n):
            x[i] += full[i, k] * part
    for k in range(n - 1, -1, -1):
        if diagonal[k] == 0.0:
            x[k] = 0.0
            continue
        s = x[k]
        for j in range(k + 1, n):
            s += full[k, j] * x[j]
        x[k] = s / diagonal[k]
    return x
