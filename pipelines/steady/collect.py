"""Collect the answers of a steady state's parts, and bound their errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from diffusion_ops.blocks import exact_sum
from diffusion_ops.blocks.block import Bools
from diffusion_ops.blocks.statistic import Reduction, Tally, make_statistic
from diffusion_ops.evolution.problems.problem import Setting
from diffusion_ops.families.steady_state import add_residual, require_bound, with_known
from diffusion_ops.steady.couplings import CELL, Couplings
from diffusion_ops.steady.lattice import reached
from diffusion_ops.steady.linear import floor_of
from pipelines.image.window import Grid, Region, Window
from pipelines.steady.cycle import Up, cycle_of, kept_cells
from pipelines.steady.scene import Scene, read_labels
from pipelines.steady.stacks import StackedPixels
from pipelines.steady.step import TOGETHER, Step, tally_of_largest
from pipelines.tasks.pixels import Pixels, ZarrPixels
from pipelines.tasks.values import Done, NewArray
from pipelines.tasks.work import Conclusion, Told


@dataclass(frozen=True)
class Collect(Step):
    """Collect the answers of the parts that are solved, and begin with the next ones.

    Attributes
    ----------
    state, target : StackedPixels
        Answers, and what they are collected in.
    before : StackedPixels or None
        What earlier answers are collected in.
    up : Up
        Last stage of a cycle.
    cycles : int
        Number of all cycles before.
    largest : float
        Largest correction that they have left.
    """

    state: StackedPixels = field(kw_only=True)
    target: StackedPixels = field(kw_only=True)
    held: StackedPixels = field(kw_only=True)
    up: Up = field(kw_only=True)
    before: StackedPixels | None = None
    cycles: int = 0
    largest: float = 0.0

    title = "collect"
    level_bytes = 50
    reach = CELL

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The scene, the labels, the answers, and what earlier ones are collected in."""
        earlier = () if self.before is None else (self.before,)
        return (*self.scene.sources, self.up.labels, self.held, self.state, *earlier)

    @property
    def stored(self) -> tuple[ZarrPixels, ...]:
        """The arrays that it reads, and those that lie beside what a resumed run or further cycles read."""
        return (*super().stored, self.up.coarse.rows, self._in_this_cycle(self.up.rest))

    @property
    def writes(self) -> ZarrPixels:
        """What the answers are collected in."""
        return self.target

    @property
    def more_bytes(self) -> int:
        """The arrays, before and after, and the answers."""
        return 8 * (2 * self.target.count + 2 * TOGETHER + 4)

    def arrays(self, grid: Grid) -> tuple[NewArray, ...]:
        """Return the array."""
        return (self.target.new(grid, np.float64),)

    def moved(self, pixels: Pixels, carried: object) -> Collect:
        """Return the work that reads the answers of the cycle that has written the corrections `pixels`."""
        assert isinstance(pixels, ZarrPixels)
        return replace(self, state=_of_cycle(self.state, pixels))

    def _in_this_cycle(self, pixels: StackedPixels) -> StackedPixels:
        """Return an array of the cycle whose answers are collected."""
        return _of_cycle(pixels, self.state)

    @property
    def statistics(self) -> Mapping[str, Reduction]:
        """The residuals, where they count, and the largest bound."""
        if not self.scene.problem.error_bound:
            return {}
        return {name: make_statistic("mean") for name in ("total", "cells")} | {
            "bound": make_statistic("maximum")
        }

    def compute(self, window: Window) -> Done:
        """Return the collected answers of a tile, and after them the residuals, or the bound that follows."""
        setting, grid = self.scene.couplings(window.read)
        problem, answers = self.scene.problem, self.state.read(window.read)
        arrays = np.zeros((self.target.count, *setting.spatial))
        if self.before is not None:
            arrays = self.before.read(window.read)
        keep = (slice(None), *self.scene.frames.spatial_part(window.keep))
        if self.up.residuals is not None:
            arrays[-1] = 2 * answers[0]
            return Done(
                arrays[keep].copy(),
                {"bound": tally_of_largest(float(arrays[-1][keep[1:]].max()))},
                answers.nbytes,
            )
        proves = bool(problem.error_bound)
        collected, residuals = arrays[: len(arrays) - proves], grid.flat(np.maximum(arrays[-1], 0))
        for part in self.parts[self.first : self.first + TOGETHER + 1]:
            if part.rest:
                problem.collect(collected, part, None)
            elif part.index < self.first + TOGETHER:
                values = problem.values(setting, part)
                x = grid.flat(answers[part.index - self.first])
                problem.collect(collected, part, with_known(grid, x, values))
                if proves:
                    add_residual(residuals, grid.residual(grid.flow(grid.flat(values)), x), part)
        if not proves:
            return Done(arrays[keep].copy(), {}, answers.nbytes)
        there = reached_cells(self.scene, setting, grid, window.read, self.up.labels, self.held)
        arrays[-1] = np.where(grid.image(there), grid.image(residuals), -1)
        residuals[~there] = 0
        sums = grid.products(residuals, np.ones(residuals.size))[kept_cells(grid.shape, keep[1:])]
        number = np.count_nonzero(grid.image(there)[keep[1:]])
        tallies = {
            "total": exact_sum.tally_of_values(sums),
            "cells": Tally(np.zeros(1, np.int64), np.array([number])),
        }
        return Done(arrays[keep].copy(), tallies, answers.nbytes)

    def conclude(self, told: Told) -> Conclusion:
        """Begin with the next parts, if any, or with the barrier that bounds the errors."""
        parts, up = self.up.parts_of(told), self.up
        done = told.earlier[up.number + 2].values
        if up.residuals is not None:
            return self._bounded(told)
        cycles = self.cycles + int(done["cycles"])
        largest = max(self.largest, done["largest correction"])
        values = {"cycles": float(cycles), "largest correction": largest}
        first = self.first + TOGETHER
        if not any(part.index >= first and not part.rest for part in parts):
            if not self.scene.problem.error_bound:
                return Conclusion(values, reader=up.number + 4)
            number = int(told.tallies["cells"].counts.sum())
            floor = floor_of(float(exact_sum.total(told.tallies["total"])), number)
            up = self._for_barrier(floor)
        again = cycle_of(up, 0, first, (True,) * TOGETHER, (None,) * TOGETHER, ())
        target = replace(self.target, path=f"{self.target.path.rpartition('@')[0]}@{first}")
        collect = replace(
            self, first=first, before=self.target, target=target, cycles=cycles, largest=largest, up=up
        )
        return Conclusion(values, again={**again, up.number + 3: collect})

    def _for_barrier(self, floor: float) -> Up:
        """Return the last stage of cycles that solve the barrier of the collected residuals."""
        up, r = self.up, self.target
        return replace(
            up,
            residuals=r,
            floor=floor,
            down=replace(up.down, residuals=r, floor=floor),
            coarse=replace(up.coarse, residuals=r, floor=floor),
        )

    def _bounded(self, told: Told) -> Conclusion:
        """Refuse a bound that is too large, or go on."""
        bound = max(0.0, make_statistic("maximum").value(told.tallies["bound"]))
        cycles = told.earlier[self.up.number + 2].values["cycles"]
        values = {"cycles": float(self.cycles), "largest correction": self.largest, "bound": bound}
        try:
            require_bound(bound, self.scene.problem.error_bound)
        except ValueError as error:
            return Conclusion(values, problem=str(error))
        return Conclusion({**values, "cycles of the bound": cycles}, reader=self.up.number + 4)


def reached_cells(
    scene: Scene,
    setting: Setting,
    grid: Couplings,
    region: Region,
    labels: StackedPixels,
    held: StackedPixels,
) -> Bools:
    """Return which unknown cells of a window some known cell holds, in the layout of the operator."""
    lattice = held.read(region)
    lattice = lattice[0] if len(setting.spatial) == 3 else lattice
    return reached(grid, read_labels(region, labels, setting.spatial), lattice)


def _of_cycle(pixels: StackedPixels, like: ZarrPixels) -> StackedPixels:
    """Return an array of the cycle that another array belongs to."""
    return replace(pixels, path=f"{pixels.path.rpartition('@')[0]}@{like.path.rpartition('@')[2]}")
