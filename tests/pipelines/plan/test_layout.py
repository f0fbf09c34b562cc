"""Stages of a run, asked of the plan alone: what comes after what, and what must not be there at the same time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipelines.image.info import ImageInfo
from pipelines.plan.plan import Begun, Geometry, Plan
from pipelines.plan.search import PlanError, make_plan
from pipelines.plan.stages import lay_out_chain
from pipelines.spec.spec import make_spec

SOURCE = ImageInfo((300, 400), np.dtype("float32"), "yx", (64, 64), identity="synthetic")


def plan_of(*steps: dict[str, Any], begun: Begun | None = None, roi: Any = None, **sections: Any) -> Plan:
    data = {
        "source": {"uri": "/a.npy"},
        "steps": list(steps),
        "sink": {"uri": "/out.ome.zarr", "chunk": 64, "pyramid": "none"},
        "run": {"tile": 128, "batch": 4, "threads": 2, "memory": "2GiB"},
        **sections,
    }
    return make_plan(make_spec(data), SOURCE, begun=begun, roi=roi)


def titles(plan: Plan) -> list[str]:
    return [stage.title for stage in plan.stages]


def test_a_batch_reads_the_one_before_and_waits_for_the_state_that_must_be_gone() -> None:
    plan = plan_of({"operator": "heat", "steps": 16})
    assert titles(plan) == ["heat (4 steps)"] * 4
    assert [stage.after for stage in plan.stages] == [(), (0,), (1,), (2,)]
    # Three states at most lie on disk: the fourth batch begins when nobody reads the first any more.
    assert [stage.needs for stage in plan.stages] == [(), (), (0,), (1,)]


def test_a_statistic_is_measured_before_the_operator_that_needs_it() -> None:
    plan = plan_of(
        {"operator": "heat", "steps": 4},
        {"operator": "perona-malik", "contrast": {"quantile": 0.5}, "steps": 4},
    )
    assert titles(plan) == ["heat (4 steps)", "measure contrast for perona-malik", "perona-malik (4 steps)"]
    assert plan.stages[1].after == (0,)
    assert plan.stages[2].needs == (1,)


def test_adaptive_steps_are_one_stage_and_the_end_waits_for_all_of_its_tiles() -> None:
    plan = plan_of({"operator": "heat", "time": 2, "schedule": {"adaptive": 1.0}})
    assert titles(plan) == ["heat (adaptive)", "copy"]
    assert plan.stages[1].needs == (0,)


def test_what_is_completed_over_the_image_is_told_first() -> None:
    plan = plan_of({"operator": "canny", "low": 1, "high": 2})
    assert titles(plan) == ["canny (1 steps)", "join edges: tell", "join edges"]
    assert plan.stages[2].after == (0,)
    assert plan.stages[2].needs == (1,)


def test_levels_of_steps_and_further_results_are_stages_of_the_same_plan() -> None:
    plan = plan_of(
        {"operator": "heat", "steps": 2, "octave": 1, "name": "coarse"},
        {"operator": "heat", "steps": 2, "name": "fine"},
        outputs=[{"name": "coarse", "uri": "/coarse.ome.zarr", "residual": True}],
    )
    assert titles(plan) == [
        "halve source to level 1",
        "heat (2 steps)",
        "enlarge coarse to level 0",
        "heat (2 steps)",
        "what was removed from coarse",
    ]


@pytest.mark.parametrize("alone", [(slice(0, 64), slice(64, 128))])
def test_a_part_alone_is_one_stage_or_refused(alone: Any) -> None:
    plan = plan_of({"operator": "heat", "steps": 16}, roi=alone)
    assert len(plan.stages) == 1
    with pytest.raises(PlanError, match="error over the whole image"):
        plan_of({"operator": "heat", "time": 2, "schedule": {"adaptive": 1.0}}, roi=alone)
    with pytest.raises(PlanError, match="join edges over the whole image"):
        plan_of({"operator": "canny", "low": 1, "high": 2}, roi=alone)


def test_an_unfinished_run_of_the_same_work_keeps_its_tile_and_batch() -> None:
    step, free = {"operator": "heat", "steps": 16}, {"run": {"threads": 2, "memory": "2GiB"}}
    usual = plan_of(step, **free)
    kept = Geometry((64, 64), 3)
    assert plan_of(step, begun=Begun(usual.science, kept, "run-0"), **free).geometry == kept
    assert plan_of(step, begun=Begun("something else", kept, "run-0"), **free).geometry == usual.geometry


def test_a_kind_of_work_that_carries_out_no_operators_is_refused() -> None:
    request: Any = None  # it is not looked at
    with pytest.raises(TypeError, match="'copy' does not carry out operators"):
        lay_out_chain(request, "copy")
