"""Tell local paths from addresses of stores: the only module that knows what "://" means."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit


def is_address(text: str) -> bool:
    """Return whether a text has the form SCHEME://REST, as addresses of stores and of schedulers have."""
    return "://" in text


def local_path(uri: str) -> Path | None:
    """Return the path of a local address, None for addresses of other machines.

    Examples
    --------
    >>> local_path("s3://bucket/image.zarr")
    >>> local_path("image.tif").name
    'image.tif'
    >>> local_path("file:///data/my%20image.tif").name
    'my image.tif'
    """
    if not is_address(uri):
        return Path(uri).expanduser()
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme in ("file", "local") else None


def is_remote(uri: str) -> bool:
    """Return whether an address names a store other than the local disk."""
    return local_path(uri) is None


def require_local(uri: str) -> Path:
    """Return the path of an address that is known to be local."""
    path = local_path(uri)
    assert path is not None, uri
    return path


def absolute(uri: str, folder: str | os.PathLike[str]) -> str:
    """Return an address as it is, and a path relative to a folder as an absolute one."""
    path = local_path(uri)
    return uri if path is None else os.path.abspath(Path(folder) / path)


def name_of(uri: str) -> str:
    """Return the last part of an address."""
    return uri.rstrip("/").rsplit("/", 1)[-1]


_HIERARCHY = r".+?(?i:\.zarr)(?=/|$)"
_LABELS = re.compile(
    rf"(?P<image>{_HIERARCHY}(?:/.+)?)/(?P<group>(?i:labels))(?:/(?P<name>.*?))?/?", re.DOTALL
)
_LABEL_NAME = re.compile(r"(?!__)\w[\w -]*")


def labelled_image(uri: str) -> str | None:
    """Return the OME-Zarr image among whose labels an address lies, None for any other address.

    All that lies in its group of labels does, under whatever name; `require_label_name` says which can be there.

    Examples
    --------
    >>> labelled_image("cells.ome.zarr/labels/nuclei"), labelled_image("converted.zarr/0/labels/nuclei")
    ('cells.ome.zarr', 'converted.zarr/0')
    >>> labelled_image("labels/nuclei.ome.zarr")
    """
    found = _LABELS.fullmatch(uri)
    return found and found["image"]


def require_label_name(uri: str) -> None:
    """Refuse an address among the labels of an image that names no label image, or by a name that none can have.

    Raises
    ------
    ValueError
    """
    found = _LABELS.fullmatch(uri)
    if found and not (found["group"] == "labels" and _LABEL_NAME.fullmatch(found["name"] or "")):
        raise ValueError(
            f"{shown(uri)} lies among the labels of {shown(found['image'])}, where it cannot be. Allowed: "
            "IMAGE.ome.zarr/labels/NAME, with `labels` in lower case, and a NAME of letters, digits, spaces, - and _ "
            "that begins with none of __, - and space: no dot, no ending, no folder."
        )


def outside(uri: str) -> str:
    """Return the address beside which the files of a run for a target lie: never inside the image of labels.

    They lie where that image is, through whatever links it was reached: there all runs that add labels meet, and what
    they finish is on its disk.

    Examples
    --------
    >>> outside("/data/cells.ome.zarr/labels/nuclei"), outside("data/nuclei.ome.zarr/")
    ('/data/cells.ome.zarr.labels.nuclei', 'data/nuclei.ome.zarr')
    """
    found = _LABELS.fullmatch(uri)
    if found is None:
        return uri.rstrip("/" + os.sep)
    path = local_path(found["image"])
    image = found["image"] if path is None else os.path.realpath(path)
    hierarchy = re.match(f"{_HIERARCHY}|.*", image)
    assert hierarchy is not None
    inside = image[hierarchy.end() :].split("/")[1:]
    return ".".join([hierarchy[0], *inside, "labels", *(found["name"] or "").split("/")])


def beside_target(uri: str) -> str:
    """Return the address of the folder of a run for a target, where nothing else is said.

    Examples
    --------
    >>> beside_target("s3://bucket/nuclei.ome.zarr/")
    's3://bucket/nuclei.ome.zarr.run'
    """
    return outside(uri) + ".run"


def within(folder: str, name: str) -> str:
    """Return the address of what has a name, such as "0/c/1", in a folder."""
    return f"{folder.rstrip('/')}/{name}" if name else folder


def in_store(uri: str) -> str:
    """Return what an address of a store has after its scheme: BUCKET/KEY."""
    return uri.partition("://")[2].rstrip("/")


def of_store(scheme: str, path: str) -> str:
    """Return the address of BUCKET/KEY."""
    return f"{scheme}://{path}"


def scheme_of(uri: str) -> str:
    """Return the scheme of an address ("s3"), "" of a plain path."""
    return urlsplit(uri).scheme.lower() if is_address(uri) else ""


def shown(text: str) -> str:
    """Return an address, or a message with addresses in it, without user names, passwords and what follows a "?".

    Examples
    --------
    >>> shown("https://anna:secret@host/image.zarr?token=abc")
    'https://***@host/image.zarr?***'
    >>> shown("s3://bucket/image.zarr")
    's3://bucket/image.zarr'
    """
    text = re.sub(r"(?<=://)([^\s/'\"]*|[^\s/'\"]*:[^\s'\"]*)@", "***@", text)
    return re.sub(r"(://[^\s?'\"]*\?)[^\s'\"]+", r"\1***", text)


def lies_inside(inner: str, outer: str) -> bool:
    """Return whether an address equals another one or lies below it."""
    path, folder = local_path(inner), local_path(outer)
    if path is None and folder is None:
        return f"{inner.rstrip('/')}/".startswith(f"{outer.rstrip('/')}/")
    if path is None or folder is None:
        return False
    return path.resolve() == folder.resolve() or folder.resolve() in path.resolve().parents
