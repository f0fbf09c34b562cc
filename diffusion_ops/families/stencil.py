"""Weights of the faces in ∂u/∂t = div(g ∇u), and a cycle of its steps on a block."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffusion_ops.blocks.block import Block, Floats, allocate
from diffusion_ops.evolution.schedule import Cycle
from diffusion_ops.kernels.perona_malik import take_steps


@dataclass(frozen=True)
class Stencil:
    """Weight and length of the faces along x, y, z and the diagonals; 0 where there are none.

    Attributes
    ----------
    weights : tuple of 4 floats
        w in Σ w g (u_neighbour - u); for g = 1 the sum is a consistent Laplacian.
    lengths : tuple of 4 floats
        Distance of the two cells of a face.
    diagonal : bool
        True where the diagonals take part.
    """

    weights: tuple[float, float, float, float]
    lengths: tuple[float, float, float, float]
    diagonal: bool

    @property
    def stable_dt(self) -> float:
        """1 / Σ w over the neighbours: the limit of the maximum principle, and of L2 stability where g <= 1."""
        x, y, z, d = self.weights
        return 1 / (2 * (x + y + z) + 4 * d)

    def scales(self, contrast: float) -> list[float]:
        """Return 1 / (contrast length)² per direction."""
        return [1 / (contrast * length) ** 2 if length else 0.0 for length in self.lengths]


def make_stencil(spacing: tuple[float, ...], neighbours: int | None = None) -> Stencil:
    """Return the stencil of 4 or 8 neighbours in 2-D, 6 in 3-D.

    With eight neighbours the diagonals have the weight 1 / (4 h²) for the wider spacing h, and the axes the rest of
    1 / h² along each, so that time means the same for both stencils.

    Raises
    ------
    ValueError
        For another number of neighbours.
    """
    ndim = len(spacing)
    allowed = {2: (4, 8), 3: (6,)}[ndim]
    neighbours = neighbours or allowed[0]
    if neighbours not in allowed:
        raise ValueError(
            f"neighbours={neighbours} is not possible in {ndim}-D. Allowed: {' or '.join(map(str, allowed))}."
        )
    x, y, z = (*reversed(spacing), 0.0)[:3]
    diagonal = neighbours == 8
    d = 1 / (4 * max(x, y) ** 2) if diagonal else 0.0
    weights = (1 / x**2 - 2 * d, 1 / y**2 - 2 * d, 1 / z**2 if z else 0.0, d)
    return Stencil(weights, (x, y, z, float(np.hypot(x, y)) if diagonal else 0.0), diagonal)


def take_cycle(
    block: Block,
    cycle: Cycle,
    count: int,
    kind: int,
    stencil: Stencil,
    contrast: float = 1.0,
    faces: Floats | None = None,
    before: int = 0,
) -> None:
    """Take a cycle `count` times on a block, in place, after `before` steps of the same call."""
    weights = cycle.weights * count
    states = [block.storage]
    if cycle.inertial:
        states.append(allocate(len(block.storage), block.spatial, block.storage.dtype))
        states[1][...] = block.storage
    rates = [cycle.tau * w for w in stencil.weights]
    after = block.after((before,) * len(block.spatial))
    take_steps(after, states, kind, rates, stencil.scales(contrast), weights, faces, stencil.diagonal)
    block.storage = states[len(weights) % len(states)]
