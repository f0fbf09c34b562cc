"""Steps become chains: what follows directly is joined, and what somebody else reads or decides stands alone."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.image.frames import Frames
from pipelines.plan.graph import Chain, Known, make_chains
from pipelines.spec.spec import make_spec

FRAMES = Frames("yx", "yx", (1.0, 1.0), shape=(64, 64))
HEAT = {"operator": "heat", "steps": 4}


def chains_of(*steps: dict[str, Any], known: Known | None = None, **sections: Any) -> tuple[Chain, ...]:
    data = {"source": {"uri": "a.npy"}, "steps": list(steps), "sink": {"uri": "out.zarr"}, **sections}
    return make_chains(make_spec(data), FRAMES, known or Known())


def named(name: str, **more: Any) -> dict[str, Any]:
    return {**HEAT, "name": name, **more}


def test_steps_that_follow_each_other_are_one_chain() -> None:
    (chain,) = chains_of(named("a"), named("b"), {"operator": "gradient-magnitude", "name": "c"})
    assert chain.name == "c"
    assert chain.positions == (0, 1, 2)
    assert chain.steps == 9
    assert chain.kind == "evolve"


@pytest.mark.parametrize(
    "second",
    [
        named("b", input="source"),
        {"operator": "coherence-enhancing", "contrast": 1, "steps": 2, "name": "b", "guide": "source"},
        named("b", mask="source"),
        {"operator": "heat", "time": 2, "schedule": {"adaptive": 1.0}, "name": "b"},
        {"operator": "total-variation", "weight": 1, "steps": 9, "until": {"energy": 0.1}, "name": "b"},
    ],
    ids=["another input", "a guide", "a mask", "adaptive steps", "an early end"],
)
def test_a_step_stands_alone_where_it_reads_or_decides_something_of_its_own(second: dict[str, Any]) -> None:
    first, last = chains_of(named("a"), second, outputs=[{"name": "a", "uri": "a.zarr"}])
    assert (first.name, last.name) == ("a", "b")


def test_a_step_on_another_level_stands_alone() -> None:
    levels = [chain.level for chain in chains_of(named("a"), named("b", octave=1), named("c"))]
    assert levels == [0, 1, 0]


def test_a_result_that_two_steps_read_ends_its_chain() -> None:
    names = [chain.name for chain in chains_of(named("a"), named("b"), named("c", input="a", mask="b"))]
    assert names == ["a", "b", "c"]


def test_the_kind_of_work_comes_from_the_last_operator() -> None:
    (edges,) = chains_of(named("a"), {"operator": "canny"})
    assert edges.kind == "complete"
    (marked,) = chains_of(named("a"), {"operator": "canny", "joined": False})
    assert marked.kind == "evolve"
    (adaptive,) = chains_of({"operator": "heat", "time": 2, "schedule": {"adaptive": 1.0}})
    assert adaptive.kind == "adapt"


def test_what_was_decided_before_is_taken_over() -> None:
    step = {"operator": "total-variation", "weight": 1, "steps": 90, "until": {"energy": 0.1}}
    (planned,) = chains_of(step)
    assert len(planned.parts) > 1
    (stopped,) = chains_of(step, known=Known(stopped={0: 30}))
    assert stopped.until is None
    assert (len(stopped.parts), stopped.steps) == (1, 30)


def test_parts_between_checks_of_the_energy_are_all_steps_and_an_end_without_any() -> None:
    step = {"operator": "total-variation", "weight": 1, "steps": 45, "until": {"energy": 0.1, "every": 10}}
    (chain,) = chains_of(step)
    assert [sum(leg.steps for leg in part) for part in chain.parts] == [10, 10, 10, 10, 5, 0]
    assert [part[-1].last for part in chain.parts] == [False] * 5 + [True]
