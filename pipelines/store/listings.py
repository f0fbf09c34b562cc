"""List all that is below an address, and keep of it what tells whether anything changed and whether a name was there.

A local listing of 100,000 files takes about a second. A store's is read folder by folder, `AT_ONCE` of them at a time:
a request for each folder, and for every thousand objects in one. Of a listing 24 bytes per file are kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import ContextVar
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipelines.store.addresses import is_remote
from pipelines.store.patience import patiently
from pipelines.store.place import Entry, LocalPlace, Place
from pipelines.store.places import local_copy, place_of

_TAKEN_OVER: ContextVar[str] = ContextVar("taken_over", default="")

AT_ONCE = 8
"""Folders of a store that are listed at a time."""


def tree(place: Place, path: str) -> Iterator[Entry]:
    """Yield all files or objects below a folder, in any order, with their names from there on.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or one that was listed is gone.
    """
    if isinstance(place, LocalPlace):
        yield from _local_tree(place, path, "")
        return
    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting = {pool.submit(place.entries, path): ""}
        try:
            while waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for listed in done:
                    above = waiting.pop(listed)
                    for entry in _told(place, path, above, listed.result(), pool):
                        if entry.is_folder:
                            waiting[pool.submit(_folder_listed, place, f"{path}/{entry.name}")] = entry.name
                        else:
                            yield entry
        finally:
            for listed in waiting:
                listed.cancel()


def _local_tree(place: LocalPlace, path: str, above: str) -> Iterator[Entry]:
    for entry in place.entries(path):
        name = f"{above}{entry.name}"
        if entry.is_folder:
            yield from _local_tree(place, f"{path}/{entry.name}", f"{name}/")
        else:
            yield replace(entry, name=name)


def _folder_listed(place: Place, path: str) -> list[Entry]:
    """List a folder that the one above it listed: here "not found" is a fault that may pass."""
    return patiently(lambda: place.entries(path), absent_passes=True)


def _told(
    place: Place, path: str, above: str, entries: Iterable[Entry], pool: ThreadPoolExecutor
) -> Iterator[Entry]:
    """Yield the entries of a folder named from the top; web servers list names alone, and are asked for the rest."""
    asked: list[tuple[str, Future[Entry | None]]] = []
    for entry in entries:
        name = f"{above}/{entry.name}" if above and entry.name else above or entry.name
        if entry.is_folder or entry.size is not None or entry.mark:
            yield replace(entry, name=name)
        else:
            asked.append((name, pool.submit(place.entry, f"{path}/{name}")))
    for name, answer in asked:
        yield replace(answer.result() or Entry(name), name=name)


@dataclass(frozen=True)
class Listing:
    """What was below an address at one moment.

    Attributes
    ----------
    digest : str
        Changes when a file or an object is added, removed, renamed, swapped with another, or written again: names,
        sizes, and checksums or times of change are in it. The order and the place are not.
    count : int
    names : array of uint64
        Sorted digests of the names.
    """

    digest: str
    count: int
    names: NDArray[np.uint64]

    def __contains__(self, name: str) -> bool:
        key = _key(name)
        at = int(np.searchsorted(self.names, key))
        return at < len(self.names) and bool(self.names[at] == key)

    def keep(self, uri: str) -> None:
        """Write the listing to a file or an object, for processes that are to take it over instead of listing again."""
        data = io.BytesIO()
        np.savez(data, names=self.names, digest=np.array(self.digest))
        place, path = place_of(uri)
        place.write(path, data.getvalue())

    def absent(self, names: Iterable[str]) -> int:
        """Return how many of some names were not listed."""
        keys = np.fromiter(map(_key, names), np.uint64)
        return int(np.sum(~np.isin(keys, self.names)))


def _key(name: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little"))


def summarize(entries: Iterable[Entry]) -> Listing:
    """Return what is kept of entries."""
    names, all_of_it = bytearray(), bytearray()
    for entry in entries:
        names += hashlib.blake2b(entry.name.encode(), digest_size=8).digest()
        said = f"{entry.name}\0{entry.size}\0{entry.mark}".encode()
        all_of_it += hashlib.blake2b(said, digest_size=16).digest()
    keys = np.sort(np.frombuffer(names, "<u8").astype(np.uint64))
    halves = np.frombuffer(all_of_it, "<u8").reshape(-1, 2)
    ordered = halves[np.lexsort(halves.T)]  # the order of a listing is any
    return Listing(hashlib.sha256(ordered.tobytes()).hexdigest()[:32], len(keys), keys)


def list_below(uri: str, known: str) -> Listing | None:
    """Return the listing of a folder, or the one taken over; None where the store does not list, as many web servers.

    Parameters
    ----------
    uri : str
    known : str
        Name of a file that has just been read from the folder. A listing without it is none: a server that lists
        nothing, or one that failed in passing, which is asked again.
    """
    kept = _kept()
    if kept is not None:
        return kept
    place, path = place_of(uri)

    def once() -> Listing:
        listing = summarize(tree(place, path))
        if known not in listing:
            raise FileNotFoundError(f"{known} is not in the listing")
        return listing

    return _unless_unlisted(uri, lambda: patiently(once, absent_passes=is_remote(uri)))


@contextlib.contextmanager
def taken_over(file: str) -> Iterator[None]:
    """Let sources that are opened in a block take over a listing that `Listing.keep` has written; "" for none."""
    token = _TAKEN_OVER.set(file)
    try:
        yield
    finally:
        _TAKEN_OVER.reset(token)


def _kept() -> Listing | None:
    file = _TAKEN_OVER.get()
    if not file:
        return None
    with np.load(local_copy(file)) as found:
        return Listing(str(found["digest"]), len(found["names"]), found["names"])


def _unless_unlisted(uri: str, call: Callable[[], Listing]) -> Listing | None:
    try:
        return call()
    except (FileNotFoundError, PermissionError):
        if is_remote(uri):
            return None
        raise
