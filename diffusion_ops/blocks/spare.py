"""Keep the memory that a thread's task no longer reads for its next task, which then asks the system for none.

New memory costs page faults: of a run from Zarr to Zarr whose steps take 3 s they took 1.2 s. A thread's tasks are
nearly all of one size.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

LINE = 64
"""Bytes of a cache line."""

GROWTH = 1.25
"""New memory is addressed this much larger than it has to be: the first windows of an image touch its edges and have
less halo than the others. What is not touched takes no memory."""

SMALLEST_WINDOW = 33 << 16
"""Bytes from which the memory of a window is kept; smaller arrays the allocator keeps by itself."""


def aligned(room: NDArray[Any], size: int) -> NDArray[Any]:
    """Return `size` of `LINE` more bytes, from a cache line on: heat is 1.4 times as fast there."""
    start = -room.ctypes.data % LINE
    return room[start : start + size]


def owner(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array that an array is a view of; an array that is no view of another one itself."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


class _Spare(threading.local):
    """Memory of one array that a thread no longer reads."""

    room: NDArray[Any] | None = None

    def take(self, size: int) -> NDArray[Any]:
        """Return uninitialised bytes that begin at a cache line; until they are given back, they are the caller's."""
        room, self.room = self.room, None
        if room is None or not size <= room.nbytes - LINE <= 2 * size:
            # The memory of before is free before there is more.
            del room
            room = np.zeros(int(GROWTH * size) + LINE, np.uint8)
        return aligned(room, size)

    def give(self, array: NDArray[Any]) -> None:
        """Keep the memory of an array that is no longer read, where it was taken here."""
        room = owner(array)
        if room.dtype == np.uint8 and room.ndim == 1:
            self.room = room


_STATES, _WINDOWS = _Spare(), _Spare()


def state_memory(size: int) -> NDArray[Any]:
    """Return `size` uninitialised bytes for the state of a block, in the memory of the state before where there is."""
    return _STATES.take(size)


def keep_state(array: NDArray[Any]) -> None:
    """Keep the memory of a state for the thread's next block; neither it nor a view of it is read any more."""
    _STATES.give(array)


def window_memory(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an uninitialised array to read pixels into, in the memory of a window before where there is."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < SMALLEST_WINDOW:
        release_window()
        return np.empty(shape, dtype)
    return _WINDOWS.take(size).view(dtype).reshape(shape)


def keep_window(array: NDArray[Any]) -> None:
    """Keep the memory of pixels for what the thread reads next; neither they nor a view of them is read any more."""
    _WINDOWS.give(array)


def release_window() -> None:
    """Free the memory of a window that this thread keeps, before it reads into other memory."""
    _WINDOWS.room = None


def release_spare() -> None:
    """Free what this thread keeps for its next task, before it does something else."""
    _STATES.room = _WINDOWS.room = None
