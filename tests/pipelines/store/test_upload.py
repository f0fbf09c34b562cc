"""Uploads: whole or not at all, resumed object by object, over nothing that is another's, checked before they count."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from pipelines.store import upload
from pipelines.store.places import place_of
from pipelines.store.publish import hand_over
from pipelines.store.targets import is_complete, is_taken
from pipelines.store.upload import TargetTakenError, UnverifiedError, etags, upload_folder
from tests.faulty_proxy import Fault
from tests.pipelines.runs import contents_of

PIECES = 40


@pytest.fixture
def result(tmp_path):
    """Return a folder as a finished run leaves it."""
    root = tmp_path / "result"
    for i in range(PIECES):
        path = root / "0" / "c" / str(i // 10) / str(i % 10)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([i]) * (1000 + i))
    (root / "0" / "zarr.json").write_text("{}")
    (root / "zarr.json").write_text('{"root": true}')
    return root


def sent(objects) -> list[str]:
    return [path.partition("?")[0] for method, path in objects.proxy.requests if method == "PUT"]


@pytest.fixture
def target(objects, tmp_path):
    """Return an address in the bucket that nothing else uses."""
    return f"{objects.bucket}/{tmp_path.name}.zarr"


def test_all_is_there_and_the_root_came_last(objects, target, result):
    hand_over(result, target)
    assert contents_of(target) == contents_of(result)
    assert sent(objects)[-1].endswith(".zarr/zarr.json")
    assert len(sent(objects)) == PIECES + 2
    assert result.exists()


@pytest.mark.thorough
def test_what_is_there_is_not_sent_again(objects, target, result):
    hand_over(result, target)
    place, path = place_of(target)
    gone = [f"{path}/0/c/1/{i}" for i in range(5)]
    place.delete([f"{path}/zarr.json", *gone])
    objects.proxy.clear()
    hand_over(result, target)
    assert sorted(sent(objects)) == sorted(f"/{p}" for p in (*gone, f"{path}/zarr.json"))
    assert contents_of(target) == contents_of(result)
    objects.proxy.clear()
    hand_over(result, target)
    assert sent(objects) == []


@pytest.mark.parametrize("name", ["0/c/0/3", "zarr.json", "0/c/9/9", "notes.txt"])
def test_what_is_anothers_is_left_as_it_is(objects, target, result, name):
    place, path = place_of(f"{target}/{name}")
    place.write(path, b"not ours")
    with pytest.raises(TargetTakenError, match="left as it is"):
        hand_over(result, target)
    assert contents_of(target) == {name: b"not ours"}
    assert result.exists()


def test_what_appears_during_an_upload_is_left_as_it_is(objects, target, result, monkeypatch):
    place, path = place_of(f"{target}/0/c/2/2")
    send = upload._Sending.send

    def appear(self, names):
        place.write(path, b"not ours")
        send(self, names)

    monkeypatch.setattr(upload._Sending, "send", appear)
    with pytest.raises(TargetTakenError, match="0/c/2/2"):
        hand_over(result, target)
    assert place.read(path) == b"not ours"
    assert not is_complete(target)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault.internal, marks=pytest.mark.slow),
        Fault.unavailable,
        Fault.not_found,
        pytest.param(Fault.reset, marks=pytest.mark.slow),
        Fault.reset_after,
    ],
)
def test_faults_in_passing_lose_nothing(objects, target, result, fault):
    rule = objects.proxy.add(fault, rate=0.15, seed=len(fault.name))
    hand_over(result, target)
    assert rule.used > 3
    objects.proxy.clear()
    assert contents_of(target) == contents_of(result)


@pytest.mark.thorough
@pytest.mark.parametrize("fault", [Fault.denied, Fault.not_found])
def test_a_fault_that_stays_leaves_no_root(objects, target, result, fault, monkeypatch):
    monkeypatch.setattr("pipelines.store.patience.PAUSES", (0.01,) * 3)
    objects.proxy.add(fault, method="PUT", path="0/c/3/3")
    with pytest.raises(OSError):
        hand_over(result, target)
    assert is_taken(target)
    assert not is_complete(target)
    objects.proxy.clear()
    hand_over(result, target)
    assert contents_of(target) == contents_of(result)


def test_a_store_that_loses_what_it_took_is_noticed(objects, target, result, monkeypatch):
    place, path = place_of(target)
    send = upload._Sending.send

    def lose(self, names):
        send(self, names)
        place.delete([f"{path}/0/c/2/2"])

    monkeypatch.setattr(upload._Sending, "send", lose)
    with pytest.raises(UnverifiedError, match="1 of 41 objects"):
        hand_over(result, target)
    assert not is_complete(target)


UPLOAD = """
import sys
from pathlib import Path
from pipelines.store.upload import upload_folder
upload_folder(Path(sys.argv[1]), sys.argv[2])
"""


@pytest.mark.thorough
@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 4))])
def test_an_upload_that_is_killed_is_finished_by_the_next(objects, target, result, seed):
    objects.proxy.add(Fault.slow, rate=0.1, seed=seed)
    python = subprocess.Popen(
        [sys.executable, "-c", UPLOAD, str(result), target], env={**os.environ, **objects.environment}
    )
    enough = 2 + 11 * seed
    while len(sent(objects)) < enough and python.poll() is None:
        time.sleep(0.002)
    os.kill(python.pid, signal.SIGKILL)
    python.wait()
    objects.proxy.clear()
    there = contents_of(target) if is_taken(target) else {}
    assert 0 < len(there) < PIECES + 2
    assert not is_complete(target)
    objects.proxy.requests.clear()
    hand_over(result, target)
    assert contents_of(target) == contents_of(result)
    # What was on its way when the process was killed may have arrived later than the listing.
    assert len(sent(objects)) <= PIECES + 2 - len(there)


@pytest.mark.parametrize(("copied", "parts"), [(5 << 30, 1), (5 << 20, 3)])
def test_an_object_in_parts_is_known_by_its_checksum(objects, target, tmp_path, monkeypatch, copied, parts):
    """The store copies what was sent in parts, as far as it can copy so much."""
    monkeypatch.setattr("pipelines.store.object_place.COPIED_BYTES", copied)
    for module in ("upload", "object_place"):
        monkeypatch.setattr(f"pipelines.store.{module}.PART_BYTES", 5 << 20)
    monkeypatch.setattr("pipelines.store.object_place.WHOLE_BYTES", 5 << 20)
    root = tmp_path / "large"
    root.mkdir()
    (root / "one").write_bytes(os.urandom(13 << 20))
    upload_folder(root, target)
    place, path = place_of(target)
    assert place.entry(f"{path}/one").mark in etags(root / "one", True)
    assert place.entry(f"{path}/one").mark.endswith(f"-{parts}")
    assert [entry.name for entry in place.entries(path)] == ["one"]
    place.write(f"{path}/.one.12.34.part", b"half of it, from an upload that was killed")
    objects.proxy.clear()
    upload_folder(root, target)
    assert not [path for method, path in objects.proxy.requests if method == "PUT"]
    assert not [
        path for method, path in objects.proxy.requests if method == "GET" and "list-type" not in path
    ]
    assert [entry.name for entry in place.entries(path)] == ["one"]


def test_a_store_without_checksums_is_read_back(tmp_path, result):
    target = f"memory://{tmp_path.name}"
    hand_over(result, target)
    assert contents_of(target) == contents_of(result)
    hand_over(result, target)
    place, path = place_of(f"{target}/0/c/2/2")
    place.write(path, bytes([23]) * 1022)
    with pytest.raises(TargetTakenError):
        hand_over(result, target)


def test_a_file_is_sent_whole_and_over_nothing(objects, target, tmp_path):
    def publish(data: bytes) -> None:
        (tmp_path / "finished").write_bytes(data)
        hand_over(tmp_path / "finished", target)

    for fault in (Fault.unavailable, Fault.reset_after, Fault.not_found):
        objects.proxy.add(fault, times=2)
    publish(b"ours")
    publish(b"ours")
    with pytest.raises(TargetTakenError):
        publish(b"another's")
    place, path = place_of(target)
    assert place.read(path) == b"ours"
    assert is_complete(target)
