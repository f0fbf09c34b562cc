"""Steady states solved directly, as a sparse system, on whole small images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, diags_array
from scipy.sparse.linalg import spsolve


def laplacian(weights: list[NDArray[Any]]) -> Any:
    """Return the matrix of sum of w (u - u_neighbour), from weights between neighbours per axis, one shorter there."""
    shape = [n + (axis == 0) for axis, n in enumerate(weights[0].shape)]
    index = np.arange(np.prod(shape)).reshape(shape)
    pairs = [
        (np.delete(index, -1, a).ravel(), np.delete(index, 0, a).ravel(), w.ravel())
        for a, w in enumerate(weights)
    ]
    i, j, w = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    off = coo_array(
        (np.concatenate([w, w]), (np.concatenate([i, j]), np.concatenate([j, i]))), (index.size,) * 2
    ).tocsr()
    return diags_array(off.sum(axis=1)).tocsr() - off


def walker_weights(
    image: NDArray[Any], beta: float, scale: float, spacing: tuple[float, ...]
) -> list[NDArray[Any]]:
    """Return scikit-image's weights of an image (channels, *spatial); scale is what counts as 1."""
    values = image.astype(np.float64) / scale
    factor = beta / (10 * values.std() * np.sqrt(len(values)))
    steps = ((np.diff(values, axis=axis + 1) / h) ** 2 for axis, h in enumerate(spacing))
    return [np.exp(-factor * step.sum(axis=0)) + 1e-10 for step in steps]


def solved(matrix: Any, known: NDArray[np.bool_], values: NDArray[Any]) -> NDArray[Any]:
    """Return u of matrix u = 0 at unknown cells."""
    u, free = np.where(known, values, 0).astype(np.float64).ravel(), ~known.ravel()
    u[free] = spsolve(matrix[free][:, free].tocsc(), -(matrix[free][:, ~free] @ u[~free]))
    return u.reshape(known.shape)
