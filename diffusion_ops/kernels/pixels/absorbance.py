"""Sum the absorbances of channels, -ln of their transmittance, with a weight each."""

from __future__ import annotations

from collections.abc import Sequence

from diffusion_ops.blocks.block import Block, Floats, allocate
from diffusion_ops.kernels.lanes import kernel
from diffusion_ops.kernels.logarithm import logarithm


@kernel
def add_absorbance(out, light, scale, least, weight):  # type: ignore[no-untyped-def]
    """Add -weight ln max(scale light, least) to out; both flat (cells,)."""
    for i in range(out.shape[0]):
        out[i] -= weight * logarithm(max(light[i] * scale, least))


@kernel
def cut_below_zero(out):  # type: ignore[no-untyped-def]
    """Put 0 in the place of negative numbers of out, flat (cells,)."""
    for i in range(out.shape[0]):
        out[i] = max(out[i], out.dtype.type(0))


def weighted_absorbance(
    block: Block, background: Sequence[float], weights: Sequence[float], least: float
) -> Floats:
    """Return max(Σ_c -weights_c ln max(u_c / background_c, least), 0) of a block, of shape (1, cells).

    Channel by channel in their order, so that a cell has the same bits in any block.

    Parameters
    ----------
    block : Block
    background : sequence of float
        Light without anything in its way, for each channel, in image units.
    weights : sequence of float
        One for each channel.
    least : float
        Transmittance below which nothing is told apart.
    """
    real = block.storage.dtype.type
    out = allocate(1, block.spatial, block.storage.dtype)
    for light, whole, weight in zip(block.storage, background, weights, strict=True):
        add_absorbance(out[0], light, real(1 / whole), real(least), real(weight))
    cut_below_zero(out[0])
    return out
