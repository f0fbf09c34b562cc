"""Operators do on real images what they are for: speckle, stained lines, thick slices, holes, impulses, textures."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from ome_zarr_models.v05.image import Image as OmeImage
from scipy import ndimage
from skimage import color

import diffusion_ops as do
from pipelines.image.open_source import open_source
from pipelines.image.source import Source, SourceSpec, read_canonical
from pipelines.run.preview import preview
from pipelines.run.run import run
from pipelines.run.verify import verify
from pipelines.spec.spec import Spec, make_spec
from tests.pipelines.runs import read_result

Array = NDArray[Any]
Find = Callable[..., Path]


def carry_out(
    source: Path, target: Path, step: dict[str, Any], /, **sections: Any
) -> tuple[Spec, Source, Array]:
    """Run one step and verify it; return the spec, the source and its pixels."""
    data = {
        "source": {"uri": str(source), **sections.pop("source", {})},
        "steps": [step],
        "sink": {"uri": str(target), **sections.pop("sink", {})},
        "run": {"memory": "2GiB", **sections.pop("run", {"tile": 512})},
    }
    spec = make_spec(data)
    assert run(spec).exit_code == 0
    assert verify(str(target), samples=2)["ok"]
    image = open_source(spec.source)
    return spec, image, read_canonical(image, {})


# ---- radar


@pytest.fixture(scope="module")
def radar(shared_data: Find) -> Array:
    """Return the amplitude of a single-look scene: bursts with gaps of 0 between them."""
    pytest.importorskip("rasterio", reason="needs rasterio, which comes with the extra geo")
    uri = str(shared_data("satellite", "s1_slc_complex_int16.tif"))
    return read_canonical(open_source(SourceSpec(uri=uri, complex="amplitude")), {}).reshape(674, 1094)


def squares(image: Array, side: int = 24) -> Array:
    """Return the pixels of every square of an image."""
    rows, columns = (n // side for n in image.shape)
    cut = image[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return cut.swapaxes(1, 2).reshape(rows * columns, -1).astype(np.float64)


def most_even(image: Array, count: int = 20) -> Array:
    """Return the squares without gaps whose amplitude varies least about its mean: homogeneous ground."""
    pixels = squares(image)
    variation = pixels.std(axis=1) / np.maximum(pixels.mean(axis=1), 1e-9)
    return np.argsort(np.where((pixels > 0).all(axis=1), variation, np.inf))[:count]


def looks(image: Array, where: Array) -> float:
    """Return the equivalent number of looks, mean² / variance of the intensity, in the middle of some squares."""
    intensity = squares(image)[where] ** 2
    return float(np.median(intensity.mean(axis=1) ** 2 / intensity.var(axis=1)))


def shores(image: Array) -> Callable[[Array], float]:
    """Return a function that says how steep a picture is across the strongest 1 % of edges of an image.

    Where they are and which way they go is read from the image smoothed with 4 pixels, away from gaps.
    """
    wide, valid = ndimage.gaussian_filter(image, 4.0), image > 0
    slopes = np.stack(np.gradient(wide))
    steep = np.hypot(*slopes)
    inside = ndimage.binary_erosion(ndimage.binary_closing(valid, iterations=1), iterations=16)
    edge = inside & (steep >= np.percentile(steep[inside], 99))
    normal = slopes[:, edge] / steep[edge]

    def across(picture: Array) -> float:
        return float(
            (np.stack(np.gradient(ndimage.gaussian_filter(picture, 1.5)))[:, edge] * normal).sum(0).mean()
        )

    return across


@pytest.mark.thorough
def test_speckle_goes_and_shores_stay(radar: Array) -> None:
    even, across = most_even(radar), shores(radar)
    assert looks(radar, even) == pytest.approx(1, abs=0.2)

    def figures(picture: Array) -> tuple[float, float]:
        return looks(picture, even) / looks(radar, even), across(picture) / across(radar)

    gain, kept = figures(do.evolve(radar, do.SpeckleReducing(), time=8))
    assert gain > 40
    assert kept > 0.7
    # Others, at the first time that smooths as much, have lost more of the shores.
    for operator in (do.Heat(), do.PeronaMalik("auto"), do.PeronaMalik("auto", sigma=1.0)):
        pictures = (figures(do.evolve(radar, operator, time=t)) for t in (2, 3, 4, 5, 6, 8))
        assert next(shore for smooth, shore in pictures if smooth >= gain) < kept - 0.07


def test_speckle_is_reduced_alike_in_dark_and_bright_parts(radar: Array) -> None:
    even = most_even(radar, 150)
    by_brightness = even[np.argsort(squares(radar)[even].mean(axis=1))]
    dark, bright = by_brightness[:15], by_brightness[-15:]

    def gains(operator: do.Operator) -> list[float]:
        picture = do.evolve(radar, operator, time=4)
        return [looks(picture, part) / looks(radar, part) for part in (dark, bright)]

    low, high = sorted(gains(do.SpeckleReducing()))
    assert high < 1.5 * low
    low, high = sorted(gains(do.PeronaMalik("auto")))
    assert high > 2 * low


def test_radar_runs_from_file_to_file(shared_data: Find, tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio", reason="needs rasterio, which comes with the extra geo")
    source = shared_data("satellite", "s1_slc_complex_int16.tif")
    step = {"operator": "speckle-reducing", "time": 8}
    _, _, before = carry_out(source, tmp_path / "calm.tif", step, source={"complex": "amplitude"})
    expected = do.evolve(before, do.SpeckleReducing(), time=8)
    with rasterio.open(source) as old, rasterio.open(tmp_path / "calm.tif") as new:
        assert np.array_equal(new.read(1), expected)
        assert len(new.gcps[0]) == len(old.gcps[0]) == 210
        assert new.gcps[1] == old.gcps[1]


# ---- a slide


@pytest.mark.slow
def test_lines_of_a_slide_become_clearer_without_new_colours(shared_data: Find, tmp_path: Path) -> None:
    """Some seconds are compilation; the level has 4 million pixels."""
    target = tmp_path / "lines.ome.zarr"
    step = {"operator": "coherence-enhancing", "contrast": "auto", "sigma": 0.7, "rho": 4, "time": 8}
    source = shared_data("slide", "tcga-cr-7395-01a-01-ts1.svs")
    options = {"source": {"level": 1}, "sink": {"dtype": "uint8", "pyramid": "auto"}}
    _, _, before = carry_out(source, target, step, **options)
    before = before.reshape(before.shape[-3:])
    OmeImage.from_zarr(zarr.open_group(str(target), mode="r"))
    after = read_result(target).reshape(before.shape)
    operator = do.CoherenceEnhancing(contrast="auto", sigma=0.7, rho=4)
    assert np.array_equal(after, do.evolve(before, operator, time=8, channel_axis=0, dtype="uint8"))
    assert_no_new_hues(before, after)


def test_lines_become_clearer_without_new_colours(shared_data: Find) -> None:
    uri = str(shared_data("slide", "CMU-1-Small-Region.svs"))
    region = {"y": slice(1248, 1568), "x": slice(1504, 1824)}
    before = read_canonical(open_source(SourceSpec(uri=uri)), region).reshape(3, 320, 320)
    operator = do.CoherenceEnhancing(contrast="auto", sigma=0.7, rho=4)
    after = do.evolve(before, operator, time=8, channel_axis=0, dtype="uint8")
    assert_no_new_hues(before, after)
    assert coherence(after) > 1.2 * coherence(before)


def assert_no_new_hues(before: Array, after: Array) -> None:
    """Check that hues which one strong colour in 500 had, if any, do not become more frequent."""
    was, is_now = strong_hues(before), strong_hues(after)
    rare = was < 0.002
    assert is_now[rare].sum() <= was[rare].sum()


def strong_hues(picture: Array) -> Array:
    """Return how often each of 24 hues is among the pixels with a strong colour."""
    hue, saturation, _ = np.moveaxis(color.rgb2hsv(np.moveaxis(picture, 0, -1)), -1, 0)
    strong = saturation > 0.25
    return np.histogram(hue[strong], 24, (0, 1))[0] / strong.sum()


def coherence(picture: Array) -> float:
    """Return the mean coherence, 0 to 1, where there is tissue."""
    tissue = picture.mean(axis=0) < 200
    return float(do.evolve(picture.mean(axis=0), do.Coherence())[tissue].mean())


# ---- a volume


def read_nifti(path: Path) -> tuple[Array, tuple[float, ...]]:
    """Return the voxels (z, y, x) and their spacing of a little-endian NIfTI-1 file of unsigned bytes."""
    data = gzip.decompress(path.read_bytes())
    columns, rows, planes = struct.unpack("<3h", data[42:48])
    spacing = struct.unpack("<3f", data[80:92])
    begin = int(struct.unpack("<f", data[108:112])[0])
    voxels = np.frombuffer(data, np.uint8, planes * rows * columns, begin)
    return voxels.reshape(planes, rows, columns), spacing[::-1]


@pytest.fixture(scope="module")
def slices(shared_data: Find) -> tuple[Array, Array, tuple[float, ...]]:
    """Return a head in slices three voxels thick, the same with noise, and its spacing in mm."""
    voxels, spacing = read_nifti(shared_data("medical", "MR_Gd.nii.gz"))
    thick = voxels.reshape(48, 3, *voxels.shape[1:]).mean(axis=1).astype(np.float32)
    noisy = np.maximum(do.evolve(thick, do.RandomNoise(level=10.0, seed=5)), 0)
    return thick, noisy, (3 * spacing[0], *spacing[1:])


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("operator", "far", "gain"),
    [
        (do.EdgeEnhancing(contrast="auto", sigma=0.7), {"time": 1}, 4.5),
        (do.TotalVariation(6), {}, 5.0),
    ],
    ids=["edge-enhancing", "total-variation"],
)
def test_thick_slices_smooth_along_themselves(
    slices: tuple[Array, Array, tuple[float, ...]], operator: do.Operator, far: dict[str, Any], gain: float
) -> None:
    thick, noisy, spacing = slices
    head = thick > 8

    def decibels(volume: Array) -> float:
        return float(10 * np.log10(255**2 / np.mean((volume - thick)[head] ** 2)))

    true = decibels(do.evolve(noisy, operator, spacing=spacing, **far))
    assert true > decibels(noisy) + gain
    # Taken for cubes, voxels smooth across slices, where neighbours are farther apart.
    assert true > decibels(do.evolve(noisy, operator, **far)) + 0.8


# ---- a scene with holes


@pytest.mark.parametrize(
    ("step", "operator", "far"),
    [
        (
            {"operator": "edge-enhancing", "contrast": {"quantile": {"q": 0.5, "sigma": 0.7}}, "sigma": 0.7},
            do.EdgeEnhancing(do.GradientQuantile(0.5, sigma=0.7), sigma=0.7),
            {"time": 2},
        ),
        ({"operator": "total-variation", "weight": 500}, do.TotalVariation(500), {"steps": 100}),
    ],
    ids=["edge-enhancing", "total-variation"],
)
def test_a_scene_keeps_its_holes_and_its_place(
    shared_data: Find, tmp_path: Path, step: dict[str, Any], operator: do.Operator, far: dict[str, Any]
) -> None:
    rasterio = pytest.importorskip("rasterio", reason="needs rasterio, which comes with the extra geo")
    source, target = shared_data("satellite", "landsat8_rgb_uint16_nodata0.tif"), tmp_path / "calm.tif"
    _, _, before = carry_out(source, target, {**step, **far}, sink={"dtype": "uint16"})
    expected = do.evolve(before, operator, channel_axis=0, nodata=0, dtype="uint16", **far)
    with rasterio.open(source) as old, rasterio.open(target) as new:
        assert np.array_equal(new.read(), expected)
        assert (new.crs, new.transform, new.nodata) == (old.crs, old.transform, 0)
    valid = before != 0
    assert 0.3 < 1 - valid.mean() < 0.35
    assert np.array_equal(expected != 0, valid)
    assert expected[valid].mean() == pytest.approx(before[valid].mean(), rel=1e-6)
    # Dark nothing has not crept in: the rim is no darker than it was.
    rim = valid.all(axis=0) & ~ndimage.binary_erosion(valid.all(axis=0), iterations=2)
    assert expected[:, rim].mean() == pytest.approx(before[:, rim].mean(), rel=2e-3)


# ---- impulses


@pytest.mark.parametrize("detection", ["extremes", "median"])
def test_half_of_a_photograph_is_found_again(shared_data: Find, detection: str) -> None:
    truth = iio.imread(shared_data("denoise", "Set12", "08.png")).astype(np.float32)
    noisy = do.evolve(truth, do.RandomNoise(0.5, law="impulse", seed=1))

    def decibels(picture: Array) -> float:
        return float(10 * np.log10(255**2 / np.mean((picture - truth) ** 2)))

    mended = do.evolve(noisy, do.SaltAndPepper(detection=detection))
    assert decibels(mended) > 35.5
    assert decibels(mended) > 8 + max(decibels(ndimage.median_filter(noisy, side)) for side in (3, 5, 7))


# ---- textures


def texture(folder: Path, side: int, time: float, **run_: Any) -> Spec:
    """Return the spec of a maze that grows from nothing but a perturbation."""
    np.save(folder / "black.npy", np.zeros((side, side), np.uint8))
    step = {"operator": "gray-scott", "pattern": "mazes", "white": 255, "perturbation": 0.3, "time": time}
    sink = {"uri": str(folder / "maze.zarr"), "dtype": "uint8"}
    run_ = {"memory": "2GiB", **run_}
    return make_spec(
        {"source": {"uri": str(folder / "black.npy")}, "steps": [step], "sink": sink, "run": run_}
    )


def test_a_texture_has_no_seams(tmp_path: Path) -> None:
    found = []
    for tile, batch in ((128, 30), (320, 500)):
        folder = tmp_path / str(tile)
        folder.mkdir()
        spec = texture(folder, 300, 100, tile=tile, batch=batch)
        assert run(spec).exit_code == 0
        found.append(read_result(spec.sink.uri))
    operator = do.GrayScott(pattern="mazes", white=255, perturbation=0.3)
    whole = do.evolve(np.zeros((300, 300), np.uint8), operator, time=100, dtype="uint8")
    assert all(np.array_equal(whole, one) for one in found)
    assert whole.std() > 10


@pytest.mark.slow
def test_a_large_texture_is_the_same_alone_and_as_a_part(tmp_path: Path) -> None:
    spec = texture(tmp_path, 4096, 500)
    assert run(spec).exit_code == 0
    preview(spec, "2000:2256,1000:1256", str(tmp_path / "part.zarr"))
    whole = read_result(spec.sink.uri)
    assert np.array_equal(read_result(tmp_path / "part.zarr"), whole[2000:2256, 1000:1256])
    quarters = [q for half in np.split(whole, 2) for q in np.split(half, 2, axis=1)]
    assert np.std([q.mean() for q in quarters]) < 0.02 * whole.mean()
