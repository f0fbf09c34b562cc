"""Write OME-Zarr 0.5: canonical axes, a pyramid written by the run, units, scales, channel names and colours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import zarr
from numpy.typing import NDArray

from pipelines.formats.metadata.ome import build_multiscales, build_omero
from pipelines.formats.metadata.ome_labels import (
    image_pyramid,
    is_label_image,
    list_labels,
    listed_labels,
    make_labels,
    require_fitting,
    require_label_image,
)
from pipelines.image.georeference import to_attributes
from pipelines.image.info import ImageInfo
from pipelines.image.levels import create_level, pyramid_infos, reordered
from pipelines.image.sink import SINKS, Level, Sink
from pipelines.store.addresses import is_remote, labelled_image, name_of, require_label_name
from pipelines.store.arrays import choose_chunks, holds, json_number, open_array
from pipelines.store.publish import finish_folder

SAMPLE_SIDE = 1024
"""Pixels per side of the middle of the coarsest level, from which display range and labels are taken."""

COLOURED = 256
"""Largest number of labels that get colours in the metadata; viewers choose colours for more."""


@SINKS.register("ome-zarr")
class OmeZarrSink(Sink):
    """A multiscale image as viewers of microscopy read it."""

    extensions: ClassVar[tuple[str, ...]] = (".ome.zarr",)
    about: ClassVar[str] = (
        "OME-Zarr 0.5 with pyramid, for napari, neuroglancer, vizarr, OMERO and others; labels also as "
        "IMAGE.ome.zarr/labels/NAME"
    )
    is_zarr: ClassVar[bool] = True
    pyramid: ClassVar[bool] = True

    @classmethod
    def ending(cls, name: str) -> int:
        """Return the length of the ending; what lies among the labels of an image needs none."""
        return super().ending(name) or int(labelled_image(name) is not None)

    def require_place(self, info: ImageInfo) -> None:
        """Refuse what can be among the labels of no image."""
        if labelled_image(self.spec.uri) is not None:
            require_label_name(self.spec.uri)
            require_label_image(self.spec.uri, info)

    def require_surroundings(self, info: ImageInfo) -> None:
        """Refuse labels that do not fit the image that they are written into."""
        image = labelled_image(self.spec.uri)
        if image is not None:
            require_fitting(image, info)

    def levels(self, info: ImageInfo) -> tuple[Level, ...]:
        """Return the levels: axes in the specification's order, one channel per chunk as viewers load them.

        Labels in an image have as many levels as that has, which some readers insist on.
        """
        image, pyramid = labelled_image(self.spec.uri), self.spec.pyramid
        if image is not None and pyramid == "auto":
            pyramid = len(image_pyramid(image).paths) - 1
        finest = reordered(info, info.canonical_axes)
        found = []
        for i, (level, factors) in enumerate(pyramid_infos(finest, pyramid)):
            layout = choose_chunks(level.axes, level.shape, self.spec.chunk)
            found.append(Level(str(i), level.replace(chunks=layout.unit), layout.chunks, factors))
        return tuple(found)

    def create(self, root: str, info: ImageInfo, levels: tuple[Level, ...]) -> None:
        """Write the group with all metadata, and the empty arrays."""
        zarr.create_group(root, attributes=self._attributes(info, levels, _full_range(info.dtype)))
        for level in levels:
            create_level(root, level, self.spec.compression)

    def finish(self, root: str, info: ImageInfo, levels: tuple[Level, ...], target: str, memory: int) -> None:
        """Write the display range, or colours of labels, then move the hierarchy to its target."""
        if is_remote(root) or Path(root).exists():
            values = _few_labels(root, levels[-1]) if is_label_image(info) else ()
            shown = _full_range(info.dtype) if is_label_image(info) else _shown_range(root, levels[-1])
            zarr.open_group(root, mode="r+").attrs.update(self._attributes(info, levels, shown, values))
        finish_folder(root, target)
        image = labelled_image(self.spec.uri)
        if image is not None:
            make_labels(image)

    def is_listed(self) -> bool:
        """Return whether the image of a label image lists its name."""
        image = labelled_image(self.spec.uri)
        return image is None or name_of(self.spec.uri) in listed_labels(image)

    def list_target(self, there: bool) -> None:
        """Add the name of a label image to those that its image lists, or remove it."""
        image = labelled_image(self.spec.uri)
        assert image is not None
        list_labels(image, name_of(self.spec.uri), there)

    def _attributes(
        self,
        info: ImageInfo,
        levels: tuple[Level, ...],
        window: tuple[float, float],
        label_values: Sequence[int] = (),
    ) -> dict[str, Any]:
        known = info.attributes.get("ome") or {}
        attributes = build_multiscales(
            axes=levels[0].info.axes,
            scales=[level.info.spacing for level in levels],
            translations=_translations(levels, known.get("translation") or {}),
            units=info.units,
            paths=[level.path for level in levels],
            name=known.get("name") or _stem(self.spec.uri),
            omero=None if is_label_image(info) else _display(info, window, known.get("omero")),
            labels=is_label_image(info),
            label_values=label_values,
            label_source="" if labelled_image(self.spec.uri) is None else "../../",
            method="" if len(levels) == 1 else "mode" if info.labels else "mean",
        )
        return {**attributes, **_kept(info)}


def _few_labels(root: str, level: Level) -> tuple[int, ...]:
    """Return the labels in the middle of a level, or none where they are too many for colours of their own."""
    found = np.unique(_sample(root, level))
    return tuple(found.tolist()) if len(found) <= COLOURED else ()


def _translations(levels: tuple[Level, ...], origin: Mapping[str, float]) -> list[dict[str, float]]:
    """Return the position of the centre of each level's first pixel.

    A pixel of a level is the mean of a window of the finest one, so its centre is the window's: with factor f
    and spacing s it moves by (f - 1) / 2 s.
    """
    axes, spacing = levels[0].info.axes, levels[0].info.spacing
    total = dict.fromkeys(axes, 1)
    found = []
    for level in levels:
        total = {a: total[a] * f for a, f in zip(axes, level.factors, strict=True)}
        found.append(
            {a: origin.get(a, 0.0) + (total[a] - 1) / 2 * spacing.get(a, 1.0) for a in axes if a != "c"}
        )
    return found


def _display(info: ImageInfo, window: tuple[float, float], known: Any) -> dict[str, Any]:
    names = info.channel_names or tuple(f"channel {i}" for i in range(info.size("c")))
    return build_omero(names, window, known, info.rgb)


def _full_range(dtype: np.dtype[Any]) -> tuple[float, float]:
    if dtype.kind == "f":
        return 0.0, 1.0
    limits = np.iinfo(dtype)
    return float(limits.min), float(limits.max)


def _shown_range(root: str, level: Level) -> tuple[float, float]:
    """Return the values to show black and white: the extremes of the middle of the coarsest level."""
    if level.info.dtype.kind != "f" and level.info.dtype.itemsize == 1:
        return _full_range(level.info.dtype)
    values = _sample(root, level)
    valid = np.isfinite(values)
    if level.info.nodata is not None and holds(level.info.dtype, level.info.nodata):
        valid &= values != level.info.dtype.type(level.info.nodata)
    if not valid.any():
        return _full_range(level.info.dtype)
    low, high = float(values[valid].min()), float(values[valid].max())
    return (low, high) if low < high else (low, math.nextafter(low, math.inf))


def _sample(root: str, level: Level) -> NDArray[Any]:
    region = tuple(_middle(a, n) for a, n in zip(level.info.axes, level.info.shape, strict=True))
    return np.asarray(open_array(root, level.path)[region])


def _middle(axis: str, size: int) -> slice:
    if axis == "c":
        return slice(0, size)
    side = min(size, SAMPLE_SIDE if axis in "yx" else 1)
    start = (size - side) // 2
    return slice(start, start + side)


def _kept(info: ImageInfo) -> dict[str, Any]:
    """Return the metadata that OME-Zarr has no keys for, under keys of our own."""
    rest = {key: value for key, value in info.attributes.items() if key != "ome"}
    found: dict[str, Any] = {"rgb": True} if info.rgb else {}
    if info.nodata is not None:
        found["nodata"] = json_number(info.nodata)
    if info.georeference is not None:
        found["georeference"] = to_attributes(info.georeference)
    if rest:
        found["source_attributes"] = rest
    return found


def _stem(uri: str) -> str:
    name = uri.rstrip("/").rsplit("/", 1)[-1]
    return name[: -len(".ome.zarr")] if name.lower().endswith(".ome.zarr") else name
