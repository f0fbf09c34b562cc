"""Kubernetes and compose take the manifests, which ask for no more rights than they need."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ruamel.yaml

from pipelines.spec.spec import make_spec
from tests.deploy.commands import DEPLOY, require_valid
from tests.deploy.test_schedules import tool

MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
COMPOSE = DEPLOY / "container" / "compose.yaml"


def documents(path: Path) -> list[dict[str, Any]]:
    return list(ruamel.yaml.YAML(typ="safe").load_all(path.read_text(encoding="utf-8")))


RESOURCES = [
    pytest.param(
        document,
        id=f"{path.stem}-{document['metadata']['name']}-{document['kind']}",
        # The definitions of the operator's kinds are megabytes of YAML.
        marks=[pytest.mark.thorough] if document["kind"].startswith("Dask") else [],
    )
    for path in MANIFESTS
    for document in documents(path)
]
each_resource = pytest.mark.parametrize("resource", RESOURCES)


def pods(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the specs of pods in a manifest."""
    if isinstance(value, dict):
        if "containers" in value:
            yield value
        for inner in value.values():
            yield from pods(inner)


def custom_schema(kind: str) -> dict[str, Any]:
    """Return the schema of one of the operator's kinds, from the distribution of dask-kubernetes."""
    try:
        files = importlib.metadata.files("dask-kubernetes") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("needs dask-kubernetes, which ships the definitions of DaskCluster and DaskJob")
    (path,) = (Path(str(one.locate())) for one in files if one.match(f"crds/{kind.lower()}.yaml"))
    schema: dict[str, Any] = documents(path)[0]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


@each_resource
def test_the_manifest_fits_the_schema_of_its_kind(resource: dict[str, Any]) -> None:
    validation = pytest.importorskip("kubernetes_validate", reason="needs the schemas of kubernetes-validate")
    if resource["apiVersion"].startswith("kubernetes.dask.org"):
        jsonschema.Draft4Validator(custom_schema(resource["kind"])).validate(resource)
    else:
        validation.validate(resource, validation.latest_version(), strict=True)
    for pod in pods(resource):
        whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, "spec": pod}
        validation.validate(whole, validation.latest_version(), strict=True)


@each_resource
def test_pods_have_no_rights_and_have_limits(resource: dict[str, Any]) -> None:
    found = list(pods(resource))
    if not found:
        pytest.skip("it has no pods")
    for pod in found:
        assert pod["serviceAccountName"] == "diffuse"
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            rights = container["securityContext"]
            assert (rights["allowPrivilegeEscalation"], rights["readOnlyRootFilesystem"]) == (False, True)
            assert rights["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
            assert not container["image"].endswith(":latest")
            assert {one["name"] for one in container["volumeMounts"]} == {
                one["name"] for one in pod["volumes"]
            }


@pytest.mark.parametrize("path", [*MANIFESTS, COMPOSE], ids=lambda path: path.name)
def test_no_secret_stands_in_a_manifest(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "kind: Secret" not in text
    values = re.findall(r"(?i)(?:secret\w*|password|access_key\w*)\s*:\s*(\S+)", text)
    assert all(value.startswith(("${", "{name:")) for value in values), values


def containers() -> Iterator[list[str]]:
    """Yield the words of all commands."""
    for path in MANIFESTS:
        for document in documents(path):
            for pod in pods(document):
                yield from (container["args"] for container in pod["containers"])
    (compose,) = documents(COMPOSE)
    yield from (one["command"] for one in compose["services"].values())


@pytest.mark.thorough
def test_commands_are_those_of_the_programs() -> None:
    ours = [words[1:] for words in containers() if words[0] == "diffuse"]
    assert len(ours) == 3
    for words in ours:
        require_valid(words)
    for words in (words for words in containers() if words[0] == "dask"):
        verb = words[:2]
        taken = subprocess.run(
            [tool(verb[0], "it comes with dask"), verb[1], "--help"], capture_output=True, text=True
        )
        assert taken.returncode == 0, taken.stderr
        assert all(word in taken.stdout for word in words[2:] if word.startswith("--"))


def test_the_specs_in_them_are_valid() -> None:
    (configured,) = (
        one for one in documents(DEPLOY / "kubernetes" / "base.yaml") if one["kind"] == "ConfigMap"
    )
    texts = [configured["data"]["scans.yaml"], (DEPLOY / "container" / "stored.yaml").read_text()]
    for text in texts:
        assert make_spec({"source": {"uri": "x"}, **ruamel.yaml.YAML(typ="safe").load(text)}).steps


def test_compose_fits_its_schema() -> None:
    program = tool("check-jsonschema", "it ships the schema of compose files")
    subprocess.run([program, "--builtin-schema", "vendor.compose-spec", str(COMPOSE)], check=True)
    (compose,) = documents(COMPOSE)
    ours = [one for one in compose["services"].values() if one.get("image", "").startswith("diffuse")]
    assert len(ours) == 4
    assert all(one["read_only"] and one["cap_drop"] == ["ALL"] for one in ours)
    assert [port for one in compose["services"].values() for port in one.get("ports", [])] == [
        "127.0.0.1:9000:9000"
    ]
