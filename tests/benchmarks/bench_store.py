"""Measure what a client of an S3 store costs a process: obstore, by which the product reaches stores, and s3fs.

    python tests/benchmarks/bench_store.py

Each client is a process of its own, against a server of this machine, whose time is not counted: requests of four
threads, small objects and such of the size of a chunk. The clients take turns; the least of three goes counts.

    cpu       processor time of the client per request
    memory    resident memory that it adds to a process, after the first request and after all
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil

from tests.pipelines.object_server import object_server

SIZES = {"2 kB": (2_000, 300), "2 MiB": (2 << 20, 48)}
"""Size of an object, and how many of them are sent and fetched."""

GOES = 3


def open_client(name: str, bucket: str) -> tuple[Callable[[str, bytes], Any], Callable[[str], bytes]]:
    """Return how a client puts an object, and how it gets one."""
    if name == "s3fs":
        import s3fs

        system = s3fs.S3FileSystem(use_listings_cache=False, max_concurrency=1)
        root = f"{bucket.partition('://')[2]}/s3fs"
        return (
            lambda key, data: system.pipe_file(f"{root}/{key}", data),
            lambda key: system.cat_file(f"{root}/{key}"),
        )
    from pipelines.store.places import place_of

    place, path = place_of(f"{bucket}/obstore")
    return (
        lambda key, data: place.write(f"{path}/{key}", data),
        lambda key: place.read(f"{path}/{key}"),
    )


def resident() -> int:
    """Return the resident bytes of this process."""
    return int(psutil.Process().memory_info().rss)


def used() -> float:
    """Return the processor time of this process so far."""
    now = resource.getrusage(resource.RUSAGE_SELF)
    return now.ru_utime + now.ru_stime


def measure(name: str, bucket: str) -> dict[str, float]:
    """Return milliseconds per request, and MiB."""
    before = resident()
    put, get = open_client(name, bucket)
    put("first", b"1")
    assert get("first") == b"1"
    found = {"memory first": (resident() - before) / 2**20}
    for what, (size, count) in SIZES.items():
        data = os.urandom(size)
        for verb, ask in (("put", lambda i, d=data: put(f"{i}", d)), ("get", lambda i: get(f"{i}"))):
            began, clock = used(), time.perf_counter()
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(ask, range(count)))
            found[f"cpu {verb} {what}"] = 1e3 * (used() - began) / count
            found[f"wall {verb} {what}"] = 1e3 * (time.perf_counter() - clock) / count
    return {**found, "memory all": (resident() - before) / 2**20}


def main() -> None:
    """Print a table."""
    if len(sys.argv) == 3:
        print(json.dumps(measure(*sys.argv[1:])))
        return
    found: dict[str, list[dict[str, float]]] = {"obstore": [], "s3fs": []}
    with object_server() as server:
        for _ in range(GOES):
            for name, rows in found.items():
                told = subprocess.check_output([sys.executable, __file__, name, server.bucket], text=True)
                rows.append(json.loads(told))
    print(f"{'':18} {'obstore':>9} {'s3fs':>9}")
    for what in found["s3fs"][0]:
        ours, theirs = (min(row[what] for row in rows) for rows in found.values())
        print(
            f"{what:18} {ours:9.2f} {theirs:9.2f} {'MiB' if 'memory' in what else 'ms'} {theirs / ours:5.1f} x"
        )


if __name__ == "__main__":
    main()
