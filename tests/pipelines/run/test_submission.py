"""Small tiles go in groups, large ones and the last ones alone."""

from __future__ import annotations

import pytest

from pipelines.run.submission import GROUP_TILES, Submission
from pipelines.tasks.values import Outcome


@pytest.fixture
def submission() -> Submission:
    return Submission(None, None, "name", "digest", 4, None)  # type: ignore[arg-type]


def test_a_group_lasts_about_a_quarter_of_a_second(submission):
    assert submission.group_size(0, expected=0.01, left=10_000) == 25
    assert submission.group_size(0, expected=1e-9, left=10_000) == GROUP_TILES
    assert submission.group_size(0, expected=0.2, left=10_000) == 1


def test_the_last_tiles_are_shared_out(submission):
    sizes = [submission.group_size(0, expected=0.0, left=left) for left in (512, 100, 17, 16, 1)]
    assert sizes == [64, 12, 2, 2, 1]


def test_what_was_measured_counts_more_than_the_plan(submission):
    submission._measure(0, [Outcome(seconds=0.125), Outcome(seconds=0.125)])
    assert submission.group_size(0, expected=1e-9, left=10_000) == 2
    assert submission.group_size(1, expected=1e-9, left=10_000) == GROUP_TILES
