"""Opening any source: the options that all formats share, and every refusal with what to do."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from pipelines.image.kept_sources import cached_source
from pipelines.image.open_source import Magnitude, open_source, runs
from pipelines.image.source import SourceSpec, UnreadableSourceError, read_canonical


@pytest.fixture
def save(tmp_path):
    """Return a function that saves an array and returns its address."""

    def write(pixels, name="image.npy"):
        with (tmp_path / name).open("wb") as file:
            np.save(file, pixels)
        return str(tmp_path / name)

    return write


def read_all(source):
    return source.read(tuple(slice(0, n) for n in source.info.shape))


def refused(**spec):
    with pytest.raises(UnreadableSourceError) as caught:
        open_source(SourceSpec(**spec))
    return str(caught.value)


def test_missing_file_is_named(tmp_path):
    assert "nowhere.tif' does not exist" in refused(uri=str(tmp_path / "nowhere.tif"))


def test_missing_drive_letter_scheme_is_no_crash():
    assert "cannot be reached" in refused(uri="nosuchprotocol://bucket/image.zarr")


def test_folder_that_is_no_image(tmp_path):
    assert "folder without a Zarr hierarchy" in refused(uri=str(tmp_path))


@pytest.mark.parametrize("name", ["npy", "tiff", "geotiff", "picture", "netcdf"])
def test_folder_where_a_file_is_meant(tmp_path, name):
    assert "folder" in refused(uri=str(tmp_path), format=name)


def test_unknown_content_lists_the_formats(tmp_path):
    path = tmp_path / "image.tif"
    path.write_bytes(b"not at all")
    message = refused(uri=str(path))
    assert "no known format" in message
    assert "ome-zarr" in message
    assert ".svs" in message


def test_empty_file(tmp_path):
    path = tmp_path / "image.tif"
    path.touch()
    assert "no known format" in refused(uri=str(path))


def test_unknown_format_name_lists_the_formats(save):
    message = refused(uri=save(np.ones((4, 5))), format="tif")
    assert "Allowed: geotiff" in message
    assert "'tiff'" in message


def test_zero_size_axis(save):
    assert "no pixels: its shape is (0, 5)" in refused(uri=save(np.ones((0, 5))))


def test_bool_says_what_to_do(save):
    assert "uint8" in refused(uri=save(np.ones((4, 5), bool)))


@pytest.mark.parametrize(
    "pixels", [np.array([["a", "b"]]), np.zeros((4, 5), [("a", "f4")]), np.zeros((4, 5), "M8[s]")]
)
def test_pixels_that_are_no_numbers(save, pixels):
    assert "type" in refused(uri=save(pixels))


def test_pickled_objects_are_never_loaded(save):
    assert "cannot be read" in refused(uri=save(np.array([[object()]])))


def test_archives_are_no_images(tmp_path):
    np.savez(tmp_path / "image.npz", a=np.ones((4, 5)))
    assert "cannot be read as a NumPy file" in refused(uri=str(tmp_path / "image.npz"), format="npy")


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4, 5)])
def test_axes_that_nothing_tells_must_be_given(save, shape):
    assert "Give `axes`" in refused(uri=save(np.ones(shape)))


def test_four_axes_are_read_once_named(save):
    source = open_source(SourceSpec(uri=save(np.ones((2, 3, 4, 5))), axes="tzyx"))
    assert source.info.sizes == {"t": 2, "z": 3, "y": 4, "x": 5}


@pytest.mark.parametrize("axes", ["y", "yy", "zx", "zyx", "yq"])
def test_axes_that_do_not_fit(save, axes):
    assert "has 2 axes" in refused(uri=save(np.ones((4, 5))), axes=axes)


@pytest.mark.parametrize(
    ("shape", "dtype", "axes"),
    [
        ((4, 5), "f4", "yx"),
        ((6, 5, 3), "u1", "yxc"),
        ((6, 5, 4), "u2", "yxc"),
        ((6, 5, 3), "f4", "zyx"),
        ((6, 5, 3), "i2", "zyx"),
        ((6, 5, 5), "u1", "zyx"),
    ],
)
def test_default_axes(save, shape, dtype, axes):
    assert open_source(SourceSpec(uri=save(np.ones(shape, dtype)))).info.axes == axes


def test_named_axes_are_put_in_canonical_order(save):
    pixels = np.arange(60).reshape(3, 4, 5)
    source = open_source(SourceSpec(uri=save(pixels), axes="xyz"))
    found = read_canonical(source, {"y": slice(1, 3)})
    np.testing.assert_array_equal(found, pixels.transpose(2, 1, 0)[:, 1:3])


def test_big_endian_and_fortran_order_come_out_native(save):
    pixels = np.asfortranarray(np.arange(20, dtype=">f4").reshape(4, 5))
    source = open_source(SourceSpec(uri=save(pixels)))
    assert source.info.dtype == np.dtype("float32")
    found = source.read((slice(1, 3), slice(2, 5)))
    assert found.dtype.isnative
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, pixels[1:3, 2:5])


def test_float16_is_read(save):
    assert open_source(SourceSpec(uri=save(np.ones((4, 5), "f2")))).info.dtype == np.dtype("float16")


@pytest.mark.parametrize("nodata", [300, -1, 0.5, float("nan"), float("inf")])
def test_nodata_that_cannot_occur(save, nodata):
    assert "whole numbers from 0 to 255" in refused(uri=save(np.ones((4, 5), "u1")), nodata=nodata)


def test_nodata_beyond_float32(save):
    assert "cannot occur" in refused(uri=save(np.ones((4, 5), "f4")), nodata=-1.7e308)


def test_nodata_is_what_pixels_can_hold(save):
    source = open_source(SourceSpec(uri=save(np.full((4, 5), 0.1, "f4")), nodata=0.1))
    assert np.all(read_all(source) == source.info.nodata)


def test_nan_as_nodata_of_floats_survives_the_cache(save):
    spec = SourceSpec(uri=save(np.ones((4, 5), "f4")), nodata=float("nan"))
    assert np.isnan(cached_source(spec).info.nodata)
    assert cached_source(spec) is cached_source(spec)


def test_spacing_is_overridden_per_axis(save):
    source = open_source(SourceSpec(uri=save(np.ones((3, 4, 5))), spacing={"z": 5.0}))
    assert source.info.spacing == {"z": 5.0}


@pytest.mark.parametrize("spacing", [{"z": 1.0}, {"y": 0.0}, {"y": -1.0}, {"y": float("nan")}, {"q": 1.0}])
def test_spacing_that_does_not_fit(save, spacing):
    assert "Allowed: positive numbers for the axes y, x" in refused(
        uri=save(np.ones((4, 5))), spacing=spacing
    )


@pytest.mark.parametrize("channels", [(3,), (0, 0), (-1,), ()])
def test_channels_that_do_not_fit(save, channels):
    assert "has 3 channel(s)" in refused(uri=save(np.ones((4, 5, 3), "u1")), channels=channels)


@pytest.mark.parametrize("channels", [(0,), (2, 0), (1, 2), (0, 2, 1), (2, 1, 0)])
def test_channels_are_read_in_the_order_asked_for(save, channels):
    pixels = np.random.default_rng(0).integers(0, 255, (6, 7, 4)).astype("u1")
    uri = save(pixels)
    source = open_source(SourceSpec(uri=uri, channels=channels))
    assert source.info.shape == (6, 7, len(channels))
    np.testing.assert_array_equal(read_all(source), pixels[..., list(channels)])
    found = source.read((slice(1, 3), slice(2, 3), slice(len(channels) - 1, len(channels))))
    np.testing.assert_array_equal(found, pixels[1:3, 2:3, list(channels)[-1:]])
    assert source.info.identity != open_source(SourceSpec(uri=uri)).info.identity


def test_the_only_channel_may_be_asked_for(save):
    assert open_source(SourceSpec(uri=save(np.ones((4, 5))), channels=(0,))).info.axes == "yx"


def test_runs_of_channels():
    assert runs([0, 1, 3, 2]) == [(0, 2), (3, 4), (2, 3)]


def test_complex_pixels_need_a_choice(save):
    assert "`complex: amplitude`" in refused(uri=save(np.ones((4, 5), "c8")))


def test_a_choice_needs_complex_pixels(save):
    assert "holds float32" in refused(uri=save(np.ones((4, 5), "f4")), complex="amplitude")


@pytest.mark.parametrize(("stored", "read"), [("c8", "f4"), ("c16", "f8"), (">c8", "f4")])
@pytest.mark.parametrize(("part", "power"), [("amplitude", 1), ("intensity", 2)])
def test_complex_pixels_are_read_as_magnitudes(save, stored, read, part, power):
    rng = np.random.default_rng(0)
    pixels = (rng.normal(size=(40, 50)) + 1j * rng.normal(size=(40, 50))).astype(stored)
    pixels[0, 0], pixels[1, 1] = 0, np.nan
    source = open_source(SourceSpec(uri=save(pixels), complex=part))
    assert source.info.dtype == np.dtype(read)
    found = read_all(source)
    np.testing.assert_allclose(found, np.abs(pixels) ** power, rtol=1e-6 if read == "f4" else 1e-13)
    assert found[0, 0] == 0
    assert np.isnan(found[1, 1])


def test_magnitudes_do_not_depend_on_the_region(save):
    rng = np.random.default_rng(0)
    pixels = (rng.normal(size=(64, 67)) + 1j * rng.normal(size=(64, 67))).astype("c8")
    source = open_source(SourceSpec(uri=save(pixels), complex="amplitude"))
    whole = read_all(source)
    for _ in range(50):
        region = tuple(slice(*sorted(rng.choice(n + 1, 2, replace=False).tolist())) for n in (64, 67))
        assert source.read(region).tobytes() == whole[region].tobytes()


def test_magnitude_has_its_own_identity(save):
    uri = save(np.ones((4, 5), "c8"))
    both = [open_source(SourceSpec(uri=uri, complex=part)) for part in ("amplitude", "intensity")]
    assert isinstance(both[0], Magnitude)
    assert both[0].info.identity != both[1].info.identity


def test_nodata_of_magnitudes_is_meant_in_magnitudes(save):
    source = open_source(SourceSpec(uri=save(np.ones((4, 5), "c8")), complex="intensity", nodata=0))
    assert source.info.nodata == 0


def test_zarr_with_several_arrays_lists_them(tmp_path):
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    for name in ("red", "nested/green"):
        group.create_array(name, shape=(4, 5), dtype="u1")
    message = refused(uri=str(tmp_path / "a.zarr"))
    assert "'red': (4, 5) uint8" in message
    assert "'nested/green'" in message
    assert "no Zarr group or array at 'blue'" in refused(uri=str(tmp_path / "a.zarr"), path="blue")
    assert open_source(SourceSpec(uri=str(tmp_path / "a.zarr"), path="nested/green")).info.shape == (4, 5)
    assert open_source(SourceSpec(uri=str(tmp_path / "a.zarr" / "red"))).info.shape == (4, 5)


def test_zarr_group_without_arrays(tmp_path):
    zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    assert "holds 0 images" in refused(uri=str(tmp_path / "a.zarr"))


def test_zarr_with_damaged_metadata(tmp_path):
    zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    (tmp_path / "a.zarr" / "zarr.json").write_text('{"zarr_format": 3, "node_')
    assert "damaged" in refused(uri=str(tmp_path / "a.zarr"))
