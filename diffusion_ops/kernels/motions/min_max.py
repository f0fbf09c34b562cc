"""A row of one step of the min/max flow, for `kernels/wavefront.py`; its stencil is as wide as its radius says."""

from __future__ import annotations

import math

from diffusion_ops.blocks.block import LANES
from diffusion_ops.kernels.eigen import size_of
from diffusion_ops.kernels.lanes import choose, element, inlined, known, load, shift, store
from diffusion_ops.kernels.motions.curvature import tangential
from diffusion_ops.kernels.motions.derivatives import around, jet


@inlined
def _part(d, t, m):  # type: ignore[no-untyped-def]
    """Return d t / m rounded, alike for both signs."""
    size = (2 * abs(d) * t + m) // (2 * m)
    return size if d > 0 else -size


@inlined
def _sight(masked, u, lines, radius, j, dx, dy, c):  # type: ignore[no-untyped-def]
    """Return the cells dx, dy away, or the cell itself where a wall lies on the way."""
    far = load(u, element(lines, radius + dy) + j + dx)
    if not masked:
        return far
    m = max(abs(dx), abs(dy))
    way, x, y = far, 0, 0
    for t in range(1, m + 1):
        a, b = _part(dx, t, m), _part(dy, t, m)
        beside = load(u, element(lines, radius + y) + j + a) + load(u, element(lines, radius + b) + j + x)
        way = way + (beside + load(u, element(lines, radius + b) + j + a))
        x, y = a, b
    return choose(known(way), far, c)


@inlined
def _mean(masked, u, lines, radius, j, c, weight):  # type: ignore[no-untyped-def]
    """Return the mean over the disk; `weight` is 1 / its cells. Opposite cells are added first, as in a flip."""
    total = c
    for dy in range(radius + 1):
        for dx in range(1 if dy == 0 else -radius, radius + 1):
            if dx * dx + dy * dy <= radius * radius:
                one = _sight(masked, u, lines, radius, j, dx, dy, c)
                total = total + (one + _sight(masked, u, lines, radius, j, -dx, -dy, c))
    return total * weight


@inlined
def _apart(x, y, dx, dy):  # type: ignore[no-untyped-def]
    """Return how far (x, y) is from a cell, less than 1/2 on both axes in the cell itself."""
    return max(size_of(x - dx), size_of(y - dy))


@inlined
def _threshold(masked, u, lines, radius, j, c, g, scale):  # type: ignore[no-untyped-def]
    """Return the mean of the two cells in which the level line through the cell leaves the disk.

    Where nothing has a direction, the mean of all such cells.
    """
    # Along the level line, in cells.
    x, y = g[1] * scale[0], g[0] * (-1.0 * scale[1])
    length = math.sqrt(x * x + y * y + 1e-30)
    x, y = x / length * float(radius), y / length * float(radius)
    rim, pairs, best, value = c - c, 0, (c - c) + 0.75, c
    for dy in range(radius + 1):
        for dx in range(1 if dy == 0 else -radius, radius + 1):
            if abs(math.sqrt(dx * dx + dy * dy) - radius) < 0.75:
                distance = min(_apart(x, y, float(dx), float(dy)), _apart(x, y, float(-dx), float(-dy)))
                one = _sight(masked, u, lines, radius, j, dx, dy, c)
                both = (one + _sight(masked, u, lines, radius, j, -dx, -dy, c)) * 0.5
                nearer = distance < best
                best, value = choose(nearer, distance, best), choose(nearer, both, value)
                rim, pairs = rim + both, pairs + 1
    return choose(best < 0.75, value, rim / float(pairs))


@inlined
def min_max_curvature_row(form, u, lines, out, n, numbers, data):  # type: ignore[no-untyped-def]
    """Make a row of ∂u/∂t = F |∇u|, F = max(curvature, 0) where the mean is low, else min(curvature, 0).

    Numbers go on with epsilon² and epsilon² / 2, the radius, and 1 / the number of cells of the disk.
    """
    masked, _, _, _, _ = form
    radius = int(numbers[6])
    near = around(False, shift(lines, radius - 1))
    for j in range(0, n, LANES):
        c, g, h, low, high = jet(masked, False, u, near, j, numbers)
        rate = tangential(False, g, h, numbers)
        mean = _mean(masked, u, lines, radius, j, c, numbers[7])
        level = _threshold(masked, u, lines, radius, j, c, g, numbers)
        rate = choose(mean < level, max(rate, 0.0), min(rate, 0.0))
        store(out, j, min(max(c + rate * numbers[3], low), high))


def disk_cells(radius: int) -> int:
    """Return the number of cells of a disk."""
    offsets = range(-radius, radius + 1)
    return sum(x * x + y * y <= radius * radius for x in offsets for y in offsets)
