"""OME metadata: what is built is read back, validates, and old or odd files are understood or refused."""

from __future__ import annotations

import pytest
import zarr
from ome_zarr_models import v04, v05

from pipelines.formats.metadata.ome import (
    build_multiscales,
    build_omero,
    one_unit,
    parse_multiscales,
    unit_name,
)
from pipelines.formats.metadata.ome_xml import parse_ome_xml
from pipelines.image.open_source import open_source
from pipelines.image.source import SourceSpec, UnreadableSourceError
from tests.pipelines.source_files import ramp, write_ome_zarr

PYRAMID = {
    "axes": "tczyx",
    "scales": [{"t": 3.0, "z": 2.0, "y": 0.5, "x": 0.5}, {"t": 3.0, "z": 2.0, "y": 1.0, "x": 1.0}],
    "translations": [{"z": 7.0}, {"z": 7.0, "y": 0.25, "x": 0.25}],
    "units": {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"},
    "name": "cells",
    "omero": build_omero(["DAPI", "GFP"], (0, 255)),
    "method": "mean",
}


def write(folder, attributes, version, shape=(1, 2, 3, 8, 8)):
    uri = str(folder / "image.ome.zarr")
    group = zarr.open_group(uri, mode="w", zarr_format=2 if version == "0.4" else 3, attributes=attributes)
    for path in ("0", "1"):
        names = None if version == "0.4" else list("tczyx")
        separator = {"name": "v2", "separator": "/"} if version == "0.4" else None
        group.create_array(path, shape=shape, dtype="u1", dimension_names=names, chunk_key_encoding=separator)
    return uri


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_what_is_built_is_read_back(version):
    found = parse_multiscales(build_multiscales(version=version, **PYRAMID))
    assert found.version == version
    assert found.axes == "tczyx"
    assert list(found.scales) == PYRAMID["scales"]
    assert found.translations[1] == {"t": 0.0, "z": 7.0, "y": 0.25, "x": 0.25}
    assert found.units == PYRAMID["units"]
    assert found.paths == ("0", "1")
    assert found.channel_names == ("DAPI", "GFP")
    assert found.name == "cells"
    assert not found.labels


@pytest.mark.parametrize(("version", "models"), [("0.4", v04), ("0.5", v05)])
def test_what_is_built_validates(tmp_path, version, models):
    uri = write(tmp_path, build_multiscales(version=version, **PYRAMID), version)
    models.Image.from_zarr(zarr.open_group(uri, mode="r"))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_are_flagged(tmp_path, version):
    attributes = build_multiscales(axes="yx", scales=[{"y": 1.0, "x": 1.0}], labels=True, version=version)
    assert parse_multiscales(attributes).labels


@pytest.mark.parametrize("axes", ["xy", "cyx"[::-1], "tcx", "qyx", "yxc"])
def test_axes_that_the_specification_does_not_allow(axes):
    with pytest.raises(ValueError, match="not possible in OME-Zarr"):
        build_multiscales(axes=axes, scales=[{}])


def test_display_settings_keep_the_known_colours():
    known = {
        "channels": [{"color": "00FF00", "window": {"start": 3, "end": 9}, "coefficient": 1}],
        "rdefs": {"model": "c"},
    }
    found = build_omero(["GFP"], (0.0, 1.0), known)
    assert found["rdefs"] == {"model": "c"}
    channel = found["channels"][0]
    assert channel["color"] == "00FF00"
    assert channel["label"] == "GFP"
    assert channel["window"] == {"min": 0.0, "max": 1.0, "start": 3, "end": 9}
    assert [c["color"] for c in build_omero("rgb", (0, 255), rgb=True)["channels"]] == [
        "FF0000",
        "00FF00",
        "0000FF",
    ]


def test_scales_of_level_and_image_multiply():
    attributes = build_multiscales(axes="yx", scales=[{"y": 2.0, "x": 2.0}], translations=[{"y": 1.0}])
    image = attributes["ome"]["multiscales"][0]
    image["coordinateTransformations"] = [{"type": "scale", "scale": [0.5, 0.25]}]
    found = parse_multiscales(attributes)
    assert found.scales[0] == {"y": 1.0, "x": 0.5}
    assert found.translations[0] == {"y": 0.5, "x": 0.0}


def test_axes_before_they_were_written_down():
    old = {"multiscales": [{"version": "0.2", "datasets": [{"path": "0"}]}]}
    assert parse_multiscales(old).axes == "tczyx"
    named = {"multiscales": [{"version": "0.3", "axes": ["z", "y", "x"], "datasets": [{"path": "0"}]}]}
    found = parse_multiscales(named)
    assert found.axes == "zyx"
    assert found.scales[0] == {"z": 1.0, "y": 1.0, "x": 1.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"datasets": []}, "no datasets"),
        ({"axes": [{"name": "y"}, {"name": "y"}]}, "axes are"),
        ({"axes": [{"name": "depth"}, {"name": "y"}, {"name": "x"}]}, "axes are"),
        (
            {"datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0]}]}]},
            "1 numbers for 2 axes",
        ),
        (
            {"coordinateTransformations": [{"type": "scale", "scale": [0.0, 1.0]}]},
            "must be positive",
        ),
    ],
)
def test_metadata_against_the_specification(change, message):
    attributes = build_multiscales(axes="yx", scales=[{"y": 1.0, "x": 1.0}])
    attributes["ome"]["multiscales"][0].update(change)
    with pytest.raises(ValueError, match=message):
        parse_multiscales(attributes)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_levels_of_a_file(tmp_path, version):
    pixels = ramp((45, 61))
    spec = write_ome_zarr(tmp_path, pixels, version)
    info = open_source(spec).info
    assert info.spacing == {"y": 0.5, "x": 0.25}
    assert info.units == {"y": "micrometer", "x": "micrometer"}
    assert info.attributes["ome"]["translation"] == {"y": 10.0}
    level = open_source(spec.model_copy(update={"level": 1}))
    assert level.info.shape == (23, 31)
    assert level.info.spacing == {"y": 1.0, "x": 0.5}
    assert level.info.identity != info.identity
    with pytest.raises(UnreadableSourceError, match="no series 1"):
        open_source(spec.model_copy(update={"series": 1}))


def test_a_level_that_the_metadata_promise_but_the_folder_lacks(tmp_path):
    attributes = build_multiscales(axes="yx", scales=[{}, {}, {}])
    zarr.open_group(str(tmp_path / "a.zarr"), mode="w", attributes=attributes)
    with pytest.raises(UnreadableSourceError, match="lists the level '0', which is not there"):
        open_source(SourceSpec(uri=str(tmp_path / "a.zarr")))


def test_fields_of_a_plate_are_named(tmp_path):
    plate = {"version": "0.4", "wells": [{"path": "A/1"}], "columns": [], "rows": []}
    uri = str(tmp_path / "plate.zarr")
    root = zarr.open_group(uri, mode="w", zarr_format=2, attributes={"plate": plate})
    well = root.require_group("A/1")
    well.attrs["well"] = {"images": [{"path": "0"}, {"path": "1"}]}
    for field in ("0", "1"):
        image = well.create_group(field, attributes=build_multiscales(axes="yx", scales=[{}], version="0.4"))
        image.create_array("0", shape=(4, 5), dtype="u1")
    with pytest.raises(UnreadableSourceError, match="Found: A/1/0, A/1/1"):
        open_source(SourceSpec(uri=uri))
    assert open_source(SourceSpec(uri=uri, path="A/1/1")).info.shape == (4, 5)


@pytest.mark.parametrize(
    ("unit", "name"),
    [
        ("µm", "micrometer"),
        ("um", "micrometer"),
        ("micrometer", "micrometer"),
        ("pixel", None),
        ("", None),
        (None, None),
    ],
)
def test_unit_names(unit, name):
    assert unit_name(unit) == name


def test_spatial_axes_get_one_unit():
    told = {"z": "micrometer", "y": "nanometer", "t": "second"}
    spacing, units = one_unit({"z": 1.0, "y": 500.0, "t": 2.0}, told)
    assert spacing == {"z": 1.0, "y": 0.5, "t": 2.0}
    assert units == {"z": "micrometer", "y": "micrometer", "t": "second"}
    assert one_unit({"y": 1.0, "x": 2.0}, {"y": "degree", "x": "nanometer"})[0] == {"y": 1.0, "x": 2.0}


def test_colours_of_ome_xml():
    text = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0" Name="cells">'
        '<Pixels PhysicalSizeX="0.5" PhysicalSizeY="0.5"><Channel Name="GFP" Color="16711935"/></Pixels>'
        "</Image></OME>"
    )
    found = parse_ome_xml(text)
    assert found.name == "cells"
    assert found.spacing == {"x": 0.5, "y": 0.5}
    assert found.channel_names == ("GFP",)
    assert found.colours == ("00FF00",)
    with pytest.raises(ValueError, match="describes 1 images"):
        parse_ome_xml(text, 1)
    with pytest.raises(ValueError, match="damaged"):
        parse_ome_xml(text[:60])
