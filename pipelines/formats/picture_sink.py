"""PNG for small results: pixels only, no metadata."""

from __future__ import annotations

from typing import ClassVar

import imagecodecs
import numpy as np

from pipelines.image import ImageInfo
from pipelines.levels import reordered
from pipelines.publish import published_file, scratch_folder
from pipelines.sink import SINKS, Level, Sink
from pipelines.zarr_arrays import choose_layout, create_level, open_array

WORKING = "pixels"
LARGEST = 100_000_000
"""Pixels; a PNG is encoded as a whole, and viewers decode it as a whole."""


@SINKS.register("png")
class PictureSink(Sink):
    """One picture that every program shows."""

    extensions: ClassVar[tuple[str, ...]] = (".png",)
    about: ClassVar[str] = "PNG, up to 100 million pixels of uint8 or uint16 in 1 to 4 channels; pixels only"

    def levels(self, info: ImageInfo) -> tuple[Level, ...]:
        """Return the working array, colours of a pixel together."""
        _refuse(info)
        axes = "".join(a for a in info.canonical_axes if a != "c") + ("c" if "c" in info.axes else "")
        picture = reordered(info, axes)
        layout = choose_layout(axes, picture.shape, self.spec.chunk, whole="c")
        return (Level(WORKING, picture.replace(chunks=layout.unit), layout.chunks, (1,) * len(axes)),)

    def create(self, root: str, info: ImageInfo, levels: tuple[Level, ...]) -> None:
        """Lay out the working array."""
        create_level(root, levels[0], self.spec.compression)

    def finish(self, root: str, info: ImageInfo, levels: tuple[Level, ...], target: str, memory: int) -> None:
        """Encode the picture."""
        sizes = levels[0].info.sizes
        channels = (sizes["c"],) if sizes.get("c", 1) > 1 else ()
        shape = (sizes["y"], sizes["x"], *channels)
        pixels = np.asarray(open_array(root, levels[0].path)[...]).reshape(shape)
        with scratch_folder(root) as scratch, published_file(target, scratch) as part:
            part.write_bytes(imagecodecs.png_encode(pixels))


def _refuse(info: ImageInfo) -> None:
    other = "or choose a target that ends in .tif, .ome.zarr or .zarr."
    if info.dtype.name not in ("uint8", "uint16"):
        got = info.dtype.name
        raise ValueError(f"PNG cannot hold {got}. Allowed: uint8, uint16. Set sink.dtype, {other}")
    deep = [f"{a} of length {info.size(a)}" for a in "tz" if info.size(a) > 1]
    if deep or info.size("c") > 4:
        got = " and ".join(deep) or f"{info.size('c')} channels"
        raise ValueError(f"PNG holds one plane of 1 to 4 channels, got {got}. Read fewer, {other}")
    pixels = info.size("y") * info.size("x")
    if pixels > LARGEST:
        raise ValueError(f"PNG holds at most {LARGEST:,} pixels, got {pixels:,}. Read a coarser level, {other}")
