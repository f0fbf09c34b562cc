"""Find a contiguous array around a part of one, which compiled codecs can read from and write to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.spare import owner


def surrounding(part: NDArray[Any]) -> tuple[NDArray[Any], tuple[int, ...]] | None:
    """Return a contiguous array in whose memory a part lies, and the indices at which the part begins in it.

    The array has as many rows (planes, channels) as the part, each as long as the rows that the part was cut from, and
    stays inside the memory that the part is a view of.

    Parameters
    ----------
    part : ndarray
        Such as whole[:, 3:9, 2:7], of a contiguous array.

    Returns
    -------
    tuple of (ndarray, tuple of int), or None
        None for a part whose axes are transposed or reversed, or whose rows skip cells.

    Examples
    --------
    >>> whole = np.arange(24).reshape(4, 6)
    >>> around, begins = surrounding(whole[1:4, 2:6])
    >>> around.shape, begins
    ((3, 6), (0, 2))
    """
    if part.flags.c_contiguous:
        return part, (0,) * part.ndim
    steps: list[int] = [part.itemsize]
    lengths: list[int] = []
    for axis in range(part.ndim - 1, 0, -1):
        length, rest = divmod(part.strides[axis - 1], steps[0])
        if part.shape[axis - 1] == 1 and (rest or length < part.shape[axis]):
            length, rest = part.shape[axis], 0
        if rest or length < part.shape[axis] or (part.shape[axis] > 1 and part.strides[axis] != steps[0]):
            return None
        lengths.insert(0, length)
        steps.insert(0, steps[0] * length)
    memory = owner(part)
    first = part.ctypes.data - memory.ctypes.data
    begins = _begins(part.shape, lengths, steps, first + part.shape[0] * steps[0] - memory.nbytes)
    before = sum(n * step for n, step in zip(begins, steps, strict=True))
    if not memory.flags.c_contiguous or before > first:
        return None
    bytes_of = memory.reshape(-1).view(np.uint8)[first - before :]
    cells = np.frombuffer(bytes_of, part.dtype, part.shape[0] * steps[0] // part.itemsize)
    return cells.reshape(part.shape[0], *lengths), begins


def _begins(shape: tuple[int, ...], lengths: list[int], steps: list[int], beyond: int) -> tuple[int, ...]:
    """Return the smallest indices to begin at such that the array ends `beyond` bytes earlier than from the part on."""
    begins, left = [0], max(0, beyond)
    free = [length - n for length, n in zip(lengths, shape[1:], strict=True)]
    for axis, (most, step) in enumerate(zip(free, steps[1:], strict=True)):
        inner = sum(n * s for n, s in zip(free[axis + 1 :], steps[axis + 2 :], strict=True))
        begins.append(min(most, max(0, -(-(left - inner) // step))))
        left = max(0, left - begins[-1] * step)
    return tuple(begins)
