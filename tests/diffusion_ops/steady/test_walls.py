"""Walls of coarser levels part what walls of the finer one part, and leave its gaps open."""

from __future__ import annotations

import itertools

import numpy as np
from scipy import ndimage

from diffusion_ops.steady.walls import coarse_walls, unpaired


def test_coarse_cells_side_by_side_are_connected_on_the_finer_level() -> None:
    random = np.random.default_rng(3)
    for shape, part in itertools.product(((31, 40), (11, 14, 9)), (0.5, 0.8, 0.95)):
        valid = random.random(shape) < part
        coarse = ~coarse_walls(valid)
        pieces, _ = ndimage.label(unpaired(coarse, shape) & valid)
        blocks, count = ndimage.label(coarse)
        for block in range(1, count + 1):
            inside = pieces[unpaired(blocks == block, shape) & valid]
            assert len(np.unique(inside)) == 1
        assert coarse.any() or part == 0.5


def test_a_gap_of_one_cell_stays_open() -> None:
    gap = np.ones((20, 20), bool)
    gap[:, 9] = False
    gap[6, 9] = True
    assert ndimage.label(~coarse_walls(gap))[1] == 1
