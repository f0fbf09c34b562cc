"""Amounts in words: what they mean, and what is refused."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from pipelines.tasks.amounts import Memory, Seconds, clock_text


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (90, 90),
        ("90", 90),
        ("90 min", 5400),
        ("90min", 5400),
        ("1.5h", 5400),
        ("2 hours", 7200),
        ("01:30", 5400),
        ("01:30:05", 5405),
        ("1-12:00:00", 129600),
        ("1ms", 0.001),
    ],
)
def test_times(said, seconds):
    assert TypeAdapter(Seconds).validate_python(said) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "said", ["", "min", "h", "-1h", "0", 0, -5, "1:75", "5 parsecs", "nan", "inf", "1e99 h", []]
)
def test_what_is_no_time_is_refused(said):
    with pytest.raises(ValidationError):
        TypeAdapter(Seconds).validate_python(said)


@pytest.mark.parametrize("said", ["", "GiB", "-1GiB", 0, "2 EiB", "much", []])
def test_what_is_no_amount_of_memory_is_refused(said):
    with pytest.raises(ValidationError):
        TypeAdapter(Memory).validate_python(said)


def test_a_time_on_a_clock_is_read_back():
    for seconds in (30, 5400, 200 * 3600 + 59):
        assert TypeAdapter(Seconds).validate_python(clock_text(seconds)) == seconds
