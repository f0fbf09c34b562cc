"""Any window with the halo that an operator says gives the bits of the whole image, and with less does not."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.fields import make_block
from diffusion_ops.blocks.window import window_of
from diffusion_ops.evolution.advance import advance
from diffusion_ops.evolution.arguments import make_legs
from diffusion_ops.evolution.legs import Leg, total_halo
from diffusion_ops.evolution.operator import Operator
from tests.operator_samples import (
    DECISIVE,
    each_evolution,
    each_sample_and,
    each_sample_where,
    picture,
    samples,
    short_ways,
    takes,
    ways,
)

Image = NDArray[Any]


def cut(
    image: Image,
    spacing: tuple[float, ...],
    keep: Sequence[slice],
    halo: Sequence[int],
    mask: Any = None,
    guide: Image | None = None,
) -> tuple[Block, tuple[slice, ...]]:
    """Return the window around what to keep, and where in it that is."""
    window = window_of(tuple(keep), image.shape[1:], halo)
    parts = [None if field is None else field[..., *window.read] for field in (mask, guide)]
    block = make_block(image[:, *window.read], spacing, None, parts[0], window.open_sides, parts[1])
    block.origin = window.origin
    return block, window.keep


CASES = {
    "plane": ((1, 61, 47), np.float32, (1.0, 1.0), False),
    "walls": ((1, 53, 64), np.float32, (1.0, 1.0), True),
    "colours": ((3, 40, 51), np.float32, (1.0, 0.5), True),
    "double": ((1, 45, 38), np.float64, (2.0, 1.0), False),
    "volume": ((1, 19, 23, 26), np.float32, (2.0, 1.0, 1.0), False),
}


@functools.lru_cache(maxsize=8)
def whole_image(
    name: str, sample: int, case: str, way: int, guided: bool
) -> tuple[Image, Any, Any, Image, tuple[Leg, ...]]:
    """Return an image, its mask, its guide, what becomes of it, and the steps."""
    shape, dtype, spacing, walls = CASES[case]
    operator = samples(name)[sample]
    image = picture(*shape, dtype=dtype)
    mask = picture(*shape[1:], seed=1) > 20 if walls else None
    guide = picture(2, *shape[1:], dtype=dtype, seed=2) if guided else None
    legs = make_legs(operator, spacing, **ways(operator)[way])
    block = make_block(image, spacing, None, mask, guide=guide)
    return image, mask, guide, advance(block, legs).u.copy(), legs


@each_sample_and(
    "case",
    CASES,
    lambda operator, case: len(CASES[case][2]) in operator.dimensions and takes(operator, CASES[case][0][0]),
)
@given(data=st.data())
@settings(max_examples=6)
def test_windows_equal_the_whole_image_bitwise(
    name: str, sample: int, case: str, data: st.DataObject
) -> None:
    operator, (shape, _, spacing, _) = samples(name)[sample], CASES[case]
    # A guide is read by the same code for all samples, and walls by the same code for both float types.
    guided = operator.reads_guide and case in ("plane", "walls") and data.draw(st.booleans())
    way = data.draw(st.integers(0, len(ways(operator)) - 1))
    image, mask, guide, whole, legs = whole_image(name, sample, case, way, guided)
    keep = []
    for n in shape[1:]:
        start = data.draw(st.integers(0, n - 1))
        keep.append(slice(start, data.draw(st.integers(start + 1, n))))
    block, inside = cut(image, spacing, keep, total_halo(legs, spacing), mask, guide)
    found = advance(block, legs).u[:, *inside]
    valid = (slice(None),) if mask is None else (slice(None), mask[tuple(keep)])
    assert found[valid].tobytes() == whole[:, *keep][valid].tobytes()


@each_sample_where(lambda operator: operator.name not in DECISIVE)
def test_its_halo_is_no_wider_than_needed(name: str, sample: int) -> None:
    operator = samples(name)[sample]
    ndim = operator.dimensions[0]
    # What lies farther apart has less weight, and limiters may pass it over.
    spacings = [tuple(1.0 if a == near else 1.5 for a in range(ndim)) for near in range(ndim)]
    for far in short_ways(operator):
        # Where singles show it already, doubles need not be compiled.
        found = (needed_axes(operator, far, spacings, dtype) for dtype in (np.float32, np.float64))
        assert any(axes.all() for axes in found), f"{far}: a cell less does for some axis"


def needed_axes(
    operator: Operator, far: dict[str, Any], spacings: Sequence[tuple[float, ...]], dtype: type
) -> NDArray[Any]:
    """Return for every axis whether all cells of its halo are needed, with some spacing; they always do."""
    narrower: list[Any] = []
    for spacing in spacings:
        legs = make_legs(operator, spacing, **far)
        halo = total_halo(legs, spacing)
        assert all(right_with_halo(legs, spacing, halo, dtype)), f"{far}: {halo} cells are too few"
        shorts = [tuple(max(h - (a == axis), 0) for a, h in enumerate(halo)) for axis in range(len(halo))]
        narrower.append([s == halo or not all(right_with_halo(legs, spacing, s, dtype)) for s in shorts])
    return np.any(narrower, axis=0)


def right_with_halo(
    legs: tuple[Leg, ...], spacing: tuple[float, ...], halo: tuple[int, ...], dtype: type
) -> Iterator[bool]:
    """Yield whether a window has the right bits where it has this halo, for strong edges and for faint ones."""
    full, frozen = total_halo(legs, spacing), legs[0].operator.reach(spacing).setup
    # What reads whole parts of a grid reads farthest from a window whose first right cell begins one.
    margins = [16 - r % 16 for r in frozen]
    inner = 60 if len(spacing) == 2 else 6
    keep = [slice(m + h, m + h + inner) for m, h in zip(margins, full, strict=True)]
    shape = [s.stop + h + 4 for s, h in zip(keep, full, strict=True)]
    for height in (1.0, 0.01):
        image = 100 + height * (picture(1, *shape, dtype=dtype) - 100)
        whole = advance(make_block(image, spacing), legs).u
        block, inside = cut(image, spacing, keep, halo)
        yield np.array_equal(advance(block, legs).u[:, *inside], whole[:, *keep])


@each_evolution
def test_what_is_spoilt_is_within_the_halo(name: str) -> None:
    """Kernels may skip what a block says is spoilt; it never says more than the halo in a window."""
    for operator in samples(name):
        spacing = (1.0,) * operator.dimensions[0]
        for far in ways(operator):
            legs = make_legs(operator, spacing, **far)
            block = advance(make_block(picture(operator.channels or 1, *(9,) * len(spacing)), spacing), legs)
            assert tuple(block.spoilt) == total_halo(legs, spacing)
