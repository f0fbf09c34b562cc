"""Tables of labelled regions are those of scikit-image, in units, and no tiling changes a bit of them."""

from __future__ import annotations

import csv
import importlib.util
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from skimage import data
from skimage.measure import label, regionprops_table

import diffusion_ops as do
from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.regions import RegionEnds, RegionSums, region_table
from pipelines.image.info import ImageInfo
from pipelines.image.sink import TABLE, SinkSpec, open_sink
from pipelines.plan.search import PlanError
from pipelines.record.journal import FileJournal
from pipelines.refusal import RefusedError
from pipelines.run.arrays import RunArrays
from pipelines.run.preview import preview
from pipelines.run.run import run
from pipelines.run.status import status
from pipelines.run.verify import verify
from pipelines.tasks.work import File
from tests.pipelines.runs import read_result, save_source, small_spec

Array = NDArray[Any]

COINS = data.coins()[:150, :170]


class StopError(Exception):
    """Stands for a kill."""


LABEL = [
    {"name": "mask", "operator": "thresholding", "thresholds": [107]},
    {"name": "objects", "operator": "components"},
]


def table(path: Path) -> dict[str, list[float]]:
    """Return the columns of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    return {name: [float(row[i]) for row in rows] for i, name in enumerate(head)}


def run_with_table(
    folder: Path, image: Array, source: dict[str, Any], formats: tuple[str, ...] = ("csv",), **sections: Any
) -> Path:
    """Return the table of the objects of an image."""
    folder.mkdir()
    spec = small_spec(
        "",
        folder / "objects.ome.zarr",
        source={"uri": save_source(folder, image), **source},
        steps=LABEL,
        sink={"dtype": "uint32", **sections.pop("sink", {})},
        outputs=[{"name": "objects", "uri": str(folder / f"objects.{ending}")} for ending in formats],
        **sections,
    )
    report = run(spec)
    assert report.data["complete"], report.data
    return folder / "objects.csv"


def stop_at(patch: pytest.MonkeyPatch, moment: str) -> None:
    """Let a run stop after its third tile, before its table is there to be written, or when it is published."""
    append, write = FileJournal.append, RunArrays.write

    def append_or_stop(self: FileJournal, event: object) -> None:
        append(self, event)
        if (moment == "tile" and getattr(event, "tile", 0) == 2) or moment == type(event).__name__.lower():
            raise StopError

    def write_or_stop(file: File) -> None:
        if moment == "table" and file.path.endswith(TABLE):
            raise StopError
        write(file)

    patch.setattr(FileJournal, "append", append_or_stop)
    patch.setattr(RunArrays, "write", staticmethod(write_or_stop))


@pytest.mark.parametrize("moment", ["", "tile", "table", "claimed", "published"])
def test_a_table_can_be_the_only_result(tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = run_with_table(tmp_path / "a", COINS, {}).read_bytes()
    source, target = str(tmp_path / "a" / "source.npy"), tmp_path / "objects.csv"
    spec = small_spec(source, target, steps=LABEL)
    if moment:
        with monkeypatch.context() as patch:
            stop_at(patch, moment)
            with pytest.raises(StopError):
                run(spec)
        assert not status(str(target))["complete"]
    assert run(spec).exit_code == 0
    assert target.read_bytes() == wanted
    assert {path.name for path in tmp_path.iterdir()} == {"a", "objects.csv", "objects.csv.run"}
    assert not list((tmp_path / "objects.csv.run").glob("run-*")), "the labels are gone with the run's arrays"
    assert status(str(target))["complete"]
    assert verify(str(target))["ok"]
    with pytest.raises(RefusedError, match="exists already"):
        run(small_spec(source, target, steps=LABEL, sink={"of": "mask"}))
    target.write_text("label\n1\n", encoding="utf-8")
    assert "differs" in verify(str(target))["problems"][0]


def test_the_only_table_has_the_means_of_the_step_that_is_asked_for(tmp_path: Path) -> None:
    source = save_source(tmp_path, COINS)
    assert run(small_spec(source, tmp_path / "a.csv", steps=LABEL, sink={"of": "mask"})).exit_code == 0
    assert set(table(tmp_path / "a.csv")["mean"]) == {1.0}


@pytest.mark.thorough
@pytest.mark.parametrize("nodata", [0, 7, 255])
def test_labels_and_tables_are_free_of_the_nodata_of_the_image(nodata: int, tmp_path: Path) -> None:
    image = COINS[:40, :50].copy()
    image[1::4, 1::3] = nodata
    beside = run_with_table(tmp_path / "a", image, {"nodata": nodata}, run={"tile": 20}, sink={"chunk": 20})
    source = {"uri": str(tmp_path / "a" / "source.npy"), "nodata": nodata}
    assert run(small_spec("", tmp_path / "b.csv", source=source, steps=LABEL)).exit_code == 0
    assert (tmp_path / "b.csv").read_bytes() == beside.read_bytes()
    labels = read_result(tmp_path / "a" / "objects.ome.zarr")
    assert list(np.unique(labels[labels > 0])) == table(beside)["label"]
    assert np.array_equal(labels, label((image > 107) & (image != nodata)))
    chain = [do.Thresholding(thresholds=107), do.Components()]
    whole = do.evolve(image, chain, nodata=nodata, dtype="uint32")
    assert np.array_equal(labels, whole)
    lazy = do.evolve(da.from_array(image, chunks=16), chain, nodata=nodata, dtype="uint32")
    assert np.array_equal(lazy.compute(), whole)


def test_a_residual_of_labels_is_no_label(tmp_path: Path) -> None:
    source, residual = {"uri": save_source(tmp_path, COINS), "nodata": 7}, tmp_path / "b.ome.zarr"
    output = {"name": "mask", "uri": str(residual), "residual": True}
    assert (
        run(small_spec("", tmp_path / "a.zarr", source=source, steps=LABEL, outputs=[output])).exit_code == 0
    )
    assert "image-label" not in zarr.open_group(residual, mode="r").attrs["ome"]
    objects = read_result(tmp_path / "a.zarr")
    assert np.array_equal(read_result(residual), ((objects > 0) - objects).astype(np.float32))


def test_regions_of_broken_labels_are_refused() -> None:
    block = Block.from_image(np.full((2, 4, 4), 1.5, np.float32), (1.0, 1.0), None)
    with pytest.raises(ValueError, match=r"1\.5 is no whole number"):
        RegionSums().measure(block, (slice(None), slice(None)))


@pytest.mark.parametrize("tile", [40, 100])
def test_it_is_the_table_of_scikit_image(tile: int, tmp_path: Path) -> None:
    found = table(run_with_table(tmp_path / "a", COINS, {}, run={"tile": tile}, sink={"chunk": 20}))
    properties = ("label", "area", "centroid", "bbox", "intensity_mean")
    wanted = regionprops_table(label(COINS > 107), COINS, properties=properties)
    assert found["label"] == list(wanted["label"])
    assert found["cells"] == list(wanted["area"])
    for axis, letter in enumerate("yx"):
        assert found[f"centroid {letter}"] == pytest.approx(list(wanted[f"centroid-{axis}"]), rel=1e-12)
        assert found[f"first {letter}"] == list(wanted[f"bbox-{axis}"])
        assert found[f"end {letter}"] == list(wanted[f"bbox-{axis + 2}"])
    assert found["mean"] == pytest.approx(list(wanted["intensity_mean"]), rel=1e-12)


def test_no_tiling_changes_it_and_it_is_checked(tmp_path: Path) -> None:
    image = (COINS * np.float32(1.1)) ** 2 / 100
    image[60:70, 20:90] = np.nan
    found = {t: run_with_table(tmp_path / str(t), image, {}, run={"tile": t}) for t in (64, 128)}
    assert found[64].read_bytes() == found[128].read_bytes()
    assert verify(str(tmp_path / "64" / "objects.ome.zarr"))["ok"]
    found[64].write_text("label\n1\n", encoding="utf-8")
    assert "differs" in verify(str(tmp_path / "64" / "objects.ome.zarr"))["problems"][0]


def test_frames_and_units(tmp_path: Path) -> None:
    frames = np.stack([COINS, COINS[::-1]])
    path = run_with_table(tmp_path / "a", frames, {"axes": "tyx", "spacing": {"y": 0.5, "x": 0.25}})
    found = table(path)
    first = [label(frame > 107).max() for frame in frames]
    assert found["frame"] == [0] * first[0] + [1] * first[1]
    area = next(name for name in found if name.startswith("area"))
    assert found[area] == [n * 0.125 for n in found["cells"]]
    wanted = regionprops_table(label(COINS > 107), properties=("centroid",))
    assert found[next(n for n in found if n.startswith("centroid x"))][: first[0]] == pytest.approx(
        list(wanted["centroid-1"] * 0.25)
    )


def test_parquet_has_the_rows_of_the_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip(
        "pyarrow.parquet", reason="needs pyarrow, which comes with the extra parquet"
    )
    monkeypatch.setattr("pipelines.formats.parquet_sink.GROUP_VALUES", 100)
    frames = np.stack([COINS, COINS[::-1]])
    source = {"axes": "tyx", "spacing": {"y": 0.5, "x": 0.25}}
    path = run_with_table(tmp_path / "a", frames, source, formats=("csv", "parquet"))
    wanted, file = table(path), parquet.ParquetFile(path.with_suffix(".parquet"))
    found = file.read()
    assert {name: found[name].to_pylist() for name in found.column_names} == wanted
    assert file.metadata.num_row_groups > 2
    whole = {name for name in found.column_names if str(found.schema.field(name).type) == "int64"}
    assert whole == {"frame", "label", "cells", *(f"{end} {a}" for a in "yx" for end in ("first", "end"))}
    assert verify(str(tmp_path / "a" / "objects.ome.zarr"))["ok"]


def test_parquet_of_no_regions_has_columns_with_the_units_of_the_csv(tmp_path: Path) -> None:
    parquet = pytest.importorskip(
        "pyarrow.parquet", reason="needs pyarrow, which comes with the extra parquet"
    )
    info = ImageInfo((4, 5), np.dtype("uint32"), "yx", (4, 5), units=dict.fromkeys("yx", "micrometer"))
    np.save(tmp_path / TABLE, np.array([[2, 1, *[0] * 8]], np.int64))
    paths = [tmp_path / f"objects.{ending}" for ending in ("csv", "parquet")]
    for path in paths:
        open_sink(SinkSpec(uri=str(path)), info).finish(str(tmp_path), info, (), str(path), 1 << 25)
    found = parquet.read_table(paths[1])
    assert found.num_rows == 0
    assert found.column_names == list(table(paths[0]))
    assert found.schema.field("area (micrometer²)").metadata == {b"unit": "micrometer²".encode()}
    assert found.schema.field("centroid x (micrometer)").metadata == {b"unit": b"micrometer"}


def test_parquet_is_refused_where_its_library_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "pyarrow" else found(name, *rest)
    )
    with pytest.raises(RefusedError, match=r"pip install 'diffuse\[parquet\]'"):
        run_with_table(tmp_path / "a", COINS, {}, formats=("parquet",))
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["source.npy"]


@pytest.mark.thorough
def test_more_regions_than_memory_holds_stop_a_run_that_goes_on_with_more(tmp_path: Path) -> None:
    image = np.zeros((512, 512), np.uint8)
    image[::2, ::2] = 200
    source, spec = {"uri": save_source(tmp_path, image)}, {"steps": LABEL, "sink": {"dtype": "uint32"}}
    spec["outputs"] = [{"name": "objects", "uri": str(tmp_path / "objects.csv")}]
    for memory, complete in (("300MiB", False), ("400MiB", True)):
        how = {"memory": memory, "tile": 256}
        report = run(small_spec("", tmp_path / "objects.ome.zarr", source=source, run=how, **spec))
        assert (report.exit_code == 0) is complete
        assert ("more regions or holes than the memory holds" in report.data["problem"]) is not complete
        assert report.data["memory"]["predicted"] <= report.data["memory"]["limit"]
    assert len(table(tmp_path / "objects.csv")["label"]) == 256**2


def test_means_are_exact() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (30, 31)).astype(np.float64)
    values = rng.normal(size=labels.shape) * 10.0 ** rng.integers(-30, 30, labels.shape)
    values[3, :5] = np.nan
    block = Block.from_image(np.stack([labels, values]), (1.0, 1.0))
    sums, ends = RegionSums(), RegionEnds()
    halves = [(slice(None), slice(0, 13)), (slice(None), slice(13, None))]
    merged = [one.merge(*(one.measure(block, keep) for keep in halves)) for one in (sums, ends)]
    rows = region_table(*merged, 2, 1)
    assert rows[:, 1].tolist() == [1, 2, 3]
    for row in rows:
        inside = (labels == row[1]) & ~np.isnan(values)
        total = sum(Fraction(x) for x in values[inside].tolist())
        assert row[-1:].view(np.float64)[0] == float(total / int(inside.sum()))
        y, x = np.nonzero(labels == row[1])
        assert row[2:9].tolist() == [len(y), y.sum(), x.sum(), y.min(), y.max() + 1, x.min(), x.max() + 1]


def test_labels_have_a_pyramid_of_labels(tmp_path: Path) -> None:
    run_with_table(tmp_path / "a", COINS, {}, sink={"pyramid": 1})
    group = zarr.open_group(str(tmp_path / "a" / "objects.ome.zarr"), mode="r")
    colours = {one["label-value"]: one["rgba"] for one in group.attrs["ome"]["image-label"]["colors"]}
    assert set(colours) == set(np.unique(group["1"][...]).tolist())
    assert len({tuple(rgba) for rgba in colours.values()}) == len(colours)
    assert colours[0] == [0, 0, 0, 0]
    assert set(np.unique(group["1"][...])) <= set(np.unique(group["0"][...]))


def test_what_is_no_table_of_labels_is_refused(tmp_path: Path) -> None:
    source = save_source(tmp_path, COINS)
    heat = [{"name": "calm", "operator": "heat", "time": 1}]
    csv_output = [{"name": "calm", "uri": str(tmp_path / "a.csv")}]
    with pytest.raises((PlanError, RefusedError), match="no label image"):
        run(small_spec(source, tmp_path / "a.zarr", steps=heat, outputs=csv_output))
    with pytest.raises((PlanError, RefusedError), match="no label image"):
        run(small_spec(source, tmp_path / "a.csv", steps=heat))
    with pytest.raises(RefusedError, match="a region has none"):
        preview(small_spec(source, tmp_path / "a.csv", steps=LABEL), "0:50,0:50", str(tmp_path / "part.csv"))
    with pytest.raises(RefusedError, match="no step 'no'"):
        small_spec(source, tmp_path / "a.csv", steps=LABEL, sink={"of": "no"})
    with pytest.raises(RefusedError, match="no step 'no'"):
        small_spec(
            source, tmp_path / "a.zarr", steps=LABEL, outputs=[{**csv_output[0], "name": "mask", "of": "no"}]
        )
    shutil.rmtree(tmp_path / "a.zarr.run", ignore_errors=True)


def test_labels_of_joint_channels_are_no_table_and_separate_ones_are_frames(tmp_path: Path) -> None:
    image = np.stack([COINS[:40, :50], COINS[40:80, :50]])
    source = {"uri": save_source(tmp_path, image), "axes": "cyx"}
    with pytest.raises(RefusedError, match="2 joint channels"):
        run(small_spec("", tmp_path / "a.csv", source=source, steps=LABEL[:1]))
    target = tmp_path / "b.csv"
    spec = small_spec("", target, source=source, steps=LABEL[:1], image={"channels": "separate"})
    assert run(spec).exit_code == 0
    found = table(target)
    assert found["frame"] == [0, 1]
    assert found["cells"] == [float((part > 107).sum()) for part in image]


def test_an_image_for_means_is_refused_where_there_are_none(tmp_path: Path) -> None:
    source, target = save_source(tmp_path, COINS), tmp_path / "a.zarr"
    with pytest.raises(RefusedError, match=r"no such table\. Remove `of`"):
        run(small_spec(source, target, steps=LABEL, sink={"of": "mask"}))
    output = {"name": "objects", "uri": str(tmp_path / "b.zarr"), "of": "mask"}
    with pytest.raises(RefusedError, match=r"no such table\. Remove `of`"):
        run(small_spec(source, target, steps=LABEL, outputs=[output]))
    assert not target.exists()


def test_labels_that_only_doubles_tell_apart_have_rows_of_their_own(tmp_path: Path) -> None:
    most = 1 << 24
    markers = tmp_path / "markers.csv"
    markers.write_text(f"row,column,label\n20,20,{most}\n90,90,{most + 1}\n", encoding="utf-8")
    steps = [{"name": "near", "operator": "geodesic-labels", "markers": str(markers)}]
    outputs = [{"name": "near", "uri": str(tmp_path / "near.csv")}]
    target = tmp_path / "near.zarr"
    spec = small_spec(
        save_source(tmp_path, COINS), target, steps=steps, sink={"dtype": "uint32"}, outputs=outputs
    )
    assert run(spec).exit_code == 0
    found, labels = table(tmp_path / "near.csv"), read_result(target)
    assert found["label"] == [most, most + 1]
    assert found["cells"] == [np.count_nonzero(labels == label) for label in found["label"]]
