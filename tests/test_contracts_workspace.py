"""Every operator holds the arrays that it declares, which plans count on, and none more for more steps."""

from __future__ import annotations

import gc
import itertools
import math
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from diffusion_ops.blocks.block import Block, row_pitch
from diffusion_ops.blocks.fields import make_block
from diffusion_ops.evolution.operator import OPERATORS, Operator, RateOperator
from diffusion_ops.evolution.schedule import Cycle
from diffusion_ops.families.level_filling import Partial
from tests.operator_samples import each_sample_and, picture, samples, takes

SMALL_BYTES = 1 << 16
"""Objects of Python, taps, weights."""

STEPS = 16
"""Sweeps through the cache keep a few rows of as many steps, in volumes one of each plane; too few to be declared."""

SPATIAL = {2: (251, 250), 3: (40, 39, 41)}

# Those that the tests of windows compile, and one more.
CASES = {
    "plane": (2, 1, False),
    "walls": (2, 1, True),
    "colours": (2, 3, True),
    "volume": (3, 1, False),
    "channels": (3, 3, False),
}

each_case_of_a_sample = each_sample_and(
    "case",
    CASES,
    lambda operator, case: CASES[case][0] in operator.dimensions and takes(operator, CASES[case][1]),
)


@pytest.fixture(autouse=True, scope="module")
def few_objects_to_look_through() -> None:
    """Let garbage be looked for among what the tests make only: all else took half a second each time."""
    gc.collect()
    gc.freeze()


def prepared(operator: Operator, ndim: int, channels: int, walls: bool) -> Block:
    """Return a block on which the operator has started."""
    shape = SPATIAL[ndim]
    mask = picture(*shape, seed=1) > 20 if walls else None
    block = make_block(picture(channels, *shape), (1.0,) * ndim, None, mask)
    operator.start(block)
    return block


def peak_bytes(act: Callable[[], Any]) -> int:
    """Return what an act holds at its peak beyond what was there before."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        act()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def array_bytes(ndim: int) -> int:
    """Return the size of one channel as it is stored."""
    *rows, columns = SPATIAL[ndim]
    return int(np.prod(rows)) * row_pitch(columns) * np.dtype(np.float32).itemsize


def small_bytes(ndim: int, arrays: int) -> int:
    """Return what need not be declared: rows of a sweep, and small objects."""
    *planes, _, columns = SPATIAL[ndim]
    rows = arrays * STEPS * (4 if ndim == 2 else STEPS + 4 + sum(planes))
    return SMALL_BYTES + rows * row_pitch(columns) * np.dtype(np.float32).itemsize


def cycles(operator: Operator, ndim: int, steps: int) -> Iterator[tuple[Cycle, int]]:
    """Yield cycles of some steps, and how many of them are taken at once: explicit ones, and inertial ones."""
    tau = 0.8 * operator.stable_dt((1.0,) * ndim) if operator.controlled_by == "time" else 0.0
    once = operator.controlled_by == "once" or any(operator.reach((1.0,) * ndim).setup)
    yield Cycle(tau), 1 if once else steps
    if operator.inertial_cycles:
        yield Cycle(tau, steps, inertial=True), 1


@each_case_of_a_sample
def test_a_run_holds_what_it_declares(name: str, sample: int, case: str) -> None:
    operator, (ndim, channels, walls) = samples(name)[sample], CASES[case]
    small = small_bytes(ndim, channels)
    for cycle, count in cycles(operator, ndim, 3):
        # Kernels are compiled by a first run: that takes twice as long where memory is traced.
        operator.run(prepared(operator, ndim, channels, walls), cycle, count)
        block = prepared(operator, ndim, channels, walls)
        peak = peak_bytes(lambda b=block, c=cycle, n=count: operator.run(b, c, n))
        declared = operator.extra_arrays(ndim, cycle.inertial, channels)
        declared += operator.setup_arrays(ndim, channels)
        told = f"{cycle}: declared {declared:g} arrays, held {peak / array_bytes(ndim):.2f}"
        assert peak <= declared * array_bytes(ndim) + small, told
        # Memory that is declared in vain makes tiles smaller than they need to be.
        if walls and not isinstance(operator, RateOperator):
            assert declared * array_bytes(ndim) <= 1.3 * peak + small, told


@pytest.mark.thorough
@each_sample_and(
    "case",
    ["plane", "volume"],
    lambda operator, case: (
        CASES[case][0] in operator.dimensions
        and takes(operator, CASES[case][1])
        and not isinstance(operator, RateOperator)
    ),
)
def test_more_steps_hold_no_more(name: str, sample: int, case: str) -> None:
    operator, (ndim, channels, walls) = samples(name)[sample], CASES[case]
    few, many = (list(cycles(operator, ndim, steps)) for steps in (STEPS, 3 * STEPS))
    for short, long in zip(few, many, strict=True):
        peaks = []
        operator.run(prepared(operator, ndim, channels, walls), *long)
        for cycle, count in (short, long):
            block = prepared(operator, ndim, channels, walls)
            peaks.append(peak_bytes(lambda b=block, c=cycle, n=count: operator.run(b, c, n)))
        assert abs(peaks[1] - peaks[0]) < SMALL_BYTES / 4, f"{short} held {peaks[0]}, {long} {peaks[1]} bytes"


@each_case_of_a_sample
def test_start_and_finish_hold_no_more_than_a_run(name: str, sample: int, case: str) -> None:
    operator, (ndim, channels, _) = samples(name)[sample], CASES[case]
    declared = operator.extra_arrays(ndim, operator.inertial_cycles, channels)
    declared += operator.setup_arrays(ndim, channels)
    carried = operator.carried_arrays(ndim, channels)
    most = declared * array_bytes(ndim) + small_bytes(ndim, channels)
    for peak in (lambda act: act() or 0, peak_bytes):
        # Kernels are compiled by the first one.
        block = make_block(picture(channels, *SPATIAL[ndim]), (1.0,) * ndim)
        started = peak(lambda b=block: operator.start(b))
        assert (0 if block.carried is None else len(block.carried)) == carried
        finished = peak(lambda b=block: operator.finish(b))
    assert started <= most + carried * array_bytes(ndim)
    assert finished <= most


PATTERNS = {
    "one": lambda places: np.ones(places[0].shape),
    "chessboard": lambda places: sum(places) % 2 * 2.0,
    "points": lambda places: np.prod([place % 2 for place in places], axis=0) * 2.0,
    "noise": lambda places: np.random.default_rng(0).integers(0, 250, places[0].shape).astype(float),
}
"""Tiles with one component, and with as many as there can be."""


@pytest.mark.thorough
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("shape", [(1000, 1000), (100, 100, 100), (4, 300, 300), (1, 300, 300)], ids=str)
@pytest.mark.parametrize(
    "name", [name for name in OPERATORS if any(one.completion() for one in samples(name))]
)
def test_completions_hold_what_they_declare(name: str, shape: tuple[int, ...], pattern: str) -> None:
    """A tile in the middle of an image: all of its sides are open, and of a thin one most cells are on them."""
    completion = next(found for one in samples(name) if (found := one.completion()))
    tile = PATTERNS[pattern](np.indices(shape)).astype(np.float32)
    whole = tuple(3 * n for n in shape)
    empty = np.zeros(shape, np.float32)
    tallies = {
        origin: completion.tally(tile if origin == shape else empty, origin, whole)
        for origin in itertools.product(*((0, n, 2 * n) for n in shape))
    }
    merged = completion.merge(list(tallies.values()), whole)
    completion.complete(tile, shape, whole, merged)
    sides = (tile.size - math.prod(max(0, n - 2) for n in shape)) / tile.size
    for act in (
        lambda: completion.tally(tile, shape, whole),
        lambda: completion.complete(tile, shape, whole, merged),
    ):
        held = (peak_bytes(act) - SMALL_BYTES) / tile.size
        assert held <= completion.cell_bytes + sides * completion.side_bytes


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("walls", [False, True])
def test_halving_what_is_known_holds_what_it_declares(walls: bool, channels: int, dtype: type) -> None:
    random, shape = np.random.default_rng(0), (400, 400)
    valid = random.random(shape) < (0.6 if walls else 1.1)
    known = valid & (random.random(shape) < 0.5)
    partial = Partial(np.broadcast_to(known, (channels, *shape)).astype(dtype), known, valid)
    partial.halved()  # Compiled by now.
    held = (peak_bytes(partial.halved) - SMALL_BYTES) / known.size
    declared = Partial.halved_bytes(channels, np.dtype(dtype).itemsize, walls)
    assert held <= declared <= 1.3 * held
