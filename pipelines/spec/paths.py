"""Make the relative paths of a spec start at its folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pipelines.spec.cluster import cluster_with_paths
from pipelines.store.addresses import absolute

_PLACES = (("source", "uri"), ("sink", "uri"), ("run", "workdir"))
"""Sections and keys that are paths."""

_BESIDE = ("markers", "known")
"""Keys of a step that are the name of another step, or a path."""


def is_path(name: str) -> bool:
    """Return whether what a step reads is no name of a step: files lie in folders, or have an ending."""
    return "/" in name or os.sep in name or "." in name


def with_paths(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the plain values of a spec with absolute paths."""
    found = dict(data)
    for section, key in _PLACES:
        found[section] = _with_path(found.get(section), key, folder)
    run = found.get("run")
    if isinstance(run, dict) and "cluster" in run:
        found["run"] = {**run, "cluster": cluster_with_paths(run["cluster"], folder)}
    if isinstance(found.get("steps"), list):
        found["steps"] = [_step_with_paths(step, folder) for step in found["steps"]]
    if isinstance(found.get("outputs"), list):
        found["outputs"] = [_with_path(output, "uri", folder) for output in found["outputs"]]
    return {key: part for key, part in found.items() if part is not None or key in data}


def _step_with_paths(step: Any, folder: Path) -> Any:
    if not isinstance(step, dict):
        return step
    read = {key: step[key] for key in _BESIDE if isinstance(step.get(key), str)}
    return {**step, **{key: absolute(name, folder) for key, name in read.items() if is_path(name)}}


def _with_path(part: Any, key: str, folder: Path) -> Any:
    if isinstance(part, dict) and isinstance(part.get(key), str) and part[key]:
        return {**part, key: absolute(part[key], folder)}
    return part
