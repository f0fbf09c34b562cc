"""Keep memory near its prediction, and measure it."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from types import TracebackType

import psutil

BASE_BYTES = 280 << 20
"""Resident memory of a process of ours before it touches a pixel: Python, the compiled kernels and the libraries."""

WINDOW_BYTES = 8 << 20
"""Arrays from here on are windows: freed, they go back to the system at once. Smaller ones are chunks on their
way through a codec: going back and forth with the system for each cost two thirds of the time of reading
(0.17 s, now 0.05 s, for a window of 71 MB)."""

KEPT_BYTES = 32 << 20
"""What the allocator may keep for the next chunks."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def steady_allocator() -> None:
    """Make freed windows go back to the system at once.

    glibc raises its thresholds as large blocks are freed and then keeps them: the peak grows with time instead of with
    the tile. Elsewhere the allocators give back by themselves.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, WINDOW_BYTES)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_M_ARENA_MAX, 4)


def give_back_freed() -> None:
    """Give the system what was freed in parts too small to be windows, before a run counts its memory."""
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def peak_memory() -> tuple[int, int]:
    """Return (peak resident bytes of this process so far, process id)."""
    info = psutil.Process().memory_info()
    peak = getattr(info, "peak_wset", 0)
    if not peak:
        peak = _high_water_mark() or info.rss
    return int(peak), os.getpid()


def _high_water_mark() -> int:
    """Return VmHWM where the system has it, else 0."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def total_memory(tasks: int, processes: int) -> int:
    """Return the resident bytes of a run: what every process holds before its first pixel, and the tasks at a time."""
    return BASE_BYTES * (1 + processes) + tasks


def tree_memory() -> int:
    """Return the resident bytes of this process and all its children now."""
    total = 0
    process = psutil.Process()
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_info().rss
        except psutil.Error:
            continue
    return total


class PeakMemory:
    """Watch the resident memory of this process and its children while a context lasts."""

    SECONDS = 0.1
    """Between two looks."""

    def __init__(self) -> None:
        self.now = self.peak = tree_memory()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="peak-memory")

    def _watch(self) -> None:
        while not self._stop.wait(self.SECONDS):
            self.now = tree_memory()
            self.peak = max(self.peak, self.now)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
