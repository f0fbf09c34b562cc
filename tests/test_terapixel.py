"""The simulation of many workers adds up, and the page on a terapixel shows what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.benchmarks.bench_costs import Costs
from tests.benchmarks.simulate_cluster import LOCAL, PAGE, Simulation, Site, fill_in, plan_for, tables_of_page

STEADY = replace(LOCAL, spread=0.0)
"""Files at hand, and tasks that take the same time each."""

COSTS = replace(Costs.load(), driver_seconds=1e-9, scheduler_seconds=1e-9, round_trip=0.0)
"""What was measured, but for what is between two tasks."""


@pytest.fixture(scope="module")
def plan():
    return plan_for(40_000, 100, 4, tile=4096)


def test_one_worker_takes_the_time_of_all_tiles(plan):
    simulation = Simulation(plan, 1, COSTS, STEADY)
    work = sum(load.seconds * len(s.grid) for load, s in zip(simulation.loads, plan.stages, strict=True))
    found = simulation.run()
    assert found.seconds == pytest.approx(work, rel=1e-6)
    assert found.shares["workers"] == pytest.approx(1, rel=1e-6)
    assert found.saturated == "workers"


def test_bytes_are_those_of_the_plan_and_objects_are_written_once(plan):
    found = Simulation(plan, 4, COSTS, STEADY).run()
    summary = plan.summary()
    assert found.read == pytest.approx(summary["bytes_read"] * COSTS.packing)
    assert found.written == pytest.approx(summary["bytes_written"] * COSTS.packing)
    objects = 0
    for level in plan.levels:
        rows, columns = (-(-n // unit) for n, unit in zip(level.info.shape, level.info.chunks, strict=True))
        objects += rows * columns
    assert found.puts == pytest.approx(objects)


def test_a_slow_store_limits_any_number_of_workers(plan):
    site = replace(STEADY, store_bandwidth=1e8)
    found = [Simulation(plan, workers, COSTS, site).run() for workers in (16, 64)]
    least = (found[0].read + found[0].written) / site.store_bandwidth
    assert least <= found[1].seconds <= found[0].seconds < 1.2 * least
    assert {one.saturated for one in found} == {"store, bytes"}


def test_a_driver_that_takes_long_limits_any_number_of_workers(plan):
    found = Simulation(plan, 64, replace(COSTS, driver_seconds=5.0), STEADY).run()
    assert 5.0 * plan.tiles / 64 <= found.seconds
    assert found.saturated == "driver"


def test_requests_that_are_answered_slowly_limit_any_number_of_workers(plan):
    site = replace(STEADY, get_rate=20.0)
    found = Simulation(plan, 64, COSTS, site).run()
    assert found.gets / 20 <= found.seconds
    assert found.saturated == "store, GET"
    assert found.dollars(Site()) == pytest.approx(found.gets * 0.4e-6 + found.puts * 5e-6)


def test_workers_that_die_do_their_tiles_again_and_stragglers_keep_others_waiting(plan):
    calm = Simulation(plan, 16, COSTS, STEADY).run()
    unlucky = Simulation(plan, 16, COSTS, replace(STEADY, deaths_per_hour=60, back_seconds=1e9)).run()
    assert 0 < unlucky.again < 16
    assert unlucky.seconds > calm.seconds
    assert unlucky.read > calm.read
    assert Simulation(plan, 16, COSTS, replace(STEADY, spread=0.8)).run().seconds > calm.seconds


@pytest.mark.documents
def test_page_is_as_made():
    page = PAGE.read_text(encoding="utf-8")
    assert fill_in(page, tables_of_page()) == page, "run tests/benchmarks/simulate_cluster.py --write"
