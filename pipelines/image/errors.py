"""Make the errors with which sources refuse: what, got, allowed, what to do; one function per reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pipelines.image.source import SourceSpec, UnreadableSourceError
from pipelines.store.addresses import local_path, shown


def damaged(uri: str, kind: str, error: BaseException | str) -> UnreadableSourceError:
    """Return the error for a file that its library cannot read."""
    reason = shown(str(error).strip()) or type(error).__name__
    if isinstance(error, PermissionError):
        return UnreadableSourceError(
            f"{shown(uri)!r} must not be read: {reason}. Check its permissions, or the credentials of the store."
        )
    return UnreadableSourceError(
        f"{shown(uri)!r} cannot be read as {kind}: {reason}. "
        "The file is damaged, cut short, or of another format: copy it again, or give `format`."
    )


def missing_extra(uri: str, library: str, extra: str) -> UnreadableSourceError:
    """Return the error for an optional library that is not installed."""
    return UnreadableSourceError(
        f"{shown(uri)!r} needs {library}, which is not installed. "
        f"Install the extra {extra!r}: pip install 'diffuse[{extra}]'."
    )


def local_file(spec: SourceSpec, kind: str) -> Path:
    """Return the path of a file that must lie on this machine."""
    path = local_path(spec.uri)
    if path is None:
        raise UnreadableSourceError(
            f"{shown(spec.uri)!r} is on another machine, and {kind} are read from local folders only. "
            "Copy it here, or use a Zarr of it, which can be read from afar."
        )
    if not path.is_file():
        raise UnreadableSourceError(
            f"{shown(spec.uri)!r} is a folder, and {kind} are files. Give a file in it."
        )
    return path


def pick_level(spec: SourceSpec, shapes: Sequence[Sequence[int]]) -> int:
    """Return the level that was asked for.

    Parameters
    ----------
    spec : SourceSpec
    shapes : sequence of shapes
        One per level, the finest first.

    Raises
    ------
    UnreadableSourceError
        If there is no such level; the message lists those that exist with their sizes.
    """
    if spec.level < len(shapes):
        return spec.level
    sizes = ", ".join(f"{i}: {' x '.join(map(str, s))}" for i, s in enumerate(shapes))
    raise UnreadableSourceError(
        f"{shown(spec.uri)!r} has no level {spec.level}. Allowed, with sizes: {sizes}."
    )


def pick_series(spec: SourceSpec, names: Sequence[str]) -> int:
    """Return the series that was asked for; the message of the refusal lists those that exist."""
    if spec.series < len(names):
        return spec.series
    known = ", ".join(f"{i}: {n}" for i, n in enumerate(names))
    raise UnreadableSourceError(f"{shown(spec.uri)!r} has no series {spec.series}. Allowed series: {known}.")


def pick_path(spec: SourceSpec, arrays: Mapping[str, str], what: str) -> str:
    """Return the array that was asked for, or the only one.

    Parameters
    ----------
    spec : SourceSpec
    arrays : mapping of str
        Path -> description, such as "(512, 512) uint8".
    what : str
        Kind of thing that the paths name ("array", "variable").
    """
    known = "; ".join(f"{path!r}: {about}" for path, about in arrays.items()) or "none"
    if spec.path is None and len(arrays) == 1:
        return next(iter(arrays))
    if spec.path is None:
        raise UnreadableSourceError(
            f"{shown(spec.uri)!r} holds {len(arrays)} images. Give `path`, the {what} to read. Allowed: {known}."
        )
    if spec.path not in arrays:
        raise UnreadableSourceError(
            f"{shown(spec.uri)!r} has no {what} {spec.path!r}. Allowed for `path`: {known}."
        )
    return spec.path


def refuse_options(spec: SourceSpec, kind: str, names: Iterable[str]) -> None:
    """Refuse options that this kind of file cannot have, instead of ignoring them."""
    for name in names:
        default = SourceSpec.model_fields[name].default
        if getattr(spec, name) != default:
            raise UnreadableSourceError(
                f"{shown(spec.uri)!r}: {name}={getattr(spec, name)!r} means nothing for {kind}. "
                f"Allowed: {default!r}. Leave `{name}` out."
            )
