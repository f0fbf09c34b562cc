"""A target, and the folder of a run in a store, have one run at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines.record import holding
from pipelines.record.holding import BusyError, StoredLease
from pipelines.record.lease import lease
from pipelines.record.workdir import UnfitStoreError, Workdir
from pipelines.store.place import NotExclusiveError
from pipelines.store.places import MAKERS, place_of
from pipelines.store.upload import TargetTakenError
from tests.faulty_proxy import Fault


def test_two_runs_in_different_folders_cannot_have_one_target(tmp_path: Path) -> None:
    target = str(tmp_path / "out.zarr")
    with lease(target, tmp_path / "first"):
        with pytest.raises(BusyError, match="first"), lease(target, tmp_path / "second"):
            pass
        with lease(str(tmp_path / "other.zarr"), tmp_path / "second"):
            pass
    with lease(target, tmp_path / "second"):
        pass
    assert not list(tmp_path.iterdir())


# ---- in a store


def lease_of(target: str) -> dict[str, object]:
    place, path = place_of(target)
    return json.loads(place.read(f"{path}.lease"))


def put(target: str, **values: object) -> None:
    place, path = place_of(target)
    place.write(f"{path}.lease", json.dumps({"host": "other", "workdir": "/other", **values}).encode())


def names(target: str) -> set[str]:
    place, path = place_of(target.rpartition("/")[0])
    try:
        return {entry.name for entry in place.entries(path)}
    except FileNotFoundError:
        return set()


def test_two_folders_cannot_have_one_target_in_a_store(objects, tmp_path: Path) -> None:
    target = f"{objects.bucket}/held/out.zarr"
    with lease(target, tmp_path / "first"):
        with (
            pytest.raises(BusyError, match=r"first.*its lease ends in 1\d\d s"),
            lease(target, tmp_path / "second"),
        ):
            pass
        with lease(f"{objects.bucket}/held/other.zarr", tmp_path / "second"):
            pass
    assert not names(target)


@pytest.mark.parametrize("values", [{}, {"process": "damaged"}], ids=["ended", "damaged"])
def test_a_lease_has_ended_by_the_clock_of_the_store(
    objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, str]
) -> None:
    target = f"{objects.bucket}/ended/out.zarr"
    put(target, **values)
    with pytest.raises(BusyError), lease(target, tmp_path / "second"):
        pass
    monkeypatch.setattr(holding, "LASTS_SECONDS", 0.0)
    with lease(target, tmp_path / "second"):
        assert lease_of(target)["workdir"] == str(tmp_path / "second")
    assert not names(target)


def test_the_run_of_the_same_folder_goes_on_at_once(objects, tmp_path: Path) -> None:
    target = f"{objects.bucket}/same/out.zarr"
    with lease(target, tmp_path / "same") as killed, lease(target, tmp_path / "same") as held:
        held.require()
        with pytest.raises(TargetTakenError, match="was lost"):
            killed.require()
    assert not names(target)


DIE = """
import os, signal, sys
from pipelines.record.lease import lease
with lease(sys.argv[1], "/other"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_lease_of_a_process_that_died_on_this_machine_ends_with_it(objects, tmp_path: Path) -> None:
    target = f"{objects.bucket}/died/out.zarr"
    command = [sys.executable, "-c", DIE, target]
    assert subprocess.run(command, env={**os.environ, **objects.environment}, check=False).returncode == -9
    assert names(target) == {"out.zarr.lease"}
    with lease(target, tmp_path / "second"):
        pass
    assert not names(target)


def test_of_many_that_find_an_ended_lease_one_gets_it(
    objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = f"{objects.bucket}/many/out.zarr"
    put(target)
    place, path = place_of(f"{target}.lease")
    written = place.entry(path).changed
    time.sleep(2.1)  # the store's clock tells whole seconds
    # To all of them what was written then has ended, and what is written now has not.
    monkeypatch.setattr(StoredLease, "_try_store", lambda self: written + 1000)
    monkeypatch.setattr(holding, "LASTS_SECONDS", 999.5)
    start, done = threading.Barrier(4), threading.Barrier(4)

    def takes(number: int) -> bool:
        start.wait()
        try:
            with lease(target, tmp_path / str(number)):
                done.wait()
                return True
        except BusyError:
            done.wait()
            return False

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(takes, range(4))) == 1


def test_a_lease_is_renewed_and_a_lost_one_is_noticed(
    objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "RENEWED_SECONDS", 0.05)
    target = f"{objects.bucket}/renewed/out.zarr"
    with lease(target, tmp_path / "first") as held:
        first = lease_of(target)["renewal"]
        end = time.monotonic() + 30
        while lease_of(target)["renewal"] == first and time.monotonic() < end:
            time.sleep(0.05)
        assert lease_of(target)["renewal"] != first
        held.require()
        monkeypatch.setattr(holding, "RENEWED_SECONDS", 100.0)
        time.sleep(0.5)  # a renewal that has begun ends before another's lease is there
        put(target)
        with pytest.raises(TargetTakenError, match="was lost"):
            held.require()
    # Another's lease is left where it is.
    assert names(target) == {"out.zarr.lease"}


# ---- the folder of a run in a store


def test_a_folder_in_a_store_has_one_process(objects) -> None:
    folder = Workdir(f"{objects.bucket}/one/out.run")
    assert not folder.is_locked()
    with folder.lock("out.zarr") as held:
        held.require()
        other = Workdir(folder.uri)
        assert other.is_locked()
        with pytest.raises(BusyError, match=r"process \d+ on .* works on out.zarr"), other.lock("out.zarr"):
            pass
    assert not folder.is_locked()
    assert not names(f"{folder.uri}/lock")


class ForgetfulPlace:
    """A store that takes conditions and passes over them, as older servers do."""

    exclusive = True

    def __init__(self, place):
        self._place = place

    def __getattr__(self, name):
        return getattr(self._place, name)

    def write_if_absent(self, path, data):
        self._place.write(path, data)
        return True

    def write_over(self, path, data, mark):
        self._place.write(path, data)
        return True


def forgetful(bucket: str):
    return lambda uri: (
        ForgetfulPlace(place_of(bucket)[0]),
        f"{bucket.partition('://')[2]}/{uri.rpartition('/')[2]}",
    )


def test_a_store_that_passes_over_conditions_is_found_out(objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MAKERS, "forgetful", forgetful(objects.bucket))
    folder = Workdir("forgetful://forgot.run")
    with (
        pytest.raises(UnfitStoreError, match=r"does not keep to them.*folder on a disk"),
        folder.lock("out.zarr"),
    ):
        pass
    assert not names(f"{objects.bucket}/forgot.run/lock")


def test_a_server_without_conditions_is_refused(objects) -> None:
    folder = Workdir(f"{objects.bucket}/old/out.run")
    objects.proxy.add(Fault.unsupported, method="PUT")
    with pytest.raises(UnfitStoreError, match="folder on a disk"), folder.lock("out.zarr"):
        pass
    objects.proxy.clear()
    assert not names(f"{folder.uri}/lock")


def test_a_store_of_another_kind_is_refused() -> None:
    with pytest.raises(UnfitStoreError, match="'memory' is not known"), Workdir("memory://out.run").lock("a"):
        pass
    place, path = place_of("memory://out.run")
    assert place.entry(path) is None
    with pytest.raises(NotExclusiveError):
        place.write_over("a", b"", "mark")
