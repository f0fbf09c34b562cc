"""Where a run is carried out: what names, addresses and mappings mean, and how options are merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pipelines.spec.cluster import describe_options
from pipelines.spec.spec import SpecError, json_schema, load_spec, make_spec, override_run
from pipelines.tasks.workers import CLUSTERS

DATA = {
    "source": {"uri": "a.tif"},
    "steps": [{"operator": "heat", "time": 1}],
    "sink": {"uri": "b.zarr"},
}


def spec_with(cluster: Any) -> Any:
    return make_spec({**DATA, "run": {"cluster": cluster}})


@pytest.mark.parametrize(
    ("said", "kind", "called"),
    [
        ("local", "local", "local"),
        ({"kind": "local"}, "local", "local"),
        ("tcp://host:8786", "address", "tcp://host:8786"),
        ({"kind": "address", "address": "tls://host:8786"}, "address", "tls://host:8786"),
    ],
)
def test_a_name_an_address_and_a_mapping_mean_a_kind(said, kind, called):
    run = spec_with(said).run
    assert (run.cluster.kind, str(run.cluster)) == (kind, called)
    assert run.model_dump(mode="json")["cluster"] == called
    assert override_run(spec_with(said), threads=3).run.cluster == run.cluster


def test_paths_among_options_start_at_the_folder_of_the_spec(tmp_path):
    text = "source: {{uri: a.tif}}\nsteps: [{{operator: heat, time: 1}}]\nsink: {{uri: b.zarr}}\nrun: {{cluster: {}}}\n"
    for said in ("there.json", "{kind: address, file: there.json, tls: keys}"):
        path = tmp_path / "scene.yaml"
        path.write_text(text.format(said))
        cluster = load_spec(path).run.cluster
        assert cluster.file == str(tmp_path / "there.json")
        assert cluster.tls in (None, str(tmp_path / "keys"))
    assert spec_with("there.json").run.cluster.file == str(Path("there.json").resolve())


def test_an_option_of_the_command_is_added_to_those_of_the_spec():
    spec = spec_with({"kind": "address", "address": "tls://host:1", "tls": "/keys"})
    changed = override_run(spec, {"address": "tls://host:2"}).run.cluster
    assert (changed.address, changed.tls) == ("tls://host:2", "/keys")


def test_another_cluster_has_none_of_the_options_of_the_spec():
    spec = spec_with({"kind": "address", "address": "tls://host:1", "tls": "/keys"})
    assert override_run(spec, {}, cluster="tls://host:2").run.cluster.tls is None
    assert override_run(spec, cluster="local").run.cluster.kind == "local"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("nowhere", "there is no cluster 'nowhere'"),
        ({"kind": "locl"}, "there is no cluster 'locl'"),
        ({"workers": 2}, "the key 'kind' is missing. Allowed: address,"),
        (5, "should be a name, an address, or a mapping with a kind"),
        ({"kind": "local", "worker": 2}, "unknown key 'worker'. Allowed: kind."),
        ({"kind": "address", "address": 5}, "address: should be a word, got 5."),
        ({"kind": "address", "address": "tcp://a", "file": "b.json"}, "give either the 'address'"),
    ],
)
def test_what_names_no_cluster_is_refused(said, message):
    with pytest.raises(SpecError, match=r"run\.cluster") as error:
        spec_with(said)
    assert message.lower() in str(error.value).lower()
    assert len(str(error.value).splitlines()) == 1


def test_the_line_of_a_wrong_option_is_named(tmp_path):
    path = tmp_path / "scene.yaml"
    path.write_text(
        "source: {uri: a.tif}\nsteps: [{operator: heat, time: 1}]\nsink: {uri: b.zarr}\n"
        "run:\n  cluster:\n    kind: local\n    worker: 2\n"
    )
    with pytest.raises(SpecError, match=r"scene.yaml, line 7: run.cluster: unknown key 'worker'[^\n]*$"):
        load_spec(path)


def test_editors_know_the_options():
    editor = jsonschema.Draft202012Validator(json_schema())
    for cluster in ("local", {"kind": "address", "address": "tcp://a:1"}):
        assert editor.is_valid({**DATA, "run": {"cluster": cluster}})
    for cluster in (5, {"kind": "local", "worker": 2}, {"kind": "nowhere"}):
        assert not editor.is_valid({**DATA, "run": {"cluster": cluster}})


@pytest.mark.parametrize("name", CLUSTERS)
def test_every_option_says_what_it_is(name):
    for option in describe_options(CLUSTERS[name]):
        assert option["about"]
        assert option["type"]
