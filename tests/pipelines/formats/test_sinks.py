"""Every sink: what was filled in chunk by chunk is what an independent reader finds, metadata included."""

from __future__ import annotations

import itertools
import json
import shutil
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr
from ome_zarr_models import v05
from ome_zarr_models.common.omero import Omero

from pipelines.formats.tiff_sink import CLASSIC_BYTES
from pipelines.image.info import Georeference, ImageInfo
from pipelines.image.open_source import open_source
from pipelines.image.pyramid import reduce_block
from pipelines.image.sink import SINKS, Level, Sink, SinkSpec, open_sink
from pipelines.image.source import SourceSpec
from pipelines.image.window import Grid
from pipelines.store.arrays import open_array, use_fast_codecs

MEMORY = 128 << 20
UTM = Georeference("EPSG:32618", (30.0, 0.0, 425085.0, 0.0, -30.0, 5215515.0))


@pytest.fixture(autouse=True)
def fast_codecs():
    use_fast_codecs(2)


def image(shape: tuple[int, ...], axes: str, dtype: str, **known: Any) -> ImageInfo:
    return ImageInfo(shape, np.dtype(dtype), axes, shape, **known)


OME = image(
    (700, 1300, 2),
    "yxc",
    "uint16",
    spacing={"y": 0.5, "x": 0.25},
    units={"y": "micrometer", "x": "micrometer"},
    nodata=0,
    channel_names=("DAPI", "actin"),
    georeference=UTM,
    attributes={
        "ome": {
            "name": "cells",
            "translation": {"y": 10.0},
            "omero": {"channels": [{"color": "0000FF"}, {"color": "FF00FF"}]},
        },
        "tags": {"INSTRUMENT": "scope"},
    },
)


def pixels(info: ImageInfo) -> np.ndarray:
    rng = np.random.default_rng(11)
    smooth = np.add.outer(*(np.linspace(10, 90, info.size(a)) for a in "yx"))
    order = [a for a in info.axes if a in "yx"]
    values = np.expand_dims(
        smooth if order == ["y", "x"] else smooth.T, [i for i, a in enumerate(info.axes) if a not in "yx"]
    )
    values = (values + rng.normal(0, 8, info.shape)).clip(1, 200).astype(info.dtype)
    if info.nodata is not None:
        values[..., :17] = info.nodata
    return values


def fill(sink: Sink, root: Path, info: ImageInfo, data: np.ndarray) -> tuple[Level, ...]:
    """Do what the engine does: whole chunks of every level, each level reduced from the one before."""
    levels = sink.levels(info)
    sink.create(str(root), info, levels)
    values = data
    for level in levels:
        values = np.transpose(values, [info.axes.index(a) for a in level.info.axes])
        values = reduce_block(values, level.factors, info.labels, info.nodata)
        assert values.shape == level.info.shape
        array = open_array(str(root), level.path)
        assert (array.shards or array.chunks) == level.info.chunks
        grid = Grid(level.info.shape, level.info.chunks)
        for tile in range(len(grid)):
            array[grid.region(tile)] = values[grid.region(tile)]
        values = np.transpose(values, [level.info.axes.index(a) for a in info.axes])
    return levels


def write(uri: Path, info: ImageInfo, data: np.ndarray | None = None, **options: Any) -> np.ndarray:
    sink = open_sink(SinkSpec(uri=str(uri), **options), info)
    data = pixels(info) if data is None else data
    root = uri.parent / "run" / "result"
    root.parent.mkdir()
    levels = fill(sink, root, info, data)
    assert not uri.exists()
    sink.finish(str(root), info, levels, str(uri), MEMORY)
    shutil.rmtree(root.parent)
    assert [p.name for p in uri.parent.iterdir()] == [uri.name]
    return data


@dataclass(frozen=True)
class Case:
    """An image, and which sinks hold it."""

    info: ImageInfo
    sinks: str
    options: dict[str, Any] = field(default_factory=dict)


CASES = {
    "grey": Case(image((300, 411), "yx", "uint8"), "zarr ome-zarr tiff cog png"),
    "float": Case(image((700, 520), "yx", "float32", nodata=-9999.0), "zarr ome-zarr tiff cog"),
    "half": Case(image((70, 52), "yx", "float16"), "zarr ome-zarr tiff"),
    "double": Case(image((70, 52), "yx", "float64", nodata=-3.4e38), "zarr ome-zarr tiff cog"),
    "long": Case(image((70, 52), "yx", "int64", nodata=-9999), "zarr ome-zarr tiff cog"),
    "colours": Case(image((600, 700, 3), "yxc", "uint8", rgb=True), "zarr ome-zarr tiff cog png"),
    "alpha": Case(image((90, 70, 4), "yxc", "uint16", rgb=True), "zarr ome-zarr tiff cog png"),
    "bands": Case(image((5, 130, 600), "cyx", "int16", nodata=-1), "zarr ome-zarr tiff cog"),
    "columns first": Case(image((70, 90), "xy", "uint16"), "zarr ome-zarr tiff cog png"),
    "volume": Case(image((20, 130, 150), "zyx", "uint16", spacing={"z": 2.0}), "zarr ome-zarr tiff"),
    "all axes": Case(image((2, 3, 4, 60, 50), "tczyx", "float32"), "zarr ome-zarr tiff"),
    "one row": Case(image((1, 2000), "yx", "uint8"), "zarr ome-zarr tiff cog png"),
    "labels": Case(image((600, 700), "yx", "uint32", labels=True), "zarr ome-zarr tiff cog"),
    "small chunks": Case(image((300, 411), "yx", "uint8"), "zarr ome-zarr tiff cog png", {"chunk": 50}),
    "uncompressed": Case(
        image((300, 411), "yx", "uint8"), "zarr ome-zarr tiff cog png", {"compression": "none"}
    ),
    "lz4": Case(image((300, 411), "yx", "float32"), "zarr ome-zarr tiff cog", {"compression": "lz4"}),
}
ENDINGS = {"zarr": ".zarr", "ome-zarr": ".ome.zarr", "tiff": ".tif", "cog": ".tiff", "png": ".png"}


def read_zarr(path: Path, info: ImageInfo) -> np.ndarray:
    with xr.open_zarr(path, mask_and_scale=False) as found:
        assert list(found.data_vars) == ["image"]
        return found["image"].transpose(*info.axes).values


def read_ome_zarr(path: Path, info: ImageInfo) -> np.ndarray:
    found = zarr.open_group(path, mode="r")
    axes = [a["name"] for a in found.attrs["ome"]["multiscales"][0]["axes"]]
    return np.transpose(found["0"][:], [axes.index(a) for a in info.axes])


def read_tiff(path: Path, info: ImageInfo) -> np.ndarray:
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        axes = series.axes.lower().replace("s", "c")
        return np.transpose(series.asarray(), [axes.index(a) for a in info.axes])


def read_cog(path: Path, info: ImageInfo) -> np.ndarray:
    rasterio = pytest.importorskip("rasterio")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            values = file.read()
    axes = "cyx" if "c" in info.axes else "yx"
    return np.transpose(values.reshape([info.size(a) for a in axes]), [axes.index(a) for a in info.axes])


def read_png(path: Path, info: ImageInfo) -> np.ndarray:
    values = imageio.imread(path, plugin="pillow") if info.dtype == "uint8" else read_png_16(path)
    axes = "".join(a for a in "yxc" if a in info.axes)
    return np.transpose(values, [axes.index(a) for a in info.axes])


def read_png_16(path: Path) -> np.ndarray:
    import imagecodecs

    return imagecodecs.png_decode(path.read_bytes())


READERS = {"zarr": read_zarr, "ome-zarr": read_ome_zarr, "tiff": read_tiff, "cog": read_cog, "png": read_png}


def each_image(writable: bool) -> pytest.MarkDecorator:
    """Return the parameters "name" of a sink and "case" of an image that it can write, or cannot."""
    return pytest.mark.parametrize(
        ("name", "case"),
        [
            pytest.param(name, case, id=f"{name}-{key}")
            for key, case in CASES.items()
            for name in READERS
            if (name in case.sinks.split()) is writable
        ],
    )


@each_image(writable=False)
def test_an_image_that_a_format_cannot_hold_is_refused(name, case, tmp_path):
    uri = tmp_path / f"out{ENDINGS[name]}"
    sink = open_sink(SinkSpec(uri=str(uri), format=name, **case.options), case.info)
    with pytest.raises(ValueError, match=r"Allowed|Choose|Set sink|ends in"):
        sink.levels(case.info)
    assert list(tmp_path.iterdir()) == []


@each_image(writable=True)
def test_an_independent_reader_finds_the_same_pixels(name, case, tmp_path):
    uri, options = tmp_path / f"out{ENDINGS[name]}", {"format": name, **case.options}
    data = write(uri, case.info, **options)
    found = READERS[name](uri, case.info)
    assert found.dtype == data.dtype
    assert np.array_equal(found, data)


@pytest.mark.parametrize("name", [name for name in SINKS if not SINKS[name].is_table])
def test_the_same_run_gives_the_same_bytes(name, tmp_path):
    def files(folder: str) -> dict[str, bytes]:
        (tmp_path / folder).mkdir()
        uri = tmp_path / folder / f"out{SINKS[name].extensions[-1]}"
        write(uri, image((3, 600, 530), "cyx", "uint8"), format=name)
        found = [uri] if uri.is_file() else sorted(p for p in uri.rglob("*") if p.is_file())
        return {str(p.relative_to(tmp_path / folder)): p.read_bytes() for p in found}

    assert files("one") == files("two")


@pytest.mark.parametrize("name", SINKS.names())
def test_levels_are_written_by_whole_chunks(name):
    sink = SINKS[name](SinkSpec(uri=f"out{SINKS[name].extensions[0]}"))
    for level in sink.levels(image((2000, 1500), "yx", "uint8", georeference=UTM)):
        assert all(u % c == 0 for u, c in zip(level.info.chunks, level.chunks, strict=True))
        assert all(c <= n for c, n in zip(level.chunks, level.info.shape, strict=True))


@pytest.mark.parametrize("name", SINKS.names())
def test_formats_tell_what_they_are(name):
    assert SINKS[name].extensions
    assert SINKS[name].about


ROUND = {
    "zarr": ("out.zarr", "spacing units nodata channel_names georeference attributes"),
    "ome-zarr": ("out.ome.zarr", "spacing units nodata channel_names georeference"),
    "ome-tiff": ("out.ome.tif", "spacing units nodata channel_names"),
    "cog": ("out.tif", "nodata channel_names"),
}


@pytest.mark.parametrize(("name", "kept"), ROUND.values(), ids=ROUND)
def test_our_own_reader_gets_the_metadata_back(name, kept, tmp_path):
    pytest.importorskip("rasterio")
    info = replace(OME, attributes={"tags": {"INSTRUMENT": "scope"}})
    data = write(tmp_path / name, info)
    source = open_source(SourceSpec(uri=str(tmp_path / name)))
    order = [info.axes.index(a) for a in source.info.axes]
    assert np.array_equal(
        source.read(tuple(slice(0, n) for n in source.info.shape)), np.transpose(data, order)
    )
    for key in kept.split():
        assert getattr(source.info, key) == getattr(info, key), key


# ---- choosing a format


@pytest.mark.parametrize(
    ("uri", "georeference", "expected"),
    [
        ("a.zarr", None, "zarr"),
        ("a.ome.zarr", UTM, "ome-zarr"),
        ("s3://bucket/A.OME.ZARR/", None, "ome-zarr"),
        ("a.tif", None, "tiff"),
        ("a.TIFF", UTM, "cog"),
        ("a.ome.tif", UTM, "tiff"),
        ("a.png", UTM, "png"),
    ],
)
def test_the_ending_and_the_georeference_choose(uri, georeference, expected):
    info = image((5, 5), "yx", "uint8", georeference=georeference)
    assert isinstance(open_sink(SinkSpec(uri=uri), info), SINKS[expected])


def test_a_format_is_taken_by_name():
    info = image((5, 5), "yx", "uint8", georeference=UTM)
    assert isinstance(open_sink(SinkSpec(uri="a.tif", format="tiff"), info), SINKS["tiff"])
    with pytest.raises(ValueError, match="Did you mean 'ome-zarr'"):
        open_sink(SinkSpec(uri="a", format="omezarr"), info)


def test_an_unknown_ending_lists_those_there_are():
    with pytest.raises(ValueError, match=r"\.ome\.zarr \(ome-zarr\)") as error:
        open_sink(SinkSpec(uri="a.jp2"), image((5, 5), "yx", "uint8"))
    assert all(name in str(error.value) for name in SINKS.names())


# ---- OME-Zarr


def test_ome_zarr_validates_and_keeps_everything(tmp_path):
    uri = tmp_path / "out.ome.zarr"
    write(uri, OME)
    group = zarr.open_group(uri, mode="r")
    found = v05.Image.from_zarr(group).ome_attributes
    pyramid = found.multiscales[0]
    assert [(a.name, a.type, a.unit) for a in pyramid.axes] == [
        ("c", "channel", None),
        ("y", "space", "micrometer"),
        ("x", "space", "micrometer"),
    ]
    assert [d.path for d in pyramid.datasets] == ["0", "1", "2"]
    scales = [d.coordinateTransformations[0].scale for d in pyramid.datasets]
    assert scales == [[1.0, 0.5, 0.25], [1.0, 1.0, 0.5], [1.0, 2.0, 1.0]]
    moved = [d.coordinateTransformations[1].translation for d in pyramid.datasets]
    assert moved == [[0.0, 10.0, 0.0], [0.0, 10.25, 0.125], [0.0, 10.75, 0.375]]
    assert (pyramid.name, pyramid.type) == ("cells", "mean")
    assert [c.color for c in Omero(**found.omero).channels] == ["0000FF", "FF00FF"]
    assert [c["label"] for c in group.attrs["ome"]["omero"]["channels"]] == ["DAPI", "actin"]
    assert group.attrs["nodata"] == 0
    assert group.attrs["georeference"]["crs"] == "EPSG:32618"
    assert group.attrs["source_attributes"] == {"tags": {"INSTRUMENT": "scope"}}
    assert group["1"].metadata.dimension_names == ("c", "y", "x")
    assert group["1"].fill_value == 0


def test_ome_zarr_shows_the_range_of_the_pixels(tmp_path):
    info = image((900, 700), "yx", "float32", nodata=-1.0)
    write(tmp_path / "out.ome.zarr", info)
    group = zarr.open_group(tmp_path / "out.ome.zarr", mode="r")
    window = group.attrs["ome"]["omero"]["channels"][0]["window"]
    coarse = group["1"][:]
    assert window["start"] == coarse[coarse != -1].min()
    assert window["end"] == coarse.max()


def test_ome_zarr_of_an_image_without_any_value_is_still_valid(tmp_path):
    info = image((30, 40), "yx", "float32")
    write(tmp_path / "out.ome.zarr", info, np.full((30, 40), np.nan, np.float32))
    v05.Image.from_zarr(zarr.open_group(tmp_path / "out.ome.zarr", mode="r"))


def test_ome_zarr_flags_labels(tmp_path):
    info = image((700, 600), "yx", "uint32", labels=True)
    data = np.repeat(np.arange(700, dtype="uint32")[:, None] // 3, 600, axis=1)
    write(tmp_path / "out.ome.zarr", info, data)
    group = zarr.open_group(tmp_path / "out.ome.zarr", mode="r")
    found = v05.ImageLabel.from_zarr(group).ome_attributes
    assert found.image_label is not None
    assert found.multiscales[0].type == "mode"
    assert set(np.unique(group["1"][:])) <= set(range(700 // 3 + 1))


def test_ome_zarr_without_a_pyramid_or_with_a_number(tmp_path):
    for pyramid, count in (("none", 1), (3, 4)):
        (tmp_path / str(count)).mkdir()
        uri = tmp_path / str(count) / "out.ome.zarr"
        write(uri, image((600, 90), "yx", "uint8"), pyramid=pyramid)
        assert len(zarr.open_group(uri, mode="r").attrs["ome"]["multiscales"][0]["datasets"]) == count


@pytest.mark.thorough
def test_ome_zarr_of_many_chunks_is_sharded(tmp_path):
    info = image((1100, 1000), "yx", "uint8")
    data = write(tmp_path / "out.ome.zarr", info, chunk=8, pyramid="none")
    array = zarr.open_group(tmp_path / "out.ome.zarr", mode="r")["0"]
    assert array.chunks == (8, 8)
    assert array.shards is not None
    assert len([p for p in (tmp_path / "out.ome.zarr" / "0").rglob("*") if p.is_file()]) <= 5
    assert np.array_equal(array[:], data)


# ---- plain Zarr


def test_xarray_reads_names_units_place_and_nodata(tmp_path):
    rioxarray = pytest.importorskip("rioxarray")
    assert rioxarray
    info = image(
        (50, 60, 2), "yxc", "float32", nodata=-9999.0, channel_names=("red", "nir"), georeference=UTM,
        spacing={"y": 1.0, "x": 1.0}, attributes={"scales": [0.5, 2.0]},
    )  # fmt: skip
    data = write(tmp_path / "out.zarr", info)
    with warnings.catch_warnings(), xr.open_zarr(tmp_path / "out.zarr") as found:
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        variable = found["image"]
        assert variable.dims == ("y", "x", "c")
        assert variable.rio.crs.to_epsg() == 32618
        assert tuple(variable.rio.transform())[:6] == UTM.transform
        assert float(found.x[0]) == 425085 + 15
        assert np.isnan(variable.values[..., :17]).all() == np.isnan(variable.values[data == -9999]).all()
        assert variable.attrs["channel_names"] == ["red", "nir"]
        assert found.attrs["source_attributes"] == {"scales": [0.5, 2.0]}
        assert variable.encoding["_FillValue"] == -9999


def test_ground_control_points_reach_xarray(tmp_path):
    pytest.importorskip("rioxarray")
    points = ((0.5, 1.5, 10.0, 50.0, 3.0, "1"), (7.0, 8.0, 11.0, 51.0, 0.0, "two"))
    info = image((9, 9), "yx", "uint8", georeference=Georeference(gcps=points, gcps_crs="EPSG:4326"))
    write(tmp_path / "out.zarr", info)
    with xr.open_zarr(tmp_path / "out.zarr") as found:
        gcps = found["image"].rio.get_gcps()
        assert [(p.row, p.col, p.x, p.y, p.z, p.id) for p in gcps] == list(points)
        assert found["image"].rio.crs.to_epsg() == 4326


def test_plain_zarr_refuses_a_pyramid():
    sink = SINKS["zarr"](SinkSpec(uri="a.zarr", pyramid=2))
    with pytest.raises(ValueError, match="keeps one level"):
        sink.levels(image((5, 5), "yx", "uint8"))


# ---- TIFF


def test_tiff_keeps_spacing_units_names_and_nodata(tmp_path):
    info = replace(OME, georeference=None)
    write(tmp_path / "out.ome.tif", info)
    with tifffile.TiffFile(tmp_path / "out.ome.tif") as file:
        described = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
        shapes = [level.shape for level in file.series[0].levels]
        tags = file.pages[0].tags
        assert tags["XResolution"].value[0] / tags["XResolution"].value[1] == 40_000
        assert tags["GDAL_NODATA"].value == "0"
    pixels = described["Pixels"]
    assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeXUnit"]) == (0.25, "µm")
    assert [c["Name"] for c in pixels["Channel"]] == ["DAPI", "actin"]
    assert [c["Color"] & 0xFFFFFFFF for c in pixels["Channel"]] == [0x0000FFFF, 0xFF00FFFF]
    assert described["Name"] == "cells"
    assert shapes == [(2, 700, 1300), (2, 350, 650), (2, 175, 325)]


def test_tiff_of_float_colours_shows_planes_in_colour(tmp_path):
    write(tmp_path / "out.ome.tif", image((30, 40, 3), "yxc", "float32", rgb=True))
    with tifffile.TiffFile(tmp_path / "out.ome.tif") as file:
        channels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]["Channel"]
    assert [c["Color"] & 0xFFFFFFFF for c in channels] == [0xFF0000FF, 0x00FF00FF, 0x0000FFFF]


def test_tiff_has_a_pyramid_where_asked_for(tmp_path):
    info = image((700, 600, 3), "yxc", "uint8", rgb=True)
    data = write(tmp_path / "out.tif", info, pyramid=1)
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert [level.shape for level in file.series[0].levels] == [(700, 600, 3), (350, 300, 3)]
        assert np.array_equal(file.series[0].levels[1].asarray(), reduce_block(data, (2, 2, 1)))
        assert file.pages[0].photometric == tifffile.PHOTOMETRIC.RGB
        assert file.pages[0].tile == (512, 512)


def test_tiff_keeps_a_georeference_as_text(tmp_path):
    info = image((40, 50), "yx", "uint8", georeference=UTM)
    write(tmp_path / "out.tif", info, format="tiff")
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert json.loads(file.pages[0].description)["georeference"]["crs"] == "EPSG:32618"


def test_tiff_becomes_bigtiff_where_it_must(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.formats.tiff_sink.CLASSIC_BYTES", 1000)
    write(tmp_path / "out.tif", image((40, 50), "yx", "uint8"))
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert file.is_bigtiff
    assert CLASSIC_BYTES < 2**32


def test_tiff_refuses_types_that_ome_has_not():
    sink = SINKS["tiff"](SinkSpec(uri="a.ome.tif"))
    with pytest.raises(ValueError, match="OME-TIFF cannot hold float16"):
        sink.levels(image((5, 5), "yx", "float16"))


def test_png_refuses_what_no_viewer_opens():
    sink = SINKS["png"](SinkSpec(uri="a.png"))
    with pytest.raises(ValueError, match="100,000,000"):
        sink.levels(image((20_000, 20_000), "yx", "uint8"))
    with pytest.raises(ValueError, match="cannot hold float32"):
        sink.levels(image((20, 20), "yx", "float32"))


# ---- GeoTIFF


def raster_info(path: Path) -> tuple[ImageInfo, np.ndarray]:
    """Return the metadata of a raster as GDAL tells it."""
    rasterio = pytest.importorskip("rasterio")
    with rasterio.open(path) as file:
        points, points_crs = file.gcps
        reference = Georeference(
            crs=file.crs.to_wkt() if file.crs else "",
            transform=None if points else tuple(file.transform)[:6],
            gcps=tuple((p.row, p.col, p.x, p.y, p.z, p.id) for p in points),
            gcps_crs=points_crs.to_wkt() if points_crs else "",
        )
        attributes = {
            "scales": list(file.scales),
            "offsets": list(file.offsets),
            "tags": file.tags(),
            "band_tags": [file.tags(i) for i in file.indexes],
            "colorinterp": [c.name for c in file.colorinterp],
        }
        names = tuple(d or "" for d in file.descriptions)
        info = image(
            (file.count, *file.shape), "cyx", file.dtypes[0],
            nodata=file.nodata, georeference=reference, attributes=attributes,
            channel_names=names if any(names) else (),
        )  # fmt: skip
        return info, file.read()


KEPT_BY_COG = ("crs", "transform", "nodata", "descriptions", "scales", "offsets", "colorinterp", "dtypes")
REAL = [
    "landsat8_rgb_uint16_nodata0.tif",
    "naip_va_4band_uint8.tif",
    "europa_float32_nodata.tif",
    "s1_grd_gcps_uint16.tif",
    "RGB.byte.tif",
]


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
@pytest.mark.parametrize("name", REAL)
def test_cog_keeps_everything_of_real_rasters(name, shared_data, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    source = shared_data("satellite", name)
    info, data = raster_info(source)
    write(tmp_path / "out.tif", info, data)
    with rasterio.open(source) as a, rasterio.open(tmp_path / "out.tif") as b:
        assert np.array_equal(a.read(), b.read())
        for key in KEPT_BY_COG:
            assert getattr(a, key) == getattr(b, key), key
        assert a.gcps[1] == b.gcps[1]
        points = [[(p.row, p.col, p.x, p.y, p.z, p.id) for p in file.gcps[0]] for file in (a, b)]
        assert points[0] == points[1]
        kept = {k: v for k, v in a.tags().items() if not k.startswith("OVR_")}
        assert kept.items() <= b.tags().items()
        assert b.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert b.profile["tiled"]
        assert not any(k.startswith("STATISTICS") for k in b.tags(1))


def directories(path: Path) -> list[tuple[int, int, int]]:
    """Return (offset of the directory, offset of its first and last tile) of every image of a file."""
    with tifffile.TiffFile(path) as file:
        pages = list(file.pages)
        return [(p.offset, min(o for o in p.dataoffsets if o), max(p.dataoffsets)) for p in pages]


@pytest.mark.thorough
def test_cog_is_laid_out_for_range_requests(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    info = image((2, 2000, 1900), "cyx", "uint16", nodata=0, georeference=UTM)
    write(tmp_path / "out.tif", info)
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.overviews(1) == [2, 4]
        assert file.block_shapes == [(512, 512)] * 2
    found = directories(tmp_path / "out.tif")
    assert len(found) == 3
    assert [d for d, _, _ in found] == sorted(d for d, _, _ in found)
    assert max(d for d, _, _ in found) < min(first for _, first, _ in found), "directories come first"
    assert all(a[1] > b[2] for a, b in itertools.pairwise(found)), "coarse pixels come before fine ones"


def test_cog_overviews_do_not_mix_nodata_in(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    data = np.full((1, 1024, 1024), 100, np.int16)
    data[0, ::2, ::2] = -9999
    write(tmp_path / "out.tif", image((1, 1024, 1024), "cyx", "int16", nodata=-9999, georeference=UTM), data)
    with rasterio.open(tmp_path / "out.tif", overview_level=0) as file:
        assert np.all(file.read() == 100)


def test_cog_without_a_pyramid_and_with_a_number(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    for pyramid, expected in (("none", []), (3, [2, 4, 8])):
        (tmp_path / str(pyramid)).mkdir()
        uri = tmp_path / str(pyramid) / "out.tif"
        write(uri, image((700, 600), "yx", "uint8", georeference=UTM), pyramid=pyramid)
        with rasterio.open(uri) as file:
            assert file.overviews(1) == expected


def test_cog_keeps_scales_units_names_and_coefficients(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    attributes = {
        "scales": [0.1, 2.0], "offsets": [5.0, 0.0], "units": ["m", "K"], "tags": {"SENSOR": "x"},
        "band_tags": [{"wavelength": "560"}, {"STATISTICS_MEAN": "3"}],
    }  # fmt: skip
    names = ("a", "b")
    info = image((2, 30, 40), "cyx", "float32", georeference=UTM, attributes=attributes, channel_names=names)
    write(tmp_path / "out.tif", info)
    with rasterio.open(tmp_path / "out.tif") as file:
        assert (file.scales, file.offsets, file.units) == ((0.1, 2.0), (5.0, 0.0), ("m", "K"))
        assert file.descriptions == ("a", "b")
        assert file.tags()["SENSOR"] == "x"
        assert file.tags(1)["wavelength"] == "560"
        assert file.tags(2) == {}


def test_cog_refuses_what_a_raster_cannot_hold(monkeypatch):
    sink = SINKS["cog"](SinkSpec(uri="a.tif"))
    with pytest.raises(ValueError, match="z of length 3"):
        sink.levels(image((3, 5, 5), "zyx", "uint8", georeference=UTM))
    with pytest.raises(ValueError, match="cannot hold float16"):
        sink.levels(image((5, 5), "yx", "float16", georeference=UTM))
    with pytest.raises(ValueError, match="coordinate system 'nowhere'"):
        sink.levels(image((5, 5), "yx", "uint8", georeference=Georeference("nowhere")))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="extra `geo`"):
        sink.levels(image((5, 5), "yx", "uint8", georeference=UTM))
