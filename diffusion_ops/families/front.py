"""Solve fronts in memory: times, and labels, that run from markers through an image."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Bools
from diffusion_ops.evolution.problem import Problem, Setting
from diffusion_ops.kernels.fronts.eikonal import build_front


class Front(Problem):
    """A problem whose answer at a cell depends on cells that a front has reached before."""

    @property
    def work_kind(self) -> str:
        """The worklist of tiles."""
        return "front"

    @abstractmethod
    def cost(self, fields: NDArray[Any], valid: Bools | None) -> NDArray[Any]:
        """Return the time per unit length, of shape `spatial` as floats; infinite where nothing passes."""


def arrival(problem: Front, setting: Setting, until: float) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Return times."""
    kind = np.dtype(np.float64 if setting.dtype == np.float64 else np.float32)
    spatial = setting.spatial
    padded = tuple(n + 2 for n in spatial)
    inside = (slice(1, -1),) * len(spatial)
    u, cost = np.full(padded, np.inf, kind), np.full(padded, np.inf, kind)
    cost[inside] = problem.cost(setting.fields, setting.valid)
    markers = setting.markers
    assert markers is not None
    seeds = markers > 0
    if setting.valid is not None:
        cost[inside][~setting.valid] = np.inf
        seeds &= setting.valid
    u[inside][seeds], cost[inside][seeds] = 0, np.inf
    front = build_front(len(spatial), False)
    far = np.flatnonzero(u == 0).astype(np.int32)
    count = len(far)
    lists = [np.empty(u.size, np.int32) for _ in range(3)]
    lists[0][:count] = far
    listed = np.zeros(u.size, np.uint8)
    listed[far] = 1
    pitch = tuple(int(s) // kind.itemsize for s in u.strides)
    steps = (*(-p for p in pitch), *pitch)
    labels = np.zeros(1, np.int32)
    spacing = (*setting.spacing, *(1 / (h * h) for h in setting.spacing))
    front(u.reshape(-1), labels, cost.reshape(-1), listed, *lists, count, pitch, steps, spacing, until)
    return u[inside], labels
