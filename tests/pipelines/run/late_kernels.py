"""Carry out every job of bench_memory, and print which kernels were made or loaded by a tile: too late.

    python -m tests.pipelines.run.late_kernels FOLDER

Each job is a process of its own, forked before any kernel is there, and prints a line of JSON: its name, the kernels,
and what went wrong.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

from numba.core.dispatcher import Dispatcher

from diffusion_ops.evolution.operator import OPERATORS
from pipelines.run.run import run
from pipelines.spec.spec import make_spec
from pipelines.tasks.work import Work
from tests.benchmarks.bench_memory import CHAINS, JOBS, job_of, make_source, parts_of

SIDE = 150


def note_late_kernels() -> list[str]:
    """Return a list to which every kernel is added that a tile brings into the process."""
    late: list[str] = []
    busy: list[str] = []
    perform, add = Work.perform, Dispatcher.add_overload

    def perform_noting(self: Work, *words: Any) -> Any:
        busy.append(type(self).__name__)
        try:
            return perform(self, *words)
        finally:
            busy.pop()

    def add_noting(self: Dispatcher, made: Any) -> None:
        if busy:
            function = self.py_func
            late.append(f"{busy[-1]}: {function.__module__}.{function.__qualname__} {made.signature.args}")
        add(self, made)

    patch.object(Work, "perform", perform_noting).start()
    patch.object(Dispatcher, "add_overload", add_noting).start()
    return late


def carry_out(name: str, folder: Path) -> None:
    """Carry out a job on an image with holes, with one thread."""
    folder.mkdir()
    os.chdir(folder)
    late, failed = note_late_kernels(), ""
    flat = name in CHAINS or 2 in OPERATORS[name].dimensions
    make_source(folder / "source.zarr", SIDE, 0 if flat else 8)
    parts = parts_of(folder, folder / "source.zarr", job_of(name, SIDE))
    parts["run"] = {"tile": 64, "threads": 1, "memory": "20GiB"}
    try:
        run(make_spec(parts))
    except Exception as error:
        failed = f"{type(error).__name__}: {error}"
    print(json.dumps({"job": name, "late": late, "failed": failed}), flush=True)


def main() -> None:
    """Carry out all jobs one by one."""
    context = multiprocessing.get_context("fork")
    for number, name in enumerate(JOBS):
        process = context.Process(target=carry_out, args=(name, Path(sys.argv[1], str(number))))
        process.start()
        process.join()


if __name__ == "__main__":
    main()
