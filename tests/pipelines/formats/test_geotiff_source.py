"""GeoTIFF: everything georeferenced arrives, nodata is one value, levels are the overviews."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from pipelines.image.open_source import open_source
from pipelines.image.source import SOURCES, SourceSpec, UnreadableSourceError
from tests.pipelines.source_files import ramp, write_geotiff

rasterio = pytest.importorskip("rasterio", reason="the extra geo is not installed")


# Files without a georeference are among the cases; the library warns when it writes them.
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def whole(source):
    return source.read(tuple(slice(0, n) for n in source.info.shape))


def edit(spec, change):
    """Open a file for changes that writers cannot make while they write."""
    with rasterio.open(spec.uri, "r+") as file:
        change(file)
    return spec


def test_place_bands_and_tags(tmp_path):
    def change(file):
        file.descriptions = ("blue", "infrared")
        file.scales, file.offsets, file.units = (0.1, 0.2), (1.0, 2.0), ("K", "m")
        file.update_tags(SENSOR="A")
        file.update_tags(2, GAIN="7")

    pixels = ramp((2, 45, 61))
    source = open_source(edit(write_geotiff(tmp_path, pixels, nodata=9), change))
    info = source.info
    assert info.axes == "cyx"
    np.testing.assert_array_equal(whole(source), pixels)
    assert info.nodata == 9
    assert info.channel_names == ("blue", "infrared")
    assert info.georeference is not None
    assert info.georeference.transform == (30.0, 0.0, 1000.0, 0.0, -30.0, 2000.0)
    assert "UTM zone 18N" in info.georeference.crs
    assert info.attributes["scales"] == [0.1, 0.2]
    assert info.attributes["offsets"] == [1.0, 2.0]
    assert info.attributes["units"] == ["K", "m"]
    assert info.attributes["tags"]["SENSOR"] == "A"
    assert info.attributes["band_tags"][1] == {"GAIN": "7"}
    # Diffusion in ground units must be asked for: a pixel is 1 pixel wide, whatever the transform says.
    assert info.spacing == {}


def test_chosen_bands_keep_their_own_metadata(tmp_path):
    def change(file):
        file.descriptions = ("blue", "infrared", "red")
        file.scales = (0.1, 0.2, 0.3)

    spec = edit(write_geotiff(tmp_path, ramp((3, 45, 61))), change)
    info = open_source(spec.model_copy(update={"channels": (2, 0)})).info
    assert info.channel_names == ("red", "blue")
    assert info.attributes["scales"] == [0.3, 0.1]
    assert len(info.attributes["colorinterp"]) == 2


def test_ground_control_points(tmp_path):
    from rasterio.control import GroundControlPoint

    points = [GroundControlPoint(row=r, col=c, x=10 + c, y=50 - r, z=1.5) for r in (0, 40) for c in (0, 60)]
    spec = write_geotiff(tmp_path, ramp((45, 61)), crs="EPSG:4326", transform=None, gcps=points)
    reference = open_source(spec).info.georeference
    assert reference is not None
    assert reference.transform is None
    assert [p[:5] for p in reference.gcps] == [(p.row, p.col, p.x, p.y, p.z) for p in points]
    assert "WGS 84" in reference.gcps_crs


def test_overviews_are_levels(tmp_path):
    from rasterio.enums import Resampling

    pixels = ramp((2, 90, 122))
    spec = edit(write_geotiff(tmp_path, pixels), lambda f: f.build_overviews([2, 4], Resampling.nearest))
    level = open_source(spec.model_copy(update={"level": 1}))
    assert level.info.shape == (2, 45, 61)
    assert level.info.georeference is not None
    assert level.info.georeference.transform == (60.0, 0.0, 1000.0, 0.0, -60.0, 2000.0)
    found = level.read((slice(1, 2), slice(3, 9), slice(4, 5)))
    np.testing.assert_array_equal(found, whole(level)[1:2, 3:9, 4:5])
    assert level.info.identity != open_source(spec).info.identity
    with pytest.raises(UnreadableSourceError, match=r"no level 3.*0: 90 x 122, 1: 45 x 61, 2: 23 x 31"):
        open_source(spec.model_copy(update={"level": 3}))


def test_overviews_of_files_without_a_transform(tmp_path):
    from rasterio.enums import Resampling

    spec = write_geotiff(tmp_path, ramp((90, 122)), crs=None, transform=None, nodata=0)
    edit(spec, lambda f: f.build_overviews([2], Resampling.nearest))
    assert open_source(spec.model_copy(update={"level": 1})).info.georeference is None


def test_bands_with_different_nodata(tmp_path):
    # TIFF itself has one nodata value for all bands; GDAL keeps others in a file beside it.
    spec = write_geotiff(tmp_path, ramp((2, 45, 61)), nodata=None)
    aux = """<PAMDataset><PAMRasterBand band="1"><NoDataValue>0</NoDataValue></PAMRasterBand>
      <PAMRasterBand band="2"><NoDataValue>9</NoDataValue></PAMRasterBand></PAMDataset>"""
    (tmp_path / "image.tif.aux.xml").write_text(aux)
    with pytest.raises(UnreadableSourceError, match=r"different nodata values \(0: 0.0, 1: 9.0\)"):
        open_source(spec)
    assert open_source(spec.model_copy(update={"channels": (1,)})).info.nodata == 9
    assert open_source(spec.model_copy(update={"nodata": 3})).info.nodata == 3


def test_nodata_that_pixels_cannot_hold_marks_none(tmp_path):
    spec = write_geotiff(tmp_path, ramp((45, 61), "float32"), nodata=-3.4028226550889045e38)
    assert open_source(spec).info.nodata == float(np.float32(-3.4028226550889045e38))


def masked(folder, pixels):
    hidden = np.zeros(pixels.shape, bool)
    hidden[5:20, 7:30] = True
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        spec = edit(write_geotiff(folder, pixels), lambda f: f.write_mask(~hidden))
    return spec, hidden


def test_a_mask_of_integers_needs_a_value(tmp_path):
    pixels = ramp((45, 61))
    spec, hidden = masked(tmp_path, pixels)
    with pytest.raises(UnreadableSourceError, match="a value that no visible pixel has"):
        open_source(spec)
    source = open_source(spec.model_copy(update={"nodata": 0}))
    assert source.info.nodata == 0
    np.testing.assert_array_equal(whole(source), np.where(hidden, 0, pixels))
    np.testing.assert_array_equal(source.read((slice(3, 9), slice(5, 9))), whole(source)[3:9, 5:9])


def test_a_mask_of_floats_becomes_nan(tmp_path):
    pixels = ramp((45, 61), "float32")
    spec, hidden = masked(tmp_path, pixels)
    source = open_source(spec)
    assert np.isnan(source.info.nodata)
    np.testing.assert_array_equal(whole(source), np.where(hidden, np.nan, pixels))


def test_colours_and_palettes(tmp_path):
    spec = write_geotiff(tmp_path, ramp((3, 45, 61), "uint8"), photometric="rgb")
    assert open_source(spec).info.rgb
    spec = write_geotiff(tmp_path, ramp((45, 61), "uint8"))
    edit(spec, lambda f: f.write_colormap(1, {i: (i, 0, 0, 255) for i in range(256)}))
    assert open_source(spec).info.labels


def test_complex_integers_of_radar(tmp_path):
    pixels = (ramp((45, 61)) + 1j * ramp((45, 61), seed=1)).astype("complex64")
    spec = write_geotiff(tmp_path, pixels)
    with pytest.raises(UnreadableSourceError, match="complex: amplitude"):
        open_source(spec)
    source = open_source(spec.model_copy(update={"complex": "amplitude"}))
    np.testing.assert_allclose(whole(source), np.abs(pixels), rtol=1e-6)


def test_plain_tiff_is_left_to_the_tiff_format(tmp_path):
    spec = write_geotiff(tmp_path, ramp((45, 61)), crs=None, transform=None)
    assert SOURCES["geotiff"].claims(spec.uri) == 0
    assert type(open_source(spec)) is SOURCES["tiff"]


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch):
    spec = write_geotiff(tmp_path, ramp((45, 61)))
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(UnreadableSourceError, match=r"rasterio, which is not installed.*diffuse\[geo\]"):
        open_source(spec)


def test_files_that_are_no_tiff(tmp_path):
    path = tmp_path / "image.tif"
    path.write_bytes(b"II*\0" + bytes(60))
    for name in ("geotiff", "tiff"):
        with pytest.raises(UnreadableSourceError, match="damaged"):
            open_source(SourceSpec(uri=str(path), format=name))
