"""A source that changed is noticed: any chunk of it, however many there are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import zarr

from pipelines.image.kept_sources import cached_source, fresh_source
from pipelines.image.open_source import SourceChangedError, open_source, reopen_identity, require_unchanged
from pipelines.image.source import SourceSpec, UnreadableSourceError
from pipelines.store import guarded
from pipelines.store.guarded import MissingObjectError
from pipelines.store.listings import summarize, tree
from pipelines.store.place import LocalPlace
from pipelines.store.places import place_of
from tests.faulty_proxy import Fault


def save(uri: str, **options) -> np.ndarray:
    pixels = np.arange(60 * 80, dtype="u2").reshape(60, 80) + 1
    array = zarr.create_array(uri, shape=pixels.shape, dtype="u2", chunks=(10, 10), overwrite=True, **options)
    array[...] = pixels
    return pixels


@pytest.fixture(params=["local", "s3"])
def uri(request, tmp_path):
    """Return the address of a Zarr image on a disk and in a store."""
    folder = str(tmp_path) if request.param == "local" else request.getfixturevalue("objects").bucket
    address = f"{folder}/{tmp_path.name}.zarr"
    save(address)
    return address


def rewrite(uri: str, name: str, data: bytes | None = None) -> None:
    place, path = place_of(f"{uri}/{name}")
    old = place.read(path)
    place.write(path, old if data is None else data)


def flipped(uri: str, name: str) -> bytes:
    place, path = place_of(f"{uri}/{name}")
    data = bytearray(place.read(path))
    data[-1] ^= 1
    return bytes(data)


def delete(uri: str, name: str) -> None:
    place, path = place_of(f"{uri}/{name}")
    place.delete([path])


CHANGES = {
    "a chunk": lambda uri: rewrite(uri, "c/3/4", flipped(uri, "c/3/4")),
    "the last chunk": lambda uri: rewrite(uri, "c/5/7", flipped(uri, "c/5/7")),
    "a chunk removed": lambda uri: delete(uri, "c/2/2"),
    "a chunk added": lambda uri: place_of(f"{uri}/c/9/9")[0].write(place_of(f"{uri}/c/9/9")[1], b"x"),
    "two chunks swapped": lambda uri: [
        rewrite(uri, a, data) for a, data in [("c/0/0", read(uri, "c/5/7")), ("c/5/7", read(uri, "c/0/0"))]
    ],
    "attributes": lambda uri: zarr.open_array(uri, mode="r+").attrs.update({"a": 1}),
}
OTHERS = ("the last chunk", "a chunk added", "two chunks swapped")
"""Changes that a store tells of in the same way as of the others."""


def read(uri: str, name: str) -> bytes:
    place, path = place_of(f"{uri}/{name}")
    return place.read(path)


@pytest.mark.parametrize(
    ("uri", "change"),
    [
        pytest.param(where, change, marks=[pytest.mark.slow] * (where == "s3" and change in OTHERS))
        for where in ("local", "s3")
        for change in CHANGES
    ],
    indirect=["uri"],
)
def test_any_change_is_noticed(uri, change):
    spec = SourceSpec(uri=uri)
    before = fresh_source(spec).info.identity
    assert reopen_identity(spec) == before
    require_unchanged(spec, before)
    CHANGES[change](uri)
    assert reopen_identity(spec) != before
    with pytest.raises(SourceChangedError, match="has changed while it was read"):
        require_unchanged(spec, before)


def test_local_chunks_that_swap_names_are_noticed(tmp_path):
    """Their number, their sizes and the newest time stay what they were."""
    address = str(tmp_path / "a.zarr")
    save(address)
    first, second, aside = (tmp_path / "a.zarr" / "c" / name for name in ("0/0", "5/7", "aside"))
    os.utime(first, ns=(1, 1))
    os.utime(second, ns=(2, 2))
    before = reopen_identity(SourceSpec(uri=address))
    first.rename(aside)
    second.rename(first)
    aside.rename(second)
    assert reopen_identity(SourceSpec(uri=address)) != before


def test_a_source_that_is_gone_has_changed(uri):
    spec = SourceSpec(uri=uri)
    before = open_source(spec).info.identity
    delete(uri, "zarr.json")
    with pytest.raises(SourceChangedError, match="cannot be compared"):
        require_unchanged(spec, before)


@pytest.mark.slow
def test_a_change_beyond_a_hundred_thousand_files_is_noticed(tmp_path):
    for i in range(101):
        (tmp_path / f"{i:03}").mkdir()
        for k in range(1000):
            os.close(os.open(tmp_path / f"{i:03}" / str(k), os.O_CREAT))
    before = summarize(tree(LocalPlace(), str(tmp_path)))
    assert before.count == 101_000
    (tmp_path / "100" / "999").rename(tmp_path / "100" / "new")
    after = summarize(tree(LocalPlace(), str(tmp_path)))
    assert after.digest != before.digest
    assert "100/999" in before
    assert "100/999" not in after


def test_a_listing_in_any_order_is_the_same(tmp_path):
    save(str(tmp_path / "a.zarr"))
    entries = list(tree(LocalPlace(), str(tmp_path)))
    assert summarize(entries).digest == summarize(entries[::-1]).digest
    assert summarize(entries).digest != summarize(entries[1:]).digest
    assert summarize([]).count == 0


@pytest.mark.thorough
@pytest.mark.parametrize(
    "fault", [Fault.not_found, pytest.param(Fault.unavailable, marks=pytest.mark.slow), Fault.reset]
)
def test_faults_in_passing_are_no_change(objects, tmp_path, fault):
    address = f"{objects.bucket}/{tmp_path.name}.zarr"
    save(address)
    before = reopen_identity(SourceSpec(uri=address))
    rule = objects.proxy.add(fault, rate=0.3, seed=2)
    require_unchanged(SourceSpec(uri=address), before)
    assert rule.used > 3


# Chunks that are not there


def absent(uri: str, **options) -> int | None:
    return open_source(SourceSpec(uri=uri, **options)).absent_chunks()


@pytest.mark.parametrize("options", [{}, {"shards": (20, 20)}, {"zarr_format": 2}])
def test_absent_chunks_are_counted(tmp_path, options):
    address = str(tmp_path / "a.zarr")
    save(address, **options)
    assert absent(address) == 0
    chunks = [p for p in Path(address).rglob("*") if p.is_file() and p.name[0].isdigit()]
    for path in chunks[:3]:
        path.unlink()
    (Path(address) / "left by an editor").touch()
    assert absent(address) == 3
    assert absent(address, channels=(0,), spacing={"y": 2.0}) == 3


def test_formats_without_chunks_do_not_know(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((4, 5)))
    assert absent(str(tmp_path / "a.npy")) is None


def test_what_was_never_written_is_fill_value(uri):
    delete(uri, "c/2/2")
    source = open_source(SourceSpec(uri=uri))
    assert not source.read((slice(20, 30), slice(20, 30))).any()
    assert source.read((slice(0, 60), slice(0, 80))).all() == (source.absent_chunks() == 0)


@pytest.mark.thorough
def test_what_was_listed_and_is_gone_is_an_error_until_it_is_opened_anew(uri, monkeypatch):
    monkeypatch.setattr(guarded, "PAUSES", (0.0,) * 3)
    spec = SourceSpec(uri=uri)
    source = fresh_source(spec)
    delete(uri, "c/2/2")
    for region in [
        (slice(20, 30), slice(20, 30)),
        (slice(0, 60), slice(0, 80)),
        (slice(25, 26), slice(25, 26)),
    ]:
        with pytest.raises(MissingObjectError, match="c/2/2"):
            source.read(region)
    assert source.read((slice(0, 20), slice(0, 80))).all()
    assert not cached_source(spec).read((slice(20, 30), slice(20, 30))).any()


def test_passwords_are_in_no_message(monkeypatch):
    uri = "http://anna:secret@127.0.0.1:1/a.zarr?token=hidden"
    monkeypatch.setattr("pipelines.store.patience.PAUSES", (0.0,))
    for options in ({}, {"format": "zarr"}, {"format": "tiff"}):
        with pytest.raises(UnreadableSourceError) as caught:
            open_source(SourceSpec(uri=uri, **options))
        assert "secret" not in str(caught.value)
        assert "hidden" not in str(caught.value)
        assert "127.0.0.1" in str(caught.value)
