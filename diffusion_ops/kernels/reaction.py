"""Two fields that react in every cell and diffuse between cells: one explicit step of a row of both."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from numba import njit

from diffusion_ops.blocks.block import LANES, Block, Floats, allocate
from diffusion_ops.kernels.lanes import element, inlined, load, shift, store
from diffusion_ops.kernels.tensors.fluxes import take_tensor_steps
from diffusion_ops.kernels.wavefront import seen, take_row_steps

# A step's numbers: tau D / h² along x, y, z of the visible field and of the other, then those of the reaction.
_OTHER, _REACTION = 3, 6

_ALPHA = 0.4
"""Of the nonstandard differences: keeps directions best."""


@njit
def _spread(form, u, lines, j, w, first):  # type: ignore[no-untyped-def]
    """Return the cells of a group, and what a step of diffusion adds to them; w[first:] are weights of the axes."""
    masked, volume = form[0], form[1]
    here = element(lines, 4 if volume else 1)
    up, down = element(lines, 3 if volume else 0), element(lines, 5 if volume else 2)
    c = load(u, here + j)
    left, right = seen(masked, load(u, here + j - 1), c), seen(masked, load(u, here + j + 1), c)
    above, below = seen(masked, load(u, up + j), c), seen(masked, load(u, down + j), c)
    change = w[first] * ((left - c) + (right - c)) + w[first + 1] * ((above - c) + (below - c))
    if volume:
        front = seen(masked, load(u, element(lines, 1) + j), c)
        back = seen(masked, load(u, element(lines, 7) + j), c)
        change = change + w[first + 2] * ((front - c) + (back - c))
    return c, change


@njit
def _gray_scott(v, u, k):  # type: ignore[no-untyped-def]
    """Return tau (u v² - (F + K) v) and tau (F (1 - u) - u v²); k = tau, tau F, tau (F + K)."""
    made = u * v * v * k[0]
    return made - v * k[2], (k[1] - u * k[1]) - made


@njit
def _fitzhugh_nagumo(u, w, k):  # type: ignore[no-untyped-def]
    """Return tau (u - u³ - w) and tau E (u - G w - B); k = tau, tau E, tau E G, tau E B."""
    return ((u - u * u * u) - w) * k[0], (u * k[1] - w * k[2]) - k[3]


@njit
def _schnakenberg(u, v, k):  # type: ignore[no-untyped-def]
    """Return tau R (a - u + u² v) and tau R (b - u² v); k = tau R, tau R a, tau R b."""
    made = u * u * v * k[0]
    return (k[1] - u * k[0]) + made, k[2] - made


@njit
def _step(reaction, form, fields, lines, out, n, numbers):  # type: ignore[no-untyped-def]
    wide = form[3]
    for j in range(0, n, LANES):
        u, du = _spread(form, fields, lines, j, numbers, 0)
        v, dv = _spread(form, shift(fields, wide), lines, j, numbers, _OTHER)
        fu, fv = reaction(u, v, numbers[_REACTION:])
        store(out, j, u + (du + fu))
        store(out, wide + j, v + (dv + fv))


@inlined
def gray_scott_row(form, u, lines, out, n, numbers, data):  # type: ignore[no-untyped-def]
    """Make a row of both fields of ∂v/∂t = Dv Δv + u v² - (F + K) v, ∂u/∂t = Du Δu - u v² + F (1 - u)."""
    _step(_gray_scott, form, u, lines, out, n, numbers)


@inlined
def fitzhugh_nagumo_row(form, u, lines, out, n, numbers, data):  # type: ignore[no-untyped-def]
    """Make a row of both fields of ∂u/∂t = Du Δu + u - u³ - w, ∂w/∂t = Dw Δw + E (u - G w - B)."""
    _step(_fitzhugh_nagumo, form, u, lines, out, n, numbers)


@inlined
def schnakenberg_row(form, u, lines, out, n, numbers, data):  # type: ignore[no-untyped-def]
    """Make a row of both fields of ∂u/∂t = Du Δu + R (a - u + u² v), ∂v/∂t = Dv Δv + R (b - u² v)."""
    _step(_schnakenberg, form, u, lines, out, n, numbers)


def take_reaction_steps(
    block: Block,
    update: Callable[..., None],
    steps: int,
    tau: float,
    diffusions: Sequence[float],
    reaction: Sequence[float],
    tensor: Floats | None = None,
) -> None:
    """Take steps of reaction and diffusion on each channel of a block and its partner, in place.

    Parameters
    ----------
    block : Block
        The partner of channel c is block.carried[c].
    update : function
        One of the rows above.
    steps, tau : int and float
        Number and size of the steps.
    diffusions : sequence of 2 floats
        Of the visible field and of the other, in squared units of the spacing per unit of time.
    reaction : sequence of float
        What the reaction asks for, times tau.
    tensor : ndarray of shape (3 or 6, corners), optional
        Makes the diffusion anisotropic, see `kernels.tensors.fluxes`; no eigenvalue above 1. Each step then reacts
        first and diffuses what came of it.
    """
    assert block.carried is not None
    both = allocate(2, block.spatial, block.storage.dtype)
    for visible, other in zip(block.storage, block.carried, strict=False):
        both[0], both[1] = visible, other
        pair = dataclasses.replace(block, storage=both)
        if tensor is None:
            axes = [1 / h**2 for h in reversed(block.spacing)]
            weights = [tau * d * w for d in diffusions for w in (*axes, 0.0)[:3]]
            take_row_steps(pair, update, steps, [*weights, *reaction], together=True)
        else:
            _take_aligned_steps(pair, update, steps, [tau * d for d in diffusions], reaction, tensor)
        visible[...], other[...] = both


def _take_aligned_steps(
    pair: Block,
    update: Callable[..., None],
    steps: int,
    taus: Sequence[float],
    reaction: Sequence[float],
    tensor: Floats,
) -> None:
    # Without diffusion no cell reads another, so no side is open to what is spoilt.
    alone = dataclasses.replace(pair, open_sides=())
    for step in range(steps):
        after = pair.after((step,) * len(pair.spatial))
        take_row_steps(alone, update, 1, [*[0.0] * _REACTION, *reaction], together=True)
        for field, tau in zip(pair.storage, taus, strict=True):
            take_tensor_steps(after, [field[None]], tensor, tau, [1.0], _ALPHA)
