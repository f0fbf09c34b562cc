"""Measure the memory of processes, keep it near the prediction, and say what a process takes before its tasks."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import psutil

LIBRARIES_BYTES = 190 << 20
"""Resident memory of a process that runs tasks, beside pixels and kernels: Python, the libraries, small objects.

180 to 187 MiB were measured. The code of the compiler, which is imported too, is given back.
"""

KERNELS_BYTES = 54 << 20
"""Resident memory of the kernels of an operator in a process that compiles them; 20 to 51 MiB were measured."""

LOADED_KERNELS_BYTES, LOADED_SHARE = 24 << 20, 8
"""Resident memory of the kernels of an operator in a process that only loads them, and the part, one of so many, that
is left of what the compiler takes above the usual; 18 to 22 and, of a steady state, 21 to 28 MiB were measured."""

COMPILER_BYTES = 56 << 20
"""Resident code of the compiler after kernels were loaded or made, until `give_back_compiler`."""

DRIVER_BYTES = 185 << 20
"""Resident memory of a driver that leaves its tasks to other processes, with the process that looks after these."""

STORE_CLIENT_BYTES = 32 << 20
"""Resident memory of a store's client: 13 MiB were measured at its first request, and 25 after many of 2 MiB each."""

WINDOW_BYTES = 33 << 16
"""Size from which freed arrays return to the system at once: these are windows. Smaller ones are chunks inside a
codec, of up to 2 MiB; returning each of them took two thirds of the reading time (0.17 s, now 0.05 s, for a window of
71 MB). With 8 MiB up to 15 MiB more stayed in a process, and nothing was faster."""

KEPT_BYTES = 4 << 20
"""Freed memory that each part of the allocator may keep for the next chunks."""

_COMPILER = ("libllvmlite", "libLLVM")
"""Beginnings of the names of the files with the compiler's code."""

_MAPS = "/proc/self/maps"
"""Where Linux says which files lie where in memory; some containers have no such folder."""

_MADV_DONTNEED = 4

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def steady_allocator() -> None:
    """Make freed windows go back to the system at once.

    glibc raises its thresholds as large blocks are freed and then keeps them: the peak grows with time instead of with
    the tile. The allocators of other systems return memory by themselves.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, WINDOW_BYTES)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_M_ARENA_MAX, 4)


def give_back_freed() -> None:
    """Return freed arrays that are smaller than windows to the system, before a run measures its memory."""
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def gives_back_code() -> bool:
    """Return whether this system takes pages of code back."""
    return os.path.exists(_MAPS) and hasattr(ctypes.CDLL(None), "madvise")


def give_back_compiler() -> None:
    """Return the pages of the compiler's code to the system; those that are needed again come back from their file.

    25 MiB are read as it is imported, and 50 to 55 MiB when it loads or makes a kernel, but none when a kernel runs.
    """
    if not gives_back_code():
        return
    advise = ctypes.CDLL(None).madvise
    with contextlib.suppress(OSError), open(_MAPS, encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            addresses, rights, _, _, _, *path = line.split(maxsplit=5)
            # Only code is as in its file; other parts are changed as a library is loaded.
            if rights == "r-xp" and path and Path(path[0]).name.startswith(_COMPILER):
                start, stop = (int(address, 16) for address in addresses.split("-"))
                advise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), _MADV_DONTNEED)


def peak_memory() -> tuple[int, int]:
    """Return (peak resident bytes of this process so far, process id)."""
    info = psutil.Process().memory_info()
    peak = getattr(info, "peak_wset", 0)
    if not peak:
        peak = high_water_mark() or info.rss
    return int(peak), os.getpid()


def high_water_mark(process: int | str = "self") -> int:
    """Return the largest resident bytes of a process so far (VmHWM) where the system tells it, else 0."""
    try:
        with open(f"/proc/{process}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def tasks_bytes(kernels_bytes: int = KERNELS_BYTES) -> int:
    """Return the resident bytes of a process that runs tasks, beside their pixels; without kernels these take 0."""
    return LIBRARIES_BYTES + kernels_bytes + (0 if gives_back_code() or not kernels_bytes else COMPILER_BYTES)


def loaded_kernels_bytes(kernels_bytes: int) -> int:
    """Return what is left of the bytes of compiled kernels in a process that only loads them."""
    more = max(0, kernels_bytes - KERNELS_BYTES) // LOADED_SHARE
    return min(kernels_bytes, LOADED_KERNELS_BYTES + more)


def total_memory(tasks: Sequence[int], processes: int, kernels_bytes: int = KERNELS_BYTES) -> int:
    """Return the largest resident bytes of a run; each process loads kernels, or runs tasks, when it comes to that.

    Parameters
    ----------
    tasks : sequence of int
        Bytes of each of the tasks that run at a time, at most one per process where other processes run them.
    processes : int
        Number of processes that run them, 0 for this one.
    kernels_bytes : int
        Bytes of the compiled kernels that each process holds.
    """
    loading = LIBRARIES_BYTES + kernels_bytes + COMPILER_BYTES if kernels_bytes else 0
    running = tasks_bytes(kernels_bytes)
    if not processes:
        return max(running + sum(tasks), loading)
    idle = [0] * (processes - len(tasks))
    return DRIVER_BYTES + sum(max(running + task, loading) for task in (*tasks, *idle))


def tree_memory(root: int | None = None) -> int:
    """Return the resident bytes now of a process, by default this one, and all its children."""
    total, left = 0, [os.getpid() if root is None else root]
    while left:
        number = left.pop()
        try:
            process = psutil.Process(number)
            total += process.memory_info().rss
            left.extend(_children(process))
        except (psutil.Error, OSError):
            continue
    return total


def _children(process: psutil.Process) -> list[int]:
    """Return the numbers of the processes that a process has started.

    psutil looks at all processes that there are, which takes nine times as long among 170 of them.
    """
    threads = f"/proc/{process.pid}/task"
    if not os.path.exists(f"{threads}/{process.pid}/children"):
        return [child.pid for child in process.children()]
    found: list[int] = []
    for thread in os.listdir(threads):
        # A thread may end meanwhile.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.extend(map(int, Path(threads, thread, "children").read_text(encoding="ascii").split()))
    return found


class PeakMemory:
    """Watch the resident memory of this process and its children while a context lasts."""

    SECONDS = 0.1
    """Time between two measurements."""

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
