"""List all plug-ins as plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from diffusion_ops.evolution.operator import OPERATORS
from pipelines.image.sink import SINKS
from pipelines.image.source import SOURCES
from pipelines.refusal import RefusedError
from pipelines.spec.cluster import describe_options
from pipelines.spec.describe import describe_operator, first_sentence
from pipelines.tasks.workers import CLUSTERS, Cluster


def _plugin(name: str, cls: type[Any]) -> dict[str, Any]:
    about = getattr(cls, "about", "") or first_sentence(cls)
    extensions = getattr(cls, "extensions", None)
    return {"name": name, "about": about, **({} if extensions is None else {"extensions": list(extensions)})}


def list_formats() -> dict[str, list[dict[str, Any]]]:
    """Return what can be read and what can be written, with file name endings."""
    return {
        "sources": [_plugin(name, cls) for name, cls in SOURCES.items()],
        "sinks": [_plugin(name, cls) for name, cls in SINKS.items()],
    }


def _cluster(name: str, cls: type[Cluster]) -> dict[str, Any]:
    return {**_plugin(name, cls), "options": describe_options(cls)}


LISTS: Mapping[str, Callable[[], dict[str, list[dict[str, Any]]]]] = {
    "operators": lambda: {"operators": [describe_operator(cls) for cls in OPERATORS.values()]},
    "formats": list_formats,
    "clusters": lambda: {"clusters": [_cluster(name, cls) for name, cls in CLUSTERS.items()]},
}
"""Functions that list plug-ins by kind, in groups with a title each."""


def find_plugins(kind: str, name: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """Return all plug-ins of a kind in groups, or those of one name.

    Raises
    ------
    RefusedError
        For an unknown name; the message lists the known ones.
    """
    groups = LISTS[kind]()
    if name is None:
        return groups
    names = dict.fromkeys(entry["name"] for entries in groups.values() for entry in entries)
    if name not in names:
        raise RefusedError(f"There is no {name!r} among the {kind}. Allowed: {', '.join(names)}.")
    return {title: [e for e in entries if e["name"] == name] for title, entries in groups.items()}
