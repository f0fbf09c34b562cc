"""Boxes hold all cells, no more than they have to, and lie as far apart as they are said to."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from diffusion_ops.blocks.boxes import LEAST_GAP, boxes_apart


@pytest.mark.parametrize("shape", [(403, 517), (70, 150, 160)])
@pytest.mark.parametrize("gap", [2, 40])
def test_boxes_hold_all_cells_and_lie_apart(shape: tuple[int, ...], gap: int) -> None:
    random = np.random.default_rng(1)
    for count in (0, 1, 4, 12, 60):
        cells = np.zeros(shape, bool)
        for _ in range(count):
            at = [int(random.integers(0, n)) for n in shape]
            cells[tuple(slice(i, i + int(random.integers(1, 25))) for i in at)] = True
        boxes, held = boxes_apart(cells, gap), np.zeros(shape, bool)
        for box in boxes:
            held[box] = True
            for axis in range(len(shape)):
                faces = np.moveaxis(cells[box], axis, 0)
                assert faces[0].any()
                assert faces[-1].any()
        assert not (cells & ~held).any()
        for one, other in itertools.combinations(boxes, 2):
            between = [max(a.start - b.stop, b.start - a.stop) for a, b in zip(one, other, strict=True)]
            assert max(between) >= max(gap, LEAST_GAP)


def test_cells_on_a_diagonal_are_in_one_box() -> None:
    cells = np.eye(300, dtype=bool)
    cells[290, 3] = True
    assert boxes_apart(cells, 5) == [(slice(0, 300), slice(0, 300))]
