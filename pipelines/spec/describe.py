"""What an operator says of itself, as plain values for lists and schemas."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from typing import Any

from diffusion_ops.evolution.operator import Map, Operator


def describe_operator(cls: type[Operator]) -> dict[str, Any]:
    """Return one operator as plain values."""
    title, purpose = title_and_purpose(cls)
    return {
        "name": cls.name,
        "title": title,
        "purpose": purpose,
        "module": cls.__module__,
        "about": first_sentence(cls),
        "equation": cls.equation,
        "parameters": describe_parameters(cls),
        "aliases": cls.aliases(),
        "goes_by": cls.marches,
        "cycles": cls.inertial_cycles,
        "halo": describe_halo(cls),
        "reads_guide": cls.reads_guide,
        "keeps_maximum": cls.keeps_maximum,
        "keeps_mean": cls.keeps_mean,
        "couples_channels": cls.couples_channels,
        "dimensions": list(cls.dimensions),
        "reference": cls.reference,
    }


def title_and_purpose(cls: type[Operator]) -> tuple[str, str]:
    """Return the title of an operator and what it is for: its file begins with "Title: purpose".

    A file that does not leaves the name of the class, and the first line of its documentation.
    """
    title, colon, purpose = first_sentence(sys.modules[cls.__module__]).partition(": ")
    return (title, purpose) if colon else (cls.__name__, first_sentence(cls))


_REACHES = {
    "step": "step_radius",
    "cycle": "setup_radius",
    "start": "start_radius",
    "finish": "finish_radius",
}
"""What reads beyond what it writes, and the method that says how far."""


def describe_halo(cls: type[Operator]) -> dict[str, dict[str, Any]]:
    """Return how far a step, what is frozen in a cycle, the start and the finish read: cells and why.

    Cells are on each side for spacing 1 and the usual parameters, 1 where one is required; None where those do not go
    together, or where the whole image is read. What reads nothing is left out.
    """
    spacing = (1.0,) * cls.dimensions[0]
    usual = _usual(cls)
    parts = {}
    for part, method in _REACHES.items():
        method = "reach" if part == "step" and issubclass(cls, Map) else method
        own = getattr(cls, method) is not getattr(Operator, method, None)
        if own or part == "step":
            cells = None if usual is None else _cells(getattr(usual, method), spacing)
            parts[part] = {"cells": cells, "about": _returned(getattr(cls, method)) if own else ""}
    return parts


def _cells(radius: Callable[[tuple[float, ...]], tuple[int, ...]], spacing: tuple[float, ...]) -> int | None:
    try:
        return max(radius(spacing))
    except NotImplementedError:
        # What has a kind of work of its own need not have a finite reach.
        return None


def _usual(cls: type[Operator]) -> Operator | None:
    try:
        return cls(**{name: 1.0 for name, one in cls.parameters().items() if one.required})
    except (TypeError, ValueError):
        return None


def _returned(method: Any) -> str:
    """Return what a method says that it returns, without the verb and the full stop."""
    return first_sentence(method).removeprefix("Return ")


def describe_parameters(cls: type[Operator]) -> list[dict[str, Any]]:
    """Return the parameters of an operator in order: name, type, range, whether required, default, unit, meaning."""
    documented = parameter_docs(cls)
    return [
        {
            "name": name,
            "type": one.type,
            "range": one.range,
            "required": one.required,
            "default": None if one.required else one.default,
            "unit": one.unit,
            "about": documented.get(name, ""),
        }
        for name, one in cls.parameters().items()
    ]


def first_sentence(cls: Any) -> str:
    """Return the first line of the documentation of a class or a function, without its full stop."""
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
