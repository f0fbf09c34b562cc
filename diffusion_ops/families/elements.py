"""Finite-element steps on a block: the stable step from the elements' spectra, and the solution with the mass."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from diffusion_ops.blocks.block import LANES, Block, Bools, Floats, aligned_zeros
from diffusion_ops.evolution.parameters import Choice
from diffusion_ops.evolution.schedule import Cycle
from diffusion_ops.kernels.conductance import CONSTANT, FROZEN
from diffusion_ops.kernels.finite_elements.element_edges import MASS, STIFFNESS
from diffusion_ops.kernels.finite_elements.elements import (
    element_conductances,
    element_rows,
    sweep_elements,
    sweep_scratch,
)

MASSES = ("lumped", "consistent")
"""Mass matrices, the factor of ∂u/∂t: one number per cell, or the exact integrals of the elements."""

MASS_KIND = Choice(MASSES)
"""The parameter that says which."""

MASS_ERROR = 1e-7
"""Relative error of solving with the consistent mass, in the norm of the mass: float32's rounding."""


def mass_range(ndim: int) -> tuple[float, float]:
    """Return bounds of the eigenvalues of the mass, which are those of the mass of any element."""
    return 3.0**-ndim, 1.0


def mass_steps(ndim: int) -> int:
    """Return the number of Chebyshev steps that invert the mass: 25 on two axes, 44 on three.

    n steps leave at most 2 q^n of the error, q = (sqrt(k) - 1) / (sqrt(k) + 1) for the condition k = 3^ndim.
    """
    low, high = mass_range(ndim)
    root = math.sqrt(high / low)
    return math.ceil(math.log(MASS_ERROR / 2) / math.log((root - 1) / (root + 1)))


def step_reach(mass: str, ndim: int) -> int:
    """Return the reach of one step: the elements around a cell, and one cell per multiplication with M."""
    return 1 if mass == "lumped" else mass_steps(ndim)


def mass_arrays(mass: str, ndim: int, channels: int) -> float:
    """Return how many arrays the steps of `take_element_steps` hold beside states and conductances, at most.

    Three for the solution, one for the weights of elements at walls, and a plane of a volume for the sweep.
    """
    return (0.1 * channels if ndim == 3 else 0) + (0 if mass == "lumped" else 3 * channels + 1.1)


def edge_matrices(ndim: int, shape: Sequence[float], valid: Bools) -> Floats:
    """Return the matrices of one element's fluxes along each axis: (ndim, 2^ndim, 2^ndim), symmetric, positive.

    Parameters
    ----------
    ndim : int
    shape : sequence of 3 floats
        Weight and couplings of an edge.
    valid : bool ndarray of shape (2,) * ndim
        True for nodes that are not walls.
    """
    corners = list(itertools.product((0, 1), repeat=ndim))
    index = {corner: i for i, corner in enumerate(corners)}
    matrices = np.zeros((ndim, len(corners), len(corners)))
    for axis in range(ndim):
        # The difference along each edge of this axis, as a row; edges at a wall are left out.
        edges = {}
        for corner in corners:
            other = (*corner[:axis], 1, *corner[axis + 1 :])
            if corner[axis] == 0 and valid[corner] and valid[other]:
                edges[corner] = np.zeros(len(corners))
                edges[corner][[index[corner], index[other]]] = -1, 1
        for one, d in edges.items():
            matrices[axis] += shape[0] * np.outer(d, d)
            for two, e in edges.items():
                if sum(a != b for a, b in zip(one, two, strict=True)) == 1:
                    matrices[axis] += shape[1] * np.outer(d, e - d)
        if len(edges) == 4:
            cross = sum((-1) ** sum(one) * d for one, d in edges.items())
            matrices[axis] += shape[2] * np.outer(cross, cross)
    return np.asarray(matrices)


def element_mass(ndim: int, valid: Bools) -> Floats:
    """Return the consistent mass of one element: exact where its valid nodes form a box, else lumped."""
    lumped: Floats = np.eye(2**ndim) / 2**ndim
    if not boxes(valid).item():
        return lumped
    return np.asarray(lumped - edge_matrices(ndim, MASS[ndim], valid).sum(0) / 6)


def boxes(valid: Bools) -> Bools:
    """Return True for every element between neighbouring cells whose valid nodes form a box."""
    corners = list(itertools.product((0, 1), repeat=valid.ndim))
    nodes = {
        k: valid[tuple(slice(c, n - 1 + c) for c, n in zip(k, valid.shape, strict=True))] for k in corners
    }
    count, extent = (np.full([n - 1 for n in valid.shape], first, np.uint8) for first in (0, 1))
    for node in nodes.values():
        count += node
    for axis in range(valid.ndim):
        sides = [
            functools.reduce(np.logical_or, [n for k, n in nodes.items() if k[axis] == s]) for s in (0, 1)
        ]
        extent *= sides[0].astype(np.uint8) + sides[1]
    return np.asarray(count == extent)


@functools.cache
def stable_step(mass: str, spacing: tuple[float, ...]) -> float:
    """Return 2 / λ for the largest eigenvalue λ of any element, with any of its nodes as walls.

    The spectrum of the assembled matrix lies within those of single elements (Irons and Treharne 1971), and a
    conductance of at most 1 only shrinks it.
    """
    ndim, largest = len(spacing), 0.0
    for nodes in itertools.product((False, True), repeat=2**ndim):
        valid = np.array(nodes).reshape((2,) * ndim)
        stiffness = edge_matrices(ndim, STIFFNESS[ndim], valid)
        total = np.einsum("a,aij->ij", [1 / h**2 for h in spacing], stiffness)
        m = np.eye(2**ndim) / 2**ndim if mass == "lumped" else element_mass(ndim, valid)
        largest = max(largest, float(np.linalg.eigvals(np.linalg.solve(m, total)).real.max()))
    return 2 / largest / (1 if mass == "lumped" else 1 + MASS_ERROR)


def take_element_steps(
    block: Block,
    cycle: Cycle,
    count: int,
    mass: str,
    kind: int = CONSTANT,
    contrast: float = 1.0,
    structure: Floats | None = None,
) -> None:
    """Take a cycle `count` times on a block, in place.

    Parameters
    ----------
    block : Block
    cycle : Cycle
    count : int
    mass : str
        One of MASSES.
    kind : int
        Number of the conductance, or CONSTANT.
    contrast : float
    structure : ndarray of shape (channels, cells), optional
        State that conductances are computed from once; by default they are computed from the state itself, at every
        explicit step and once per inertial cycle.
    """
    lengths = (*reversed(block.spacing), math.inf)[:3]
    scales = [1 / (contrast * h) ** 2 for h in lengths]
    g = None
    if kind >= 0 and (cycle.inertial or structure is not None):
        g = element_conductances(block, block.storage if structure is None else structure, kind, scales)
        kind = FROZEN
    conductances = {"kind": kind, "g": g, "scales": scales}
    rates = [cycle.tau / h**2 for h in lengths]
    take = _take_lumped_steps if mass == "lumped" else _take_consistent_steps
    take(block, cycle.weights * count, cycle.inertial, rates, conductances)


def _take_lumped_steps(
    block: Block,
    weights: Sequence[float],
    inertial: bool,
    rates: Sequence[float],
    conductances: dict[str, Any],
) -> None:
    shape, scratch = STIFFNESS[len(block.spatial)], sweep_scratch(block, len(block.storage))
    now = block.storage
    new = block.storage.copy() if inertial else now
    for a in weights:
        mixed = (a, 1 - a) if inertial else (1.0,)
        sweep_elements(
            block, now, new, scratch, shape=shape, rates=[a * r for r in rates], weights=mixed, **conductances
        )
        now, new = new, now
    block.storage = now


def _take_consistent_steps(
    block: Block,
    weights: Sequence[float],
    inertial: bool,
    rates: Sequence[float],
    conductances: dict[str, Any],
) -> None:
    ndim, scratch = len(block.spatial), sweep_scratch(block, len(block.storage))
    solver = MassSolver(block, scratch)
    before = block.storage.copy() if inertial else block.storage
    for a in weights:
        sweep_elements(
            block, block.storage, solver.right_side, scratch, shape=STIFFNESS[ndim], rates=rates, weights=(0.0,),
            **conductances,
        )  # fmt: skip
        change = solver.solve()
        change += block.storage
        if inertial:
            change *= change.dtype.type(a)
            before *= before.dtype.type(1 - a)
            before += change
            block.storage, before = before, block.storage
        else:
            block.storage[...] = change


class MassSolver:
    """Chebyshev semi-iteration for M x = b with the consistent mass; a fixed number of steps has a finite reach."""

    def __init__(self, block: Block, scratch: Floats) -> None:
        self.block, self.scratch = block, scratch
        self.right_side, self._x, self._before = (_like(block.storage) for _ in range(3))
        self._kind, self._g = CONSTANT, None
        if block.valid is not None:
            # Elements whose valid nodes form no box stay lumped: their exact mass may come near to singular.
            self._kind = FROZEN
            self._g = _box_weights(block)

    def solve(self) -> Floats:
        """Return x, in memory that the next call overwrites."""
        ndim = len(self.block.spatial)
        low, high = mass_range(ndim)
        step, rho = 2 / (high + low), (high - low) / (high + low)
        x, before = self._x, self._before
        dtype = x.dtype.type
        before[...] = 0
        np.multiply(self.right_side, dtype(step), out=x)
        omega = 1 / (1 - rho**2 / 2)
        for _ in range(mass_steps(ndim) - 1):
            # M = 1 + fluxes / 6, and x_new = omega (x + step (b - M x)) + (1 - omega) x_before.
            sweep_elements(
                self.block,
                x,
                before,
                self.scratch,
                self._kind,
                MASS[ndim],
                [-omega * step / 6] * ndim + [0.0] * (3 - ndim),
                (omega * (1 - step), 1 - omega, omega * step),
                third=self.right_side,
                g=self._g,
            )
            x, before = before, x
            omega = 1 / (1 - rho**2 * omega / 4)
        self._x, self._before = x, before
        return x


def _like(storage: Floats) -> Floats:
    """Return zeros of the same shape, with room past the end as `allocate` leaves it."""
    return aligned_zeros(storage.size + LANES, storage.dtype)[: storage.size].reshape(storage.shape)


def _box_weights(block: Block) -> Floats:
    assert block.valid is not None
    wide = block.grid[3] + LANES
    g = aligned_zeros(element_rows(block) * wide, block.storage.dtype)
    columns = block.spatial[-1] + 1
    g.reshape(-1, wide)[:, LANES - 1 : LANES - 1 + columns] = boxes(np.pad(block.valid, 1)).reshape(
        -1, columns
    )
    return g
