"""Numbers as people read them."""

import pytest

from pipelines.cli.wording import bytes_text, shape_text, speed_text, time_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (59.97, "1:00 min"),
        (185, "3:05 min"),
        (7385, "2:03:05 h"),
        (None, "unknown"),
        (float("inf"), "unknown"),
    ],
)
def test_durations(seconds, text):
    assert time_text(seconds) == text


def test_sizes_speeds_and_bytes():
    assert shape_text((512, 1024)) == "512 × 1,024"
    assert shape_text((512, 1024), "yx") == "y 512 × x 1,024"
    assert speed_text(512e6) == "512 Mpx·steps/s"
    assert speed_text(1.2e6) == "1.2 Mpx·steps/s"
    assert speed_text(3.4e4) == "34 kpx·steps/s"
    assert bytes_text(1.5 * 2**30) == "1.50 GiB"
