"""A target has one run at a time, on a disk and in a store."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from pipelines.record import lease as leases
from pipelines.record.lease import RemoteLease, lease
from pipelines.record.holding import BusyError
from pipelines.store.places import place_of
from pipelines.store.upload import TargetTakenError


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


@pytest.mark.parametrize("values", [{"until": 0.0}, {}], ids=["ended", "damaged"])
def test_a_lease_that_has_ended_is_taken_over(objects, tmp_path: Path, values: dict[str, float]) -> None:
    target = f"{objects.bucket}/ended/out.zarr"
    put(target, **values)
    with lease(target, tmp_path / "second"):
        assert lease_of(target)["workdir"] == str(tmp_path / "second")
    assert not names(target)


def test_the_run_of_the_same_folder_goes_on_at_once(objects, tmp_path: Path) -> None:
    target = f"{objects.bucket}/same/out.zarr"
    killed = RemoteLease(target, tmp_path / "same")
    killed.acquire()
    with lease(target, tmp_path / "same") as held:
        held.require()
        with pytest.raises(TargetTakenError, match="was lost"):
            killed.require()
    assert not names(target)


def test_a_lease_is_renewed_and_a_lost_one_is_noticed(
    objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEWED_SECONDS", 0.05)
    target = f"{objects.bucket}/renewed/out.zarr"
    with lease(target, tmp_path / "first") as held:
        first = lease_of(target)["until"]
        end = time.monotonic() + 30
        while lease_of(target)["until"] == first and time.monotonic() < end:
            time.sleep(0.05)
        assert lease_of(target)["until"] > first
        held.require()
        monkeypatch.setattr(leases, "RENEWED_SECONDS", 100.0)
        time.sleep(0.5)  # a renewal that has begun ends before another's lease is there
        put(target, until=time.time() + 100)
        with pytest.raises(TargetTakenError, match="was lost"):
            held.require()
    # Another's lease is left where it is.
    assert names(target) == {"out.zarr.lease"}
