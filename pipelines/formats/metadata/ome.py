"""Read and write the metadata of OME-Zarr as plain values: multiscales (0.1 to 0.5), units, display."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.image.info import CANONICAL

AXIS_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}

UNITS = {
    "µm": "micrometer", "μm": "micrometer", "um": "micrometer", "micron": "micrometer",
    "microns": "micrometer", "\\u00b5m": "micrometer", "nm": "nanometer", "mm": "millimeter",
    "cm": "centimeter", "m": "meter", "pm": "picometer", "å": "angstrom", "in": "inch", "ft": "foot",
    "km": "kilometer", "s": "second", "sec": "second", "ms": "millisecond", "µs": "microsecond",
    "min": "minute", "h": "hour",
}  # fmt: skip
"""Abbreviations in files -> names that OME-Zarr uses."""

COLOURS = ("FF0000", "00FF00", "0000FF", "FFFFFF")
"""Display colours of the channels of an RGB picture, then white."""


@dataclass(frozen=True)
class Multiscales:
    """A pyramid as OME-Zarr describes it.

    Attributes
    ----------
    version : str
        "0.4" or "0.5".
    name : str
    axes : str
        One letter of "tczyx" per axis.
    units : dict
        Axis letter -> unit name; absent where unknown.
    paths : tuple of str
        Paths of the arrays, the finest first.
    scales, translations : tuple of dict
        Per level: axis letter -> grid spacing, and position of the first pixel's centre; all axes but the
        channels.
    channel_names : tuple of str
    omero : dict
        Display settings as found, {} without.
    labels : bool
        True where pixels are label numbers.
    """

    version: str
    name: str
    axes: str
    units: Mapping[str, str]
    paths: tuple[str, ...]
    scales: tuple[Mapping[str, float], ...]
    translations: tuple[Mapping[str, float], ...]
    channel_names: tuple[str, ...]
    omero: Mapping[str, Any]
    labels: bool


def unit_name(unit: str | None) -> str | None:
    """Return the OME-Zarr name of a unit, None where there is none.

    Examples
    --------
    >>> unit_name("µm"), unit_name("micrometer"), unit_name("pixel")
    ('micrometer', 'micrometer', None)
    """
    if not unit or unit.lower() in ("pixel", "pixels", "reference frame"):
        return None
    return UNITS.get(unit.strip().lower(), unit.strip())


METRES = {
    "meter": 1.0, "centimeter": 1e-2, "millimeter": 1e-3, "micrometer": 1e-6, "nanometer": 1e-9,
    "picometer": 1e-12, "angstrom": 1e-10, "kilometer": 1e3, "inch": 0.0254, "foot": 0.3048,
}  # fmt: skip


def one_unit(
    spacing: Mapping[str, float], units: Mapping[str, str]
) -> tuple[dict[str, float], dict[str, str]]:
    """Return the spacing with all spatial axes in one unit: diffusion compares distances along them.

    Micrometers where several known units occur; unchanged where there is one, or one that is not a length.

    Examples
    --------
    >>> one_unit({"y": 0.5, "x": 500.0}, {"y": "micrometer", "x": "nanometer"})
    ({'y': 0.5, 'x': 0.5}, {'y': 'micrometer', 'x': 'micrometer'})
    """
    used = {units[a] for a in "zyx" if a in units and a in spacing}
    if len(used) < 2 or not used <= set(METRES):
        return dict(spacing), dict(units)
    lengths = [a for a in "zyx" if a in units and a in spacing]
    # Ten digits: the factor itself is no binary fraction, and 0.5 should stay 0.5.
    moved = {a: float(f"{spacing[a] * METRES[units[a]] / METRES['micrometer']:.10g}") for a in lengths}
    return {**spacing, **moved}, {**units, **dict.fromkeys(lengths, "micrometer")}


def ome_attributes(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the OME part of a group's attributes, wherever the version keeps it, or nothing."""
    inner = attributes.get("ome")
    if isinstance(inner, Mapping):
        return inner
    known = ("multiscales", "plate", "well", "bioformats2raw.layout")
    return attributes if any(k in attributes for k in known) else {}


def parse_multiscales(attributes: Mapping[str, Any], series: int = 0) -> Multiscales:
    """Read the attributes of an OME-Zarr group.

    Parameters
    ----------
    attributes : mapping
        All attributes of the group.
    series : int
        Which of its multiscales, nearly always 0.

    Raises
    ------
    ValueError
        If they do not follow the specification; the message says where.
    """
    ome = ome_attributes(attributes)
    pyramids = ome.get("multiscales") or []
    if series >= len(pyramids):
        raise ValueError(f"the group has {len(pyramids)} multiscales, number {series} was asked for")
    image = pyramids[series]
    axes = _axes(image)
    levels = image.get("datasets") or []
    if not levels:
        raise ValueError("its multiscales list no datasets")
    omero = dict(ome.get("omero") or attributes.get("omero") or {})
    shared = image.get("coordinateTransformations") or []
    found = [_transform(shared, level, axes) for level in levels]
    return Multiscales(
        version=str(ome.get("version") or image.get("version") or "0.4"),
        name=str(image.get("name") or ""),
        axes=axes,
        units=_units(image, axes),
        paths=tuple(str(level["path"]) for level in levels),
        scales=tuple(scale for scale, _ in found),
        translations=tuple(shift for _, shift in found),
        channel_names=tuple(str(c.get("label", "")) for c in omero.get("channels") or ()),
        omero=omero,
        labels="image-label" in ome or "image-label" in attributes,
    )


def _axes(image: Mapping[str, Any]) -> str:
    # Before 0.3 the axes were always these five; in 0.3 they are bare names, since 0.4 objects.
    names = [a["name"] if isinstance(a, Mapping) else str(a) for a in image.get("axes") or CANONICAL]
    axes = "".join(str(n).lower() for n in names)
    if len(axes) != len(names) or not set(axes) <= set(CANONICAL) or len(set(axes)) < len(axes):
        raise ValueError(f"its axes are {names}; allowed are those of {CANONICAL!r}, each once")
    return axes


def _units(image: Mapping[str, Any], axes: str) -> dict[str, str]:
    given = [a.get("unit") if isinstance(a, Mapping) else None for a in image.get("axes") or ()]
    named = {letter: unit_name(unit) for letter, unit in zip(axes, given, strict=False)}
    return {letter: unit for letter, unit in named.items() if unit}


def _transform(
    shared: Sequence[Mapping[str, Any]], level: Mapping[str, Any], axes: str
) -> tuple[dict[str, float], dict[str, float]]:
    """Return spacing and position of a level: its own transformations, then those of all levels."""
    scale, shift = [1.0] * len(axes), [0.0] * len(axes)
    for step in [*(level.get("coordinateTransformations") or ()), *shared]:
        values = step.get(step.get("type"))
        if values is None:
            continue
        if len(values) != len(axes):
            raise ValueError(f"a {step['type']} has {len(values)} numbers for {len(axes)} axes")
        if step["type"] == "scale":
            scale = [a * float(b) for a, b in zip(scale, values, strict=True)]
            shift = [a * float(b) for a, b in zip(shift, values, strict=True)]
        elif step["type"] == "translation":
            shift = [a + float(b) for a, b in zip(shift, values, strict=True)]
    if not all(math.isfinite(s) and s > 0 for s in scale):
        raise ValueError(f"a scale is {scale}; every number must be positive")
    pairs = [(a, s, t) for a, s, t in zip(axes, scale, shift, strict=True) if a != "c"]
    return {a: s for a, s, _ in pairs}, {a: t for a, _, t in pairs}


def build_multiscales(
    *,
    axes: str,
    scales: Sequence[Mapping[str, float]],
    translations: Sequence[Mapping[str, float]] | None = None,
    units: Mapping[str, str] | None = None,
    paths: Sequence[str] | None = None,
    name: str = "",
    omero: Mapping[str, Any] | None = None,
    labels: bool = False,
    label_values: Sequence[int] = (),
    label_source: str = "",
    method: str = "",
    version: str = "0.5",
) -> dict[str, Any]:
    """Return the attributes of an OME-Zarr group.

    Parameters
    ----------
    axes : str
        Letters of "tczyx" in this order, with 2 or 3 of "zyx".
    scales : sequence of mapping
        Per level, the finest first: axis letter -> grid spacing; 1 where absent.
    translations : sequence of mapping, optional
        Per level: axis letter -> position of the first pixel's centre; left out where all are 0.
    units : mapping, optional
        Axis letter -> unit name.
    paths : sequence of str, optional
        Paths of the arrays; "0", "1", ... by default.
    name : str
    omero : mapping, optional
        Display settings, as of `build_omero`.
    labels : bool
        True where pixels are label numbers.
    label_values : sequence of int
        Labels that get colours of their own, which differ.
    label_source : str
        Where the image of the labels lies, from their group on.
    method : str
        How the levels were made, such as "mean".
    version : str
        "0.5" (attributes of a Zarr 3 group) or "0.4" (of a Zarr 2 group).

    Returns
    -------
    dict
        To be merged into the group's attributes.

    Raises
    ------
    ValueError
        For axes that the specification does not allow.
    """
    if axes != "".join(a for a in CANONICAL if a in axes) or not 2 <= sum(a in "zyx" for a in axes) <= 3:
        raise ValueError(
            f"axes={axes!r} is not possible in OME-Zarr. Allowed: letters of {CANONICAL!r} in this order."
        )
    shifts = translations or [{}] * len(scales)
    names = paths or [str(i) for i in range(len(scales))]
    image: dict[str, Any] = {
        "axes": [_axis(a, (units or {}).get(a)) for a in axes],
        "datasets": [
            {"path": path, "coordinateTransformations": _transformations(axes, scale, shift)}
            for path, scale, shift in zip(names, scales, shifts, strict=True)
        ],
        "name": name,
    }
    if method:
        image["type"] = method
    return _versioned(image, omero, _image_label(label_values, label_source) if labels else None, version)


def _image_label(values: Sequence[int], source: str) -> dict[str, Any]:
    colours = label_colours(values)
    return {
        **({"colors": colours} if colours else {}),
        **({"source": {"image": source}} if source else {}),
    }


def _axis(letter: str, unit: str | None) -> dict[str, str]:
    axis = {"name": letter, "type": AXIS_TYPES[letter]}
    return {**axis, "unit": unit} if unit and letter != "c" else axis


def _transformations(
    axes: str, scale: Mapping[str, float], shift: Mapping[str, float]
) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": [float(scale.get(a, 1.0)) for a in axes]}]
    if any(shift.values()):
        steps.append({"type": "translation", "translation": [float(shift.get(a, 0.0)) for a in axes]})
    return steps


def _versioned(
    image: dict[str, Any],
    omero: Mapping[str, Any] | None,
    image_label: Mapping[str, Any] | None,
    version: str,
) -> dict[str, Any]:
    if version not in ("0.4", "0.5"):
        raise ValueError(f"OME-Zarr version {version!r} is not possible. Allowed: 0.4, 0.5.")
    extra: dict[str, Any] = {"omero": dict(omero)} if omero else {}
    if image_label is not None:
        extra["image-label"] = {**({} if version == "0.5" else {"version": version}), **image_label}
    if version == "0.4":
        return {"multiscales": [{**image, "version": version}], **extra}
    return {"ome": {"version": version, "multiscales": [image], **extra}}


def label_colours(values: Sequence[int]) -> list[dict[str, Any]]:
    """Return a colour for each label, as the specification has them: neighbouring numbers differ much, 0 is clear."""
    found = []
    for value in values:
        # Steps of the golden ratio around the circle of hues.
        red, green, blue = colorsys.hsv_to_rgb(value * 0.618034 % 1, 0.7, 0.95)
        rgb = [round(255 * part) for part in (red, green, blue)]
        found.append({"label-value": int(value), "rgba": [*rgb, 255] if value else [0, 0, 0, 0]})
    return found


def build_omero(
    names: Sequence[str],
    window: tuple[float, float],
    known: Mapping[str, Any] | None = None,
    rgb: bool = False,
) -> dict[str, Any]:
    """Return display settings for channels.

    Parameters
    ----------
    names : sequence of str
        One per channel.
    window : (float, float)
        Values shown black and white where nothing else is known.
    known : mapping, optional
        Display settings of the source; its colours and windows stay where the number of channels is the same.
    rgb : bool
        True where the channels are the colours of one picture.

    Returns
    -------
    dict
        The "omero" entry; every channel has the colour and the window that the specification demands.
    """
    low, high = window
    old = list((known or {}).get("channels") or ())
    old = old if len(old) == len(names) else [{}] * len(names)
    channels = []
    for i, (name, channel) in enumerate(zip(names, old, strict=True)):
        limits = {"min": low, "max": high, "start": low, "end": high, **(channel.get("window") or {})}
        colour = COLOURS[min(i, 3)] if rgb else "FFFFFF"
        channels.append({"active": True, "color": colour, **channel, "label": name, "window": limits})
    return {**(known or {}), "channels": channels}
