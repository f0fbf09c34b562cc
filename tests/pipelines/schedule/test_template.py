"""Placeholders are filled for each source, and specs that would mix results are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.schedule.sources import Found
from pipelines.schedule.template import Template, UnfitSourceError, require_one_source, require_own_targets
from pipelines.spec.spec import SpecError, load_spec

SPEC = """\
source: {{uri: example.npy}}
steps:
  - {{operator: heat, time: 1}}
sink: {{uri: "{sink}"}}
{more}
"""


def template(folder: Path, sink: str = "out/{stem}.zarr", more: str = "", **how: object) -> Template:
    path = folder / "scans.yaml"
    path.write_text(SPEC.format(sink=sink, more=more))
    return Template(str(path), how)


FOUND = Found("/data/mon/scan.ome.tif", "mon/scan")


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{stem}.zarr", "scan.zarr"),
        ("{parent}-{name}.zarr", "mon-scan.ome.tif.zarr"),
        ("{path}.zarr", "mon/scan.zarr"),
        ("a{{b}}-{stem}.zarr", "a{b}-scan.zarr"),
    ],
)
def test_placeholders_are_filled(tmp_path: Path, text: str, filled: str) -> None:
    spec = template(tmp_path, text).spec_for(FOUND)
    assert (spec.source.uri, spec.sink.uri) == (FOUND.uri, f"{tmp_path}/{filled}")


def test_the_address_is_filled_in_where_the_source_has_placeholders(tmp_path: Path) -> None:
    made = template(tmp_path, more="run: {workdir: 'state/{stem}', threads: 1}", memory="1GiB")
    spec = made.spec_for(FOUND)
    assert spec.workdir == f"{tmp_path}/state/scan"
    assert spec.run.memory == 1 << 30
    path = tmp_path / "scans.yaml"
    path.write_text(path.read_text().replace("example.npy", "'{folder}/{stem}.png'"))
    assert Template(str(path), {}).spec_for(FOUND).source.uri == "/data/mon/scan.png"


def test_the_recipe_is_what_decides_the_results(tmp_path: Path) -> None:
    first = template(tmp_path)
    assert first.recipe == template(tmp_path, more="run: {threads: 1}").recipe
    assert first.recipe != template(tmp_path, "{stem}.zarr").recipe
    assert "\n" not in first.recipe


@pytest.mark.parametrize(
    ("sink", "said"),
    [
        ("{stm}.zarr", r"line 4: sink.uri: there is no placeholder 'stm'. Did you mean 'stem'\?"),
        ("{stem:>9}.zarr", "no placeholder 'stem:>9'"),
        ("{stem!r}.zarr", "no placeholder 'stem!r'"),
        ("{stem.__class__}.zarr", "no placeholder"),
        ("{stem.zarr", "Allowed: {stem}"),
    ],
)
def test_other_placeholders_are_refused(tmp_path: Path, sink: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        template(tmp_path, sink)


def test_stac_words_are_for_stac_alone(tmp_path: Path) -> None:
    made = template(tmp_path, "{item}.zarr")
    with pytest.raises(SpecError, match="known of STAC catalogues alone"):
        made.spec_for(FOUND)
    with pytest.raises(UnfitSourceError, match=r"cannot be a name in a path"):
        made.spec_for(Found("/data/a.tif", "a", {"item": "../../etc", "asset": "a", "collection": "c"}))


def test_one_place_for_all_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"sink.uri: 'out.zarr' is the same for every source"):
        template(tmp_path, "out.zarr").require_placeholders()
    outputs = "outputs: [{name: source, uri: first.zarr}]"
    with pytest.raises(SpecError, match=r"outputs\[0\].uri"):
        template(tmp_path, more=outputs).require_placeholders()
    with pytest.raises(SpecError, match=r"run.workdir"):
        template(tmp_path, more="run: {workdir: state}").require_placeholders()
    template(tmp_path).require_placeholders()


def test_two_sources_with_one_target_are_refused() -> None:
    with pytest.raises(SpecError, match=r"/b/x.tif and /c/x.tif would both be written to /out/x.zarr"):
        require_own_targets("/[bc]/*.tif", {"/b/x.tif": ["/out/x.zarr"], "/c/x.tif": ["/out/x.zarr"]})
    with pytest.raises(SpecError, match="would itself be found"):
        require_own_targets("/scans/*.zarr", {"/scans/x.zarr": ["/scans/x-calm.zarr"]})


def test_folders_that_placeholders_name_are_made(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    made = template(tmp_path, "out/{path}.zarr")
    made.make_folders(made.spec_for(FOUND))
    assert (tmp_path / "out" / "mon").is_dir()
    made = template(tmp_path, "otu/{path}.zarr")
    made.make_folders(made.spec_for(FOUND))
    assert not (tmp_path / "otu").exists()


def test_a_spec_for_many_sources_is_not_carried_out_for_one(tmp_path: Path) -> None:
    source, steps = "source: {uri: a.npy}", "steps: [{operator: heat, time: 1}]"
    for name, refused in (("{stem}", True), ("{parent}/out", True), ("{stm}", False), ("a{", False)):
        path = tmp_path / "spec.yaml"
        path.write_text(f"{source}\n{steps}\nsink: {{uri: '{name}.zarr'}}\n")
        spec = load_spec(path)
        if not refused:
            require_one_source(spec)
            continue
        with pytest.raises(SpecError, match=r"has the placeholder .*--each PATTERN"):
            require_one_source(spec)
