"""TIFF files of every layout: regions equal what the library reads as a whole, and metadata are told."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from pipelines.formats.metadata.tiff import (
    aperio_properties,
    aperio_spacing,
    level_factor,
    resolution_spacing,
)
from pipelines.formats.tiff_source import TiffSource
from pipelines.image.open_source import open_source
from pipelines.image.source import SourceSpec, UnreadableSourceError
from tests.pipelines.source_files import ramp

IMAGEJ = {"spacing": 0.5, "unit": "um", "axes": "ZCYX", "finterval": 2.0}
OME = {
    "axes": "TCZYX",
    "PhysicalSizeX": 200.0,
    "PhysicalSizeXUnit": "nm",
    "PhysicalSizeY": 0.3,
    "PhysicalSizeZ": 4,
    "TimeIncrement": 3.5,
    "Channel": {"Name": ["DAPI", "GFP", "RFP"]},
}
LAYOUTS = {
    "one strip": ((40, 50), {}, "yx"),
    "strips": ((40, 50), {"rowsperstrip": 7, "compression": "zlib"}, "yx"),
    "tiles": ((40, 50), {"tile": (16, 32), "compression": "zlib"}, "yx"),
    "tiles of colours": (
        (40, 50, 3),
        {"photometric": "rgb", "tile": (16, 16), "compression": "lzw", "predictor": True},
        "yxc",
    ),
    "planes of colours": (
        (3, 40, 50),
        {"photometric": "rgb", "planarconfig": "separate", "rowsperstrip": 7, "compression": "zlib"},
        "cyx",
    ),
    "pages": ((5, 40, 50), {"photometric": "minisblack"}, "zyx"),
    "packed pages": (
        (5, 40, 50),
        {"photometric": "minisblack", "compression": "zlib", "metadata": None},
        "zyx",
    ),
    "volume": ((5, 40, 50), {"photometric": "minisblack", "volumetric": True, "tile": (16, 16, 16)}, "zyx"),
    "one page for all": ((5, 40, 50), {"bigtiff": True, "truncate": True}, "zyx"),
    "ImageJ": ((3, 2, 40, 50), {"imagej": True, "resolution": (4.0, 4.0), "metadata": IMAGEJ}, "zcyx"),
    "OME": ((2, 3, 4, 40, 50), {"ome": True, "compression": "zlib", "metadata": OME}, "tczyx"),
    "OME colours": ((1, 40, 50, 3), {"ome": True, "photometric": "rgb", "metadata": {"axes": "CYXS"}}, "yxc"),
}


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a TIFF file and returns how to read it."""

    def make(pixels, **options):
        tifffile.imwrite(tmp_path / "image.tif", pixels, **options)
        return SourceSpec(uri=str(tmp_path / "image.tif"))

    return make


def whole(source):
    return source.read(tuple(slice(0, n) for n in source.info.shape))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_regions_of_every_layout(write, layout, order):
    shape, options, axes = LAYOUTS[layout]
    pixels = ramp(shape)
    # ImageJ's own byte order is fixed.
    chosen = options if options.get("imagej") else {"byteorder": order, **options}
    source = TiffSource.open(write(pixels, **chosen))
    assert source.info.axes == axes
    assert source.info.by_region
    pixels = pixels.reshape(source.info.shape)
    np.testing.assert_array_equal(whole(source), pixels)
    rng = np.random.default_rng(0)
    for _ in range(10):
        region = tuple(slice(*sorted(rng.choice(n + 1, 2, replace=False).tolist())) for n in pixels.shape)
        found = source.read(region)
        assert found.dtype == source.info.dtype
        np.testing.assert_array_equal(found, pixels[region])


def test_ome_metadata(write):
    shape, options, _ = LAYOUTS["OME"]
    info = open_source(write(ramp(shape), **options)).info
    assert info.spacing == {"t": 3.5, "z": 4.0, "y": 0.3, "x": 0.2}
    assert info.units == {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}
    assert info.channel_names == ("DAPI", "GFP", "RFP")


def test_imagej_metadata(write):
    shape, options, _ = LAYOUTS["ImageJ"]
    info = open_source(write(ramp(shape), **options)).info
    assert info.spacing == {"z": 0.5, "y": 0.25, "x": 0.25}
    assert set(info.units.values()) == {"micrometer"}


def test_colours(write):
    info = open_source(write(ramp((40, 50, 3), "uint8"), photometric="rgb")).info
    assert info.rgb
    assert info.channel_names == ("red", "green", "blue")


def test_a_fourth_band_that_is_not_alpha_makes_no_picture(write):
    spec = write(ramp((40, 50, 4), "uint8"), photometric="rgb", extrasamples=["unspecified"])
    assert not open_source(spec).info.rgb


def test_axes_without_a_meaning_are_refused_until_named(write):
    spec = write(ramp((2, 3, 40, 50)), photometric="minisblack", compression="zlib")
    with pytest.raises(UnreadableSourceError, match=r"'QQYX' of lengths \(2, 3, 40, 50\).*Give `axes`"):
        open_source(spec)
    source = open_source(spec.model_copy(update={"axes": "tzyx"}))
    assert source.info.sizes == {"t": 2, "z": 3, "y": 40, "x": 50}


def test_pages_are_planes_unless_said_otherwise(write):
    spec = write(ramp((5, 40, 50)), photometric="minisblack")
    assert open_source(spec).info.axes == "zyx"
    assert open_source(spec.model_copy(update={"axes": "tyx"})).info.axes == "tyx"


def test_two_kinds_of_channels_are_refused(write):
    spec = write(ramp((2, 40, 50, 3), "uint8"), ome=True, photometric="rgb", metadata={"axes": "CYXS"})
    with pytest.raises(UnreadableSourceError, match="CYXS"):
        open_source(spec)


def test_series_and_levels(tmp_path):
    pixels = ramp((128, 96), "uint8")
    with tifffile.TiffWriter(tmp_path / "image.tif") as file:
        file.write(
            pixels,
            tile=(16, 16),
            subifds=1,
            resolution=(20000, 20000),
            resolutionunit="CENTIMETER",
            compression="zlib",
        )
        file.write(pixels[::2, ::2], tile=(16, 16), subfiletype=1)
        file.write(pixels[:7, :9], metadata=None)
    spec = SourceSpec(uri=str(tmp_path / "image.tif"))
    assert open_source(spec).info.spacing == {"y": 0.5, "x": 0.5}
    level = open_source(spec.model_copy(update={"level": 1}))
    assert level.info.spacing == {"y": 1.0, "x": 1.0}
    np.testing.assert_array_equal(whole(level), pixels[::2, ::2])
    other = open_source(spec.model_copy(update={"series": 1}))
    np.testing.assert_array_equal(whole(other), pixels[:7, :9])
    with pytest.raises(UnreadableSourceError, match=r"no level 2.*0: 128 x 96, 1: 64 x 48"):
        open_source(spec.model_copy(update={"level": 2}))
    with pytest.raises(UnreadableSourceError, match=r"no series 2.*Allowed series: 0: .*1: "):
        open_source(spec.model_copy(update={"series": 2}))


def test_tiles_that_the_file_leaves_out_are_nodata(tmp_path):
    tiles = iter([ramp((16, 16)), None, None, ramp((16, 16))])
    with tifffile.TiffWriter(tmp_path / "image.tif") as file:
        file.write(
            (t for t in tiles),
            shape=(32, 32),
            dtype="uint16",
            tile=(16, 16),
            compression="zlib",
            extratags=[(42113, "s", 0, "7", True)],
        )
    source = TiffSource.open(SourceSpec(uri=str(tmp_path / "image.tif")))
    assert source.info.nodata == 7
    assert np.all(whole(source)[:16, 16:] == 7)
    assert not np.any(whole(source)[:16, :16] == 0)


def test_one_large_strip_is_not_read_by_region(write, monkeypatch):
    monkeypatch.setattr("pipelines.formats.tiff_source.LARGEST_SEGMENT", 1000)
    spec = write(ramp((200, 50)), rowsperstrip=200, compression="zlib")
    assert not open_source(spec).info.by_region
    # Without compression a strip needs no decoding: rows are read where they lie.
    assert open_source(write(ramp((200, 50)), rowsperstrip=200)).info.by_region


def test_complex_integers(write):
    pixels = (ramp((40, 50)) + 1j * ramp((40, 50), seed=1)).astype("complex64")
    source = open_source(write(pixels).model_copy(update={"complex": "intensity"}))
    np.testing.assert_array_equal(whole(source), pixels.real**2 + pixels.imag**2)


def test_bilevel_images_are_refused(write):
    with pytest.raises(UnreadableSourceError, match="bool"):
        open_source(write(np.ones((40, 50), bool), photometric="minisblack"))


@pytest.mark.parametrize(
    ("resolution", "spacing"),
    [
        ((20000, 10000, 3), {"y": 1.0, "x": 0.5}),
        ((50000, 50000, 2), {"y": 0.508, "x": 0.508}),
        ((72, 72, 2), {}),
        ((1, 1, 1), {}),
        ((0, 5, 3), {}),
        ((float("inf"), 5, 3), {}),
    ],
)
def test_resolution_tags(resolution, spacing):
    assert resolution_spacing(*resolution) == spacing


def test_aperio_description():
    found = aperio_properties("Aperio Image Library v1\n10x20|AppMag = 20|MPP = 0.25")
    assert found == {"AppMag": "20", "MPP": "0.25"}
    assert aperio_spacing(found) == {"y": 0.25, "x": 0.25}
    assert aperio_spacing({"MPP": "unknown"}) == {}
    assert aperio_properties("something else | a = b") == {}


@pytest.mark.parametrize(
    ("full", "reduced", "factor"), [(3567, 1783, 2), (4443, 2221, 2), (101, 51, 2), (100, 40, 2.5)]
)
def test_level_factors(full, reduced, factor):
    assert level_factor(full, reduced) == factor
