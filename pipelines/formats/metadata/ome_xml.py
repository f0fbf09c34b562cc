"""Read the metadata of an image from the OME-XML in a TIFF file: spacing, units, channels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree import ElementTree

from pipelines.formats.metadata.ome import one_unit, unit_name


@dataclass(frozen=True)
class OmeXml:
    """The metadata of one image in OME-XML.

    Attributes
    ----------
    name : str
    spacing, units : dict
        Axis letter -> grid spacing, unit name.
    channel_names : tuple of str
        Empty where no channel has a name.
    colours : tuple of str
        Display colours as RRGGBB, "" where unknown.
    """

    name: str
    spacing: Mapping[str, float]
    units: Mapping[str, str]
    channel_names: tuple[str, ...]
    colours: tuple[str, ...]


def parse_ome_xml(text: str, image: int = 0) -> OmeXml:
    """Read the metadata of one image from OME-XML.

    Raises
    ------
    ValueError
        If the text is no XML or has no such image.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"its OME-XML is damaged ({error})") from error
    images = [e for e in root if _tag(e) == "Image"]
    if image >= len(images):
        raise ValueError(f"its OME-XML describes {len(images)} images, number {image} was asked for")
    pixels = next((e for e in images[image] if _tag(e) == "Pixels"), None)
    if pixels is None:
        return OmeXml(images[image].get("Name", ""), {}, {}, (), ())
    channels = [e for e in pixels if _tag(e) == "Channel"]
    names = tuple(c.get("Name", "") for c in channels)
    spacing, units = _xml_spacing(pixels)
    colours = tuple(_xml_colour(c.get("Color")) for c in channels)
    return OmeXml(images[image].get("Name", ""), spacing, units, names if any(names) else (), colours)


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _xml_spacing(pixels: ElementTree.Element) -> tuple[dict[str, float], dict[str, str]]:
    keys = {"x": "PhysicalSizeX", "y": "PhysicalSizeY", "z": "PhysicalSizeZ", "t": "TimeIncrement"}
    spacing: dict[str, float] = {}
    units: dict[str, str] = {}
    for axis, key in keys.items():
        value = float(pixels.get(key, "nan"))
        if math.isfinite(value) and value > 0:
            spacing[axis] = value
            unit = unit_name(pixels.get(f"{key}Unit", "s" if axis == "t" else "µm"))
            units.update({axis: unit} if unit else {})
    return one_unit(spacing, units)


def _xml_colour(value: str | None) -> str:
    # OME-XML packs red, green, blue, alpha into one signed 32-bit number.
    return f"{(int(value) & 0xFFFFFFFF) >> 8:06X}" if value else ""
