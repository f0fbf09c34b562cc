"""Objects in the stores of Amazon, Google and Azure, and in servers that speak like them, by one library (obstore).

It writes an object only if there is none, or only in the place of a certain one, in all of them. Beside fsspec's
clients, which were used before, it takes a quarter of the processor time per request and a fifth of the memory
(`tests/benchmarks/bench_store.py`).
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipelines.store.addresses import in_store, of_store, scheme_of
from pipelines.store.place import Entry, NotExclusiveError, Place, part_name

AMAZON, GOOGLE = ("s3", "s3a"), ("gs", "gcs")
AZURE = ("az", "abfs", "abfss", "azure", "adl")
SCHEMES = (*AMAZON, *GOOGLE, *AZURE)
"""Schemes of the stores that are reached here."""

PART_BYTES = 8 << 20
"""Bytes of one part of an object that is sent, or fetched, in several parts."""

WHOLE_BYTES, COPIED_BYTES = 2 * PART_BYTES, 5 << 30
"""Sizes up to which an object is sent in one piece, and copied by its store: both can be made conditional on what is
there. A piece is held in memory; of a larger object that is sent in parts two parts are."""

RETRIES: dict[str, Any] = {
    "max_retries": 3,
    "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=2), "base": 2},
    "retry_timeout": timedelta(seconds=30),
}
"""Tries of the library itself, below those of `patiently`."""

TIMEOUT, CONNECTING = timedelta(minutes=5), timedelta(seconds=5)
"""Longest time of one request, and of connecting."""


def part_bytes(size: int) -> int:
    """Return the bytes of one part of an object of a size: S3 takes at most 10,000 parts."""
    return max(PART_BYTES, -(-size // 9000 >> 20) << 20)


class ObjectPlace(Place):
    """The stores of one sort; a path is BUCKET/KEY.

    Parameters
    ----------
    scheme : str
    """

    def __init__(self, scheme: str) -> None:
        self.scheme = scheme
        self.exclusive = True

    def address(self, path: str) -> str:
        """Return a path with its scheme."""
        return of_store(self.scheme, path)

    def _at(self, path: str) -> tuple[Any, str]:
        """Return the bucket, and the key in it."""
        bucket, _, key = path.partition("/")
        return bucket_of(self.address(bucket)), key.rstrip("/")

    def entries(self, path: str) -> list[Entry]:
        """Return what is directly in a folder."""
        import obstore

        store, key = self._at(path)
        with as_os_errors():
            # An empty listing is no error of the library's, and a server's own "404" to it, which may pass, no
            # FileNotFoundError.
            listed = obstore.list_with_delimiter(store, key or None)
            skipped = len(key) + 1 if key else 0
            found = [Entry(one[skipped:], is_folder=True) for one in listed["common_prefixes"]]
            found += [_entry(one, one["path"][skipped:]) for one in listed["objects"]]
            if not found and key:
                # It is an object itself, or nothing is there.
                return [_entry(obstore.head(store, key), "")]
        return found

    def entry(self, path: str) -> Entry | None:
        """Return what is known of one object or folder."""
        import obstore

        store, key = self._at(path)
        with as_os_errors():
            if key:
                with contextlib.suppress(FileNotFoundError):
                    return _entry(obstore.head(store, key), "")
            listed = obstore.list(store, f"{key}/" if key else None, chunk_size=1)
            return Entry("", is_folder=True) if any(listed) else None

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return the bytes of an object, or a part of them."""
        import obstore

        store, key = self._at(path)
        with as_os_errors():
            if stop is not None:
                return bytes(obstore.get_range(store, key, start=start, end=stop))
            options: Any = {"range": {"offset": start}} if start else None
            return bytes(obstore.get(store, key, options=options).bytes())

    def write(self, path: str, data: bytes) -> None:
        """Write all of an object."""
        self._put(path, data, "overwrite")

    def _put(self, path: str, data: bytes | Path, mode: Any) -> None:
        import obstore

        store, key = self._at(path)
        with as_os_errors():
            obstore.put(store, key, data, mode=mode, use_multipart=False)

    def write_if_absent(self, path: str, data: bytes) -> bool:
        """Write an object if there is none."""
        if self.exclusive:
            try:
                self._put(path, data, "create")
            except FileExistsError:
                return False
            except NotExclusiveError:
                self.exclusive = False
            else:
                return True
        raise NotExclusiveError(
            f"The server of {self.address(path)} is not known to write an object only if there is none, so two runs "
            "cannot be told apart there."
        )

    def write_over(self, path: str, data: bytes, mark: str) -> bool:
        """Write an object in the place of a certain one."""
        try:
            self._put(path, data, self._version(path, mark))
        except (FileExistsError, FileNotFoundError):
            return False
        return True

    def _version(self, path: str, mark: str) -> dict[str, str]:
        """Return what a store compares: the ETag, or Google's the number of the version that has it."""
        import obstore

        if self.scheme not in GOOGLE:
            return {"e_tag": f'"{mark}"'}
        store, key = self._at(path)
        with as_os_errors():
            now = obstore.head(store, key)
        if _mark(now) != mark or not now["version"]:
            raise FileExistsError(self.address(path))
        return {"version": now["version"]}

    def fetch(self, path: str, file: Path) -> None:
        """Write the bytes of an object into a local file, part by part."""
        entry = self.entry(path)
        if entry is None or entry.size is None:
            raise FileNotFoundError(f"There is no object {self.address(path)}.")
        with file.open("wb") as opened:
            for start in range(0, entry.size, PART_BYTES):
                opened.write(self.read(path, start, min(start + PART_BYTES, entry.size)))

    def send(self, file: Path, path: str, *, if_absent: bool = False) -> bool:
        """Write all of an object from a local file, in parts where it is large.

        Where the store does not know "only if there is none", or the object is larger than what it copies, it is looked
        for first; another writer may come between.
        """
        if if_absent and self.exclusive and file.stat().st_size <= COPIED_BYTES:
            try:
                return self._send_if_absent(file, path)
            except NotExclusiveError:
                self.exclusive = False
        if if_absent and self.entry(path) is not None:
            return False
        self._send(file, path)
        return True

    def _send_if_absent(self, file: Path, path: str) -> bool:
        try:
            if file.stat().st_size <= WHOLE_BYTES:
                self._put(path, file, "create")
            else:
                self._send_and_copy(file, path)
        except FileExistsError:
            return False
        return True

    def _send_and_copy(self, file: Path, path: str) -> None:
        """Send an object under a name of its own, and let the store copy it if there is none: parts know no conditions.

        What a process that is killed leaves under that name, the next upload of a folder deletes.
        """
        import obstore

        if self.entry(path) is not None:
            raise FileExistsError(self.address(path))
        folder, _, name = path.rpartition("/")
        draft = f"{folder}/{part_name(name)}"
        try:
            self._send(file, draft)
            store, key = self._at(path)
            with as_os_errors():
                obstore.copy(store, self._at(draft)[1], key, overwrite=False)
        finally:
            self.delete([draft])

    def _send(self, file: Path, path: str) -> None:
        import obstore

        store, key = self._at(path)
        size = file.stat().st_size
        with as_os_errors():
            # One part at a time: as many objects as there are threads are in flight already.
            obstore.put(
                store,
                key,
                file,
                use_multipart=size > PART_BYTES,
                chunk_size=part_bytes(size),
                max_concurrency=1,
            )

    def delete(self, paths: Sequence[str]) -> None:
        """Delete objects, a thousand with one request where the store can."""
        import obstore

        for bucket in sorted({path.partition("/")[0] for path in paths}):
            store = bucket_of(self.address(bucket))
            keys = [self._at(path)[1] for path in paths if path.partition("/")[0] == bucket]
            with as_os_errors():
                try:
                    obstore.delete(store, keys)
                except FileNotFoundError:
                    for key in keys:
                        with contextlib.suppress(FileNotFoundError):
                            obstore.delete(store, key)


def _mark(meta: Any) -> str:
    return str(meta["e_tag"] or meta["version"] or meta["last_modified"]).strip('"')


def _entry(meta: Any, name: str) -> Entry:
    return Entry(name, meta["size"], _mark(meta), changed=meta["last_modified"].timestamp())


# ---- buckets


def bucket_of(uri: str) -> Any:
    """Return the library's store of a bucket, with the credentials of this process as they are now."""
    return _bucket(uri, tuple(sorted((k, v) for k, v in os.environ.items() if k.startswith(_VARIABLES))))


_VARIABLES = ("AWS_", "GOOGLE_", "AZURE_")
"""Beginnings of the names of variables that say how to reach a store."""


@functools.lru_cache(maxsize=32)
def _bucket(uri: str, variables: tuple[tuple[str, str], ...]) -> Any:
    from obstore.store import from_url

    said = dict(variables)
    more: dict[str, Any] = _amazon(in_store(uri).partition("/")[0], said) if scheme_of(uri) in AMAZON else {}
    if scheme_of(uri) in AZURE and (account := said.get("AZURE_STORAGE_ACCOUNT_NAME")):
        # The library reads the variable itself, but then cannot say what it has opened.
        more["account_name"] = account
    endpoints = (more.get("endpoint"), *(v for k, v in variables if "ENDPOINT" in k))
    # Without encryption only where somebody has named such a server.
    plain = any(scheme_of(str(one)) == "http" for one in endpoints)
    client: Any = {"timeout": TIMEOUT, "connect_timeout": CONNECTING, "allow_http": plain}
    scheme = {"s3a": "s3", "gcs": "gs"}.get(scheme_of(uri), scheme_of(uri))
    # The library reads addresses as those of the web; a name in a store is what it is.
    make: Any = from_url
    return make(of_store(scheme, quote(in_store(uri))), client_options=client, retry_config=RETRIES, **more)


def _amazon(bucket: str, said: dict[str, str]) -> dict[str, Any]:
    """Return how a bucket is reached, by the variables and the profile that Amazon's own tools go by."""
    more: dict[str, Any] = {"copy_if_not_exists": "multipart"}
    region = said.get("AWS_REGION") or said.get("AWS_DEFAULT_REGION")
    endpoint = said.get("AWS_ENDPOINT_URL_S3") or said.get("AWS_ENDPOINT_URL")
    if not (said.get("AWS_ACCESS_KEY_ID") or said.get("AWS_SKIP_SIGNATURE")):
        import boto3
        import botocore.session
        from obstore.auth.boto3 import Boto3CredentialProvider

        profile = botocore.session.get_session()
        session = boto3.Session(botocore_session=profile)
        if session.get_credentials() is None:
            raise PermissionError(
                "no credentials were found for S3. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, "
                "or, for a public bucket, AWS_SKIP_SIGNATURE=true"
            )
        more["credential_provider"] = Boto3CredentialProvider(session)
        region = region or session.region_name
        endpoint = endpoint or profile.get_scoped_config().get("endpoint_url")
    if endpoint:
        more["endpoint"] = endpoint
    more["region"] = region or ("us-east-1" if endpoint else _region_of(bucket))
    return more


def _region_of(bucket: str) -> str:
    """Return the region that Amazon tells of a bucket, to anybody."""
    request = urllib.request.Request(of_store("https", f"s3.amazonaws.com/{bucket}"), method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=CONNECTING.total_seconds()) as answer:
            headers = answer.headers
    except urllib.error.HTTPError as error:
        headers = error.headers
    return headers.get("x-amz-bucket-region") or "us-east-1"


# ---- errors


_ERRORS: dict[str, type[Exception]] = {
    "AlreadyExistsError": FileExistsError,
    "PreconditionError": FileExistsError,
    "PermissionDeniedError": PermissionError,
    "UnauthenticatedError": PermissionError,
    "NotSupportedError": NotExclusiveError,
    "InvalidPathError": ValueError,
}
"""Names of the library's errors, and the errors of Python that say the same."""

_STATUSES: dict[str, type[Exception]] = {
    "401": PermissionError,
    "403": PermissionError,
    "501": NotExclusiveError,
}
"""The same of answers to which the library gives no name, such as to a listing; any other is an OSError."""


@contextlib.contextmanager
def as_os_errors() -> Iterator[None]:
    """Let the library's errors in a block be those of Python, in the store's own words."""
    try:
        yield
    except Exception as error:
        if not (isinstance(error, FileNotFoundError) or type(error).__module__.startswith("obstore")):
            raise
        # The library's own error shows the request, which may have a signature in it.
        raise _kind(error)(_sentence(error)) from None


def _kind(error: Exception) -> type[Exception]:
    text = str(error)
    if _NO_BUCKET.search(text):
        # It does not come by asking again, as an object may.
        return NotADirectoryError
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError
    status = _STATUS.search(text)
    return _ERRORS.get(type(error).__name__) or _STATUSES.get(status[1] if status else "", OSError)


_NO_BUCKET = re.compile(r"<Code>(NoSuchBucket|ContainerNotFound)</Code>")
_ANSWER = re.compile(r"<Code>(.*?)</Code>.*?<Message>(.*?)</Message>", re.DOTALL)
_STATUS = re.compile(r"status code: (\d{3})([^:\n]*)")
_CAUSE = re.compile(r'\b(?:message|error): "([^"\\]+)"')
_REQUEST = re.compile(r"^.*?Error performing \w+ \S+ in .*? - ")


def _sentence(error: BaseException) -> str:
    """Return what a store or the network says, without the request."""
    text = str(error)
    if found := _ANSWER.search(text):
        return f"{found[2].strip().rstrip('.')} ({found[1]})"
    if found := _STATUS.search(text):
        return f"the store answered with {found[1]}{found[2].rstrip()}"
    first = _REQUEST.sub("", text.split("\n", 1)[0])
    causes = _CAUSE.findall(text)
    return f"{first}: {causes[-1]}" if causes else first
