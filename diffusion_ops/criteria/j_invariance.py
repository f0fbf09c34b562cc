"""Score by the prediction of pixels that the operator has not seen (J-invariance, Noise2Self)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from diffusion_ops.blocks.block import Bools, Floats
from diffusion_ops.tuning.criterion import CRITERIA, Criterion

_STRIDE = 4

_OFFSETS = ((0, 1, 2, 3), (1, 3, 0, 2), (2, 0, 3, 1))
"""First pixel of each mask along the last axis, the one before, and the one before that."""


@CRITERIA.register("j-invariance")
class JInvariance(Criterion):
    """Mean squared error in pixels that were replaced by the mean of their neighbours before the run.

    For noise that is independent from pixel to pixel, of any distribution and level, this is the error against the
    clean image plus the variance of the noise. A mask has every fourth pixel per axis; 4 of them are run (Batson and
    Royer: Noise2Self, ICML 2019).
    """

    needs_noise = False

    def disturbed(
        self, image: Floats, valid: Bools | None, noise: float, seed: int, stream: int
    ) -> list[Floats]:
        """Return the image with the pixels of one mask interpolated, for each mask."""
        around = neighbour_mean(image, valid)
        copies = []
        for mask in _masks(image.shape):
            copies.append(image.copy())
            copies[-1][mask] = around[mask]
        return copies

    def terms(self, inputs: Sequence[Floats], results: Sequence[Floats], noise: float) -> list[Floats]:
        """Return the squared error in the masked pixels, and 1 in these pixels."""
        errors, seen = np.zeros(inputs[0].shape), np.zeros(inputs[0].shape)
        for mask, result in zip(_masks(inputs[0].shape), results[1:], strict=True):
            errors[mask] = np.subtract(result[mask], inputs[0][mask], dtype=np.float64) ** 2
            seen[mask] = 1
        return [errors, seen]

    def score(self, means: Sequence[float], noise: float) -> float:
        """Return the mean squared error of the prediction, in squared image units."""
        errors, seen = means
        if not seen:
            raise ValueError(
                "No pixel of the image can be predicted from its neighbours. Use a larger image, or another criterion."
            )
        return errors / seen


def _masks(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Yield the pixels of each mask, in all channels."""
    for offsets in zip(*_OFFSETS[: len(shape) - 1], strict=True):
        yield (slice(None), *(slice(o, None, _STRIDE) for o in reversed(offsets)))


def neighbour_mean(image: Floats, valid: Bools | None) -> Floats:
    """Return the mean of the valid neighbours along the axes; the cell's own value where there are none."""
    weight = np.ones(image.shape[1:]) if valid is None else valid.astype(np.float64)
    total, count = np.zeros(image.shape), np.zeros(image.shape[1:])
    for axis in range(image.ndim - 1):
        ahead = (*(slice(None),) * axis, slice(1, None))
        behind = (*(slice(None),) * axis, slice(None, -1))
        for to, other in ((ahead, behind), (behind, ahead)):
            total[(slice(None), *to)] += weight[other] * image[(slice(None), *other)]
            count[to] += weight[other]
    mean: Floats = np.where(count > 0, total / np.maximum(count, 1), image).astype(image.dtype)
    return mean
