"""One interface for disks and stores: whole writes, writes only if absent, listings, and faults that pass."""

from __future__ import annotations

import threading
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines.store import patience
from pipelines.store.addresses import shown
from pipelines.store.object_place import RETRIES, part_bytes
from pipelines.store.place import LocalPlace, NotExclusiveError
from pipelines.store.places import MAKERS, place_of
from pipelines.store.targets import exists, is_complete, is_taken, remove
from tests.faulty_proxy import Fault


class FailingPlace(LocalPlace):
    """A local folder that fails in passing, as often as `failures` says, with an error of the test."""

    def __init__(self, error: Exception, failures: int, after: bool = False) -> None:
        self.error, self.failures, self.after = error, failures, after
        self.calls: Counter[str] = Counter()

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise self.error

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        self.calls["read"] += 1
        self._fail()
        return super().read(path, start, stop)

    def write_if_absent(self, path: str, data: bytes) -> bool:
        self.calls["write_if_absent"] += 1
        if not self.after:
            self._fail()
        written = super().write_if_absent(path, data)
        self._fail()
        return written


@pytest.fixture
def failing(monkeypatch, tmp_path):
    """Return a function that puts a failing place behind failing://, and its address."""
    monkeypatch.setattr(patience, "PAUSES", (0.0,) * 9)

    def make(error: Exception, failures: int, after: bool = False) -> FailingPlace:
        place = FailingPlace(error, failures, after)
        monkeypatch.setitem(MAKERS, "failing", lambda uri: (place, str(tmp_path / uri.rsplit("/", 1)[-1])))
        return place

    return make


@pytest.fixture(params=["local", "file", "memory", "s3", "az"])
def folder(request, tmp_path):
    """Return the address of an empty folder, of every kind."""
    if request.param == "s3":
        return f"{request.getfixturevalue('objects').bucket}/{tmp_path.name}"
    if request.param == "az":
        return f"{request.getfixturevalue('container')}/{tmp_path.name}"
    return {
        "local": str(tmp_path),
        "file": tmp_path.as_uri(),
        "memory": f"memory://{tmp_path.name}",
    }[request.param]


def test_what_is_written_is_listed_and_read(folder):
    for name in ("a", "deep/b", "deep/er/c"):
        place, path = place_of(f"{folder}/out/{name}")
        place.write(path, name.encode())
    place, path = place_of(f"{folder}/out")
    assert {(e.name, e.size, e.is_folder) for e in place.entries(path)} == {
        ("a", 1, False),
        ("deep", *FOLDER),
    }
    assert place.read(f"{path}/deep/b") == b"deep/b"
    assert place.read(f"{path}/deep/b", 1, 3) == b"ee"
    assert place.entry(f"{path}/nothing") is None
    with pytest.raises(FileNotFoundError):
        place.entries(f"{path}/nothing")


FOLDER = (None, True)


def test_a_whole_write_replaces(folder):
    place, path = place_of(f"{folder}/one")
    place.write(path, b"first")
    before = place.entry(path)
    place.write(path, b"other")
    assert place.read(path) == b"other"
    assert place.entry(path) != before
    place.delete([path])
    place.delete([path])
    assert place.entry(path) is None


def test_only_one_of_many_writers_is_the_first(folder):
    place, path = place_of(f"{folder}/lease")
    start = threading.Barrier(8)

    def write(i: int) -> bool:
        start.wait()
        return place.write_if_absent(path, str(i).encode())

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(write, range(8)))
    assert sum(won) == 1
    assert place.read(path) == str(won.index(True)).encode()


def test_a_local_write_leaves_nothing_beside_it(tmp_path):
    place, path = place_of(str(tmp_path / "a"))
    place.write(path, b"1")
    assert not place.write_if_absent(path, b"2")
    assert place.read(path) == b"1"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_store_that_cannot_tell_two_writers_apart_says_so():
    place, path = place_of("http://127.0.0.1:1/a")
    with pytest.raises(NotExclusiveError, match="only if there is none"):
        place.write_if_absent(path, b"")


@pytest.mark.parametrize("error", [OSError("busy"), ConnectionResetError(), TimeoutError()])
def test_what_fails_in_passing_is_asked_again(failing, tmp_path, error):
    (tmp_path / "a").write_bytes(b"there")
    failing(error, failures=7)
    place, path = place_of("failing://a")
    assert place.read(path) == b"there"


@pytest.mark.parametrize(
    ("error", "calls"),
    [(PermissionError("denied"), 1), (FileNotFoundError("gone"), 1), (OSError("busy"), 10)],
)
def test_what_does_not_pass_is_an_error(failing, error, calls):
    inner = failing(error, failures=99)
    place, path = place_of("failing://a")
    with pytest.raises(type(error), match=str(error)):
        place.read(path)
    assert inner.calls["read"] == calls


def test_a_disk_that_is_full_is_not_asked_again(failing):
    inner = failing(OSError(28, "No space left on device"), failures=99)
    place, path = place_of("failing://a")
    with pytest.raises(OSError, match="No space"):
        place.read(path)
    assert inner.calls["read"] == 1


def test_a_write_whose_answer_was_lost_is_known_for_ours(failing):
    inner = failing(ConnectionResetError("lost"), failures=1, after=True)
    place, path = place_of("failing://a")
    assert place.write_if_absent(path, b"mine")
    assert inner.calls["write_if_absent"] == 2


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault.internal, marks=pytest.mark.slow),
        Fault.unavailable,
        Fault.reset,
        Fault.reset_after,
        Fault.cut_short,
    ],
)
def test_faults_of_a_server_pass(objects, fault):
    place, path = place_of(f"{objects.bucket}/faults/{fault.name}")
    objects.proxy.add(fault, times=3)
    assert place.write_if_absent(path, b"x" * 1000)
    objects.proxy.add(fault, times=3)
    assert place.read(path) == b"x" * 1000
    objects.proxy.add(fault, times=3)
    assert [e.name for e in place.entries(path.rpartition("/")[0]) if e.name == fault.name] == [fault.name]


def test_a_server_without_conditions_gets_objects_and_no_leases(objects, tmp_path):
    place, path = place_of(f"{objects.bucket}/{tmp_path.name}")
    objects.proxy.add(Fault.unsupported, times=1 + RETRIES["max_retries"], method="PUT")
    with pytest.raises(NotExclusiveError, match="only if there"):
        place.write_if_absent(path, b"")
    (tmp_path / "a").write_bytes(b"x")
    place, path = place_of(f"{objects.bucket}/{tmp_path.name}")
    objects.proxy.add(Fault.unsupported, times=1 + RETRIES["max_retries"], method="PUT")
    assert place.send(tmp_path / "a", path, if_absent=True)
    assert not place.send(tmp_path / "a", path, if_absent=True)
    assert place.read(path) == b"x"


def test_denied_is_said_at_once_with_the_address(objects):
    place, path = place_of(f"{objects.bucket}/faults/denied")
    rule = objects.proxy.add(Fault.denied)
    for ask in (
        lambda: place.write(path, b"x"),
        lambda: place.read(path),
        lambda: place.entry(path),
        lambda: place.entries(path),
        lambda: place.write_if_absent(path, b"x"),
        lambda: place.delete([path]),
    ):
        with pytest.raises(PermissionError, match=f"{objects.bucket}/faults/denied"):
            ask()
    assert rule.used == 6


def test_an_error_shows_no_signature(monkeypatch):
    monkeypatch.setattr(patience, "PAUSES", ())
    monkeypatch.setitem(RETRIES, "max_retries", 0)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "anybody")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "sv=2024-11-04&sr=c&sig=never%2Fseen")
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", "http://127.0.0.1:1/anybody")
    place, path = place_of("az://scans/a")
    with pytest.raises(OSError, match="refused") as raised:
        place.read(path)
    assert "never" not in "".join(traceback.format_exception(raised.value))


# What is at an address


def test_a_target_is_complete_when_its_root_is_there(folder):
    target = f"{folder}/out.zarr"
    assert not exists(target)
    assert not is_taken(target)
    assert not is_complete(target)
    place, path = place_of(f"{target}/0/c/0")
    place.write(path, b"pixels")
    assert is_taken(target)
    assert not is_complete(target)
    place, path = place_of(f"{target}/zarr.json")
    place.write(path, b"{}")
    assert is_complete(target)
    place, path = place_of(f"{folder}/out.tif")
    place.write(path, b"pixels")
    assert is_complete(f"{folder}/out.tif")


@pytest.mark.slow
def test_a_target_that_is_not_found_in_passing_is_taken(objects):
    target = f"{objects.bucket}/taken.zarr"
    place, path = place_of(f"{target}/zarr.json")
    place.write(path, b"{}")
    for ask in (exists, is_taken, is_complete):
        objects.proxy.add(Fault.not_found, times=7)
        assert ask(target)


def test_the_root_is_removed_first_and_nothing_else(objects):
    for name in ("old.zarr/0/c/0", "old.zarr/0/c/1", "old.zarr/zarr.json", "old.zarr.txt"):
        place, path = place_of(f"{objects.bucket}/{name}")
        place.write(path, b"x")
    objects.proxy.clear()
    objects.proxy.add(Fault.unavailable, times=3, method="POST|DELETE")
    remove(f"{objects.bucket}/old.zarr")
    assert not is_taken(f"{objects.bucket}/old.zarr")
    assert is_taken(f"{objects.bucket}/old.zarr.txt")
    remove(f"{objects.bucket}/old.zarr.txt")
    remove(f"{objects.bucket}/old.zarr.txt")
    assert not is_taken(f"{objects.bucket}/old.zarr.txt")


def test_parts_are_never_more_than_a_store_takes():
    for size in (0, 1 << 20, 1 << 33, 5 << 40):
        part = part_bytes(size)
        assert part >= 5 << 20
        assert size <= part * 10_000


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("https://anna:se/cret@host/a.zarr", "https://***@host/a.zarr"),
        ("https://anna:secret@host/a.zarr?token=abc&x=1", "https://***@host/a.zarr?***"),
        ("cannot read 's3://key:secret@bucket/a' now", "cannot read 's3://***@bucket/a' now"),
        ("s3://bucket/a@b.zarr", "s3://bucket/a@b.zarr"),
        ("/data/what?.tif", "/data/what?.tif"),
    ],
)
def test_passwords_are_not_shown(uri, told):
    assert shown(uri) == told


def test_a_link_that_leads_nowhere_takes_its_place(tmp_path: Path):
    (tmp_path / "a").symlink_to(tmp_path / "nowhere")
    assert is_taken(str(tmp_path / "a"))
    assert not exists(str(tmp_path / "a"))
    assert not is_complete(str(tmp_path / "a"))
