"""Check one parameter of an operator: its range and unit in words, the name first."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real


def check_number(name: str, value: object, *, positive: bool, unit: str) -> None:
    """Refuse what is not a finite number > 0, or >= 0 where `positive` is False.

    Raises
    ------
    ValueError
        With the parameter, what was given, the range and its unit.
    """
    ok = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not ok or float(value) < 0 or (positive and float(value) == 0):  # type: ignore[arg-type]
        raise ValueError(
            f"{name}={value!r} is not possible. Allowed: a number {'>' if positive else '>='} 0, in {unit}."
        )


def check_count(name: str, value: object, *, least: int = 1) -> None:
    """Refuse what is not a whole number of at least `least`.

    Raises
    ------
    ValueError
        With the parameter, what was given and the smallest allowed number.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least:
        raise ValueError(f"{name}={value!r} is not possible. Allowed: a whole number >= {least}.")


def check_choice(name: str, value: object, allowed: Iterable[object]) -> None:
    """Refuse what is not one of the allowed values; True is not taken for 1.

    Raises
    ------
    ValueError
        With the parameter, what was given and every allowed value.
    """
    choices = tuple(allowed)
    if not any(isinstance(value, bool) == isinstance(choice, bool) and value == choice for choice in choices):
        listed = ", ".join(str(choice) for choice in choices)
        raise ValueError(f"{name}={value!r} is not known. Allowed: {listed}.")
