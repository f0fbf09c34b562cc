"""Keep sources open in a process, and open anew those that have changed."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict

from pipelines.image.open_source import open_source
from pipelines.image.source import Source, SourceSpec
from pipelines.store.addresses import is_remote, local_path
from pipelines.store.listings import taken_over
from pipelines.store.targets import exists

_LOCK = threading.Lock()
_OPEN: OrderedDict[tuple[str, int, str], Source] = OrderedDict()
KEPT_OPEN = 16
"""Largest number of sources that a process keeps open; the least recently used one is dropped."""


def cached_source(spec: SourceSpec, listing: str = "") -> Source:
    """Return the source of a spec, opened once per process; a file that changed is opened anew.

    Where there is a file `listing`, which the driver of one run has written, the source is not listed again.
    """
    listing = listing if listing and (_was_written if is_remote(listing) else exists)(listing) else ""
    key = (*_cache_key(spec), listing)
    with _LOCK:
        source = _OPEN.pop(key, None)
        if source is None or source.stale:
            with taken_over(listing):
                source = open_source(spec)
        _keep(key, source)
    return source


@functools.lru_cache(maxsize=KEPT_OPEN)
def _was_written(listing: str) -> bool:
    """Return whether a driver has written a listing to a store, which it does before its first task or never."""
    return exists(listing)


def fresh_source(spec: SourceSpec) -> Source:
    """Return the source of a spec, opened now, also for those who ask `cached_source` later."""
    with _LOCK:
        source = open_source(spec)
        _keep((*_cache_key(spec), ""), source)
    return source


def _cache_key(spec: SourceSpec) -> tuple[str, int]:
    path = local_path(spec.uri)
    return repr(spec), path.stat().st_mtime_ns if path is not None and path.exists() else 0


def _keep(key: tuple[str, int, str], source: Source) -> None:
    _OPEN.pop(key, None)
    _OPEN[key] = source
    while len(_OPEN) > KEPT_OPEN:
        _OPEN.popitem(last=False)
