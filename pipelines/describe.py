"""What an operator says of itself, as plain values for lists and schemas."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

from diffusion_ops.operator import Operator


def describe_operator(cls: type[Operator]) -> dict[str, Any]:
    """Return one operator as plain values."""
    return {
        "name": cls.name,
        "about": first_sentence(cls),
        "equation": cls.equation,
        "parameters": describe_parameters(cls),
        "aliases": dict(cls.aliases),
        "cells_per_step": cls.radius,
        "keeps_maximum": cls.keeps_maximum,
        "keeps_mean": cls.keeps_mean,
        "couples_channels": cls.couples_channels,
        "dimensions": list(cls.dimensions),
        "reference": cls.reference,
    }


def describe_parameters(cls: type[Operator]) -> list[dict[str, Any]]:
    """Return the parameters of an operator in order: name, type, whether required, default, unit, meaning."""
    documented = parameter_docs(cls)
    return [
        {
            "name": field.name,
            "type": str(field.type),
            "required": is_required(field),
            "default": None if is_required(field) else field.default,
            "unit": cls.units.get(field.name, ""),
            "about": documented.get(field.name, ""),
        }
        for field in operator_fields(cls)
    ]


def operator_fields(cls: type[Operator]) -> tuple[dataclasses.Field[Any], ...]:
    """Return the dataclass fields of an operator that its constructor takes."""
    return tuple(f for f in dataclasses.fields(cls) if f.init)  # type: ignore[arg-type]


def is_required(field: dataclasses.Field[Any]) -> bool:
    """Return whether a field has no default."""
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def first_sentence(cls: type[Any]) -> str:
    """Return the first line of a class's documentation, without its full stop."""
    return (inspect.getdoc(cls) or "").split("\n")[0].rstrip(".")


def parameter_docs(cls: type[Any]) -> dict[str, str]:
    """Return what the numpydoc section "Parameters" of a class says of each one."""
    text = inspect.getdoc(cls) or ""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\S[^\n]*\n-+$|\Z)", text, re.DOTALL | re.MULTILINE)
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section.group(1).splitlines() if section else []:
        if line and not line.startswith(" "):
            names = [name.strip() for name in line.split(":")[0].split(",")]
            found.update(dict.fromkeys(names, ""))
        else:
            found.update({name: f"{found[name]} {line.strip()}".strip() for name in names})
    return found
