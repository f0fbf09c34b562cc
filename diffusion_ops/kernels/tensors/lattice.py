"""Take steps of ∂u/∂t = div(D ∇u) with weights that are never negative, on neighbours as far away as D asks for.

A positive D is Σ w_e e eᵀ, w_e >= 0, over few whole-numbered offsets e that suit it: 3 in an image, 6 in a volume,
found by reduction of the lattice basis (Selling 1874; Fehrenbach and Mirebeau 2014). With ∂u/∂t = Σ w_e (u(x + e) -
2 u(x) + u(x - e)), a link's weight the mean of its two cells', explicit steps keep the extremes. How far the offsets
reach depends on the ratio of the eigenvalues of D alone, which is clamped; so all that occur are numbered beforehand.
A cell keeps its own few weights and numbers. A step goes through the cells in the order of the image, so that what a
cell gets from its neighbours is summed in the same order wherever its tile begins.

A link that would touch an invalid cell on its way is left out.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from diffusion_ops.blocks.block import LANES, Block, Bools, Floats, allocate
from diffusion_ops.kernels.faces import kernel_grid, kernel_walls
from diffusion_ops.kernels.lanes import begin, kernel, load, store
from diffusion_ops.kernels.tensors.fluxes import finish_row

Offset = tuple[int, int, int]

# Offsets are found by turning tensors with all quaternions of whole numbers up to this.
_ROTATIONS = 5


@kernel
def _reduce_plane(a, b, c, weights, offsets):  # type: ignore[no-untyped-def]
    """Decompose (a c; c b) over x and y: fill three weights, and three offsets (z, y, x); return how many."""
    x0, y0, x1, y1, x2, y2 = 1, 0, 0, 1, -1, -1
    small = 1e-10 * (a + b)
    for _ in range(100):
        p01 = a * x0 * x1 + b * y0 * y1 + c * (x0 * y1 + y0 * x1)
        p02 = a * x0 * x2 + b * y0 * y2 + c * (x0 * y2 + y0 * x2)
        p12 = a * x1 * x2 + b * y1 * y2 + c * (x1 * y2 + y1 * x2)
        if p01 > small:
            x0, y0, x2, y2 = -x0, -y0, x0 - x1, y0 - y1
        elif p02 > small:
            x0, y0, x1, y1 = -x0, -y0, x0 - x2, y0 - y2
        elif p12 > small:
            x1, y1, x0, y0 = -x1, -y1, x1 - x2, y1 - y2
        else:
            break
    weights[0], weights[1], weights[2] = max(-p12, 0.0), max(-p02, 0.0), max(-p01, 0.0)
    for k, (x, y) in enumerate(((x0, y0), (x1, y1), (x2, y2))):
        offsets[k, 0], offsets[k, 1], offsets[k, 2] = 0, x, -y
    return 3


@kernel
def _reduce_volume(a, b, c, d, e, f, weights, offsets):  # type: ignore[no-untyped-def]
    """Decompose the tensor xx, yy, zz, xy, xz, yz: fill six weights and six offsets (z, y, x); return how many."""
    base = np.zeros((4, 3), np.int64)
    for k in range(3):
        base[k, k], base[3, k] = 1, -1
    small = 1e-10 * (a + b + c)
    for _ in range(200):
        n, turned = 0, False
        for i in range(3):
            for j in range(i + 1, 4):
                u, v = base[i], base[j]
                p = a * u[0] * v[0] + b * u[1] * v[1] + c * u[2] * v[2]
                p += d * (u[0] * v[1] + u[1] * v[0]) + e * (u[0] * v[2] + u[2] * v[0])
                p += f * (u[1] * v[2] + u[2] * v[1])
                k, l = 0, 3
                while k in (i, j):
                    k += 1
                while l in (i, j):
                    l -= 1
                if p > small:
                    for m in range(3):
                        step = base[i, m]
                        base[k, m] += step
                        base[l, m] += step
                        base[i, m] = -step
                    turned = True
                    break
                g, h = base[k], base[l]
                weights[n] = max(-p, 0.0)
                offsets[n, 2] = g[1] * h[2] - g[2] * h[1]
                offsets[n, 1] = g[2] * h[0] - g[0] * h[2]
                offsets[n, 0] = g[0] * h[1] - g[1] * h[0]
                n += 1
            if turned:
                break
        if not turned:
            break
    return 6


@kernel
def _reduce(t, weights, offsets):  # type: ignore[no-untyped-def]
    """Decompose a tensor of 3 or 6 components in units of cells."""
    if len(t) == 3:
        return _reduce_plane(t[0], t[1], t[2], weights, offsets)
    return _reduce_volume(t[0], t[1], t[2], t[3], t[4], t[5], weights, offsets)


@kernel
def _mark(found, tensors):  # type: ignore[no-untyped-def]
    """Mark in found, (z, y, x) with 0 in the middle, the offsets that tensors, (n, components), need."""
    weights, offsets = np.zeros(6), np.zeros((6, 3), np.int64)
    middle = found.shape[1] // 2
    for t in tensors:
        for k in range(_reduce(t, weights, offsets)):
            if weights[k] > 1e-6 * (t[0] + t[1]):
                found[offsets[k, 0] + found.shape[0] // 2, offsets[k, 1] + middle, offsets[k, 2] + middle] = (
                    True
                )


def _turned_tensors(condition: float, h: tuple[float, ...]) -> Floats:
    """Return tensors with a ratio of eigenvalues in many directions, in units of cells; h along x, y(, z)."""
    n, ndim = _ROTATIONS, len(h)
    grid = np.arange(-n, n + 1) if ndim == 3 else np.arange(-200, 201)
    if ndim == 3:
        w, x, y, z = (q.ravel() for q in np.meshgrid(np.arange(n + 1), grid, grid, grid, indexing="ij"))
    else:
        w, z = (q.ravel() for q in np.meshgrid(np.arange(201), grid, indexing="ij"))
        x = y = 0 * w
    size = w * w + x * x + y * y + z * z
    w, x, y, z = (q[size > 0].astype(np.float64) for q in (w, x, y, z))
    # Divisions alone, no sines: every machine finds the same.
    size = w * w + x * x + y * y + z * z
    columns = [
        [(w * w + x * x - y * y - z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)],
        [2 * (x * y - w * z), (w * w - x * x + y * y - z * z), 2 * (y * z + w * x)],
        [2 * (x * z + w * y), 2 * (y * z - w * x), (w * w - x * x - y * y + z * z)],
    ]
    found = []
    for power in (0.0, 0.5, 1.0) if ndim == 3 else (0.0,):
        values = (1.0, condition**-1, condition**-power)
        parts = [(k, k) for k in range(ndim)] + list(itertools.combinations(range(ndim), 2))
        tensor = [
            sum(v * c[i] * c[j] for v, c in zip(values[:ndim], columns, strict=False))
            / size**2
            / (h[i] * h[j])
            for i, j in parts
        ]
        found.append(np.stack(tensor, axis=1))
    return np.concatenate(found)


@functools.lru_cache(maxsize=64)
def lattice_offsets(condition: float, spacing: tuple[float, ...]) -> tuple[Offset, ...]:
    """Return the offsets (planes, rows, columns) that tensors with a ratio of eigenvalues up to `condition` need.

    One of each pair e, -e, the one whose first number that is not 0 is positive; sorted.
    """
    reach = 40
    found = np.zeros((2 * reach + 1 if len(spacing) == 3 else 1, 2 * reach + 1, 2 * reach + 1), bool)
    # Smaller ratios need no others than the largest: the way from it to 1 crosses all that lie between.
    for ratio in sorted({condition, condition**0.5, 1.0}):
        _mark(found, _turned_tensors(ratio, spacing[::-1]))
    for axis in range(3):
        found |= np.flip(found, axis)
    if len(set(spacing)) == 1 and len(spacing) == 3:
        turns = itertools.permutations(range(3))
        found = np.logical_or.reduce([found.transpose(turn) for turn in turns])
    zero = tuple(n // 2 for n in found.shape)
    offsets = (tuple(int(i - z) for i, z in zip(index, zero, strict=True)) for index in np.argwhere(found))
    return tuple(sorted(e for e in offsets if e > (0, 0, 0)))  # type: ignore[misc]


def lattice_radius(condition: float, spacing: tuple[float, ...]) -> tuple[int, ...]:
    """Return how many cells a step reads per axis."""
    offsets = np.abs(np.array(lattice_offsets(condition, spacing)))
    return tuple(int(n) for n in offsets.max(axis=0)[3 - len(spacing) :])


def stable_lattice_dt(condition: float, spacing: tuple[float, ...]) -> float:
    """Return the largest step that keeps the extremes where no eigenvalue of D is above 1.

    The weights of a cell's own tensor add up to at most Σ 1/h_k²; of its neighbours' tensors each link has half of at
    most 1/|e|², both ways.
    """
    h = np.array([*(1.0,) * (3 - len(spacing)), *spacing])
    lengths = [float(np.sum((np.array(e) * h) ** 2)) for e in lattice_offsets(condition, spacing)]
    return 1 / (sum(x**-2 for x in spacing) + sum(1 / n for n in lengths))


def touched(offset: Offset) -> list[Offset]:
    """Return the cells between 0 and an offset whose squares or cubes, with their sides, the straight link meets."""
    between = []
    for cell in itertools.product(*(range(min(0, n), max(0, n) + 1) for n in offset)):
        low, high = 0.0, 1.0
        for c, e in zip(cell, offset, strict=True):
            if e:
                ends = sorted(((c - 0.5) / e, (c + 0.5) / e))
                low, high = max(low, ends[0]), min(high, ends[1])
        if low <= high + 1e-9 and cell not in ((0, 0, 0), offset):
            between.append(cell)
    return between  # type: ignore[return-value]


@functools.cache
def build_links(components: int, masked: bool) -> Callable[..., None]:
    """Compile the decomposition of the tensors of all cells."""
    volume = components == 6
    ndim, count = (3, 6) if volume else (2, 3)

    @kernel
    def fill_links(weights, codes, tensor, valid, grid, inverse, table, offsets, ways, starts):  # type: ignore[no-untyped-def]
        """Fill weights and codes, (cells, links), from D, (components, cells).

        Parameters
        ----------
        inverse : (components,), what turns D into units of cells
        table : number of an offset, by its position in a box around 0; -1 where it has none
        offsets : (n, 3)
        ways, starts : (m, 3), the cells between the ends of the links, and where those of each offset begin
        """
        _, outer, middle, columns, pitch = grid
        planes, rows = (outer, middle) if volume else (1, outer)
        found, needed, t = np.zeros(6), np.zeros((6, 3), np.int64), np.zeros(components)
        numbers = np.zeros(6, np.int64)
        z0, y0, x0 = table.shape[0] // 2, table.shape[1] // 2, table.shape[2] // 2
        for row in range(planes * rows):
            for j in range(columns):
                i = row * pitch + j
                for k in range(components):
                    t[k] = np.float64(tensor[k, i]) * inverse[k]
                fits = False
                while not fits:
                    _reduce(t, found, needed)
                    fits, small = True, 1e-6 * (t[0] + t[1])
                    for k in range(count):
                        z, y, x = needed[k, 0] + z0, needed[k, 1] + y0, needed[k, 2] + x0
                        inside = min(z, min(y, x)) >= 0 and z <= 2 * z0 and y <= 2 * y0 and x <= 2 * x0
                        numbers[k] = table[z, y, x] if inside else -1
                        fits = fits and (numbers[k] >= 0 or found[k] <= small)
                    if not fits:
                        # Halfway to the same flow in all directions: for slivers between the sampled tensors.
                        mean = 0.0
                        for k in range(ndim):
                            mean += t[k] / inverse[k] / ndim
                        for k in range(components):
                            t[k] = 0.5 * (t[k] + (mean * inverse[k] if k < ndim else 0.0))
                for k in range(count):
                    e = max(numbers[k], 0)
                    weights[i, k] = 0.5 * found[k] if numbers[k] >= 0 else 0.0
                    code = 0
                    for side in range(2):
                        sign = 1 - 2 * side
                        p, m, n = row // rows, row % rows, j + sign * offsets[e, 2]
                        p, m = p + sign * offsets[e, 0], m + sign * offsets[e, 1]
                        whole = 0 <= p < planes and 0 <= m < rows and 0 <= n < columns
                        if masked and whole:
                            whole = valid[i] and valid[(p * rows + m) * pitch + n]
                            for w in range(starts[e], starts[e + 1]):
                                away = (ways[w, 0] * rows + ways[w, 1]) * pitch + ways[w, 2]
                                whole = whole and valid[i + sign * away]
                        code += (1 + side) if whole else 0
                    codes[i, k] = 4 * e + code

    return fill_links


def lattice_links(block: Block, tensor: Floats, condition: float) -> tuple[Floats, Any]:
    """Return the links of every cell from D at the cells, (3 or 6, cells).

    Returns
    -------
    weights : ndarray of shape (cells, 3 or 6)
        w_e / 2 in units of 1 / time.
    codes : ndarray of uint16 of that shape
        4 times the number of e, plus 1 where the link to x + e is open, plus 2 where that to x - e is.
    """
    spacing, dtype = block.spacing, tensor.dtype
    offsets = lattice_offsets(condition, spacing)
    reach = np.abs(np.array(offsets)).max(axis=0)
    table = np.full(tuple(2 * reach + 1), -1, np.int64)
    for number, e in enumerate(offsets):
        table[tuple(reach + e)] = table[tuple(reach - e)] = number
    between = [touched(e) for e in offsets]
    starts = np.cumsum([0, *map(len, between)])
    ways = np.array([cell for cells in between for cell in cells] or [(0, 0, 0)])
    h = spacing[::-1]
    pairs = [(k, k) for k in range(len(h))] + list(itertools.combinations(range(len(h)), 2))
    inverse = np.array([1 / (h[i] * h[j]) for i, j in pairs])
    weights = np.zeros((tensor.shape[1], len(tensor)), dtype)
    codes = np.zeros(weights.shape, np.uint16)
    fill_links = build_links(len(tensor), block.valid_storage is not None)
    walls, grid = kernel_walls(block), kernel_grid(block, 1)
    fill_links(weights, codes, tensor, walls, grid, inverse, table, np.array(offsets), ways, starts)
    return weights, codes


@functools.cache
def build_step(masked: bool, inertial: bool, pinned: bool) -> Callable[..., None]:
    """Compile one step."""

    @kernel
    def step(u, new, weights, codes, away, tau, w, force, valid, free, rows, columns, pitch):  # type: ignore[no-untyped-def]
        """Write u + tau Σ w (u(x + e) - u(x)) of one channel, or the FSI recurrence with it, into new.

        `away` is how much further on in an array the cell x + e is; `force` is scratch of (cells,).
        """
        for i in range(force.shape[0]):
            force[i] = 0
        for row in range(rows):
            for i in range(row * pitch, row * pitch + columns):
                centre = u[i]
                own = centre - centre
                for k in range(weights.shape[1]):
                    code, weight = np.int64(codes[i, k]), weights[i, k]
                    far = away[code >> 2]
                    if code & 1:
                        flow = (u[i + far] - centre) * weight
                        own += flow
                        force[i + far] -= flow
                    if code & 2:
                        flow = (u[i - far] - centre) * weight
                        own += flow
                        force[i - far] -= flow
                force[i] += own
        u, new, force, valid, free = begin(u), begin(new), begin(force), begin(valid), begin(free)
        for i in range(0, rows * pitch, LANES):
            store(force, i, load(force, i) * tau)
        finish_row((masked, inertial, pinned), u, new, force, free, valid, rows * pitch, w)

    return step


def take_link_steps(
    block: Block,
    states: Sequence[Floats],
    links: tuple[Floats, Any],
    condition: float,
    tau: float,
    weights: Sequence[float],
    free: Bools | None = None,
) -> None:
    """Take len(weights) steps of ∂u/∂t = div(D ∇u) on the states of a block, in place; see `take_tensor_steps`."""
    dtype, (_, outer, middle, columns, pitch) = states[0].dtype, kernel_grid(block, 1)
    step = build_step(block.valid_storage is not None, len(states) == 2, free is not None)
    across = middle if len(block.spatial) == 3 else outer
    offsets = lattice_offsets(condition, block.spacing)
    away = np.array([(p * across + m) * pitch + j for p, m, j in offsets])
    force = allocate(1, block.spatial, dtype)[0]
    held = np.ones(1, bool) if free is None else free
    for k, a in enumerate(weights):
        now, new = states[k % len(states)], states[(k + 1) % len(states)]
        w = (dtype.type(a), dtype.type(1 - a))
        for u, target in zip(now, new, strict=True):
            step(
                *(u, target, *links, away, dtype.type(tau), w, force, kernel_walls(block), held),
                *(outer * middle, columns, pitch),
            )
