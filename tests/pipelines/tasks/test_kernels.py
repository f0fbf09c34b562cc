"""Kernels are loaded without what the stage before has left, and what went wrong first is said."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diffusion_ops.blocks.spare import SMALLEST_WINDOW, keep_window, window_memory
from pipelines.tasks.kernels import load_kernels, load_kernels_once
from pipelines.tasks.work import Work
from tests.pipelines.tasks.test_group import Picky


@dataclass(frozen=True)
class Rehearsed(Picky):
    """Work that takes new memory where it is rehearsed, and fails for any walls."""

    kept: list[Any] = field(default_factory=list)
    may_have_walls = True

    def rehearse(self, walls: bool) -> None:
        """Take memory for a window."""
        self.kept.append(window_memory((SMALLEST_WINDOW,), np.uint8))
        raise ValueError(f"walls: {walls}")


def test_the_first_error_is_said():
    work: Work = Rehearsed()
    assert load_kernels(work) == "ValueError: walls: False"


def test_a_thread_gives_back_what_it_keeps_before_kernels_are_loaded():
    before, work = window_memory((SMALLEST_WINDOW,), np.uint8), Rehearsed()
    before[...] = 1
    keep_window(before)
    load_kernels_once("a stage of this test", work)
    assert not work.kept[0].any()
    load_kernels_once("a stage of this test", work)
    assert len(work.kept) == 2
