"""Make a block of the windows around a chunk of a Dask array, and put its result back in the user's order of axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.fields import channels_first, make_block
from diffusion_ops.blocks.window import Window
from diffusion_ops.containers.tiling import Tiling


@dataclass(frozen=True)
class ChunkTask:
    """Arguments shared by the tasks of all chunks, and how they make a block of the windows of one."""

    tiling: Tiling
    spacing: tuple[float, ...]
    channel_axis: int | None
    nodata: float | None
    windows: tuple[str, ...]
    """Content of each window: "image" (of the user) or "state" (floats with NaN for walls), "mask", "guide"."""
    carried: int = 0
    """Number of the state's last channels that are carried arrays."""
    frame: int = 0

    @property
    def first(self) -> bool:
        """True where the task starts from the user's image."""
        return self.windows[0] == "image"

    @property
    def axes(self) -> tuple[int, ...]:
        """Spatial axes."""
        return tuple(a for a in range(len(self.tiling.chunks)) if a != self.channel_axis)

    def reaching(self, halo: Sequence[int]) -> ChunkTask:
        """Return the task with windows for a halo given per spatial axis."""
        every = list(halo)
        if self.channel_axis is not None:
            every.insert(self.channel_axis, 0)
        return replace(self, tiling=Tiling(self.tiling.chunks, tuple(every)))

    def after(self, carried: int) -> ChunkTask:
        """Return the task that starts from a state with some carried arrays."""
        return replace(self, windows=("state", *(w for w in self.windows if w == "guide")), carried=carried)

    def window(self, block_id: Sequence[int]) -> Window:
        """Return the window of a chunk along the spatial axes."""
        return self.tiling.along(self.axes).window([block_id[a] for a in self.axes])

    def block(self, windows: Sequence[Any], block_id: Sequence[int]) -> Block:
        """Return a chunk's window as a block."""
        fields = {
            name: channels_first(window, self.channel_axis)
            for name, window in zip(self.windows, windows, strict=True)
        }
        image = fields[self.windows[0]]
        mask = fields["mask"][0] if "mask" in fields else None
        nodata, window = self.nodata if self.first else None, self.window(block_id)
        sides = window.open_sides
        block = make_block(image, self.spacing, nodata, mask, sides, fields.get("guide"), self.carried)
        block.origin, block.frame = window.origin, self.frame
        return block

    def image(self, fields: Any) -> Any:
        """Return fields of shape (channels, *spatial) in the user's order of axes."""
        return fields[0] if self.channel_axis is None else np.moveaxis(fields, 0, self.channel_axis)

    def chunks(self, channels: int) -> tuple[tuple[int, ...], ...]:
        """Return the chunks of an array with a number of channels."""
        sizes = enumerate(self.tiling.chunks)
        return tuple((channels,) if axis == self.channel_axis else some for axis, some in sizes)
