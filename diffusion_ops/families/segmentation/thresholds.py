"""Thresholds between classes of values: the parameter, its automatic choice, and the classes of a field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from diffusion_ops.blocks.block import Floats
from diffusion_ops.blocks.statistic import Statistic, make_statistic
from diffusion_ops.evolution.number_lists import Numbers
from diffusion_ops.evolution.parameters import AUTO, Count

CLASSES = Count(least=2, most=64)
"""Number of classes or phases."""


def _by_otsu(values: Mapping[str, Any]) -> tuple[Statistic, ...] | Literal["auto"]:
    """Return the thresholds of least variance within classes, unless nothing starts from thresholds."""
    if values.get("start_from", "thresholds") != "thresholds":
        return AUTO
    classes = values.get("classes", 2)
    return tuple(make_statistic("otsu", classes=classes, number=i + 1) for i in range(classes - 1))


THRESHOLDS = Numbers(unit="image units", statistic=True, rising=True, automatic=_by_otsu)
"""Values above which a cell belongs to the next class; "auto" are Otsu's for the parameter `classes`."""


def check_thresholds(thresholds: Sequence[object], classes: int) -> None:
    """Refuse another number of thresholds than one less than the classes."""
    if len(thresholds) != classes - 1:
        raise ValueError(
            f"thresholds={tuple(thresholds)!r} are {len(thresholds)} for {classes} classes. "
            f"Allowed: {classes - 1}, one between each two classes, or 'auto'."
        )


def classes_of(values: Floats, thresholds: Sequence[Any]) -> Floats:
    """Return how many thresholds each value is above, in the type of the values."""
    found = np.zeros_like(values)
    for threshold in thresholds:
        # In the values' own type: a threshold that was found among them must not lie between them.
        found += values > values.dtype.type(threshold)
    return found
