"""Windows cover the image once, never read outside it, and never pad."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.image.window import (
    Grid,
    extent,
    format_region,
    grown_cells,
    one_frame,
    shrinking_cells,
    window_of,
)

grids = st.integers(1, 3).flatmap(
    lambda ndim: st.tuples(
        st.tuples(*[st.integers(1, 20)] * ndim),
        st.tuples(*[st.integers(3, 9)] * ndim),
        st.tuples(*[st.integers(0, 15)] * ndim),
    )
)


@given(grids)
def test_tiles_cover_every_cell_once(case):
    shape, tile, _ = case
    grid = Grid(shape, tile)
    count = np.zeros(shape, int)
    for index in range(len(grid)):
        count[grid.region(index)] += 1
    assert (count == 1).all()


@given(grids)
def test_windows_read_the_tile_and_its_halo_inside_the_image(case):
    shape, tile, halo = case
    grid = Grid(shape, tile)
    for index in range(len(grid)):
        window = grid.window(index, halo)
        for read, keep, write, sides, n, h in zip(
            window.read, window.keep, window.write, window.open_sides, shape, halo, strict=True
        ):
            assert 0 <= read.start <= write.start < write.stop <= read.stop <= n
            assert (read.start + keep.start, read.start + keep.stop) == (write.start, write.stop)
            assert sides == (read.start > 0, read.stop < n)
            assert read.start in (0, write.start - h)
            assert read.stop in (n, write.stop + h)


@given(grids)
def test_covering_finds_exactly_the_tiles_that_a_region_touches(case):
    shape, tile, halo = case
    grid = Grid(shape, tile)
    other = Grid(shape, tuple(t + 1 for t in tile))
    numbers = np.zeros(shape, int)
    for index in range(len(grid)):
        numbers[grid.region(index)] = index
    for index in range(len(other)):
        read = other.window(index, halo).read
        assert list(grid.covering(read)) == sorted(set(numbers[read].ravel().tolist()))


def test_largest_window_is_clamped_to_the_image():
    assert grown_cells(Grid((100, 10), (50, 50)), (20, 20)) == 90 * 10


def test_shrinking_region_is_the_mean_over_the_steps():
    grid, halo = Grid((1000, 1000), (100, 100)), 40
    areas = [(100 + 2 * (halo - s)) ** 2 for s in np.linspace(0, halo, 100_001)]
    assert np.isclose(shrinking_cells(grid, (halo, halo)), np.mean(areas), rtol=1e-5)


def test_one_frame_takes_its_place_along_the_other_axes():
    window = window_of((slice(2, 4), slice(0, 8), slice(8, 16)), (5, 20, 20), (0, 3, 3))
    frame = one_frame(window, (1, slice(None), slice(None)))
    assert extent(frame.write) == (1, 8, 8)
    assert frame.read[0] == slice(3, 4)


def test_regions_read_as_people_write_them():
    assert format_region((slice(0, 4), slice(8, 16)), "yx") == "y 0:4, x 8:16"
