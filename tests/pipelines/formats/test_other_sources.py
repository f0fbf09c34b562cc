"""Pictures, NetCDF, and what xarray writes into Zarr: what each of them tells beside its pixels."""

from __future__ import annotations

import functools
import os
import struct
import threading
import zlib
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import imageio.v3 as iio
import numpy as np
import pytest
import xarray as xr
from xarray.backends.netCDF4_ import NETCDF4_PYTHON_LOCK

from pipelines.formats.netcdf_source import LEFT
from pipelines.image.open_source import open_source
from pipelines.image.source import SourceSpec, UnreadableSourceError
from pipelines.store.guarded import MissingObjectError
from tests.pipelines.source_files import ramp, write_netcdf, write_npy, write_ome_zarr, write_zarr


def whole(source):
    return source.read(tuple(slice(0, n) for n in source.info.shape))


# Pictures


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize(
    ("channels", "names"),
    [
        (1, ()),
        (2, ("grey", "alpha")),
        (3, ("red", "green", "blue")),
        (4, ("red", "green", "blue", "alpha")),
    ],
)
def test_png_of_every_kind(tmp_path, dtype, channels, names):
    pixels = ramp((9, 7, channels), dtype) * np.array(257 if dtype == "uint16" else 1, dtype)
    write_png(tmp_path / "image.png", pixels)
    source = open_source(SourceSpec(uri=str(tmp_path / "image.png")))
    assert source.info.shape == ((9, 7) if channels == 1 else (9, 7, channels))
    assert source.info.dtype == np.dtype(dtype)
    assert source.info.channel_names == names
    assert source.info.rgb is (channels >= 3)
    np.testing.assert_array_equal(whole(source), pixels.reshape(source.info.shape))


def write_png(path, pixels, colour_type=None, bits=None, extra=()):
    """Write a PNG by hand: libraries write no 16-bit colours, no palettes on demand."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows, columns, channels = pixels.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels] if colour_type is None else colour_type
    header = struct.pack(">IIBBBBB", columns, rows, bits or 8 * pixels.itemsize, kind, 0, 0, 0)
    lines = b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in pixels)
    parts = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))


@pytest.mark.parametrize("transparent", [False, True])
def test_palettes_become_colours(tmp_path, transparent):
    numbers = np.array([[0, 1], [1, 0]], "uint8")[..., None]
    extra = [(b"PLTE", bytes([10, 20, 30, 40, 50, 60]))]
    if transparent:
        extra.append((b"tRNS", bytes([0, 128])))
    write_png(tmp_path / "image.png", numbers, colour_type=3, extra=extra)
    source = open_source(SourceSpec(uri=str(tmp_path / "image.png")))
    expected = np.array([[10, 20, 30], [40, 50, 60]], "uint8")[numbers[..., 0]]
    np.testing.assert_array_equal(whole(source)[..., :3], expected)
    assert source.info.shape == (2, 2, 3 + transparent)
    assert whole(source).shape == source.info.shape


def test_one_bit_becomes_black_and_white(tmp_path):
    write_png(tmp_path / "image.png", np.array([[[0b10100000]]], "uint8").repeat(2, 0), bits=1)
    path = tmp_path / "image.png"
    data = bytearray(path.read_bytes())
    data[16:20] = struct.pack(">I", 3)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    path.write_bytes(bytes(data))
    np.testing.assert_array_equal(whole(open_source(SourceSpec(uri=str(path)))), [[255, 0, 255]] * 2)


def test_a_damaged_png_is_found_before_it_is_decoded(tmp_path):
    write_png(tmp_path / "image.png", ramp((9, 7, 3), "uint8"))
    data = bytearray((tmp_path / "image.png").read_bytes())
    data[60] ^= 1
    (tmp_path / "image.png").write_bytes(bytes(data))
    with pytest.raises(UnreadableSourceError, match="IDAT is cut short or has a wrong checksum"):
        open_source(SourceSpec(uri=str(tmp_path / "image.png")))


def smooth(rows, columns):
    y, x = np.mgrid[:rows, :columns]
    return np.stack([2 * y, 3 * x, y + x], axis=-1).astype("uint8")


def test_jpeg(tmp_path):
    pixels = smooth(40, 60)
    iio.imwrite(tmp_path / "image.jpg", pixels, quality=95)
    source = open_source(SourceSpec(uri=str(tmp_path / "image.jpg")))
    assert source.info.rgb
    assert np.abs(whole(source).astype(int) - pixels).max() < 12
    np.testing.assert_array_equal(
        source.read((slice(3, 9), slice(5, 7), slice(1, 2))), whole(source)[3:9, 5:7, 1:2]
    )


def test_jpeg_of_a_camera_held_upright(tmp_path):
    pixels = smooth(40, 60)
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    iio.imwrite(tmp_path / "image.jpg", pixels, quality=95, exif=exif)
    source = open_source(SourceSpec(uri=str(tmp_path / "image.jpg")))
    assert source.info.shape == (60, 40, 3)
    assert np.abs(whole(source).astype(int) - np.rot90(pixels, -1)).max() < 12


def test_jpeg_cut_short(tmp_path):
    iio.imwrite(tmp_path / "image.jpg", smooth(40, 60))
    data = (tmp_path / "image.jpg").read_bytes()
    (tmp_path / "image.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(UnreadableSourceError, match="no end mark"):
        open_source(SourceSpec(uri=str(tmp_path / "image.jpg")))


# NetCDF


def test_netcdf_keeps_packed_values_and_their_meaning(tmp_path):
    info = open_source(write_netcdf(tmp_path, ramp((45, 61)))).info
    assert info.dtype == np.dtype("int16")
    assert info.nodata == -9
    assert info.attributes["scales"] == [0.01]
    assert info.attributes["offsets"] == [273.15]
    assert info.attributes["units"] == ["K"]
    assert info.georeference is not None
    assert info.georeference.transform == (0.25, 0.0, -0.125, 0.0, -0.5, 50.25)


@pytest.mark.parametrize("form", ["NETCDF4", "NETCDF3_64BIT"])
def test_netcdf_variables_are_listed(tmp_path, form):
    both = xr.Dataset(
        {
            "warm": (("time", "lat", "lon"), ramp((2, 5, 6)).astype("f4")),
            "cold": (("lat", "lon"), ramp((5, 6)).astype("f4")),
            "lat_bounds": (("lat", "side"), np.zeros((5, 2))),
        },
        coords={"lat": ("lat", np.arange(5.0), {"bounds": "lat_bounds"})},
    )
    uri = str(tmp_path / "image.nc")
    both.to_netcdf(uri, format=form)
    with pytest.raises(UnreadableSourceError, match=r"holds 2 images. Give `path`.*'warm'") as caught:
        open_source(SourceSpec(uri=uri))
    assert "lat_bounds" not in str(caught.value)
    with pytest.raises(UnreadableSourceError, match="no variable 'hot'"):
        open_source(SourceSpec(uri=uri, path="hot"))
    source = open_source(SourceSpec(uri=uri, path="warm"))
    assert source.info.axes == "tyx"
    np.testing.assert_array_equal(
        source.read((slice(1, 2), slice(2, 4), slice(1, 6))), both.warm.values[1:2, 2:4, 1:6]
    )


def test_netcdf_group(tmp_path):
    uri = str(tmp_path / "image.nc")
    image = xr.DataArray(ramp((5, 6)).astype("f4"), dims=("y", "x"), name="warm")
    image.to_netcdf(uri, group="day")
    np.testing.assert_array_equal(whole(open_source(SourceSpec(uri=uri, path="day/warm"))), image.values)


def test_classic_netcdf_cut_short(tmp_path):
    path = tmp_path / "image.nc"
    image = xr.DataArray(ramp((50, 60)).astype("f4"), dims=("y", "x"), name="warm")
    image.to_netcdf(path, format="NETCDF3_64BIT")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UnreadableSourceError, match="bytes of its variables are missing"):
        open_source(SourceSpec(uri=str(path)))


def test_a_source_that_goes_while_the_library_is_locked_does_not_wait_for_itself(tmp_path):
    for name in ("a.nc", "b.nc"):
        xr.DataArray(ramp((5, 6)).astype("f4"), dims=("y", "x"), name="warm").to_netcdf(tmp_path / name)
    source = open_source(SourceSpec(uri=str(tmp_path / "a.nc")))
    with NETCDF4_PYTHON_LOCK:
        going = threading.Thread(target=lambda kept: kept.clear(), args=([source],), daemon=True)
        del source
        going.start()
        going.join(10)
        assert not going.is_alive()
    assert LEFT
    other = open_source(SourceSpec(uri=str(tmp_path / "b.nc")))
    assert not LEFT
    assert other.info.axes == "yx"


def test_dimensions_without_a_letter(tmp_path):
    uri = str(tmp_path / "image.nc")
    values = ramp((2, 5, 6)).astype("f4")
    xr.DataArray(values, dims=("member", "lat", "lon"), name="warm").to_netcdf(uri)
    with pytest.raises(UnreadableSourceError, match=r"axes \['member', 'lat', 'lon'\].*Give `axes`"):
        open_source(SourceSpec(uri=uri))
    assert open_source(SourceSpec(uri=uri, axes="tyx")).info.axes == "tyx"


# Zarr as xarray and rioxarray write it


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_of_xarray(tmp_path, version):
    image = xr.DataArray(
        ramp((2, 5, 6)).astype("f4"),
        dims=("band", "y", "x"),
        coords={"y": 100.0 - 10 * np.arange(5), "x": 7.0 + 10 * np.arange(6), "spatial_ref": 0},
        name="radiance",
        attrs={"units": "W", "grid_mapping": "spatial_ref"},
    )
    image.spatial_ref.attrs["crs_wkt"] = 'PROJCS["somewhere"]'
    uri = str(tmp_path / "image.zarr")
    image.to_dataset().to_zarr(
        uri, zarr_format=version, consolidated=False, encoding={"radiance": {"_FillValue": -9.0}}
    )
    source = open_source(SourceSpec(uri=uri))
    assert source.info.axes == "cyx"
    assert source.info.nodata == -9
    assert source.info.georeference is not None
    assert source.info.georeference.crs == 'PROJCS["somewhere"]'
    assert source.info.georeference.transform == (10.0, 0.0, 2.0, 0.0, -10.0, 105.0)
    np.testing.assert_array_equal(whole(source), image.values)


def test_fill_value_zero_of_zarr_says_nothing(tmp_path):
    xr.DataArray(ramp((5, 6)), dims=("y", "x"), name="a").to_dataset().to_zarr(
        str(tmp_path / "a.zarr"), zarr_format=2, consolidated=False, encoding={"a": {"_FillValue": 0}}
    )
    assert open_source(SourceSpec(uri=str(tmp_path / "a.zarr"))).info.nodata is None


# Other machines


@contextmanager
def serving(kind, folder):
    """Serve a folder with a handler, and yield the address."""
    handler = functools.partial(kind, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture
def server(tmp_path):
    """Return the address of a web server that shows a folder."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

    with serving(Quiet, tmp_path) as address:
        yield address


def test_a_web_server_that_lists_nothing_does_not_turn_lost_chunks_into_fill_value(tmp_path, monkeypatch):
    pytest.importorskip("aiohttp", reason="the extra s3 is not installed")

    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

        def list_directory(self, path):
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    monkeypatch.setattr("pipelines.store.patience.PAUSES", (0.0,) * 2)
    write_zarr(tmp_path, ramp((45, 61)))
    with serving(Silent, tmp_path) as address:
        source = open_source(SourceSpec(uri=f"{address}/image.zarr"))
        assert source.absent_chunks() is None
        chunk = next(p for p in (tmp_path / "image.zarr").rglob("*") if p.is_file() and p.name.isdigit())
        found = source.read((slice(0, 45), slice(0, 61)))
        np.testing.assert_array_equal(found, ramp((45, 61)))
        chunk.unlink()
        with pytest.raises(MissingObjectError, match="does not list"):
            source.read((slice(0, 45), slice(0, 61)))


def test_a_chunk_that_changes_on_a_web_server_is_noticed(tmp_path, server):
    pytest.importorskip("aiohttp", reason="the extra s3 is not installed")
    write_zarr(tmp_path, ramp((45, 61)))
    spec = SourceSpec(uri=f"{server}/image.zarr")
    before = open_source(spec).info.identity
    chunk = next(p for p in (tmp_path / "image.zarr").rglob("*") if p.is_file() and p.name.isdigit())
    os.utime(chunk, (1, 1))
    assert open_source(spec).info.identity != before


def test_zarr_from_another_machine(tmp_path, server):
    pytest.importorskip("aiohttp", reason="the extra s3 is not installed")
    pixels = ramp((45, 61))
    write_zarr(tmp_path, pixels)
    write_ome_zarr(tmp_path, pixels)
    write_npy(tmp_path, pixels)
    for name in ("image.zarr", "image.ome.zarr"):
        source = open_source(SourceSpec(uri=f"{server}/{name}"))
        np.testing.assert_array_equal(source.read((slice(3, 20), slice(5, 44))), pixels[3:20, 5:44])
        assert open_source(SourceSpec(uri=f"{server}/{name}")).info.identity == source.info.identity
    with pytest.raises(UnreadableSourceError, match="does not exist"):
        open_source(SourceSpec(uri=f"{server}/nowhere.zarr"))
    with pytest.raises(UnreadableSourceError, match="of other machines only Zarr is read"):
        open_source(SourceSpec(uri=f"{server}/image.npy"))
    with pytest.raises(UnreadableSourceError, match="read from local folders only"):
        open_source(SourceSpec(uri=f"{server}/image.npy", format="npy"))
