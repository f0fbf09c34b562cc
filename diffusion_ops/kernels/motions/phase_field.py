"""Rows of one step of phase fields, for `kernels/wavefront.py`.

`numbers` begins with 1 / (2 h) along x, y, z and the step size; the head of each update says what follows.
"""

from __future__ import annotations

import math

from diffusion_ops.blocks.block import LANES
from diffusion_ops.kernels.lanes import inlined, store
from diffusion_ops.kernels.motions.derivatives import around, jet, trace


@inlined
def allen_cahn_row(form, u, lines, out, n, numbers, data):  # type: ignore[no-untyped-def]
    """Make a row of ∂u/∂t = Δu by an explicit step, then of v' = (v - v³) / ε² by its solution.

    Numbers go on with the middle and half the distance of the two phases, the reciprocal of the latter, and with
    exp(-2 τ / ε²) and 1 less it: v is 1 and -1 at the phases, and v / sqrt(v² + (1 - v²) exp(-2 τ / ε²)) after a step.
    """
    masked, volume, _, _, _ = form
    near = around(volume, lines)
    for j in range(0, n, LANES):
        c, _, h, _, _ = jet(masked, volume, u, near, j, numbers)
        v = (c + trace(volume, h) * numbers[3] - numbers[4]) * numbers[6]
        v = v / math.sqrt(v * v * numbers[8] + numbers[7])
        store(out, j, v * numbers[5] + numbers[4])
