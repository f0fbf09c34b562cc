"""Define amounts that a user writes in words: memory and time."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from dask.utils import parse_bytes, parse_timedelta
from pydantic import BeforeValidator, Field

MOST_MEMORY = 1 << 60
"""Largest amount of memory that can be said; a larger one is a mistake."""

MOST_SECONDS = 10 * 365 * 24 * 3600.0
"""Longest time that can be said."""

_CLOCK = re.compile(r"(?:(?P<days>\d+)-)?(?P<hours>\d+):(?P<minutes>[0-5]?\d)(?::(?P<seconds>[0-5]?\d))?")
"""The form in which batch systems write times: 1:30, 12:00:00, 1-12:00:00."""


def _parse_memory(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        # Dask takes a unit alone as one of it.
        amount = parse_bytes(value) if any(letter.isdigit() for letter in value) else None
    except (ValueError, OverflowError):
        amount = None
    if amount is None or amount > MOST_MEMORY:
        raise ValueError(
            f"{_cut(value)} is not an amount of memory. Allowed: 2GiB, 500 MB, or bytes, up to 1 EiB."
        )
    return amount


def _parse_time(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    clock = _CLOCK.fullmatch(value.strip())
    if clock is not None:
        days, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        return 60.0 * (60.0 * (24.0 * days + hours) + minutes) + seconds
    # Dask knows m and minutes, but not what is said most.
    said = re.sub(r"(?<=[\d ])mins?$", "m", value.strip())
    try:
        # It takes a unit alone as one of it.
        amount = float(parse_timedelta(said, default="s")) if said[:1].isdigit() else math.nan
    except (ValueError, KeyError, OverflowError):
        amount = math.nan
    if not 0 < amount <= MOST_SECONDS:
        raise ValueError(
            f"{_cut(value)} is not a time. Allowed: 90 min, 2h, HH:MM, HH:MM:SS, D-HH:MM:SS, or seconds, up to 10 "
            "years."
        )
    return amount


def _cut(value: str) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


Memory = Annotated[
    int, BeforeValidator(_parse_memory, json_schema_input_type=int | str), Field(gt=0, le=MOST_MEMORY)
]
"""Bytes, as a number or in words such as "2GiB"."""

Seconds = Annotated[
    float,
    BeforeValidator(_parse_time, json_schema_input_type=float | str),
    Field(gt=0, le=MOST_SECONDS, allow_inf_nan=False),
]
"""Seconds, as a number or in words such as "90 min" or "01:30:00"."""


def clock_text(seconds: float) -> str:
    """Return a time as batch systems read it, and never a longer one.

    Examples
    --------
    >>> clock_text(5400), clock_text(90), clock_text(30)
    ('01:30:00', '00:01:30', '00:00:30')
    """
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}"
