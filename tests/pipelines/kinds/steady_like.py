"""A kind of work as another package would bring it: a steady state on two levels, in cycles until a residual.

The operator solves u - a Δu = f, with no flux over the image's edges. A cycle relaxes u, brings what is left to a level
that is coarser by two, solves there in one task, corrects u and relaxes again; the last stage of a cycle opens all
of them again until the largest residual is below the tolerance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.sparse import diags, identity, kron
from scipy.sparse.linalg import spsolve

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.statistic import Tally
from diffusion_ops.evolution.operator import Map, register
from diffusion_ops.evolution.parameters import Number, parameter
from pipelines.image.window import Grid, Region, Window, window_of
from pipelines.plan.batches import request_after
from pipelines.plan.stages import ChainRequest, ChainWork, Image
from pipelines.tasks.inputs import Inputs, Reading
from pipelines.tasks.pixels import Pixels, ZarrPixels
from pipelines.tasks.values import Cost, Done
from pipelines.tasks.work import KINDS, Conclusion, Told, Work

SWEEPS = 3
"""Relaxations before and after the coarse solution: a sweep reads one cell, and a residual one more."""


@register("implicit-heat")
class ImplicitHeat(Map):
    """One implicit step of the heat equation, u - a Δu = f."""

    a: float = parameter(Number(unit="squared unit length", above=0), default=4.0)
    tolerance: float = parameter(Number(unit="image units", above=0), default=1e-3)

    equation = "u - a Δu = f"
    reference = "Briggs, Henson and McCormick 2000"
    work_kind = "steady-like"

    def reach(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        raise NotImplementedError("the whole image")

    def apply(self, block: Block) -> None:
        raise NotImplementedError("the whole image")


def laplacian(u: Any) -> Any:
    """Return Δu with no flux over the sides."""
    total = np.zeros_like(u)
    for axis in range(u.ndim):
        flux = np.diff(u, axis=axis)
        change = np.moveaxis(total, axis, 0)
        change[:-1] += np.moveaxis(flux, axis, 0)
        change[1:] -= np.moveaxis(flux, axis, 0)
    return total


def solved(f: Any, a: float) -> Any:
    """Return the solution on a whole array."""
    lines = []
    for n in f.shape:
        main = np.full(n, -2.0)
        main[[0, -1]] = -1.0
        lines.append(diags([np.ones(n - 1), main, np.ones(n - 1)], [-1, 0, 1]))
    matrix = kron(lines[0], identity(f.shape[1])) + kron(identity(f.shape[0]), lines[1])
    return spsolve((identity(f.size) - a * matrix).tocsc(), f.ravel()).reshape(f.shape)


@dataclass(frozen=True)
class Level(Work):
    """What the stages of a cycle share."""

    f: Pixels
    u: Pixels
    target: ZarrPixels
    a: float
    shape: tuple[int, ...]
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float64))
    cells = 2 * SWEEPS + 2

    @property
    def sources(self) -> tuple[Any, ...]:
        return (self.f, self.u)

    @property
    def writes(self) -> ZarrPixels:
        return self.target

    @property
    def is_state(self) -> bool:
        return True

    def cost(self, grid: Grid) -> Cost:
        size = int(np.prod(grid.shape)) * 8
        return Cost(96 * int(np.prod(grid.largest)) + (1 << 20), 2 * size, size, seconds=size / 1e8)

    def window(self, region: Region) -> Window:
        return window_of(region, self.shape, (self.cells,) * len(self.shape))

    def relaxed(self, u: Any, f: Any) -> Any:
        for _ in range(SWEEPS):
            u = u + 0.8 * (f - u + self.a * laplacian(u)) / (1 + 4 * self.a)
        return u

    def moved_to(self, **parts: Any) -> Work:
        return replace(self, **parts)


@dataclass(frozen=True)
class Restrict(Level):
    """Relax, and bring the residual to the coarser level: the mean of each 2 x 2 cells."""

    def window(self, region: Region) -> Window:
        fine = tuple(slice(2 * s.start, min(2 * s.stop, n)) for s, n in zip(region, self.shape, strict=True))
        return replace(window_of(fine, self.shape, (self.cells,) * 2), write=region)

    def compute(self, window: Window) -> Done:
        f, u = self.f.read(window.read).astype(float), self.u.read(window.read).astype(float)
        u = self.relaxed(u, f)
        left = (f - u + self.a * laplacian(u))[window.keep]
        left = np.pad(left, [(0, n % 2) for n in left.shape], mode="edge")
        coarse = left.reshape(left.shape[0] // 2, 2, left.shape[1] // 2, 2)
        return Done((coarse[:, 0] + coarse[:, 1])[:, :, 0] / 4 + (coarse[:, 0] + coarse[:, 1])[:, :, 1] / 4)


@dataclass(frozen=True)
class Coarse(Level):
    """Solve the coarser level in one task; `u` is not read."""

    def window(self, region: Region) -> Window:
        return window_of(region, self.shape, (0,) * len(self.shape))

    def compute(self, window: Window) -> Done:
        return Done(solved(self.f.read(window.read), self.a / 4))


@KINDS.register("steady-like")
@dataclass(frozen=True)
class Cycle(ChainWork, Level):
    """Relax, correct by the coarser level, relax again, and say what is left."""

    correction: ZarrPixels | None = None
    tolerance: float = 0.0
    number: int = 0
    works: tuple[Work, ...] = ()

    collects = True
    sections = ("cycles",)

    @classmethod
    def lay_out(cls, request: ChainRequest) -> Image:
        request.refuse_part("is solved over the whole image, so a part alone cannot be computed.")
        stages, begin, operator = request.stages, request.begin, request.chain.legs[-1].operator
        f, shape = begin.reading.pixels, begin.shape
        coarse_shape = tuple(-(-n // 2) for n in shape)
        residual, correction, u = (stages.array("state", f"{name}@0") for name in ("residual", "coarse", "u"))
        restrict = Restrict(f, f, residual, operator.a, shape)
        solve = Coarse(residual, residual, correction, operator.a, coarse_shape)
        first = stages.following
        cycle = cls(
            f,
            f,
            u,
            operator.a,
            shape,
            correction=correction,
            tolerance=operator.tolerance,
            number=first,
            works=(restrict, solve),
        )
        grid = stages.grid(shape)
        half = Grid(coarse_shape, tuple(-(-t // 2) for t in grid.tile))
        stages.add("restrict", restrict, half, request_after(request))
        stages.add("solve the coarser level", solve, Grid(coarse_shape, coarse_shape), (first,))
        stages.add("correct", cycle, grid, needs=(first + 1,))
        ended = KINDS["evolve"].make(
            inputs=Inputs(Reading(u, np.dtype(np.float64))),
            target=request.target(0, request.output),
            frames=request.frames,
            legs=(),
            positions=(),
            dtype=request.final_dtype(np.dtype(np.float64)),
            image_shape=shape,
            original=request.final_original(),
        )
        stage = stages.add("end", ended, grid, (first + 2,), (first + 2,))
        return Image(Reading(ended.writes, ended.dtype, None, 1), shape, (stage,))

    @property
    def sources(self) -> tuple[Any, ...]:
        return (self.f, self.u, self.correction)

    def compute(self, window: Window) -> Done:
        f, u = self.f.read(window.read).astype(float), self.u.read(window.read).astype(float)
        u = self.relaxed(u, f)
        coarse = tuple(slice(s.start // 2, -(-s.stop // 2)) for s in window.read)
        error = self.correction.read(coarse).repeat(2, 0).repeat(2, 1)
        there = tuple(
            slice(s.start - 2 * c.start, s.stop - 2 * c.start)
            for s, c in zip(window.read, coarse, strict=True)
        )
        u = self.relaxed(u + error[there], f)
        left = np.abs(f - u + self.a * laplacian(u))[window.keep].max()
        tally = Tally(np.array([np.float64(left).view(np.int64)]), np.ones(1, np.int64))
        return Done(u[window.keep].copy(), {"left": tally})

    def conclude(self, told: Told) -> Conclusion:
        largest = max(tally.keys.max() for tally in told.each)
        values = {"residual": float(np.int64(largest).view(np.float64))}
        if values["residual"] <= self.tolerance:
            return Conclusion(values, reader=self.number + 3)
        restrict, solve = self.works
        number = int(self.target.path.rpartition("@")[2]) + 1

        def anew(pixels: ZarrPixels) -> ZarrPixels:
            return replace(pixels, path=f"{pixels.path.rpartition('@')[0]}@{number}")

        residual, correction = anew(restrict.target), anew(solve.target)
        works = (
            restrict.moved_to(u=self.target, target=residual),
            solve.moved_to(f=residual, u=residual, target=correction),
        )
        cycle = replace(self, u=self.target, target=anew(self.target), correction=correction, works=works)
        return Conclusion(values, again=dict(enumerate((*works, cycle), self.number)))

    def report(self, title: str, concluded: Conclusion | None) -> Mapping[str, Any]:
        number = int(self.target.path.rpartition("@")[2])
        return {"cycles": {"count": number + 1}} if concluded is not None else {}
