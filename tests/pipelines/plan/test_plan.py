"""Plans are numbers: they fit, they say what would fit, and they cost nothing at a terapixel."""

from __future__ import annotations

import time
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

from diffusion_ops.evolution.legs import total_halo
from pipelines.image.info import ImageInfo
from pipelines.kinds.evolve import Evolve
from pipelines.kinds.measure import Measure
from pipelines.plan.plan import Geometry, library_bytes
from pipelines.plan.prediction import find_moments
from pipelines.plan.search import PlanError, make_plan
from pipelines.tasks.memory import KERNELS_BYTES
from tests.pipelines.runs import small_spec


def info(shape=(3000, 4000), dtype="float32", axes="yx", **more) -> ImageInfo:
    # Stored by row, as .npy files are.
    chunks = tuple(n if a == "x" else 1 for a, n in zip(axes, shape, strict=True))
    return ImageInfo(shape, np.dtype(dtype), axes, chunks, identity="synthetic", **more)


def plan_of(source: ImageInfo, run=None, /, *, tuned=False, **sections):
    run = run or {"memory": "4GiB", "threads": 2}
    spec = small_spec("image.npy", "/somewhere/out.zarr", sink={"chunk": 512}, **sections)
    spec = spec.model_copy(update={"run": type(spec.run)(**run)})
    return make_plan(spec, source, tuned=tuned)


def test_a_plan_fits_its_memory_and_adds_up():
    plan = plan_of(info())
    summary = plan.summary()
    assert summary["memory_total"] <= summary["memory_limit"]
    assert summary["cell_steps"] == 3000 * 4000 * 9
    assert summary["redundancy"] >= 1
    assert summary["tiles"] == sum(stage["tiles"] for stage in summary["stages"])


def test_an_image_four_times_as_large_takes_the_same_memory():
    run = {"memory": "1GiB", "threads": 2}
    small, large = (plan_of(info((side, side)), run) for side in (16_384, 32_768))
    assert small.geometry.tile == large.geometry.tile
    # A chunk of the source is a row here, and two of them are decoded at a time.
    rows = 2 * 2 * 4 * (32_768 - 16_384)
    assert small.memory_total <= large.memory_total <= small.memory_total + rows


def test_tiles_are_tall_where_they_fit_and_each_thread_has_several():
    run = {"memory": "1GiB", "threads": 2}
    tall, few = (plan_of(info((side, side)), run) for side in (16_384, 8192))
    small = plan_of(info((16_384, 16_384)), {"memory": "700MiB", "threads": 2})
    assert tall.geometry.tile == (8192, 4096)
    assert few.geometry.tile == small.geometry.tile == (4096, 4096)
    assert tall.memory_total <= 1 << 30
    assert tall.summary()["redundancy"] < small.summary()["redundancy"]


def test_chunks_that_are_read_in_part_count_as_often_as_they_are_decoded():
    side, run = 4096, {"memory": "4GiB", "threads": 2, "tile": 1024}
    alone, rows = (
        ImageInfo((side, side), np.dtype("f4"), "yx", chunks) for chunks in ((side, side), (1, side))
    )
    parts = rows.replace(reads_parts=True)
    step = [{"operator": "heat", "steps": 8}]
    read = [plan_of(image, run, steps=step).summary()["bytes_read"] for image in (alone, rows, parts)]
    lines = side + 6 * 8
    assert read == [16 * 4 * side**2, 4 * 4 * side * lines, 4 * lines**2]


def test_what_tiles_tell_is_merged_after_the_last_of_them_but_tables_while_others_are_at_work():
    labels = {"name": "objects", "operator": "components"}
    table = {"outputs": [{"name": "objects", "uri": "/somewhere/objects.csv"}]}
    alone, beside = (plan_of(info(), steps=[labels], **parts) for parts in ({}, table))
    for plan in (alone, beside):
        nothing, some, much = (plan.memory_with(told, threads=2) for told in (0, 1 << 10, 1 << 40))
        assert some - nothing == 3 << 10
        assert (much - nothing) / (1 << 40) == pytest.approx(6, abs=0.01)
        assert plan.memory_with(plan.tallies_limit, plan.threads) <= plan.memory_limit
    assert alone.memory_with(1 << 40, threads=2) < 6 * (1 << 40) + alone.memory_with(0, threads=2)
    (without, *_), (at_work, *_) = (find_moments(plan.stages, 2, 0) for plan in (alone, beside))
    assert (without.told, at_work.copies) == (0, 3)
    assert at_work.told > 0


def test_a_stage_of_one_tile_that_all_others_wait_for_is_alone():
    steps, run = [{"operator": "inpainting", "by": "harmonic"}], {"memory": "4GiB", "tile": 512}
    one, two = (plan_of(info((8192, 8192)), {**run, "threads": n}, steps=steps) for n in (1, 2))
    largest = max(one.stages, key=lambda stage: stage.cost.memory_bytes)
    assert len(largest.grid) == 1
    assert (one.threads, two.threads) == (1, 2)
    assert one.memory_total == two.memory_total


def test_less_memory_means_smaller_tiles():
    wide = plan_of(info((40_000, 40_000)), {"memory": "8GiB", "threads": 2})
    narrow = plan_of(info((40_000, 40_000)), {"memory": "400MiB", "threads": 2})
    assert np.prod(narrow.geometry.tile) < np.prod(wide.geometry.tile)
    assert narrow.memory_total <= 400 << 20


def test_of_values_that_few_cells_get_back_a_part_is_counted_and_of_a_block_that_is_the_result_no_copy():
    side, mib = 4096, 1 << 20
    for operator, source, most in (
        # The source and its block are read together; four bytes each, and two masks.
        ({"operator": "heat", "steps": 2}, {"dtype": "float32"}, 4 + 4 + 2),
        # It is read into the block, and the result written from there; an eighth of it is read again for its holes.
        ({"operator": "heat", "steps": 2}, {"dtype": "float32", "reads_into": True}, 4 + 1 + 4 / 8),
        ({"operator": "random-noise", "level": 5}, {"dtype": "uint8", "nodata": 0.0}, 1 + 4 + 2),
    ):
        image = info((4 * side, 4 * side), **source)
        run = {"memory": "4GiB", "threads": 2, "tile": side}
        task = plan_of(image, run, steps=[operator]).memory_per_task
        assert task == pytest.approx(most * side**2, rel=0.05, abs=mib)


@pytest.mark.thorough
def test_fewer_threads_are_taken_where_only_they_fit_and_the_plan_says_so():
    steps = [{"operator": "heat", "steps": 500}]
    plan = plan_of(info((40_000, 40_000)), {"memory": "330MiB", "threads": 64}, steps=steps)
    assert plan.threads < 64
    assert any("threads fit into the memory" in note for note in plan.notes)


def test_a_plan_that_does_not_fit_is_refused_with_the_numbers_and_what_would_fit():
    with pytest.raises(
        PlanError, match=r"needs [\d,]+ bytes .* only [\d,]+ are allowed.*--memory (\d+)MiB"
    ) as caught:
        plan_of(info(), {"memory": "100MiB", "threads": 2})
    wanted = int(str(caught.value).split("--memory ")[1].split("MiB")[0])
    assert plan_of(info(), {"memory": f"{wanted}MiB", "threads": 2}).memory_total <= wanted << 20


@pytest.mark.parametrize(("cluster", "more"), [("threads", 0), ("local", KERNELS_BYTES)])
def test_the_driver_holds_kernels_where_it_has_chosen_a_time(cluster, more):
    run = {"memory": "4GiB", "threads": 2, "tile": 1024, "cluster": cluster}
    chosen, given = (plan_of(info(), run, tuned=tuned).memory_total for tuned in (True, False))
    assert chosen - given == more


def test_halos_add_along_a_chain_that_runs_in_one_pass():
    steps = [
        {"operator": "heat", "steps": 5},
        {"operator": "perona-malik", "contrast": 9, "sigma": 1, "time": 2, "schedule": {"cycles": 2}},
    ]
    plan = plan_of(info(), steps=steps)
    (stage,) = [s for s in plan.stages if isinstance(s.work, Evolve)]
    legs = stage.work.legs
    assert stage.work.halo == total_halo(legs, (1.0, 1.0))
    assert stage.work.halo[0] == 5 + sum(c.steps for c in legs[1].cycles) + 2 * (1 + 4)


def test_a_statistic_is_measured_once_at_the_start_of_its_step():
    steps = [
        {"operator": "heat", "steps": 5},
        {"operator": "perona-malik", "contrast": {"quantile": 0.9}, "steps": 40},
    ]
    plan = plan_of(info(), {"memory": "4GiB", "threads": 2, "batch": 8}, steps=steps)
    kinds = [type(stage.work) for stage in plan.stages]
    assert kinds.count(Measure) == 1
    assert kinds.index(Measure) == 1
    assert plan.stages[2].needs[-1] == 1


def test_every_write_covers_whole_chunks_of_the_result():
    plan = plan_of(info((5000, 7000, 3), "uint8", "yxc"), {"memory": "4GiB", "tile": 700})
    assert all(t % u == 0 for t, u in zip(plan.geometry.tile, (3, 512, 512), strict=True))


@pytest.mark.parametrize("axes", ["tzyx", "tcyx", "zyx"])
def test_planes_of_a_stack_diffuse_alone_where_asked(axes):
    plan = plan_of(
        info((3,) * (len(axes) - 2) + (200, 300), axes=axes), image={"ndim": 2, "channels": "separate"}
    )
    assert plan.frames.spatial == "yx"
    assert plan.frames.together == "yx"
    assert len(plan.frames.spacing) == 2


def test_spacing_keeps_its_ratio_in_pixels_or_its_units():
    volume = info((20, 200, 300), axes="zyx", spacing={"z": 2.0, "y": 0.5, "x": 0.5})
    assert plan_of(volume).frames.spacing == (4.0, 1.0, 1.0)
    assert plan_of(volume, image={"spacing": "units"}).frames.spacing == (2.0, 0.5, 0.5)


def test_label_images_are_refused():
    with pytest.raises(ValueError, match="label numbers"):
        plan_of(info(dtype="uint16", labels=True))


def test_an_image_that_cannot_be_read_by_region_is_copied_first_and_the_plan_says_so():
    plan = plan_of(info(by_region=False))
    assert plan.stages[0].title == "copy the source into Zarr"
    assert any("copied into Zarr first" in note for note in plan.notes)


def test_digest_changes_with_parameters_geometry_and_source_but_not_with_memory():
    base = plan_of(info())
    assert base.science == plan_of(info(), {"memory": "3GiB", "threads": 1}).science
    assert base.science != plan_of(info(), steps=[{"operator": "heat", "steps": 9}]).science
    assert base.science != plan_of(info().replace(identity="other")).science
    spec = small_spec("image.npy", "/somewhere/out.zarr")
    one, two = (make_plan(spec, info(), Geometry((64, 64), batch)) for batch in (3, 4))
    assert one.science == two.science
    assert one.digest != two.digest


def test_a_terapixel_is_planned_in_seconds_and_little_memory():
    image = info((1_000_000, 1_000_000), "uint16")
    spec = small_spec(
        "image.npy", "/somewhere/out.ome.zarr", sink={"chunk": 512}, run={"tile": None, "batch": None}
    )
    tracemalloc.start()
    start = time.perf_counter()
    summary = make_plan(spec, image).summary()
    seconds = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert summary["cell_steps"] == 9 * 10**12
    assert peak < 50 << 20
    # A bound of the promise (5 s), not a benchmark: it is met with an order of magnitude to spare.
    assert seconds < 5


def test_a_library_of_formats_is_counted_once():
    named = (("CogSink", 60), ("ParquetSink", 72), ("ParquetSink", 72), ("CsvSink", 0))
    outputs = [SimpleNamespace(format=name, library_bytes=size) for name, size in named]
    assert library_bytes(outputs) == 132
