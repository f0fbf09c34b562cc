"""Look at places of targets, on disks and in object stores."""

from __future__ import annotations

import os

import fsspec


def target_exists(uri: str) -> bool:
    """Return whether something is at a target's place."""
    if "://" in uri:
        filesystem, path = fsspec.url_to_fs(uri)
        return bool(filesystem.exists(path))
    return os.path.lexists(uri)
