"""Read a Zarr hierarchy in a store without taking "not found" for "never written".

Zarr has no other sign for a chunk of fill value than that it is absent. So where a store does not find a chunk, its
listing is asked: what is listed must be read, and is asked for again until it comes; what is not is fill value.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterable
from typing import TypeVar

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import FsspecStore, ObjectStore, WrapperStore

from pipelines.store.addresses import scheme_of, shown, within
from pipelines.store.listings import Listing
from pipelines.store.object_place import SCHEMES, as_os_errors, bucket_of
from pipelines.store.patience import PAUSES, naming
from pipelines.store.places import OPTIONS, place_of
from pipelines.store.targets import names_in

T = TypeVar("T")

FOLDERS_KEPT = 32
"""Folders whose names are kept, so that metadata that a hierarchy has not are asked for once."""


class MissingObjectError(OSError):
    """An object that the store lists and does not find, or of which it cannot say whether it was ever written."""


class MissingChunkError(OSError):
    """A chunk of an array of the run is not there."""


OWN_TRIES = 3
"""Looks at a chunk of an array of the run that is not found: it may be that in passing."""


class _StoreAt(WrapperStore[Store]):
    """A store at an address, in which every object is read by `get`."""

    def __init__(self, store: Store, uri: str = "") -> None:
        super().__init__(store)
        self.uri = uri

    async def _ask(self, key: str, answer: Awaitable[T]) -> T:
        """Return an answer of the store; its errors name the object."""
        with naming(within(self.uri, key)), as_os_errors():
            return await answer

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return parts of objects."""
        return list(await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges)))

    async def _get_many(
        self, requests: Iterable[tuple[str, BufferPrototype, ByteRequest | None]]
    ) -> AsyncGenerator[tuple[str, Buffer | None], None]:
        for request in requests:
            yield request[0], await self.get(*request)


class OwnStore(_StoreAt):
    """A hierarchy of the run itself in a store, for reading: all of its chunks that are asked for have been written."""

    def _with_store(self, store: Store) -> OwnStore:
        return OwnStore(store, self.uri)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return an object; only metadata may be absent.

        Raises
        ------
        MissingChunkError
        """
        for pause in (*PAUSES[: OWN_TRIES - 1], None):
            value = await self._ask(key, self._store.get(key, prototype, byte_range))
            if value is not None or _is_metadata(key):
                return value
            if pause is not None:
                await asyncio.sleep(pause)
        raise MissingChunkError(
            f"The chunk {shown(within(self.uri, key))} is missing, although its tile was finished."
        )


class GuardedStore(_StoreAt):
    """A store for reading."""

    def __init__(self, store: Store, uri: str = "") -> None:
        super().__init__(store, uri)
        self._arrays: dict[str, Listing | None] = {}
        self._folders: dict[str, set[str]] = {}
        self.stale = False
        """True once an object that was listed is gone, so that the listing no longer holds."""

    def _with_store(self, store: Store) -> GuardedStore:
        """Return the same hierarchy through another store."""
        return GuardedStore(store, self.uri)

    def know(self, path: str, listing: Listing | None) -> None:
        """Take over the listing of an array, None where the store does not list."""
        self._arrays[path.strip("/")] = listing

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return an object, None where it is not there and not listed."""
        for pause in (*PAUSES, None):
            value = await self._ask(key, self._store.get(key, prototype, byte_range))
            if value is not None or not await self._is_listed(key):
                return value
            if pause is not None:
                await asyncio.sleep(pause)
        self.stale = True
        raise MissingObjectError(
            f"{shown(within(self.uri, key))} is in the store's listing, but is not found at {len(PAUSES) + 1} tries. "
            "It was deleted after the run began, or the store is out of order: run the same command again later."
        )

    async def exists(self, key: str) -> bool:
        """Return whether an object is there or listed."""
        if await self._ask(key, self._store.exists(key)):
            return True
        return await self._is_listed(key)

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names in a folder."""
        for name in sorted(await self._names(prefix.strip("/"))):
            yield name

    async def _is_listed(self, key: str) -> bool:
        for path, listing in self._arrays.items():
            if path and not key.startswith(f"{path}/"):
                continue
            inside = key[len(path) + 1 :] if path else key
            if listing is not None:
                return inside in listing
            if not _is_metadata(inside):
                raise MissingObjectError(
                    f"{shown(within(self.uri, key))} is not found, and the store does not list what it has, so it "
                    "cannot be told whether these pixels are fill value. Read the image through an address that "
                    "lists, such as s3://, or copy it here."
                )
        folder, _, name = key.rpartition("/")
        return name in await self._names(folder)

    async def _names(self, folder: str) -> set[str]:
        if folder not in self._folders:
            place, path = place_of(within(self.uri, folder))
            self._folders[folder] = await asyncio.to_thread(names_in, place, path)
            while len(self._folders) > FOLDERS_KEPT:
                self._folders.pop(next(iter(self._folders)))
        return self._folders[folder]


def _is_metadata(name: str) -> bool:
    return name.rpartition("/")[2] in {"zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata"}


def guarded(uri: str) -> GuardedStore:
    """Return the store of a remote hierarchy, for reading."""
    return GuardedStore(_store(uri, read_only=True), uri)


def own_store(uri: str) -> OwnStore:
    """Return the store of a remote hierarchy of the run itself."""
    return OwnStore(_store(uri, read_only=False), uri)


def _store(uri: str, read_only: bool) -> Store:
    if scheme_of(uri) in SCHEMES:
        return ObjectStore(bucket_of(uri.rstrip("/")), read_only=read_only)
    return FsspecStore.from_url(uri, storage_options=OPTIONS, read_only=read_only)
