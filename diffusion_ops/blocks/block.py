"""Hold one tile in the layout of the kernels: channels first, rows padded to whole lanes, walls as a mask."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from diffusion_ops.blocks.spare import LINE, aligned, keep_state, owner, state_memory

LANES = 16
"""Rows are stored in whole groups of this many cells, so that inner loops have no remainder."""

BAND_CELLS = 1 << 18
"""Number of cells that are converted, compared or cleared at a time, so that the temporary arrays are small."""

FEW_CELLS = 1 << 11
"""The same where several such arrays would be as large as a small tile."""

Floats = NDArray[Any]
Bools = NDArray[np.bool_]
OpenSides = tuple[tuple[bool, bool], ...]


def row_pitch(columns: int) -> int:
    """Return the stored length of a row of `columns` cells."""
    return -(-columns // LANES) * LANES


def row_bands(spatial: tuple[int, ...], cells: int = BAND_CELLS) -> Iterator[slice]:
    """Yield slices of the first spatial axis, of about as many cells each."""
    rows = max(1, cells // max(1, math.prod(spatial[1:])))
    for start in range(0, spatial[0], rows):
        yield slice(start, start + rows)


def allocate(copies: int, spatial: tuple[int, ...], dtype: np.dtype[Any]) -> Floats:
    """Return zeros of shape (copies, cells) with room for a kernel to read one group of lanes past the end."""
    cells = math.prod(spatial[:-1]) * row_pitch(spatial[-1])
    return aligned_zeros(copies * cells + LANES, dtype)[: copies * cells].reshape(copies, cells)


def aligned_zeros(count: int, dtype: np.dtype[Any]) -> Floats:
    """Return zeros that begin at a cache line, so that a group of lanes fills one."""
    size = count * np.dtype(dtype).itemsize
    return aligned(np.zeros(size + LINE, np.uint8), size).view(dtype)


def as_image(storage: Floats, spatial: tuple[int, ...]) -> Floats:
    """Return the view of shape (copies, *spatial) of an array that `allocate` returned."""
    rows = storage.reshape(storage.shape[0], *spatial[:-1], row_pitch(spatial[-1]))
    return rows[..., : spatial[-1]]


def block_memory(shape: tuple[int, ...], dtype: DTypeLike) -> Floats:
    """Return an uninitialised image in the memory of a state, laid out so that `Block.from_image` need not copy it.

    The last axis of `shape` holds the columns.
    """
    dtype, pitch = np.dtype(dtype), row_pitch(shape[-1])
    rows = (*shape[:-1], pitch)
    room = state_memory((math.prod(rows) + LANES) * dtype.itemsize).view(dtype)
    return room[:-LANES].reshape(rows)[..., : shape[-1]]


def mask_memory(spatial: tuple[int, ...], dtype: DTypeLike = bool) -> Bools:
    """Return a mask laid out so that `Block.from_image` need not copy it."""
    mask: Bools = as_image(allocate(1, spatial, np.dtype(dtype)), spatial)[0]
    return mask


def _room_of(image: Floats) -> Floats | None:
    """Return the memory of an image of shape (channels, *spatial) that is laid out as a block, None for any other."""
    room, pitch, step = owner(image), row_pitch(image.shape[-1]), image.itemsize
    size = (math.prod(image.shape[:-1]) * pitch + LANES) * step
    start = image.ctypes.data - room.ctypes.data
    if room.dtype != np.uint8 or room.ndim != 1 or start + size > room.nbytes or image.ctypes.data % LINE:
        return None
    for axis in reversed(range(image.ndim)):
        if image.shape[axis] > 1 and image.strides[axis] != step:
            return None
        step *= pitch if axis == image.ndim - 1 else image.shape[axis]
    return room[start : start + size].view(image.dtype)


@dataclass
class Block:
    """A window of the image in a batch of steps.

    Attributes
    ----------
    storage : ndarray of shape (channels, cells), float32 or float64
        State; invalid cells hold a finite number that affects no other cell.
    spatial : tuple of int
        Shape without channels, (rows, columns) or (planes, rows, columns).
    spacing : tuple of float
        Grid spacing per spatial axis.
    valid_storage : bool ndarray of shape (1, cells) or None
        True where valid, False at walls; None where every cell is valid.
    open_sides : tuple of (bool, bool) per axis
        True where the image continues beyond the block, so that every step spoils further cells near that side; False
        where the side is the image's own edge, which is a wall.
    spoilt : tuple of int
        Number of cells that are spoilt at the open sides, per axis; only `advance` changes it.
    origin : tuple of int
        Index in the image of the block's first cell, per axis: random numbers and fixed grids depend on the position
        in the image, not on the tile.
    frame : int
        Number of the frame that the block belongs to.
    carried : ndarray of shape (n, cells) or None
        Arrays that the operator carries from batch to batch beside the state: a second field, dual variables, flags.
    guide : ndarray of shape (channels, cells) or None
        Another image, whose structure is used instead of the state's own.
    step : int
        Number of steps that the operator has taken.
    numbers : mapping of str to float, or None
        Numbers of the whole image that the operator refreshes every few steps; None where nobody has measured them.
    """

    storage: Floats
    spatial: tuple[int, ...]
    spacing: tuple[float, ...]
    valid_storage: Bools | None = None
    open_sides: OpenSides = ()
    spoilt: tuple[int, ...] = ()
    origin: tuple[int, ...] = ()
    frame: int = 0
    carried: Floats | None = None
    guide: Floats | None = None
    step: int = 0
    numbers: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        self.open_sides = self.open_sides or ((False, False),) * len(self.spatial)
        self.spoilt = self.spoilt or (0,) * len(self.spatial)
        self.origin = self.origin or (0,) * len(self.spatial)

    @classmethod
    def from_image(
        cls,
        image: Floats,
        spacing: tuple[float, ...],
        valid: Bools | None = None,
        open_sides: OpenSides = (),
        dtype: np.dtype[Any] | None = None,
        carried: int = 0,
        in_place: bool = False,
    ) -> Block:
        """Copy an image of shape (channels, *spatial) into the kernels' layout, as `dtype` (its own by default).

        The last `carried` channels are carried arrays, not channels of the image. With `in_place` an image in
        `block_memory` becomes the block itself, and a mask in `mask_memory` its walls.
        """
        spatial = image.shape[1:]
        dtype = np.dtype(dtype or image.dtype)
        room = _room_of(image) if in_place and dtype == image.dtype else None
        if room is None:
            copied = block_memory(image.shape, dtype)
            copied[...] = image
            room = _room_of(copied)
            assert room is not None
        rows = room[:-LANES].reshape(image.shape[0], *spatial[:-1], row_pitch(spatial[-1]))
        # Padding must be finite, or kernels would compute with NaN in vain.
        rows[..., spatial[-1] :] = 0
        room[-LANES:] = 0
        storage = room[:-LANES].reshape(image.shape[0], -1)
        block = cls(storage, spatial, spacing, None, open_sides)
        if valid is not None and not valid.all():
            walls = _room_of(valid[None]) if in_place else None
            if walls is None:
                block.valid_storage = allocate(1, spatial, np.dtype(bool))
                as_image(block.valid_storage, spatial)[0] = valid
            else:
                block.valid_storage = walls[:-LANES].reshape(1, -1)
            for band in row_bands(spatial):
                np.copyto(block.u[:, band], 0, where=~valid[band])
        if carried:
            block.storage, block.carried = storage[:-carried], storage[-carried:]
        return block

    def release(self, result: Floats) -> None:
        """Release the memory to the thread's next block, unless a result is a view of it."""
        if not np.may_share_memory(self.storage, result):
            keep_state(self.storage)

    @property
    def structure(self) -> Floats:
        """Array that gradients and tensors are computed from, (channels, cells): the guide, or else the state."""
        return self.storage if self.guide is None else self.guide

    def kept(
        self, keep: tuple[slice, ...], empty: Callable[..., Floats] = np.empty, in_place: bool = False
    ) -> Floats:
        """Return a copy of part of the state, with carried arrays as further channels and NaN at walls.

        `empty` makes an uninitialised array from its shape and dtype. With `in_place` the part itself is returned, NaN
        at its walls, where nothing is carried.
        """
        part = (slice(None), *keep)
        state = self.u[part]
        if self.carried is not None or not in_place:
            beside = [] if self.carried is None else [as_image(self.carried, self.spatial)[part]]
            arrays = [state, *beside]
            state = empty((sum(map(len, arrays)), *state.shape[1:]), self.storage.dtype)
            np.concatenate(arrays, out=state)
        if self.valid is not None:
            valid = self.valid[keep]
            for band in row_bands(valid.shape):
                np.copyto(state[:, band], np.nan, where=~valid[band])
        return state

    @property
    def u(self) -> Floats:
        """State as a view of shape (channels, *spatial)."""
        return as_image(self.storage, self.spatial)

    @property
    def valid(self) -> Bools | None:
        """Mask as a view of shape `spatial`, or None."""
        return None if self.valid_storage is None else as_image(self.valid_storage, self.spatial)[0]

    @property
    def grid(self) -> tuple[int, int, int, int]:
        """Numbers of planes (1 in 2-D), rows and columns, and the pitch of a row."""
        planes, rows, columns = (1,) * (3 - len(self.spatial)) + self.spatial
        return planes, rows, columns, row_pitch(columns)

    def after(self, cells: tuple[int, ...]) -> Block:
        """Return a block of the same arrays, with `cells` more spoilt per axis, for a later kernel of one call."""
        return replace(self, spoilt=tuple([s + c for s, c in zip(self.spoilt, cells, strict=True)]))
