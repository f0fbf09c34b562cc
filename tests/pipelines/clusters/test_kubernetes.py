"""What Dask's operator is asked for is what its resources are defined as; no Kubernetes is needed for that."""

from __future__ import annotations

import importlib.resources
import json
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from pipelines.run.run import run
from pipelines.spec.cluster import read_cluster
from pipelines.tasks.workers import Wanted
from tests.pipelines.runs import ragged_image, save_source, small_spec

pytest.importorskip("dask_kubernetes", reason="the extra kubernetes is not installed")

WANTED = Wanted(8, 300 << 20, False, "out.zarr.run")


def schema_of(kind: str) -> dict[str, Any]:
    """Return the schema of a resource, from the definition that the operator's package brings along."""
    chart = importlib.resources.files("dask_kubernetes") / "operator" / "deployment" / "helm"
    folder = chart / "dask-kubernetes-operator" / "crds"
    definition = YAML(typ="safe").load((folder / f"{kind}.yaml").read_text(encoding="utf-8"))
    return definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def strict(schema: Any) -> Any:
    """Return a schema that refuses what it does not know, as Kubernetes drops that without a word."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    known = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "x-kubernetes-preserve-unknown-fields" not in schema:
        known["additionalProperties"] = False
    return known


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    found = strict(schema_of("daskcluster"))
    # The types of every resource, which a definition leaves to Kubernetes.
    found["properties"] |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {}}
    return found


@pytest.mark.thorough
@pytest.mark.parametrize(
    "options",
    [
        {},
        {
            "workers": 4,
            "minimum": 2,
            "memory": "2GiB",
            "environment": {"NUMBA_CACHE_DIR": "/tmp/kernels"},
            "secrets": ["store"],
            "claims": {"images": "/data"},
            "account": "diffuse",
        },
    ],
    ids=["as it is by default", "with all options"],
)
def test_the_operator_gets_what_it_defines(schema, options):
    manifest = read_cluster({"kind": "kubernetes", "image": "diffuse:1", **options}).manifest(
        WANTED, "diffuse-1"
    )
    known = jsonschema.Draft202012Validator(schema)
    known.validate(manifest)
    worker = manifest["spec"]["worker"]
    (container,) = worker["spec"]["containers"]
    assert worker["replicas"] == options.get("minimum", 8)
    memory = (2 << 30 if "memory" in options else 300 << 20) + (64 << 20)
    assert container["resources"]["limits"] == {"memory": str(memory)}
    assert container["securityContext"]["runAsNonRoot"]
    assert "secret" not in json.dumps(container["env"]).lower()
    wrong = json.loads(
        json.dumps(manifest).replace('"claimName"', '"claim"').replace('"emptyDir"', '"empty"')
    )
    with pytest.raises(jsonschema.ValidationError):
        known.validate(wrong)


def test_an_image_is_needed():
    with pytest.raises(ValueError, match=r"kubernetes needs 'image'\. It is: Image of scheduler and workers"):
        read_cluster("kubernetes")


@pytest.mark.parametrize("there", ["nowhere", "silent"])
def test_no_kubernetes_is_told_so(tmp_path, monkeypatch, there):
    place = tmp_path / "config"
    monkeypatch.setenv("KUBECONFIG", str(place))
    if there == "silent":
        context = {"name": "a", "context": {"cluster": "a", "user": "a"}}
        cluster = {"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}
        users = [{"name": "a", "user": {}}]
        text = {"contexts": [context], "clusters": [cluster], "users": users, "current-context": "a"}
        place.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **text}))
    folder = tmp_path / "run"
    folder.mkdir()
    cluster = {"kind": "kubernetes", "image": "diffuse:1"}
    spec = small_spec(save_source(folder, ragged_image()), folder / "out.zarr", run={"cluster": cluster})
    with pytest.raises(ValueError, match=r"Kubernetes gives no cluster .*Check the context of kubectl"):
        run(spec)
    assert [path.name for path in folder.iterdir()] == ["source.npy"]
