"""Diffusion tensors that reduce diffusion across the structures of an image; stored at cells, used at corners."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from diffusion_ops.blocks.block import Block, Floats, allocate, as_image
from diffusion_ops.kernels.gaussian import smoothed
from diffusion_ops.kernels.tensors.structure import principal_axes, structure_tensor, tensor_arrays

_BAND = 1 << 10
"""Number of cells whose tensors are computed at a time, so that their eigenvectors need little memory."""


def align(out: Floats, block: Block, anisotropy: float, sigma: float, rho: float) -> None:
    """Fill out, (3 or 6, cells), with D = I - anisotropy c e eᵀ at every cell, from the block's structure.

    e is the first eigenvector of the structure tensor, across the structures, and c = (μ1 - μ2) / (μ1 + μ2) of its
    two largest eigenvalues says how clear that direction is: in a volume D follows layers. Where the image is flat
    D = I.

    Parameters
    ----------
    out : ndarray of shape (3 or 6, cells)
        Receives the components xx, yy, xy or xx, yy, zz, xy, xz, yz.
    block : Block
        Its guide is read, or its state where it has none.
    anisotropy : float
        Between 0 and 1.
    sigma, rho : float
        Noise scale and feature scale, in units of the spacing.
    """
    products = structure_tensor(block, sigma, 0.0)
    # One component at a time: smoothed together they would take as much memory again.
    for k in range(len(products)):
        out[k] = smoothed(dataclasses.replace(block, storage=products[k : k + 1]), rho)[0]
    del products
    ndim = len(block.spatial)
    for first in range(0, out.shape[1], _BAND):
        band = out[:, first : first + _BAND]
        values, axis = principal_axes(np.ascontiguousarray(band))
        total = values[0] + values[1]
        clear = np.divide(values[0] - values[1], total, out=np.zeros_like(total), where=total > 0)
        clear *= anisotropy
        pairs = [(i, i) for i in range(ndim)] + [(i, j) for i in range(ndim) for j in range(i + 1, ndim)]
        for component, (i, j) in zip(band, pairs, strict=True):
            np.subtract(float(i == j), clear * axis[i] * axis[j], out=component)


def at_corners(block: Block, tensor: Floats) -> Floats:
    """Return the mean over the valid cells around every corner, (components, corners), of a tensor at the cells.

    A corner reads only the cells that its flux acts on, so that it does not widen the reach of a step.
    """
    spatial = tuple(n + 1 for n in block.spatial)
    result = allocate(tensor_arrays(len(block.spatial)), spatial, tensor.dtype)
    count = allocate(1, spatial, tensor.dtype)
    to, cells, number = as_image(result, spatial), as_image(tensor, block.spatial), as_image(count, spatial)
    counted: Any = True if block.valid is None else block.valid
    for offset in np.ndindex((2,) * len(block.spatial)):
        around = tuple(slice(s, s + n) for s, n in zip(offset, block.spatial, strict=True))
        number[0][around] += counted
        for target, component in zip(to, cells, strict=True):
            np.add(target[around], component, out=target[around], where=counted)
    np.maximum(count, 1, out=count)
    np.divide(result, count, out=result)
    return result
