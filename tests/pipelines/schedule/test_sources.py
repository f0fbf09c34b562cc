"""What a pattern names: on a disk, in a store, in a list, in a STAC catalogue."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import zarr

from pipelines.schedule.sources import Found, PatternError, find_sources, matches, stamp_of
from pipelines.schedule.stac import CatalogueError
from pipelines.store.places import place_of


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".zarr"):
            zarr.create_array(path, shape=(4, 4), dtype="uint8")
        else:
            path.write_text(name)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    make(tmp_path, "a.tif", "b.tif", ".part.tif", "c.zarr", "mon/d.tif", "mon/e.ome.zarr", "mon/raw/f.tif")
    make(tmp_path, "out.zarr.run/journal.tif", "plain/notes.txt")
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("*.tif", ["a", "b"]),
        ("[b-z].tif", ["b"]),
        ("*", ["a", "b", "c"]),
        ("", ["a", "b", "c"]),
        ("**/*.tif", ["a", "b", "mon/d", "mon/raw/f"]),
        ("*/raw/*.tif", ["mon/raw/f"]),
        ("**/*.zarr", ["c", "mon/e"]),
        ("mon/**", ["d", "e", "raw/f"]),
        ("c.zarr", ["c"]),
        ("a.tif", ["a"]),
        ("plain/*.tif", []),
    ],
)
def test_wildcards_find_images_and_nothing_inside_them(scans: Path, pattern: str, paths: list[str]) -> None:
    found = find_sources(f"{scans}/{pattern}")
    assert [one.path for one in found] == paths
    if any(sign in pattern for sign in "*["):
        assert all(matches(f"{scans}/{pattern}", one.uri) for one in found)
        assert not matches(f"{scans}/{pattern}", f"{scans}/elsewhere/x.png")


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PatternError, match=r"There is no .*scnas to look in"):
        find_sources(f"{tmp_path}/scnas/*.tif")


def test_a_prefix_in_a_store_is_found_like_a_folder(objects) -> None:
    for name in ("in/a.zarr/zarr.json", "in/b.zarr/zarr.json", "in/deep/c.zarr/zarr.json", "in/x.csv"):
        place, path = place_of(f"{objects.bucket}/{name}")
        place.write(path, b"{}")
    base = f"{objects.bucket}/in"
    assert [one.uri for one in find_sources(f"{base}/*.zarr")] == [f"{base}/a.zarr", f"{base}/b.zarr"]
    assert [one.path for one in find_sources(f"{base}/**/*.zarr")] == ["a", "b", "deep/c"]
    assert find_sources(f"{objects.bucket}/comes-later/*.zarr") == []
    before = stamp_of(Found(f"{base}/a.zarr", "a"))
    place.write(place_of(f"{base}/a.zarr/c/0")[1], b"1")
    assert stamp_of(Found(f"{base}/a.zarr", "a")) != before


@pytest.mark.thorough
def test_a_store_that_is_not_there_is_refused(objects) -> None:
    with pytest.raises(PatternError, match="no-such-bucket"):
        find_sources("s3://no-such-bucket/in/*.zarr")


def test_a_list_has_one_address_per_line(scans: Path) -> None:
    listed = scans / "today.txt"
    listed.write_text(f"# scans\n\na.tif\n{scans}/mon/d.tif\na.tif\ns3://bucket/e.zarr\n")
    uris = [one.uri for one in find_sources(str(listed))]
    assert uris == [f"{scans}/a.tif", f"{scans}/mon/d.tif", "s3://bucket/e.zarr"]
    listed.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PatternError, match="is not text"):
        find_sources(str(listed))


# ---- STAC


def item(name: str, **assets: str) -> dict[str, object]:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": None,
        "properties": {"datetime": "2026-01-01T00:00:00Z"},
        "collection": "scenes",
        "links": [],
        "assets": {key: {"href": href} for key, href in assets.items()},
    }


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    pytest.importorskip("pystac", reason="needs pystac, which comes with the extra stac")
    path = tmp_path / "scenes.json"
    features = [item("one", red="red/1.tif", blue="b/1.tif"), item("two", red="s3://bucket/2.zarr")]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_a_collection_of_items_gives_the_assets_of_a_name(collection: Path) -> None:
    found = find_sources(str(collection), "red")
    assert [one.uri for one in found] == [f"{collection.parent}/red/1.tif", "s3://bucket/2.zarr"]
    assert found[0].words == {"item": "one", "asset": "red", "collection": "scenes"}


@pytest.mark.parametrize(("asset", "said"), [(None, "several assets"), ("blue", "no asset 'blue'")])
def test_an_asset_that_is_not_clear_is_refused(collection: Path, asset: str | None, said: str) -> None:
    with pytest.raises(CatalogueError, match=said):
        find_sources(str(collection), asset)


def test_a_catalogue_is_followed_through_its_links(collection: Path) -> None:
    folder = collection.parent
    link = {"rel": "item", "href": "./items/three.json", "type": "application/json"}
    (folder / "items").mkdir()
    (folder / "items" / "three.json").write_text(json.dumps(item("three", red="../red/3.tif")))
    catalogue = {"type": "Catalog", "stac_version": "1.0.0", "id": "all", "description": "x", "links": [link]}
    (folder / "catalog.json").write_text(json.dumps(catalogue))
    (found,) = find_sources(str(folder / "catalog.json"))
    assert os.path.normpath(found.uri) == f"{folder}/red/3.tif"


@pytest.mark.parametrize("text", ["[1]", "{}", "nonsense", '{"type": "FeatureCollection", "features": [{}]}'])
def test_other_json_is_refused(collection: Path, text: str) -> None:
    collection.write_text(text)
    with pytest.raises(CatalogueError, match="is no STAC catalogue"):
        find_sources(str(collection))


def test_an_asset_of_no_catalogue_is_refused(scans: Path) -> None:
    with pytest.raises(PatternError, match="--asset red goes with a STAC catalogue"):
        find_sources(f"{scans}/*.tif", "red")


# ---- stamps


def test_a_stamp_tells_any_change_of_a_file_or_a_hierarchy(scans: Path) -> None:
    file, tree = Found(f"{scans}/a.tif", "a"), Found(f"{scans}/c.zarr", "c")
    before = [stamp_of(file), stamp_of(tree)]
    assert all(one.text and one.rests(0) and not one.rests(3600) for one in before)
    (scans / "a.tif").write_text("longer than before")
    (scans / "c.zarr" / "c").mkdir()
    (scans / "c.zarr" / "c" / "0").write_bytes(b"chunk")
    assert [stamp_of(file).text != before[0].text, stamp_of(tree).text != before[1].text] == [True, True]
    os.utime(scans / "a.tif", (1e9, 1e9))
    assert stamp_of(file).rests(3600)
    assert stamp_of(Found(f"{scans}/none.tif", "none")).text == ""
