"""Say what a run would do on many workers: the product's own plan and order of tiles, with tasks that only take time.

    python tests/benchmarks/simulate_cluster.py [--side 1000000] [--steps 100] [--workers 10 100 1000] [--write]

How long a task takes comes from costs.json (bench_costs.py measures it) and from `Site`, which says what is assumed of
store and machines. Prints a row per number of workers; `--write` puts the table into the site's page on a terapixel.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.image.info import ImageInfo
from pipelines.image.window import Grid, Region
from pipelines.plan.plan import Plan
from pipelines.plan.search import make_plan
from pipelines.plan.stage import Stage
from pipelines.record.ready_tiles import ReadyTiles
from pipelines.run.arrays import state_chunks
from pipelines.run.submission import Submission
from pipelines.spec.spec import make_spec
from tests.benchmarks.bench_costs import Costs

PAGE = Path(__file__).parents[2] / "notebooks" / "explained" / "terapixel.md"
SIDE, STEPS, WORKERS = 1_000_000, 100, (10, 100, 1000)


@dataclass(frozen=True)
class Site:
    """What is assumed of an object store and of machines; rates are per second.

    Attributes
    ----------
    worker_bandwidth, store_bandwidth : float
        Bytes of one worker, and of the store for all workers.
    get_rate, put_rate : float
        Requests that the store answers for all workers, over some ten prefixes.
    latency, at_once : float
        Seconds until the first byte of a request, and requests of one worker at a time.
    spread : float
        Standard deviation of the logarithm of a task's time: now and then a task takes twice as long.
    deaths_per_hour, back_seconds : float
        Deaths of one worker, as of preemptible machines, and seconds until another one has taken its place.
    get_price, put_price : float
        Dollars per request, as large object stores list them.
    """

    worker_bandwidth: float = 0.6e9
    store_bandwidth: float = 10e9
    get_rate: float = 50_000
    put_rate: float = 30_000
    latency: float = 0.03
    at_once: int = 16
    spread: float = 0.25
    deaths_per_hour: float = 0.05
    back_seconds: float = 180
    get_price: float = 0.4e-6
    put_price: float = 5e-6


LOCAL = Site(math.inf, math.inf, math.inf, math.inf, 0, 1, 0.05, 0, 0, 0, 0)
"""Files of this machine that the system holds in memory."""


def plan_for(side: int, steps: int, workers: int, memory: str = "2GiB", tile: int | None = None) -> Plan:
    """Return the plan of a float32 image of side x side for workers of so much memory each."""
    image = ImageInfo((side, side), np.dtype("f4"), "yx", (min(1024, side),) * 2, identity="simulated")
    spec = {
        "source": {"uri": "simulated.zarr"},
        "steps": [{"operator": "perona-malik", "contrast": 40, "conductance": "rational", "steps": steps}],
        "sink": {"uri": "simulated.ome.zarr"},
        "run": {
            "memory": f"{workers * int(memory.removesuffix('GiB'))}GiB",
            "threads": workers,
            "cluster": "tcp://scheduler:8786",
            "tile": tile,
        },
    }
    return make_plan(make_spec(spec), image)


@dataclass(frozen=True)
class Load:
    """What a tile of a stage asks for, on average.

    Attributes
    ----------
    seconds : float
        Time of a core: codecs, kernel, and what any tile takes.
    read_bytes, written_bytes : float
        As they are stored.
    gets, puts : float
        Requests.
    """

    seconds: float
    read_bytes: float
    written_bytes: float
    gets: float
    puts: float


def load_of(plan: Plan, stage: Stage, costs: Costs) -> Load:
    """Return what a tile of a stage asks for, from the plan's numbers."""
    tiles, cost = len(stage.grid), stage.cost
    computing = cost.computed * costs.kernel_ns * 1e-9 if cost.computed else cost.seconds
    moving = cost.read_bytes / costs.read_rate + cost.written_bytes / costs.write_rate
    read, shape = _array_read(plan, stage)
    gets = _objects(stage.grid, Grid(shape, read), lambda region: stage.work.window(region).read)
    puts = _objects(stage.grid, Grid(stage.grid.shape, _written(plan, stage)), lambda region: region)
    return Load(
        (computing + moving) / tiles + costs.tile_seconds,
        cost.read_bytes * costs.packing / tiles,
        cost.written_bytes * costs.packing / tiles,
        gets / tiles,
        puts / tiles,
    )


def _array_read(plan: Plan, stage: Stage) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the objects of the array that a stage reads, and the shape of that array."""
    if not stage.after:
        return plan.source.chunks, plan.source.shape
    before = plan.stages[stage.after[0]]
    return _written(plan, before), before.grid.shape


def _written(plan: Plan, stage: Stage) -> tuple[int, ...]:
    """Return the objects of the array that a stage writes: its shards, or its chunks."""
    written = stage.work.writes
    assert written is not None
    if plan.output_of(stage) is None:
        return state_chunks(written.axes, stage.grid.tile, stage.grid.shape)
    return next(level.info.chunks for level in plan.levels if level.path == written.path)


def _objects(tiles: Grid, objects: Grid, touched: Callable[[Region], Region]) -> int:
    """Return how many objects all tiles touch together: along each axis the numbers of its tiles add up."""
    total = 1
    for axis, count in enumerate(tiles.counts):
        step = math.prod(tiles.counts[axis + 1 :])
        boxes = (objects.box(touched(tiles.region(position * step))) for position in range(count))
        total *= sum(box[axis].stop - box[axis].start for box in boxes)
    return total


@dataclass
class Queue:
    """Something that all workers share, and that gives so much per second."""

    rate: float
    free: float = 0.0
    busy: float = 0.0

    def serve(self, now: float, amount: float, alone: float = math.inf) -> float:
        """Return when an amount is there; a worker by itself takes no more than `alone` per second."""
        taken = amount / self.rate
        self.free = max(now, self.free) + taken
        self.busy += taken
        return max(self.free, now + amount / alone)


@dataclass
class Result:
    """What a simulated run has taken.

    Attributes
    ----------
    seconds : float
    read, written : float
        Bytes as they are stored, tasks that were done again included.
    gets, puts : float
    again : int
        Tasks that were lost with their worker.
    shares : dict
        Part of the time for which each resource was busy; of workers, with codecs and kernels.
    running : list of (float, int)
        Number of tasks at work, over time.
    """

    seconds: float = 0.0
    read: float = 0.0
    written: float = 0.0
    gets: float = 0.0
    puts: float = 0.0
    again: int = 0
    shares: dict[str, float] = field(default_factory=dict)
    running: list[tuple[float, int]] = field(default_factory=list)

    def dollars(self, site: Site) -> float:
        """Return the price of the requests."""
        return self.gets * site.get_price + self.puts * site.put_price

    @property
    def saturated(self) -> str:
        """What was busy for the largest part of the time."""
        return max(self.shares, key=self.shares.__getitem__)


@dataclass
class Group:
    """Tiles that one task does one after another, and when its worker dies."""

    tiles: list[tuple[int, int]]
    load: Load
    dies: float = math.inf

    @property
    def count(self) -> int:
        """Number of tiles."""
        return len(self.tiles)


class Simulation:
    """A run: tiles in the product's order, in its groups, as many groups at a time as there are workers.

    A group reads, computes and writes; each of these is an event, so that workers share store, driver and scheduler in
    the order of time.
    """

    def __init__(self, plan: Plan, workers: int, costs: Costs, site: Site, seed: int = 0) -> None:
        self.ready = ReadyTiles(plan.stages)
        self.loads = [load_of(plan, stage, costs) for stage in plan.stages]
        nothing: Any = None  # no tile is given to anybody: only the sizes of groups are asked for
        self.groups = Submission(nothing, nothing, "", "", workers, nothing)
        self.random, self.site, self.found = np.random.default_rng(seed), site, Result()
        self.workers, self.idle, self.computing = workers, workers, 0.0
        self.driver, self.scheduler = Queue(1 / costs.driver_seconds), Queue(1 / costs.scheduler_seconds)
        self.bytes, self.round_trip = Queue(site.store_bandwidth), costs.round_trip
        self.requests = {"GET": Queue(site.get_rate), "PUT": Queue(site.put_rate)}
        self._events: list[tuple[float, int, Callable[[float, Group], None], Group]] = []
        self._order = itertools.count()
        self._lost: list[Group] = []

    def run(self) -> Result:
        """Return what the run takes."""
        now = 0.0
        self._hand_out(now)
        while self._events:
            now, _, happen, group = heapq.heappop(self._events)
            happen(now, group)
        found = self.found
        # Workers that come later than the last tile do not count.
        now = found.seconds
        found.shares = {"workers": self.computing / (now * self.workers)}
        queues = {"driver": self.driver, "scheduler": self.scheduler, "store, bytes": self.bytes}
        queues |= {f"store, {name}": queue for name, queue in self.requests.items()}
        found.shares |= {name: queue.busy / now for name, queue in queues.items()}
        return found

    def _push(self, when: float, happen: Callable[[float, Group], None], group: Group) -> None:
        heapq.heappush(self._events, (when, next(self._order), happen, group))

    def _at(self, when: float, happen: Callable[[float, Group], None], group: Group) -> None:
        """Let something happen to a group, unless its worker dies first."""
        if when <= group.dies:
            self._push(when, happen, group)
        else:
            self._push(group.dies, self._die, group)

    def _die(self, now: float, group: Group) -> None:
        """Give the group of a dead worker to the next one that is idle; another worker comes in its place."""
        self.found.again += 1
        group.dies = math.inf
        self._lost.append(group)
        self._push(now + self.site.back_seconds, self._join, group)
        self._hand_out(now)

    def _join(self, now: float, _: Group) -> None:
        self.idle += 1
        self._hand_out(now)

    def _hand_out(self, now: float) -> None:
        while self.idle and (group := self._next(now)) is not None:
            self.idle -= 1
            self._at(self.scheduler.serve(max(now, self.driver.free), 1), self._begin, group)
        self.found.running.append((now, self.workers - self.idle))

    def _next(self, now: float) -> Group | None:
        if self._lost:
            return self._lost.pop()
        first = self.ready.next()
        if first is None:
            return None
        stage = first[0]
        self.driver.serve(now, 1)
        size = self.groups.group_size(stage, self.loads[stage].seconds, self.ready.left_of(stage))
        return Group([first, *self.ready.more(stage, size - 1)], self.loads[stage])

    def _begin(self, now: float, group: Group) -> None:
        deaths = self.site.deaths_per_hour
        group.dies = now + self.random.exponential(3600 / deaths) if deaths else math.inf
        self.found.read += group.count * group.load.read_bytes
        self.found.gets += group.count * group.load.gets
        moved = self._move(now, group, group.load.read_bytes, group.load.gets, "GET")
        self._at(moved, self._compute, group)

    def _compute(self, now: float, group: Group) -> None:
        # Of mean 1, with a long tail.
        luck = self.random.lognormal(-(self.site.spread**2) / 2, self.site.spread)
        taken = group.count * group.load.seconds * luck
        self.computing += min(taken, group.dies - now)
        self._at(now + taken, self._write, group)

    def _write(self, now: float, group: Group) -> None:
        self.found.written += group.count * group.load.written_bytes
        self.found.puts += group.count * group.load.puts
        moved = self._move(now, group, group.load.written_bytes, group.load.puts, "PUT")
        self._at(moved, self._end, group)

    def _move(self, now: float, group: Group, amount: float, requests: float, kind: str) -> float:
        """Return when all requests of a group have been answered, and their bytes have come or gone."""
        answered = self.requests[kind].serve(now, group.count * requests)
        waited = group.count * math.ceil(requests / self.site.at_once) * self.site.latency
        moved = self.bytes.serve(now, group.count * amount, self.site.worker_bandwidth)
        return max(answered, moved) + waited

    def _end(self, now: float, group: Group) -> None:
        group.dies = math.inf
        self._at(now + self.round_trip, self._take, group)

    def _take(self, now: float, group: Group) -> None:
        self.idle += 1
        self.found.seconds = now
        for tile in group.tiles:
            self.ready.release(*tile)
            self.ready.finish(*tile, {})
        self._hand_out(now)


# ---- words


def time_text(seconds: float) -> str:
    """Return a time for people."""
    if seconds >= 2 * 3600:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} s"


Row = tuple[str, Callable[[Plan, Result], str]]


def rows(costs: Costs, site: Site) -> list[Row]:
    """Return the rows of the table: words, and how a number comes from a plan and a simulation."""
    return [
        ("tile", lambda plan, _: " x ".join(map(str, plan.geometry.tile))),
        ("tiles, and with those of the pyramid", lambda p, _: f"{len(p.stages[0].grid):,} and {p.tiles:,}"),
        ("halo, and redundant work", lambda plan, _: _halo(plan)),
        ("memory per worker", lambda plan, _: f"{plan.worker_bytes / 2**30:.2f} GiB"),
        ("time", lambda _, found: f"**{time_text(found.seconds)}**"),
        ("read and written, as stored", lambda _, f: f"{f.read / 1e12:.1f} TB and {f.written / 1e12:.1f} TB"),
        (
            "GET and PUT requests",
            lambda _, found: f"{found.gets / 1e6:.1f} and {found.puts / 1e6:.2f} million",
        ),
        ("price of requests", lambda _, found: f"{found.dollars(site):.0f} $"),
        ("tasks lost with their workers", lambda _, found: f"{found.again:,}"),
        ("workers compute", _busy("workers")),
        *[(f"{name}, busy", _busy(name)) for name in ("store, bytes", "driver", "scheduler")],
        ("saturated first", lambda _, found: found.saturated),
        ("driver", lambda plan, _: _memory(costs.driver_bytes, costs.driver_growth, plan)),
        ("scheduler", lambda plan, _: _memory(costs.scheduler_bytes, costs.scheduler_growth, plan)),
    ]


def _busy(name: str) -> Callable[[Plan, Result], str]:
    return lambda _, found: f"{found.shares[name]:.0%}"


def _halo(plan: Plan) -> str:
    summary = plan.summary()
    return f"{summary['halo'][0][0]} cells, {summary['redundancy'] - 1:.1%}"


def _memory(most: int, growth: float, plan: Plan) -> str:
    """Return the memory that was measured, and what it would have grown by for these tiles."""
    return f"{(most + max(0.0, growth) * plan.tiles) / 2**20:.0f} MiB"


def make_table(side: int, steps: int, workers: Sequence[int], costs: Costs, site: Site) -> str:
    """Return the table of the page."""
    plans = [plan_for(side, steps, count) for count in workers]
    found = [Simulation(plan, n, costs, site).run() for plan, n in zip(plans, workers, strict=True)]
    title = f"10^{math.log10(side**2):.0f} pixels of float32, {steps} steps"
    lines = ["| " + " | ".join([title, *(f"{count:,} workers" for count in workers)]) + " |"]
    lines.append("|---" * (len(workers) + 1) + "|")
    for words, number in rows(costs, site):
        numbers = (number(plan, one) for plan, one in zip(plans, found, strict=True))
        lines.append("| " + " | ".join([words, *numbers]) + " |")
    return "\n".join(lines)


def costs_table(costs: Costs) -> str:
    """Return what was measured, as a table."""
    return _table(
        (
            "kernel, Perona-Malik with the rational conductance",
            f"{costs.kernel_ns:.2f} ns per pixel and step",
        ),
        ("reading through the codecs", f"{costs.read_rate / 1e6:,.0f} MB/s per worker, decoded"),
        ("writing through the codecs", f"{costs.write_rate / 1e6:,.0f} MB/s per worker, decoded"),
        ("any tile beside these, at the worker", f"{costs.tile_seconds * 1e3:.1f} ms"),
        ("a task, at the driver", f"{costs.driver_seconds * 1e3:.1f} ms"),
        ("a task, at the scheduler", f"{costs.scheduler_seconds * 1e3:.1f} ms"),
        ("from a worker's task to its next one", f"{costs.round_trip * 1e3:.0f} ms"),
        ("resident memory of the driver", _grown(costs.driver_bytes, costs.driver_growth)),
        ("resident memory of the scheduler", _grown(costs.scheduler_bytes, costs.scheduler_growth)),
        ("stored bytes per byte", f"{costs.packing:.2f}"),
    )


def _grown(most: int, growth: float) -> str:
    return f"{most / 2**20:.0f} MiB, growing by {growth:.0f} bytes per tile"


def site_table(site: Site) -> str:
    """Return what is assumed, as a table."""
    return _table(
        ("bandwidth of a worker", f"{site.worker_bandwidth / 1e9:g} GB/s"),
        ("bandwidth of the store, in all", f"{site.store_bandwidth / 1e9:g} GB/s"),
        ("requests per second, in all", f"{site.get_rate:,} GET, {site.put_rate:,} PUT"),
        ("answer of a request", f"after {site.latency * 1e3:g} ms, {site.at_once} at a time per worker"),
        ("time of a task", f"log-normal, with {site.spread:g} as the deviation of its logarithm"),
        (
            "deaths",
            f"{site.deaths_per_hour:g} per worker and hour; the next is there in {site.back_seconds:g} s",
        ),
        ("price", f"{site.get_price * 1e6:g} $ per million GET, {site.put_price * 1e6:g} $ per million PUT"),
    )


def _table(*lines: tuple[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {words} | {value} |" for words, value in lines)])


def fill_in(page: str, tables: Mapping[str, str]) -> str:
    """Return a page with its tables made anew, each between two remarks that name it."""
    for name, table in tables.items():
        begin, end = (
            f"<!-- {name}: made by tests/benchmarks/simulate_cluster.py -->",
            f"<!-- end of {name} -->",
        )
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        page = f"{before}{begin}\n\n{table}\n\n{end}{after}"
    return page


def tables_of_page(side: int = SIDE, steps: int = STEPS, workers: Sequence[int] = WORKERS) -> dict[str, str]:
    """Return the tables of the page on a terapixel."""
    costs, site = Costs.load(), Site()
    table = make_table(side, steps, workers, costs, site)
    return {"table": table, "costs": costs_table(costs), "site": site_table(site)}


def main() -> None:
    """Print the tables, and write them into the page where that is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    tables = tables_of_page(asked.side, asked.steps, asked.workers)
    print("\n\n".join(tables.values()))
    if asked.write:
        PAGE.write_text(fill_in(PAGE.read_text(encoding="utf-8"), tables), encoding="utf-8")


if __name__ == "__main__":
    main()
