"""Find the sources that a pattern names: on a disk, in a store, in a list, or in a STAC catalogue."""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from pipelines.image.info import digest
from pipelines.refusal import RefusedError
from pipelines.schedule.stac import Asset, assets_in
from pipelines.store.addresses import absolute, is_address, is_remote, name_of, shown, within
from pipelines.store.listings import tree
from pipelines.store.place import Entry, LocalPlace, Place
from pipelines.store.places import advice, place_of
from pipelines.store.targets import MARKERS

LISTS = (".txt", ".list", ".lst")
"""Endings of files that hold one address per line."""

CATALOGUES = (".json", ".geojson")
"""Endings of STAC catalogues, collections, items and collections of items."""

_WILD = re.compile(r"[*?\[]")


class PatternError(RefusedError):
    """A pattern that cannot name sources, or that names none where it looks."""


@dataclass(frozen=True)
class Found:
    """One source that a pattern names.

    Attributes
    ----------
    uri : str
        Address or absolute path.
    path : str
        Its path below the part of the pattern that has no wildcard, without the ending.
    words : dict
        Further words that a catalogue has for it.
    entry : Entry or None
        What the listing said of it.
    """

    uri: str
    path: str
    words: Mapping[str, str] = field(default_factory=dict)
    entry: Entry | None = None


def stem_of(name: str) -> str:
    """Return the name of an image without its ending.

    Examples
    --------
    >>> stem_of("slide.ome.zarr"), stem_of("scan.7.tif")
    ('slide', 'scan.7')
    """
    stem = name[: -len(PurePosixPath(name).suffix)] if PurePosixPath(name).suffix else name
    return stem[:-4] if stem.lower().endswith(".ome") and len(stem) > 4 else stem


def find_sources(pattern: str, asset: str | None = None) -> list[Found]:
    """Return the sources that a pattern names now, each once, in order of their addresses.

    Parameters
    ----------
    pattern : str
        A path or address with `*`, `?`, `[...]` in names or `**` for any folders; a folder, for all that is in it; a
        list of addresses (.txt); a STAC catalogue, collection or item (.json); or one image.
    asset : str, optional
        Name of the assets of a catalogue.

    Raises
    ------
    PatternError
        Where the place to look in is not there, or cannot be read.
    """
    lower = pattern.lower()
    catalogue = lower.endswith(CATALOGUES) and not _WILD.search(pattern)
    if asset is not None and not catalogue:
        raise PatternError(
            f"--asset {asset} goes with a STAC catalogue ({', '.join(CATALOGUES)}), got {shown(pattern)!r}."
        )
    where = absolute(pattern, ".")
    try:
        if catalogue:
            found = [_of_asset(one) for one in assets_in(where, asset)]
        elif lower.endswith(LISTS) and not _WILD.search(pattern):
            found = list(_listed(where))
        else:
            found = list(_globbed(where))
    except (OSError, ImportError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise PatternError(
            f"{shown(pattern)!r} cannot be looked through: {shown(reason)}. {advice(where)}"
        ) from error
    once = {one.uri: one for one in found}
    return [once[uri] for uri in sorted(once)]


# ---- lists and catalogues


def _listed(uri: str) -> Iterator[Found]:
    """Yield the addresses of a list, whose relative paths start at its folder."""
    place, path = place_of(uri)
    folder = uri.rpartition("/")[0]
    try:
        lines = place.read(path).decode().splitlines()
    except UnicodeDecodeError:
        raise PatternError(
            f"{shown(uri)} is not text. A list holds one address per line, in UTF-8."
        ) from None
    for line in lines:
        text = line.strip()
        if text and not text.startswith("#"):
            one = within(folder, text) if is_remote(uri) and not _is_whole(text) else absolute(text, folder)
            yield Found(one, stem_of(name_of(one)))


def _is_whole(text: str) -> bool:
    return is_remote(text) or text.startswith("/")


def _of_asset(asset: Asset) -> Found:
    words = {"item": asset.item, "asset": asset.name, "collection": asset.collection}
    return Found(asset.uri, stem_of(name_of(asset.uri)), words)


# ---- wildcards


def split_pattern(pattern: str) -> tuple[str, list[str]]:
    """Return the folder of a pattern that has no wildcard, and the names below it.

    Examples
    --------
    >>> split_pattern("s3://scans/in/*/raw/*.zarr")
    ('s3://scans/in', ['*', 'raw', '*.zarr'])
    >>> split_pattern("/scans/**")
    ('/scans', ['**', '*'])
    """
    parts = pattern.rstrip("/").split("/")
    first = next((i for i, part in enumerate(parts) if _WILD.search(part)), len(parts))
    names = parts[first:]
    return "/".join(parts[:first]) or "/", [*names, "*"] if names[-1:] == ["**"] else names


def matches(pattern: str, uri: str) -> bool:
    """Return whether an address is one that a pattern with wildcards would find.

    Examples
    --------
    >>> matches("/scans/*.zarr", "/scans/a.zarr"), matches("/scans/**/*.tif", "/scans/x/y/b.tif")
    (True, True)
    >>> matches("/scans/*.zarr", "/scans/out/a.zarr")
    False
    """
    folder, names = split_pattern(absolute(pattern, "."))
    base = f"{folder.rstrip('/')}/"
    return bool(names) and uri.startswith(base) and _fits(names, uri[len(base) :].split("/"))


def _fits(names: Sequence[str], parts: Sequence[str]) -> bool:
    if not names or not parts:
        return not names and not parts
    if names[0] == "**":
        return _fits(names[1:], parts) or _fits(names, parts[1:])
    return _visible(names[0], parts[0]) and fnmatchcase(parts[0], names[0]) and _fits(names[1:], parts[1:])


def _globbed(pattern: str) -> Iterator[Found]:
    folder, names = split_pattern(pattern)
    place, path = place_of(folder)
    if not names and _is_image(place, path, place.entry(path)):
        yield Found(folder, stem_of(name_of(folder)))
        return
    listed = functools.cache(lambda inside: _entries(place, inside))
    if not listed(path) and not _is_place(place, path):
        raise PatternError(
            f"There is no {shown(folder)} to look in. Check the spelling, or create the folder."
        )
    for inside, entry in _walk(listed, path, names or ["*"]):
        if not entry.is_folder or _is_image(place, inside, entry):
            below = os.path.relpath(inside, path).split("/")
            yield Found(place.address(inside), "/".join([*below[:-1], stem_of(below[-1])]), entry=entry)


def _is_place(place: Place, path: str) -> bool:
    """Return whether sources may come into a folder that is empty now: one that is there, or any of a store's bucket.

    Raises
    ------
    OSError
        Where there is no such bucket.
    """
    if isinstance(place, LocalPlace) or is_address(path):
        return place.entry(path) is not None
    place.entries(path.split("/")[0])
    return True


Listed = Callable[[str], dict[str, Entry]]


def _walk(listed: Listed, folder: str, names: Sequence[str]) -> Iterator[tuple[str, Entry]]:
    """Yield paths, with what was listed of them, whose names fit; never from inside a hierarchy or a run's folder."""
    first, rest = names[0], names[1:]
    if first == "**":
        yield from _walk(listed, folder, rest)
        for entry in listed(folder).values():
            if entry.is_folder and _visible("*", entry.name) and not _is_closed(entry.name):
                yield from _walk(listed, within(folder, entry.name), names)
        return
    for entry in listed(folder).values():
        if not _visible(first, entry.name) or not fnmatchcase(entry.name, first):
            continue
        if rest and entry.is_folder:
            yield from _walk(listed, within(folder, entry.name), rest)
        elif not rest and not entry.name.endswith(".run"):
            yield within(folder, entry.name), entry


def _visible(wanted: str, name: str) -> bool:
    """Return whether a name may be meant: hidden ones, such as parts of a copy, must be asked for."""
    return not name.startswith(".") or wanted.startswith(".")


def _is_closed(name: str) -> bool:
    return name.lower().endswith((".zarr", ".run"))


def _entries(place: Place, folder: str) -> dict[str, Entry]:
    try:
        return {entry.name: entry for entry in place.entries(folder) if entry.name}
    except (FileNotFoundError, NotADirectoryError):
        return {}


def _is_image(place: Place, path: str, entry: Entry | None) -> bool:
    """Return whether a file, or a folder that is a hierarchy, is there."""
    if entry is not None and not entry.is_folder:
        return True
    return (path.lower().endswith(".zarr") and entry is not None) or bool(
        set(MARKERS) & set(_entries(place, path))
    )


# ---- what is stored


@dataclass(frozen=True)
class Stamp:
    """What a source looks like without opening it.

    Attributes
    ----------
    text : str
        Another one whenever the source's identity may be another one; "" where nothing is there.
    changed : float or None
        Time of the last change, in seconds since 1970, where the disk tells.
    """

    text: str
    changed: float | None = None

    def rests(self, seconds: float) -> bool:
        """Return whether the last change is so long ago, by the clock of this machine."""
        return self.changed is not None and time.time() - self.changed >= seconds


def stamp_of(found: Found) -> Stamp:
    """Return the stamp of a source: of a file what its folder tells, of a hierarchy the listing of all in it."""
    place, path = place_of(found.uri)
    entry = found.entry or place.entry(path)
    local = isinstance(place, LocalPlace)
    if entry is not None and not entry.is_folder:
        return Stamp(digest(entry.size, entry.mark), _seconds([entry]) if local else None)
    try:
        entries = list(tree(place, path))
    except (OSError, PermissionError):
        # A web server that does not list: a hierarchy's own metadata are all that can be seen.
        known = ((name, place.entry(within(path, name))) for name in MARKERS)
        entries = [Entry(name, one.size, one.mark) for name, one in known if one is not None]
    if not entries:
        return Stamp("")
    told = sorted((one.name, one.size, one.mark) for one in entries)
    return Stamp(digest(told), _seconds(entries) if local else None)


def _seconds(entries: Sequence[Entry]) -> float | None:
    """Return the latest time of change of local entries, whose marks are nanoseconds."""
    return max((int(one.mark) / 1e9 for one in entries if one.mark), default=None)
