"""What an operator says of itself, as plain values for lists and schemas."""

from __future__ import annotations

import inspect
import re
import sys
from typing import Any

from diffusion_ops.evolution.operator import Operator
from diffusion_ops.evolution.reach import Reach


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
        "goes_by": cls.controlled_by,
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


_REACHES = {"step": "step", "cycle": "setup", "start": "start", "finish": "finish"}
"""What reads beyond what it writes, and the part of its reach that says how far."""


def describe_halo(cls: type[Operator]) -> dict[str, dict[str, Any]]:
    """Return how far a step, what is frozen in a cycle, the start and the finish read: cells and why.

    Cells are on each side for spacing 1 and the usual parameters, 1 where one is required; None where those do not go
    together, or where the whole image is read. What reads nothing is left out.
    """
    reach = _usual_reach(cls)
    reasons = {} if cls.reach is Operator.reach else _reasons(cls.reach)
    parts = {}
    for part, name in _REACHES.items():
        cells = None if reach is None else max(getattr(reach, name))
        if part == "step" or name in reasons or cells:
            parts[part] = {"cells": cells, "about": reasons.get(name, "")}
    return parts


def _usual_reach(cls: type[Operator]) -> Reach | None:
    try:
        usual = cls(**{name: 1.0 for name, one in cls.parameters().items() if one.required})
        return usual.reach((1.0,) * cls.dimensions[0])
    except (TypeError, ValueError, NotImplementedError):
        # What has a kind of work of its own need not have a finite reach.
        return None


def _reasons(reach: Any) -> dict[str, str]:
    """Return what an operator's `reach` says of its parts: in its section Returns, else its first line of the step."""
    parts = documented(reach, "Returns")
    return parts or {"step": first_sentence(reach).removeprefix("Return ")}


def describe_parameters(cls: type[Operator]) -> list[dict[str, Any]]:
    """Return the parameters of an operator in order: name, type, range, whether required, default, unit, meaning."""
    about = documented(cls, "Parameters")
    return [
        {
            "name": name,
            "type": one.type,
            "range": one.range,
            "required": one.required,
            "default": None if one.required else one.default,
            "unit": one.unit,
            "about": about.get(name, ""),
        }
        for name, one in cls.parameters().items()
    ]


def first_sentence(cls: Any) -> str:
    """Return the first line of the documentation of a class or a function, without its full stop."""
    return (inspect.getdoc(cls) or "").split("\n")[0].rstrip(".")


def documented(thing: Any, title: str) -> dict[str, str]:
    """Return what a numpydoc section of a class or a function, such as "Parameters", says of each name."""
    text = inspect.getdoc(thing) or ""
    section = re.search(rf"^{title}\n-+\n(.*?)(?=^\S[^\n]*\n-+$|\Z)", text, re.DOTALL | re.MULTILINE)
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section.group(1).splitlines() if section else []:
        if line and not line.startswith(" "):
            names = [name.strip() for name in line.split(":")[0].split(",")]
            found.update(dict.fromkeys(names, ""))
        else:
            found.update({name: f"{found[name]} {line.strip()}".strip() for name in names})
    return found
