"""Real slides, scenes and stacks: what is known of each file arrives, and windows are read alone."""

from __future__ import annotations

import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest

from pipelines.image.open_source import open_source
from pipelines.image.source import SourceSpec, UnreadableSourceError

CMU = ("slide", "CMU-1-Small-Region.svs")
TCGA = ("slide", "tcga-cr-7395-01a-01-ts1.svs")
CELLS = ("medical", "xy_8bit__nuclei_PLK1_control.ome.zarr")


@pytest.fixture
def image(shared_data):
    """Return a function that opens a real image."""

    def make(*parts, **options):
        return open_source(SourceSpec(uri=str(shared_data(*parts)), **options))

    return make


def whole(source):
    return source.read(tuple(slice(0, n) for n in source.info.shape))


def tiles(source, side=700):
    """Return the image put together from windows that do not fit its tiles, read by several threads."""
    info = source.info
    out = np.zeros(info.shape, info.dtype)
    steps = [range(0, n, side) if a in "yx" else (0,) for a, n in zip(info.axes, info.shape, strict=True)]

    def read(start):
        ends = zip(start, info.axes, info.shape, strict=True)
        region = tuple(slice(s, min(s + side, n) if a in "yx" else n) for s, a, n in ends)
        out[region] = source.read(region)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(read, product(*steps)))
    return out


def test_slide_with_a_scale(image, shared_data):
    import tifffile

    source = image(*CMU)
    info = source.info
    assert info.shape == (2967, 2220, 3)
    assert info.chunks == (240, 240, 3)
    assert info.spacing == {"y": 0.499, "x": 0.499}
    assert info.units == {"y": "micrometer", "x": "micrometer"}
    assert info.rgb
    assert info.attributes["slide"]["AppMag"] == "20"
    np.testing.assert_array_equal(tiles(source), tifffile.imread(shared_data(*CMU), series=0))
    # Thumbnail, label and macro photograph are no levels.
    with pytest.raises(UnreadableSourceError, match="no level 1"):
        image(*CMU, level=1)
    assert image(*CMU, series=2).info.spacing == {}


@pytest.mark.thorough
def test_slide_with_two_levels(image, shared_data):
    import tifffile

    for level, shape in ((0, (3567, 4443, 3)), (1, (1783, 2221, 3))):
        source = image(*TCGA, level=level)
        assert source.info.shape == shape
        with tifffile.TiffFile(shared_data(*TCGA)) as file:
            expected = file.series[0].levels[level].asarray()
        np.testing.assert_array_equal(tiles(source), expected)
    with pytest.raises(UnreadableSourceError, match=r"no level 2.*1: 1783 x 2221 x 3"):
        image(*TCGA, level=2)


def test_scene_with_nodata(image):
    source = image("satellite", "landsat8_rgb_uint16_nodata0.tif")
    assert source.info.sizes == {"c": 3, "y": 790, "x": 779}
    assert source.info.nodata == 0
    assert 0.31 < np.mean(whole(source) == 0) < 0.34
    assert "UTM zone 18N" in source.info.georeference.crs
    np.testing.assert_array_equal(tiles(source, 300), whole(source))


def test_scene_with_an_infrared_band(image):
    info = image("satellite", "naip_va_4band_uint8.tif").info
    assert info.sizes == {"c": 4, "y": 300, "x": 300}
    assert not info.rgb
    assert info.attributes["colorinterp"] == ["red", "green", "blue", "undefined"]
    assert info.attributes["tags"]["TIFFTAG_DOCUMENTNAME"] == "WHITE PLAINS SW 3607717"


def test_nodata_near_the_smallest_float(image, caplog):
    source = image("satellite", "europa_float32_nodata.tif")
    assert source.info.nodata == -3.4028226550889045e38
    assert source.info.channel_names == ("IR-9680",)
    assert 0.90 < np.mean(whole(source) == source.info.nodata) < 0.91
    # The plain TIFF format tells the same, although its library cannot parse the value.
    assert image("satellite", "europa_float32_nodata.tif", format="tiff").info.nodata == source.info.nodata
    assert not caplog.records


def test_radar_with_control_points(image):
    info = image("satellite", "s1_grd_gcps_uint16.tif").info
    assert info.shape == (837, 1280)
    assert len(info.georeference.gcps) == 210
    assert info.georeference.transform is None
    assert "WGS 84" in info.georeference.gcps_crs
    half = image("satellite", "s1_grd_gcps_uint16.tif", level=1).info
    assert half.shape == (419, 640)
    assert half.georeference.gcps[1][1] == pytest.approx(info.georeference.gcps[1][1] / 2)


def test_complex_radar(image):
    with pytest.raises(UnreadableSourceError, match="complex: amplitude"):
        image("satellite", "s1_slc_complex_int16.tif")
    amplitude = image("satellite", "s1_slc_complex_int16.tif", complex="amplitude")
    intensity = image("satellite", "s1_slc_complex_int16.tif", complex="intensity")
    assert amplitude.info.dtype == np.dtype("float32")
    assert len(amplitude.info.georeference.gcps) == 210
    np.testing.assert_allclose(whole(amplitude) ** 2, whole(intensity), rtol=1e-6)
    assert whole(amplitude).max() > 100


def test_complex_radar_of_floats(image):
    source = image("satellite", "spacenet6_quadpol_vv_complex64.tif", complex="amplitude")
    assert np.isfinite(whole(source)).all()
    assert source.info.georeference.transform[1] != 0


def test_a_window_of_a_world_costs_a_window(image):
    source = image("satellite", "world_mask_36000x18000.tif")
    assert source.info.shape == (18000, 36000)
    assert image("satellite", "world_mask_36000x18000.tif", level=6).info.shape == (282, 563)
    region = (slice(4000, 4700), slice(18000, 18900))
    source.read(region)
    tracemalloc.start()
    start = time.perf_counter()
    pixels = source.read(region)
    seconds = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert set(np.unique(pixels)) <= {0, 1, 255}
    assert seconds < 2
    assert peak < 5_000_000


def test_cog_whose_nodata_is_1(image):
    source = image("satellite", "quantised_cog_uint16_nodata1.tif")
    assert source.info.nodata == 1
    assert np.mean(whole(source) == 1) > 0.1
    assert image("satellite", "quantised_cog_uint16_nodata1.tif", level=3).info.shape == (334, 333)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_cells_in_ome_zarr(image, level):
    source = image(*CELLS, level=level)
    assert source.info.axes == "tczyx"
    assert source.info.spacing["y"] == pytest.approx(0.166053183181403 * 2**level)
    assert source.info.spacing["t"] == pytest.approx(299.355)
    assert source.info.units == {"t": "second", "y": "micrometer", "x": "micrometer"}
    assert source.info.channel_names == ("Channel 0",)
    assert source.info.attributes["ome"]["omero"]["channels"][0]["color"] == "808080"
    assert whole(source).max() > 50


def test_ome_tiff_of_many_planes(image, shared_data):
    import tifffile

    parts = ("medical", "ome_4D-series_artificial.ome.tiff")
    source = image(*parts)
    assert source.info.sizes == {"t": 7, "z": 5, "y": 167, "x": 439}
    assert source.info.dtype == np.dtype("int8")
    expected = tifffile.imread(shared_data(*parts))
    np.testing.assert_array_equal(whole(source), expected)
    region = (slice(2, 5), slice(1, 2), slice(30, 99), slice(7, 300))
    np.testing.assert_array_equal(source.read(region), expected[region])


def test_micrograph_of_floats(image):
    source = image("medical", "micro_BPAE_actin_float32.tif")
    assert source.info.shape == (680, 1100)
    assert source.info.spacing == {}
    assert np.isfinite(whole(source)).all()


@pytest.mark.parametrize("number", range(1, 13))
def test_classic_test_images(image, number):
    source = image("denoise", "Set12", f"{number:02}.png")
    assert source.info.shape == ((256, 256) if number < 8 else (512, 512))
    assert whole(source).dtype == np.uint8
    assert not source.info.by_region


@pytest.mark.parametrize("parts", [CMU, ("satellite", "landsat8_rgb_uint16_nodata0.tif")])
def test_truncated_copies_are_refused(shared_data, tmp_path, parts):
    data = shared_data(*parts).read_bytes()
    path = tmp_path / parts[-1]
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UnreadableSourceError, match="damaged"):
        open_source(SourceSpec(uri=str(path)))
