"""Format numbers, sizes and times for people."""

from __future__ import annotations

import math
from collections.abc import Iterable

from dask.utils import format_bytes


def bytes_text(count: float) -> str:
    """Return an amount of bytes: "1.50 GiB"."""
    return format_bytes(int(count))


def time_text(seconds: float | None) -> str:
    """Return a duration: "4.2 s", "3:05 min", "2:03:05 h"; "unknown" for None."""
    if seconds is None or not math.isfinite(seconds):
        return "unknown"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"


def plural(count: int, one: str) -> str:
    """Return a count of things: "1 tile", "1,024 tiles"."""
    return f"{count_text(count)} {one if count == 1 else one + 's'}"


def count_text(count: float) -> str:
    """Return a count with thousands apart."""
    return f"{count:,.0f}"


def speed_text(cell_steps_per_second: float) -> str:
    """Return pixels times steps per second: "512 Mpx·steps/s"."""
    if cell_steps_per_second < 1e6:
        return f"{cell_steps_per_second / 1e3:.0f} kpx·steps/s"
    return f"{cell_steps_per_second / 1e6:,.{0 if cell_steps_per_second >= 1e7 else 1}f} Mpx·steps/s"


def shape_text(sizes: Iterable[int], axes: str = "") -> str:
    """Return sizes: "512 × 1,024", with axes "y 512 × x 1,024"."""
    numbers = [count_text(n) for n in sizes]
    named = [f"{a} {n}" for a, n in zip(axes, numbers, strict=True)] if axes else numbers
    return " × ".join(named)
