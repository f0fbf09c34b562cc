"""Labels are put into the image that they belong to, listed only while they are complete; nothing else is touched."""

from __future__ import annotations

import json
import pkgutil
import shutil
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from ome_zarr_models.v05 import Image
from skimage import data
from skimage.measure import label

from pipelines.cli.verbs import plan
from pipelines.events import Exporting
from pipelines.formats.metadata.ome_labels import make_labels
from pipelines.formats.ome_zarr_sink import OmeZarrSink
from pipelines.image.sink import SinkSpec
from pipelines.record.holding import BusyError
from pipelines.refusal import RefusedError
from pipelines.run.preview import preview
from pipelines.run.publication import list_target
from pipelines.run.repair import repair
from pipelines.run.run import run
from pipelines.run.status import status
from pipelines.run.verify import verify
from pipelines.spec.spec import Spec
from pipelines.store.place import LocalPlace
from tests.pipelines.runs import contents_of, save_source, small_spec

COINS = data.coins()[:100, :120]
OBJECTS = [
    {"name": "mask", "operator": "thresholding", "thresholds": [107]},
    {"name": "objects", "operator": "components"},
]
COPY = [{"operator": "gradient-magnitude"}]


COARSE = [{"path": "1", "coordinateTransformations": [{"type": "scale", "scale": [0.5, 0.5]}]}]
"""Levels of the image without the finest: an image of half its size."""


class StopError(Exception):
    """Stands for a kill."""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Return an OME-Zarr image that a run has written."""
    path = tmp_path / "coins.ome.zarr"
    sink = {"dtype": "uint8", "pyramid": 1}
    assert run(small_spec("", path, source=source_of(tmp_path), steps=COPY, sink=sink)).exit_code == 0
    return path


def source_of(folder: Path) -> dict[str, Any]:
    return {"uri": save_source(folder, COINS), "spacing": {"y": 0.5, "x": 0.5}, "axes": "yx"}


def spec_of(image: Path, name: str = "objects", steps: Any = OBJECTS, **sections: Any) -> Spec:
    sink = {"dtype": "uint32", **sections.pop("sink", {})}
    return small_spec(str(image), image / "labels" / name, steps=steps, sink=sink, **sections)


def names(image: Path) -> list[str]:
    """Return the labels that an image lists, each of which must be whole and be found by an independent reader."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = Image.from_zarr(zarr.open_group(str(image), mode="r"))
        assert "labels" not in dict(zarr.open_group(str(image), mode="r").arrays())
    if not (image / "labels").exists():
        return []
    assert found.labels is not None
    for path in found.labels.label_paths:
        labels = found.labels.get_image_labels_group(path)
        assert labels.attributes.ome.image_label is not None
        zarr.open_group(str(image / "labels" / path), mode="r")["0"][...]
    return list(found.labels.label_paths)


def listed(image: Path) -> list[str]:
    found: list[str] = json.loads((image / "labels" / "zarr.json").read_bytes())["attributes"]["ome"][
        "labels"
    ]
    return found


def own_of(image: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents_of(image).items() if not name.startswith("labels/")}


def test_labels_lie_in_their_image_which_is_not_touched(image: Path) -> None:
    before = own_of(image)
    assert run(spec_of(image)).exit_code == 0
    assert own_of(image) == before
    assert names(image) == ["objects"]
    target = image / "labels" / "objects"
    there = zarr.open_group(str(target), mode="r")
    pixels = zarr.open_group(str(image), mode="r")["0"][...]
    assert np.array_equal(there["0"][...], label(pixels > 107))
    ome = there.attrs["ome"]
    assert ome["image-label"]["source"] == {"image": "../../"}
    assert ome["image-label"]["colors"][0] == {"label-value": 0, "rgba": [0, 0, 0, 0]}
    whole = zarr.open_group(str(image), mode="r").attrs["ome"]["multiscales"][0]["datasets"][0]
    assert ome["multiscales"][0]["datasets"][0] == whole
    assert status(str(target))["complete"]
    assert verify(str(target))["ok"]
    assert verify(str(image))["ok"], "labels are no part of what the image's own run has written"
    assert (image.parent / "coins.ome.zarr.labels.objects.run" / "report.json").exists()
    assert {p.name for p in (image / "labels").iterdir()} == {"objects", "zarr.json"}
    assert run(spec_of(image)).data["complete"], "the same command finds nothing to do"


def test_further_outputs_and_other_labels(image: Path, tmp_path: Path) -> None:
    outputs = [{"name": "mask", "uri": str(image / "labels" / "mask"), "dtype": "uint8"}]
    assert run(spec_of(image, outputs=outputs)).exit_code == 0
    assert names(image) == ["mask", "objects"]
    again = spec_of(image, "again", [{"name": "objects", "operator": "components"}])
    again = again.model_copy(update={"source": again.source.model_copy(update={"path": "labels/mask"})})
    assert run(again).exit_code == 0
    assert names(image) == ["mask", "objects", "again"]
    assert contents_of(image / "labels/again/0") == contents_of(image / "labels/objects/0")


def test_a_label_that_is_there_is_replaced_only_if_asked_for(image: Path) -> None:
    assert run(spec_of(image)).exit_code == 0
    assert run(spec_of(image, "other")).exit_code == 0
    before = contents_of(image)
    higher = spec_of(image, steps=[{**OBJECTS[0], "thresholds": [20]}, OBJECTS[1]])
    with pytest.raises(RefusedError, match="exists already"):
        run(higher)
    assert contents_of(image) == before
    assert run(higher, overwrite=True).exit_code == 0
    assert names(image) == ["other", "objects"]
    assert contents_of(image) != before


STEPS = (
    *((f"{OmeZarrSink.__module__}.list_labels", 1), ("pipelines.run.publication.shutil.move", 1)),
    *(("pipelines.run.publication.hand_over", 1), (f"{OmeZarrSink.__module__}.list_labels", 2)),
)
"""Steps of a publication that takes the place of another: off the list, out of the way, there, on the list."""


def dying(call: Callable[..., Any], count: int, before: bool) -> Callable[..., Any]:
    """Return a function that is stopped before or after it was called for the so manieth time."""
    left = count

    def counted(*args: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and before:
            raise StopError
        result = call(*args)
        if left == 0:
            raise StopError
        return result

    return counted


def test_a_kill_at_any_step_of_a_publication_is_gone_on_from(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(spec_of(image, "other"))
    run(spec_of(image))
    own, before = own_of(image), True
    for number, (where, count) in enumerate([STEPS[0], *STEPS]):
        spec = spec_of(image, steps=[{**OBJECTS[0], "thresholds": [(20, 107)[number % 2]]}, OBJECTS[1]])
        with monkeypatch.context() as patch:
            patch.setattr(where, dying(pkgutil.resolve_name(where), count, before))
            with pytest.raises(StopError):
                run(spec, overwrite=True)
        expected = ["other", "objects"] if before or count == 2 else ["other"]
        assert names(image) == expected
        assert own_of(image) == own
        assert run(spec, overwrite=True).exit_code == 0
        assert names(image) == ["other", "objects"]
        before = False
    assert contents_of(image / "labels/objects/0") != contents_of(image / "labels/other/0")
    assert verify(str(image / "labels/objects"))["ok"]


def test_runs_that_add_labels_at_once_do_not_lose_a_name(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = LocalPlace.read

    def read_late(self: LocalPlace, *args: Any) -> bytes:
        found = read(self, *args)
        time.sleep(0.05)
        return found

    make_labels(str(image))
    link = image.parent / "link.ome.zarr"
    link.symlink_to(image, target_is_directory=True)
    monkeypatch.setattr(LocalPlace, "read", read_late)
    places = zip((image, link, image), "abc", strict=True)
    added = [OmeZarrSink(SinkSpec(uri=str(place / "labels" / name))) for place, name in places]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda sink: list_target(sink), added))
    assert sorted(listed(image)) == ["a", "b", "c"]


def test_no_image_is_made_for_labels_whose_image_is_gone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is gone"):
        make_labels(str(tmp_path / "gone.ome.zarr"))
    assert not list(tmp_path.iterdir())


def test_a_run_that_ends_while_another_publishes_keeps_its_name(image: Path) -> None:
    def add(event: object) -> None:
        if isinstance(event, Exporting):
            assert run(spec_of(image, "inner")).exit_code == 0

    assert run(spec_of(image), listeners=[add]).exit_code == 0
    assert names(image) == ["inner", "objects"]


def test_what_cannot_be_among_the_labels_is_refused_and_nothing_is_touched(
    image: Path, tmp_path: Path
) -> None:
    coins, consolidated = save_source(tmp_path, COINS), tmp_path / "consolidated.ome.zarr"
    older, broken = tmp_path / "older.ome.zarr", tmp_path / "broken.ome.zarr"
    array = tmp_path / "array.ome.zarr"
    for copy in (consolidated, older, broken, array):
        shutil.copytree(image, copy)
    metadata = older / "zarr.json"
    metadata.write_text(metadata.read_text().replace('"version": "0.5"', '"version": "0.4"'))
    (broken / "labels").mkdir()
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": {"labels": "all"}}}
    (broken / "labels" / "zarr.json").write_text(json.dumps(group))
    zarr.create_array(str(array / "labels"), shape=(3,), dtype="uint8")
    elsewhere = {"workdir": str(tmp_path / "elsewhere")}
    consolidate(consolidated)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    plain = tmp_path / "plain.zarr"
    for change, words in (
        (lambda: spec_of(image, steps=[{"operator": "heat", "time": 1}]), "no labels"),
        (lambda: spec_of(image, sink={"dtype": "float32"}), "labels of float32"),
        (lambda: spec_of(image, sink={"format": "zarr"}), "which are OME-Zarr"),
        (lambda: spec_of(image, source={"level": 1}), "cells along"),
        (lambda: spec_of(consolidated), "consolidated"),
        (lambda: spec_of(older), "OME-Zarr 0.4, its labels would be 0.5"),
        (lambda: spec_of(broken), "holds no list of labels"),
        (lambda: spec_of(array), "is no group"),
        (lambda: spec_of(image, sink={"uri": "s3://a/b.ome.zarr/labels/c"}, run=elsewhere), "in a store"),
        (lambda: spec_of(image, source={"spacing": {"y": 1, "x": 1}}), "spacing"),
        (
            lambda: small_spec(coins, image / "labels/objects", steps=OBJECTS, sink={"dtype": "uint8"}),
            "spacing",
        ),
        (
            lambda: small_spec(coins, plain / "labels/objects", steps=OBJECTS, sink={"dtype": "uint8"}),
            "plain.zarr",
        ),
    ):
        with pytest.raises(RefusedError, match=words):
            run(change())
    with pytest.raises(RefusedError, match="part of an image"):
        preview(spec_of(image), "0:50,0:50", str(image / "labels/part"))
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_an_image_is_not_made_anew_over_labels_that_it_got_since(image: Path) -> None:
    assert run(spec_of(image)).exit_code == 0
    metadata = image / "0" / "zarr.json"
    metadata.write_bytes(metadata.read_bytes() + b" ")
    with pytest.raises(RefusedError, match="labels would be removed"):
        repair(str(image))
    assert names(image) == ["objects"]


@pytest.mark.parametrize("inside", ["", "labels/objects"])
def test_what_holds_labels_is_not_replaced(image: Path, inside: str) -> None:
    assert run(spec_of(image)).exit_code == 0
    target = image / inside
    anew = spec_of(image) if inside else small_spec("", target, source=source_of(image.parent), steps=COPY)

    def add(event: object) -> None:
        if isinstance(event, Exporting) and event.target == str(target):
            inner = spec_of(image, sink={"uri": str(target / "labels" / "inner")})
            assert run(inner).exit_code == 0

    if not inside:
        shutil.rmtree(image / "labels")
    before = own_of(target)
    late = run(anew, overwrite=True, listeners=[add])
    assert late.exit_code == 3
    assert "inner" in names(target)
    assert "result is kept in" in late.data["problem"]
    with pytest.raises(RefusedError, match="holds labels, and it is to be replaced"):
        run(anew, overwrite=True)
    assert own_of(target) == before
    shutil.move(target / "labels", image.parent / "aside")
    assert run(anew, overwrite=True).exit_code == 0


@pytest.mark.parametrize(
    ("read", "written"), [("nanometer", "micrometer"), ("", "micrometer"), ("nanometer", "")]
)
def test_labels_have_the_units_of_their_image(image: Path, read: str, written: str) -> None:
    def with_unit(unit: str) -> Path:
        copy = shutil.copytree(image, image.parent / f"{unit}.ome.zarr")
        change_metadata(
            copy, lambda ome: [axis.update(unit=unit) for axis in ome["multiscales"][0]["axes"] if unit]
        )
        return copy

    ours, there = with_unit(read), with_unit(written)
    with pytest.raises(
        RefusedError, match=f"0.5 {read or 'without a unit'} .* 0.5 {written or 'without a unit'} "
    ):
        run(spec_of(there, source={"uri": str(ours)}))
    assert run(spec_of(there)).exit_code == 0
    assert verify(str(there / "labels" / "objects"))["ok"]


def change_metadata(image: Path, change: Callable[[Any], Any]) -> None:
    """Change what the metadata of an image say in "ome"."""
    values = json.loads((image / "zarr.json").read_bytes())
    change(values["attributes"]["ome"])
    (image / "zarr.json").write_text(json.dumps(values))


def test_an_image_is_the_same_through_a_link(image: Path) -> None:
    link = image.parent / "elsewhere" / "link.ome.zarr"
    link.parent.mkdir()
    link.symlink_to(image, target_is_directory=True)

    def again(event: object) -> None:
        if isinstance(event, Exporting):
            with pytest.raises(BusyError):
                run(spec_of(image))

    assert run(spec_of(link, source={"uri": str(image)}), listeners=[again]).exit_code == 0
    assert names(image) == ["objects"]
    assert [path.name for path in link.parent.iterdir()] == ["link.ome.zarr"]
    assert run(spec_of(image)).data["complete"]
    assert verify(str(link / "labels" / "objects"))["ok"]


@pytest.mark.parametrize(
    "place",
    [
        *("labels/x.ome.zarr", "labels/x.zarr", "labels/a.csv", "labels/a.b", "labels/a/b", "labels/__a"),
        *("labels/ a", "labels/a\nb", "LABELS/x", "labels"),
    ],
)
def test_no_result_gets_among_the_labels_under_another_name(image: Path, place: str) -> None:
    before = contents_of(image)
    sink = {"uri": str(image / place), **({"format": "ome-zarr"} if place == "labels" else {})}
    with pytest.raises(RefusedError, match="Allowed: IMAGE"):
        run(spec_of(image, sink=sink))
    assert contents_of(image) == before
    assert len(list(image.parent.iterdir())) == 3


def test_finished_labels_stay_so_in_an_image_that_takes_no_more(image: Path) -> None:
    assert run(spec_of(image)).exit_code == 0
    consolidate(image)
    target = str(image / "labels" / "objects")
    assert run(spec_of(image)).data["complete"]
    assert verify(target)["ok"]
    assert repair(target)["ok"]


def test_a_plan_says_that_an_image_takes_no_labels(image: Path) -> None:
    consolidate(image)
    file = image.parent / "spec.yaml"
    file.write_text(json.dumps(spec_of(image).model_dump(mode="json", exclude_defaults=True)))
    with pytest.raises(RefusedError, match="consolidated"):
        plan(str(file), {}, json_output=True)


def consolidate(image: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(str(image))


@pytest.mark.parametrize("there", [False, True])
def test_an_image_that_has_changed_meanwhile_gets_no_labels(image: Path, there: bool) -> None:
    if there:
        assert run(spec_of(image)).exit_code == 0
    spec = spec_of(image, source=source_of(image.parent), steps=OBJECTS[:1])
    before = listed(image) if there else []

    def swap(event: object) -> None:
        if isinstance(event, Exporting):
            change_metadata(image, lambda ome: ome["multiscales"][0].update(datasets=COARSE))

    late = run(spec, overwrite=there, listeners=[swap])
    assert late.exit_code == 3
    assert "cells along y" in late.data["problem"]
    assert "result is kept in" in late.data["problem"]
    assert listed(image) == before
    assert (image / "labels" / "objects").exists() == there


def test_labels_that_their_image_does_not_list_are_listed_again(image: Path) -> None:
    outputs = [{"name": "mask", "uri": str(image / "labels" / "mask"), "dtype": "uint8"}]
    spec, listing = spec_of(image, outputs=outputs), image / "labels" / "zarr.json"
    assert run(spec).exit_code == 0
    whole = contents_of(image)
    for mend in (lambda: run(spec), lambda: repair(spec.sink.uri)):
        listing.unlink()
        found = verify(spec.sink.uri)
        assert not found["ok"]
        assert ["is not listed by its image" in problem for problem in found["problems"]] == [True, True]
        mend()
        assert sorted(names(image)) == ["mask", "objects"]
        assert verify(spec.sink.uri)["ok"]
    assert {**contents_of(image), "labels/zarr.json": b""} == {**whole, "labels/zarr.json": b""}
