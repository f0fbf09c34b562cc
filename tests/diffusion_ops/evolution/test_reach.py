"""Reaches add along chains and are the widest over branches; a run of cycles spends what its halo says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.fields import make_block
from diffusion_ops.evolution.advance import advance
from diffusion_ops.evolution.legs import Leg
from diffusion_ops.evolution.operator import RateOperator
from diffusion_ops.evolution.reach import Reach, chained, widest
from diffusion_ops.evolution.schedule import Cycle
from tests.operator_samples import picture

CELLS = st.tuples(st.integers(0, 9), st.integers(0, 9))


def test_what_is_left_out_reads_nothing() -> None:
    reach = Reach((2, 3))
    assert (reach.setup, reach.start, reach.finish) == ((0, 0),) * 3
    assert reach.further == reach.step


@given(st.lists(CELLS, min_size=1))
def test_halos_add_along_a_chain_and_take_the_widest_over_branches(halos: list[tuple[int, int]]) -> None:
    assert chained(halos, 2) == (sum(a for a, _ in halos), sum(b for _, b in halos))
    assert widest(halos) == (max(a for a, _ in halos), max(b for _, b in halos))
    assert widest([chained(halos, 2), halos[0]]) == chained(halos, 2)


def test_a_chain_of_nothing_reads_nothing() -> None:
    assert chained([], 3) == (0, 0, 0)


STEP, OTHER, INERTIAL = Cycle(0.1), Cycle(0.2), Cycle(0.1, 4, inertial=True)


@pytest.mark.parametrize(
    ("reach", "cycles", "calls", "halo"),
    [
        (Reach((2,)), (STEP,) * 3 + (OTHER,), [(3, 1, 0, 6), (1, 1, 0, 2)], 8),
        (Reach((2,)), (INERTIAL,) * 2, [(1, 2, 0, 8)], 16),
        # What is frozen is frozen anew for every cycle.
        (Reach((2,), setup=(5,)), (STEP,) * 3, [(1, 3, 5, 2)], 21),
        (Reach((2,), setup=(5,)), (INERTIAL,) * 2, [(1, 2, 5, 8)], 26),
        # Only the first of equal steps meets a partition that is cut.
        (Reach((7,), further=(4,)), (STEP,) * 3 + (OTHER,), [(3, 1, 0, 15), (1, 1, 0, 7)], 22),
        (Reach((7,), setup=(1,), further=(4,)), (STEP,) * 3, [(1, 3, 1, 7)], 24),
        (Reach((1,), start=(8,), finish=(9,)), (), [], 0),
    ],
)
def test_runs_of_cycles(
    reach: Reach, cycles: tuple[Cycle, ...], calls: list[tuple[int, int, int, int]], halo: int
) -> None:
    runs = [(run.count, run.times, *run.setup, *run.steps) for run in reach.runs(cycles)]
    assert runs == calls
    assert reach.halo(cycles) == (halo,)


@pytest.mark.parametrize(("first", "setups"), [(0, 3), (1, 2), (2, 2), (3, 3)])
def test_steps_may_share_what_is_frozen(first: int, setups: int) -> None:
    """Steps whose number divides by 3 find it anew, whatever batch they are in."""
    reach = Reach((1, 1), setup=(4, 6), refresh=3)
    assert reach.halo((STEP,) * 7, first) == (7 + 4 * setups, 7 + 6 * setups)


def test_an_adaptive_step_is_two_explicit_ones() -> None:
    assert Reach((1, 2), setup=(3, 0), start=(5, 5)).adaptive_halo(4) == (2 * 4 * 4, 2 * 4 * 2)


def test_the_first_batch_starts_and_the_last_finishes() -> None:
    class Framed(Reading):
        def reach(self, spacing: tuple[float, ...]) -> Reach:
            return Reach((1, 2), start=(10, 0), finish=(0, 100))

    legs = [Leg(Framed(), (STEP,), first, last, begins=not last) for first, last in ((0, False), (1, True))]
    halos = [leg.halo((1.0, 1.0)) for leg in legs]
    assert halos == [(11, 2), (1, 102)]
    assert Leg(Framed(), (STEP,)).halo((1.0, 1.0)) == (11, 102)


class Reading(RateOperator):
    """Remembers what is spoilt when it is called."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        return Reach((1, 1), setup=(3, 2), start=(10, 10), finish=(20, 20))

    def stable_dt(self, spacing: tuple[float, ...]) -> float:
        return 1.0

    def start(self, block: Block) -> None:
        self.seen.append(block.spoilt)

    def run(self, block: Block, cycle: Cycle, count: int) -> None:
        self.seen.append(block.spoilt)

    def finish(self, block: Block) -> None:
        self.seen.append(block.spoilt)

    def rate(self, u, spacing, valid):  # type: ignore[no-untyped-def]
        raise NotImplementedError


def test_an_operator_is_told_what_is_spoilt_before_its_steps() -> None:
    """What it freezes is spent before, its steps, the start and the end after."""
    operator, block = Reading(), make_block(picture(1, 9, 9), (1.0, 1.0))
    advance(block, [Leg(operator, (STEP,) * 2)])
    assert operator.seen == [(0, 0), (13, 12), (17, 15), (18, 16)]
    assert block.spoilt == (38, 36)
