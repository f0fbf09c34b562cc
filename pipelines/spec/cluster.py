"""Read where a run is carried out: the name or address of a cluster, or its kind with options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from dask.system import cpu_count
from pydantic import GetJsonSchemaHandler, PlainSerializer, PlainValidator, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from diffusion_ops.registry import UnknownNameError
from pipelines.spec.errors import plain_words, refusal, unknown_key, with_got
from pipelines.store.addresses import absolute
from pipelines.tasks.workers import CLUSTERS, Cluster


def cluster_options(value: Any) -> dict[str, Any]:
    """Return the kind of a cluster and its options, of a name, an address, a mapping, or a cluster.

    Raises
    ------
    PydanticCustomError
        For what names no kind.
    """
    if isinstance(value, Cluster):
        return {"kind": value.kind, **value.model_dump(mode="json", exclude_unset=True)}
    if isinstance(value, Mapping):
        if not isinstance(value.get("kind"), str):
            raise refusal(f"the key 'kind' is missing. Allowed: {', '.join(CLUSTERS)}.")
        return {str(key): option for key, option in value.items()}
    if not isinstance(value, str) or not value:
        raise refusal(
            f"should be a name, an address, or a mapping with a kind. Allowed: {', '.join(CLUSTERS)}."
        )
    if value in CLUSTERS:
        return {"kind": value}
    meant = ((name, kind.meant_by(value)) for name, kind in CLUSTERS.items())
    found = next(({"kind": name, **options} for name, options in meant if options is not None), None)
    return found or {"kind": value}


def read_cluster(value: Any) -> Cluster:
    """Return the cluster that a user means.

    Raises
    ------
    PydanticCustomError
        For a kind that there is not, and for options that it does not have, or that are not possible.
    """
    if isinstance(value, Cluster):
        return value
    options = cluster_options(value)
    name = options.pop("kind")
    try:
        kind = CLUSTERS[name]
    except UnknownNameError as error:
        raise refusal(str(error), *(["kind"] if isinstance(value, Mapping) else [])) from None
    try:
        return kind.model_validate(options)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        at = wrong["loc"][:1]
        if wrong["type"] == "extra_forbidden":
            raise refusal(unknown_key(at[0], ["kind", *kind.model_fields]), *at) from None
        if wrong["type"] == "missing":
            about = kind.model_fields[str(at[0])].description
            raise refusal(f"{name} needs {at[0]!r}. It is: {about}") from None
        where = ".".join(map(str, wrong["loc"]))
        said = with_got(plain_words(dict(wrong)), wrong["input"])
        raise refusal(f"{where}: {said}" if where else said, *at) from None


def written_cluster(cluster: Cluster) -> str | dict[str, Any]:
    """Return a cluster as a spec says it: by its name or address alone where it has no other options."""
    options = cluster_options(cluster)
    text = str(cluster)
    return text if cluster_options(text) == options else options


def cluster_with_paths(value: Any, folder: Path) -> Any:
    """Return what a user says of a cluster with absolute paths."""
    try:
        options = cluster_options(value)
        kind = CLUSTERS[options["kind"]]
    except ValueError:
        # Whoever reads it says what is wrong.
        return value
    found = {key: options[key] for key in kind.paths if isinstance(options.get(key), str)}
    return {**options, **{key: absolute(path, folder) for key, path in found.items()}} if found else value


USUAL_MEMORY = 2 << 30
"""Memory of a run that says nothing of it."""


def usual_memory(said: Mapping[str, Any]) -> int:
    """Return the memory of a run from what else it says: more where a cluster gives each worker its own."""
    cluster = said.get("cluster")
    each, most = (cluster.worker_bytes, cluster.most_tasks) if isinstance(cluster, Cluster) else (None, None)
    return USUAL_MEMORY + (each or 0) * (most or cpu_count())


def describe_options(kind: type[Cluster]) -> list[dict[str, Any]]:
    """Return the options of a kind of cluster in order: name, type, whether required, default, meaning."""
    schema = kind.model_json_schema()
    return [
        {
            "name": name,
            "type": _type_words(one),
            "required": name in schema.get("required", ()),
            "default": one.get("default"),
            "about": one.get("description", ""),
        }
        for name, one in schema.get("properties", {}).items()
    ]


_TYPES = {
    "string": "text",
    "integer": "whole number",
    "array": "list",
    "object": "names and values",
    "boolean": "yes or no",
}


def _type_words(schema: Mapping[str, Any]) -> str:
    """Return the types of a value in words, from its JSON schema."""
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        some = [_type_words(one) for one in schema["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(some))
    name = str(schema.get("type", ""))
    return _TYPES.get(name, name)


class _AsSchema:
    """The schema for editors: a text, or one alternative per kind with its options."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string", "minLength": 1}, *map(_kind_schema, CLUSTERS)]}


def _kind_schema(name: str) -> dict[str, Any]:
    schema = CLUSTERS[name].model_json_schema()
    return {
        "title": name,
        "description": CLUSTERS[name].about,
        "type": "object",
        "properties": {"kind": {"const": name}, **schema.get("properties", {})},
        "required": ["kind", *schema.get("required", ())],
        "additionalProperties": False,
    }


ClusterField = Annotated[Cluster, PlainValidator(read_cluster), PlainSerializer(written_cluster), _AsSchema]
"""A cluster as a field of a spec."""
