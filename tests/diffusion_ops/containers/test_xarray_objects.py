"""`evolve` on xarray: everything that an image carries arrives, and dimensions are told by their names."""

from __future__ import annotations

import inspect
import math
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr

import diffusion_ops as do
from diffusion_ops.accessor import function_of

RNG = np.random.default_rng(0)


def scene(*dims: str, dtype: type = np.float32, **sizes: int) -> xr.DataArray:
    """Return a random image with named dimensions, coordinates, attributes and encoding."""
    shape = [{"y": 20, "x": 33, "z": 6, "band": 3, "time": 4}.get(d, 5) for d in dims]
    shape = [sizes.get(d, n) for d, n in zip(dims, shape, strict=True)]
    image = xr.DataArray((RNG.random(shape) * 200).astype(dtype), dims=dims, name="radiance")
    image = image.assign_coords(
        {d: np.arange(n) * 2.0 for d, n in zip(dims, shape, strict=True) if d in "xyz"}
    )
    image = image.assign_coords(scale=0.5)
    image.attrs = {"units": "W m-2", "long_name": "radiance"}
    image.encoding = {"zlib": True, "chunksizes": (5, 5)}
    return image


@pytest.mark.parametrize("lazy", [False, True])
def test_everything_but_the_values_stays(lazy: bool) -> None:
    image = scene("y", "x")
    image = image.chunk({"y": 7, "x": 11}) if lazy else image
    result = image.diffuse.heat(time=2)
    xr.testing.assert_identical(result.copy(data=image.data), image)
    assert result.encoding == image.encoding
    assert result.chunks == image.chunks
    assert np.array_equal(result.values, do.evolve(image.values, do.Heat(), time=2))


def test_nothing_is_computed_before_it_is_asked_for() -> None:
    image = scene("time", "y", "x").chunk({"time": 2, "y": 10, "x": 10})

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("computed")

    with dask.config.set(scheduler=refuse):
        result = image.diffuse.perona_malik(contrast={"quantile": 0.9}, time=1)
    assert isinstance(result.data, da.Array)
    assert result.chunks == image.chunks


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    "dims", [("time", "y", "x"), ("y", "time", "x"), ("y", "x", "time"), ("member", "y", "x", "time")]
)
def test_frames_evolve_one_by_one(dims: tuple[str, ...], lazy: bool) -> None:
    image = scene(*dims)
    chunks = {d: 16 if d in "xy" else 3 for d in dims}
    result = (image.chunk(chunks) if lazy else image).diffuse.perona_malik(contrast={"noise": 2}, time=1)
    assert result.dims == image.dims
    result = result.compute()
    frames = [d for d in dims if d not in "xy"]
    for at in np.ndindex(*(image.sizes[d] for d in frames)):
        index = dict(zip(frames, at, strict=True))
        whole = do.evolve(image[index].values, do.PeronaMalik({"noise": 2}), time=1)
        assert np.array_equal(result[index].values, whole)


@pytest.mark.parametrize("dims", [("band", "y", "x"), ("y", "x", "band"), ("time", "y", "band", "x")])
def test_bands_share_one_conductance(dims: tuple[str, ...]) -> None:
    image = scene(*dims)
    result = do.evolve(image, do.PeronaMalik(20), time=1)
    frames = image if "time" in dims else image.expand_dims("time")
    frames = frames.transpose("time", "band", "y", "x")
    for i, frame in enumerate(frames.values):
        whole = do.evolve(frame, do.PeronaMalik(20), time=1, channel_axis=0)
        found = result.isel(time=i) if "time" in dims else result
        assert np.array_equal(found.transpose("band", "y", "x").values, whole)


def test_the_channel_axis_goes_by_name_or_number() -> None:
    image = scene("wavelength", "y", "x")
    named = do.evolve(image, do.PeronaMalik(20), time=1, channel_axis="wavelength")
    numbered = do.evolve(image, do.PeronaMalik(20), time=1, channel_axis=0)
    whole = do.evolve(image.values, do.PeronaMalik(20), time=1, channel_axis=0)
    assert np.array_equal(named.values, whole)
    assert np.array_equal(numbered.values, whole)
    assert not np.array_equal(do.evolve(image, do.PeronaMalik(20), time=1).values, whole)


def test_volumes_and_dimensions_without_known_names() -> None:
    image = scene("z", "y", "x")
    whole = do.evolve(image.values, do.Heat(), time=1)
    assert np.array_equal(do.evolve(image, do.Heat(), time=1).values, whole)
    assert np.array_equal(do.evolve(image.rename(z="p", y="q", x="r"), do.Heat(), time=1).values, whole)
    flat = scene("time", "a", "b")
    whole = do.evolve(flat.values[1], do.Heat(), time=1)
    assert np.array_equal(do.evolve(flat, do.Heat(), time=1).values[1], whole)


def test_spacing_is_one_unless_coordinates_are_asked_for() -> None:
    image = scene("y", "x")
    whole = do.evolve(image.values, do.Heat(), time=1)
    assert np.array_equal(do.evolve(image, do.Heat(), time=1).values, whole)
    coarse = do.evolve(image.values, do.Heat(), time=1, spacing=(2, 2))
    for spacing in ("coords", {"x": 2, "y": 2}, (2, 2), 2):
        assert np.array_equal(do.evolve(image, do.Heat(), time=1, spacing=spacing).values, coarse)
    falling = image.isel(y=slice(None, None, -1))
    assert np.array_equal(do.evolve(falling, do.Heat(), time=1, spacing="coords").values[::-1], coarse)


def test_spacing_by_name_says_which_dimensions_are_spatial() -> None:
    image = scene("a", "b", "c")
    whole = do.evolve(image.values[:, 2], do.Heat(), time=1, spacing=(3, 0.5))
    result = do.evolve(image, do.Heat(), time=1, spacing={"c": 0.5, "a": 3})
    assert np.array_equal(result.isel(b=2).values, whole)


def test_masks_by_name() -> None:
    image = scene("time", "y", "x")
    every = xr.DataArray(RNG.random((33, 20)) > 0.2, dims=("x", "y"))
    each = xr.DataArray(RNG.random((4, 20, 33)) > 0.2, dims=("time", "y", "x"))
    for mask in (every, each, each.chunk(2), every.transpose("y", "x").values):
        result = do.evolve(image, do.Heat(), time=1, mask=mask)
        for i in range(4):
            walls = mask if isinstance(mask, np.ndarray) else mask.isel(time=i, missing_dims="ignore")
            walls = walls if isinstance(walls, np.ndarray) else walls.transpose("y", "x").values
            assert np.array_equal(result.values[i], do.evolve(image.values[i], do.Heat(), time=1, mask=walls))


def test_masks_that_do_not_belong_are_refused() -> None:
    image = scene("y", "x")
    with pytest.raises(ValueError, match="The mask has dimensions"):
        do.evolve(image, do.Heat(), time=1, mask=image.isel(x=0) > 5)
    with pytest.raises(ValueError, match="other coordinates"):
        do.evolve(image, do.Heat(), time=1, mask=(image > 5).assign_coords(y=np.arange(20)))


@pytest.fixture(params=[False, True], ids=["without rioxarray", "with rioxarray"])
def rioxarray(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Have rioxarray's accessor on every image, or on none, whatever other tests imported."""
    if request.param:
        pytest.importorskip("rioxarray")
    elif hasattr(xr.DataArray, "rio"):
        monkeypatch.delattr(xr.DataArray, "rio")
    return bool(request.param)


@pytest.mark.parametrize(
    ("where", "marks"),
    [
        ("attrs", {"_FillValue": np.int16(-1)}),
        ("attrs", {"missing_value": -1.0}),
        ("attrs", {"fill_value": "-1"}),
        ("attrs", {"nodata": np.array([-1])}),
        ("attrs", {"nodatavals": (-1.0, -1.0)}),
        ("attrs", {"_FillValue": -99999, "missing_value": -1}),
        ("attrs", {"_FillValue": None, "nodata": math.nan, "nodatavals": [-1]}),
        ("encoding", {"_FillValue": np.int16(-1)}),
        ("encoding", {"missing_value": -1}),
        ("encoding", {"_FillValue": 1e9, "missing_value": -1}),
        ("argument", {}),
    ],
)
@pytest.mark.usefixtures("rioxarray")
def test_the_fill_value_of_integers_is_a_wall(where: str, marks: dict[str, Any]) -> None:
    image = scene("y", "x", dtype=np.int16)
    image.values[3:6, 4:9] = -1
    whole = do.evolve(image.values, do.Heat(), time=1, nodata=-1)
    arguments = {"nodata": -1} if where == "argument" else {}
    if where != "argument":
        getattr(image, where).update(marks)
    for given in (image, image.chunk({"y": 7})):
        result = do.evolve(given, do.Heat(), time=1, **arguments)
        assert np.array_equal(result.values, whole)
        assert (result.values[3:6, 4:9] == -1).all()


def test_the_fill_value_of_decoded_floats_is_nan() -> None:
    image = scene("y", "x")
    image.values[2, 2], image.values[5, 5] = np.nan, 100
    image.encoding |= {"_FillValue": 100, "dtype": "uint8", "scale_factor": 0.5}
    result = do.evolve(image, do.Heat(), time=1)
    assert np.array_equal(result.values, do.evolve(image.values, do.Heat(), time=1), equal_nan=True)
    assert result.encoding == image.encoding


IMPOSSIBLE = [
    *(
        (np.uint8, value)
        for value in (-9999, -9999.0, np.int32(-9999), 256, 0.5, math.nan, math.inf, 10**400)
    ),
    *((np.uint8, value) for value in ("-9999", "none", b"", [], [3], np.array([1, 2]), 3j, {"all": 0})),
    *((np.int16, -(2**15) - 1), (np.float32, 1e300), (np.float16, -(10**400))),
]
"""Types of images, and fill values that no pixel of theirs can hold."""


@pytest.mark.parametrize("where", ["attrs", "encoding"])
def test_labels_have_no_nodata(where: str) -> None:
    image = scene("y", "x", dtype=np.int16)
    image[2:6, 3:9] = 0
    setattr(image, where, {"_FillValue": 0})
    objects = image.diffuse.thresholding(thresholds=100).diffuse.components(dtype="uint16")
    assert "_FillValue" not in {**objects.attrs, **objects.encoding}
    chain = [do.Thresholding(thresholds=100), do.Components()]
    valid = image.values != 0
    assert np.array_equal(objects, do.evolve(image.values, chain, mask=valid, dtype="uint16"))


@pytest.mark.parametrize("where", ["attrs", "encoding"])
@pytest.mark.parametrize("names", [("_FillValue",), ("missing_value", "nodata")])
@pytest.mark.usefixtures("rioxarray")
def test_a_fill_value_that_no_pixel_can_hold_is_left_alone(names: tuple[str, ...], where: str) -> None:
    for dtype, value in IMPOSSIBLE:
        image = scene("y", "x", dtype=dtype)
        image.values[:2] = 3
        getattr(image, where).update(dict.fromkeys(names, value))
        whole = do.evolve(image.values, do.Heat(), time=1)
        assert np.array_equal(do.evolve(image, do.Heat(), time=1).values, whole), (dtype, value)


def test_a_value_that_only_rioxarray_knows_is_a_wall() -> None:
    pytest.importorskip("rioxarray")
    image = scene("y", "x", dtype=np.uint8)
    image.attrs["_FillValue"] = -9999
    image.values[3:6, 4:9] = 7
    whole = do.evolve(image.values, do.Heat(), time=1, nodata=7)
    image.rio.set_nodata(7)
    assert np.array_equal(do.evolve(image, do.Heat(), time=1).values, whole)


def test_floats_made_of_integers_are_not_packed_as_integers() -> None:
    image = scene("y", "x", dtype=np.uint8)
    image.encoding = {"dtype": "uint8", "zlib": True}
    assert do.evolve(image, do.Heat(), time=1).encoding == {"zlib": True}
    assert do.evolve(image, do.Heat(), time=1, dtype=np.uint8).encoding == image.encoding


def test_a_dataset_evolves_its_images_and_passes_the_rest() -> None:
    images = {"red": scene("y", "x"), "nir": scene("time", "y", "x"), "rgb": scene("band", "y", "x")}
    rest = {
        "series": ("time", np.arange(4.0)),
        "flags": (("y", "x"), RNG.random((20, 33)) > 0.5),
        "crs": ((), 0),
    }
    dataset = xr.Dataset(images | rest, attrs={"title": "scene"})
    dataset.encoding = {"source": "somewhere"}
    result = dataset.diffuse.heat(time=1)
    assert list(result.variables) == list(dataset.variables)
    assert (result.attrs, result.encoding) == (dataset.attrs, dataset.encoding)
    for name in images:
        xr.testing.assert_identical(result[name], do.evolve(dataset[name], do.Heat(), time=1))
    for name in rest:
        xr.testing.assert_identical(result[name], dataset[name])
    named = do.evolve(dataset, do.Heat(), time=1, spacing={"y": 2, "x": 2})
    assert np.array_equal(named["red"], do.evolve(images["red"].values, do.Heat(), time=1, spacing=2))


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # affine, called by rioxarray
def test_what_rioxarray_knows_arrives(lazy: bool, tmp_path: Any) -> None:
    rioxarray = pytest.importorskip("rioxarray")
    image = scene("band", "y", "x", dtype=np.uint16).drop_vars("scale")
    image.encoding = {}
    image = image.assign_coords(band=[1, 2, 3], y=5e6 - 10.0 * np.arange(20), x=4e5 + 10.0 * np.arange(33))
    image.values[:, :5, :5] = 65535
    image = image.rio.write_crs(32633).rio.write_nodata(65535).rio.write_transform()
    image.rio.to_raster(tmp_path / "scene.tif")
    opened = rioxarray.open_rasterio(tmp_path / "scene.tif", chunks={"y": 7} if lazy else None)
    result = opened.diffuse.perona_malik(contrast=50, time=2)
    assert (result.rio.crs, result.rio.nodata) == (opened.rio.crs, 65535)
    assert result.rio.transform() == opened.rio.transform()
    assert (result.values[:, :5, :5] == 65535).all()
    result.rio.to_raster(tmp_path / "calm.tif")
    with rioxarray.open_rasterio(tmp_path / "calm.tif") as again:
        assert np.array_equal(again.values, result.values)
        assert (again.rio.crs, again.rio.nodata, again.dtype) == (opened.rio.crs, 65535, np.float32)
    with rioxarray.open_rasterio(tmp_path / "scene.tif", masked=True) as masked:
        calm = masked.diffuse.perona_malik(contrast=50, time=2)
        assert np.array_equal(np.isnan(calm.values), result.values == 65535)
        assert np.array_equal(calm.values[~np.isnan(calm)], result.values[result.values != 65535])
        assert calm.rio.encoded_nodata == 65535


@pytest.mark.parametrize("name", do.OPERATORS.names())
def test_the_accessor_has_one_documented_method_per_operator(name: str) -> None:
    image, word, cls = scene("y", "x"), name.replace("-", "_"), do.OPERATORS[name]
    method = getattr(image.diffuse, word)
    assert word in dir(image.diffuse)
    assert inspect.getdoc(cls).splitlines()[0] in method.__doc__
    own = {*inspect.signature(cls).parameters, *function_of(cls).__kwdefaults__}
    assert own == set(inspect.signature(method).parameters)


def test_the_accessor_takes_parameters_of_both_and_their_aliases() -> None:
    image = scene("y", "x")
    wanted = do.evolve(image, do.PeronaMalik(7, "rational"), steps=3, dt=0.1)
    xr.testing.assert_identical(image.diffuse.perona_malik(7, "rational", steps=3, dt=0.1), wanted)
    xr.testing.assert_identical(image.diffuse.perona_malik(kappa=7, option=2, niter=3, gamma=0.1), wanted)
    xr.testing.assert_identical(image.diffuse.evolve(do.PeronaMalik(7, "rational"), steps=3, dt=0.1), wanted)
    with pytest.raises(AttributeError, match=r"no method 'perona'. Allowed: evolve, solve, .*perona_malik"):
        image.diffuse.perona(time=1)
    with pytest.raises(TypeError, match="no parameter 'colour'"):
        image.diffuse.heat(colour=3, time=1)


@pytest.mark.parametrize(
    ("image", "arguments", "words"),
    [
        (scene("y", "time"), {}, "1 are spatial"),
        (scene("lat", "lon", "x", "y"), {}, "4 are spatial"),
        (scene("band", "channel", "y", "x"), {}, "may all be channels. Say which"),
        (scene("y", "x"), {"channel_axis": "c"}, "is not a dimension. Allowed: 'y', 'x'"),
        (scene("y", "x"), {"channel_axis": 2}, "is not an axis"),
        (scene("y", "x"), {"spacing": {"lat": 1, "lon": 1}}, r"spacing names \['lat', 'lon'\]"),
        (scene("y", "x"), {"spacing": "metres"}, "Allowed: 'coords'"),
        (scene("a", "b"), {"spacing": "coords"}, "has no coordinate"),
        (scene("y", "x").assign_coords(x=np.arange(33.0) ** 2), {"spacing": "coords"}, "not evenly spaced"),
        (scene("y", "x").assign_coords(x=list("a" * 33)), {"spacing": "coords"}, "two or more numbers"),
        (scene("time", "y", "x", time=0), {}, "axis of length zero|no frames"),
        (xr.Dataset({"series": ("time", [1.0, 2.0])}), {}, "No numeric variable"),
        (xr.Dataset({"red": scene("y", "x")}), {"channel_axis": 0}, "is not a dimension of the Dataset"),
    ],
)
def test_what_cannot_be_told_is_refused(image: Any, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        do.evolve(image, do.Heat(), time=1, **arguments)


def test_a_map_of_channels_in_a_dataset_comes_without_them() -> None:
    colours = scene("band", "y", "x")
    dataset = xr.Dataset({"a": colours, "b": 2 * colours, "names": ("band", ["r", "g", "b"])})
    for given in (dataset, dataset.chunk({"y": 7})):
        found = given.diffuse.gradient_magnitude()
        assert found.a.dims == found.b.dims == ("y", "x")
        assert found.names.identical(given.names)
        assert (found.a.chunks is None) == (given.a.chunks is None)
        alone = do.evolve(colours.values, do.GradientMagnitude(), channel_axis=0)
        assert np.array_equal(found.a.values, alone[0])


def test_a_guide_of_other_coordinates_is_refused() -> None:
    image = scene("time", "band", "y", "x")
    guide = scene("band", "y", "x", band=1)
    operator = do.CoherenceEnhancing(contrast=20)
    done = do.evolve(image, operator, guide=guide, steps=1)
    alone = do.evolve(image.values[2], operator, guide=guide.values, steps=1, channel_axis=0)
    assert np.array_equal(done.values[2], alone)
    with pytest.raises(ValueError, match=r"The guide has other coordinates.*guide\.reindex_like\(image\)"):
        do.evolve(image, operator, guide=guide.assign_coords(y=guide.y + 1), steps=1)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("operator", "far"),
    [(do.TotalVariation(10), {"steps": 6}), (do.GrayScott(white=200), {"steps": 4}), (do.Canny(), {})],
)
def test_what_is_carried_and_what_is_joined_stays_within_its_frame(
    operator: Any, far: dict[str, Any]
) -> None:
    image = scene("time", "band", "y", "x")
    image[1, :, 3:5, 4:9] = np.nan
    lazy = do.evolve(image.chunk({"time": 1, "y": 7, "x": 11}), operator, batch=2, **far)
    assert isinstance(lazy.data, da.Array)
    whole = do.evolve(image, operator, **far)
    assert lazy.compute().identical(whole)
    for number, frame in enumerate(image.values):
        alone = do.evolve(frame, operator, channel_axis=0, **far)
        assert np.array_equal(whole.values[number], alone, equal_nan=True)
