"""From real files to finished results: same bits as in memory, and nothing that the file said is lost."""

from __future__ import annotations

import json

import numpy as np
import pytest
import zarr
from ome_zarr_models.v05.image import Image as OmeImage

import diffusion_ops as do
from pipelines.image.open_source import open_source
from pipelines.image.source import SourceSpec, read_canonical
from pipelines.run.run import run
from pipelines.run.verify import verify
from pipelines.spec.spec import make_spec

STEP = {"operator": "perona-malik", "contrast": {"quantile": 0.8}, "conductance": "rational", "steps": 6}
OPERATOR = do.PeronaMalik(contrast={"quantile": 0.8}, conductance="rational")


def carry_out(source, target, dtype=None, **options):
    spec = make_spec(
        {
            "source": {"uri": str(source), **options},
            "steps": [STEP],
            "sink": {"uri": str(target), "dtype": dtype},
            "run": {"memory": "2GiB", "tile": 512, "batch": 4},
        }
    )
    assert run(spec).exit_code == 0
    image = open_source(spec.source)
    return spec, image, read_canonical(image, {})


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("CMU-1-Small-Region.svs", 0),
        pytest.param("tcga-cr-7395-01a-01-ts1.svs", 0, marks=pytest.mark.slow),
        pytest.param("tcga-cr-7395-01a-01-ts1.svs", 1, marks=pytest.mark.slow),
    ],
)
def test_slides_become_ome_zarr(shared_data, tmp_path, name, level):
    target = tmp_path / "out.ome.zarr"
    _, image, before = carry_out(shared_data("slide", name), target, "uint8", level=level)
    group = zarr.open_group(str(target), mode="r")
    OmeImage.from_zarr(group)
    expected = do.evolve(before, OPERATOR, steps=6, channel_axis=0, dtype="uint8")
    assert np.array_equal(group["0"][...], expected)
    (scales,) = {
        tuple(group.attrs["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"])
    }
    assert scales[-1] == pytest.approx(image.info.spacing.get("x", 1.0))
    assert verify(str(target), samples=2)["ok"]


def test_fluorescence_keeps_axes_units_and_channel(shared_data, tmp_path):
    target = tmp_path / "out.ome.zarr"
    source = shared_data("medical", "xy_8bit__nuclei_PLK1_control.ome.zarr")
    _, _, before = carry_out(source, target)
    group = zarr.open_group(str(target), mode="r")
    OmeImage.from_zarr(group)
    axes = group.attrs["ome"]["multiscales"][0]["axes"]
    assert [axis["name"] for axis in axes][-2:] == ["y", "x"]
    assert axes[-1]["unit"] == "micrometer"
    planes = np.asarray(group["0"][...]).reshape(-1, *before.shape[-2:])
    for plane, original in zip(planes, before.reshape(-1, *before.shape[-2:]), strict=True):
        assert np.array_equal(plane, do.evolve(original, OPERATOR, steps=6))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("landsat8_rgb_uint16_nodata0.tif", "uint16"),
        ("naip_va_4band_uint8.tif", "uint8"),
        ("europa_float32_nodata.tif", None),
        ("s1_grd_gcps_uint16.tif", "uint16"),
    ],
)
def test_scenes_keep_all_that_is_georeferenced(shared_data, tmp_path, name, dtype):
    rasterio = pytest.importorskip("rasterio", reason="needs rasterio, which comes with the extra geo")
    target = tmp_path / "out.tif"
    source = shared_data("satellite", name)
    _, image, before = carry_out(source, target, dtype)
    channels = 0 if "c" in image.info.axes else None
    expected = do.evolve(
        before, OPERATOR, steps=6, channel_axis=channels, nodata=image.info.nodata, dtype=dtype
    )
    with rasterio.open(source) as old, rasterio.open(target) as new:
        assert np.array_equal(new.read(), expected.reshape(new.count, *new.shape), equal_nan=True)
        assert new.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (new.crs, new.transform) == (old.crs, old.transform)
        assert (new.nodata, new.descriptions) == (old.nodata, old.descriptions)
        points = [[(p.row, p.col, p.x, p.y, p.z) for p in one.gcps[0]] for one in (old, new)]
        assert points[0] == points[1]
        assert new.gcps[1] == old.gcps[1]
        if old.nodata is not None:
            assert np.array_equal(new.read() == new.nodata, old.read() == old.nodata)
    assert verify(str(target), samples=2)["ok"]


def test_radar_needs_to_be_told_what_to_take_of_complex_pixels(shared_data, tmp_path):
    source = shared_data("satellite", "s1_slc_complex_int16.tif")
    with pytest.raises(ValueError, match="amplitude"):
        carry_out(source, tmp_path / "out.zarr")
    assert list(tmp_path.iterdir()) == []
    _, _, before = carry_out(source, tmp_path / "out.zarr", complex="amplitude")
    amplitude = np.abs(open_complex(source)).astype(np.float32)
    assert np.allclose(before.reshape(amplitude.shape), amplitude, rtol=1e-6)


def open_complex(path):
    rasterio = pytest.importorskip("rasterio", reason="needs rasterio, which comes with the extra geo")
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def test_a_picture_is_copied_first(shared_data, tmp_path):
    source = sorted(shared_data("denoise", "Set12").glob("*.png"))[0]
    spec, _, before = carry_out(source, tmp_path / "out.zarr")
    report = json.loads((tmp_path / "out.zarr.run" / "report.json").read_text())
    assert report["stages"][0]["title"].startswith("copy")
    stored = read_canonical(open_source(SourceSpec(uri=spec.sink.uri)), {})
    assert np.array_equal(stored, do.evolve(before, OPERATOR, steps=6))
