"""Memory that is kept is used again by the same thread, and only once nobody reads it any more."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from diffusion_ops.blocks.spare import (
    SMALLEST_WINDOW,
    keep_window,
    release_spare,
    release_window,
    window_memory,
)

SHAPE = (4, SMALLEST_WINDOW // 16)


@pytest.fixture(autouse=True)
def nothing_kept():
    release_spare()
    yield
    release_spare()


def test_a_kept_window_is_used_once():
    first = window_memory(SHAPE, np.float32)
    address = first.ctypes.data
    keep_window(first[1:, ::2])
    second, third = window_memory(SHAPE, np.float32), window_memory(SHAPE, np.float32)
    assert second.ctypes.data == address
    assert not np.may_share_memory(second, third)


def test_a_window_that_was_not_kept_is_left_alone():
    first = window_memory(SHAPE, np.float32)
    first[...] = 1
    window_memory(SHAPE, np.float32)[...] = 2
    assert (first == 1).all()


def test_a_larger_window_and_one_of_less_than_half_take_other_memory():
    for other in ((8, SHAPE[1]), (1, SHAPE[1] + 64)):
        first = window_memory(SHAPE, np.float64)
        keep_window(first)
        second = window_memory(other, np.float64)
        assert second.shape == other
        second[...] = 2
        release_spare()


@pytest.mark.parametrize("array", [np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.uint8)])
def test_memory_from_elsewhere_is_not_kept(array):
    keep_window(array)
    assert not np.may_share_memory(window_memory(array.shape, array.dtype), array)


def test_a_released_window_and_another_thread_get_new_memory():
    first, found = window_memory(SHAPE, np.float32), []
    keep_window(first)
    thread = threading.Thread(target=lambda: found.append(window_memory(SHAPE, np.float32)))
    thread.start()
    thread.join()
    release_window()
    found.append(window_memory(SHAPE, np.float32))
    assert not any(np.may_share_memory(first, other) for other in found)
