"""The stages of a cycle: down to the fourth level, its correction, and up again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks import exact_sum
from diffusion_ops.blocks.statistic import Statistic, make_statistic
from diffusion_ops.families.steady_state import Part, largest_correction, unreached_tolerance
from diffusion_ops.steady.aggregates import cell_grid
from diffusion_ops.steady.conjugate import Steps
from diffusion_ops.steady.couplings import CELL, padded_shape
from diffusion_ops.steady.cycle import DOWN_HALO, UP_HALO
from diffusion_ops.steady.lattice import by_cell, coarse_levels, collected, lattice_shape, spread_out
from diffusion_ops.steady.linear import BARRIER_LEFT, CYCLES, barrier, left_of_barrier
from pipelines.image.window import Grid, Region, Window
from pipelines.steady.preparation import NODES, planned_nodes
from pipelines.steady.stacks import BAND, StackedPixels, as_volume, beside, in_cells, sizes_of
from pipelines.steady.step import TOGETHER, Step, as_parts, tally_of_largest
from pipelines.tasks.pixels import Pixels, ZarrPixels
from pipelines.tasks.values import Carried, Cost, Done, NewArray
from pipelines.tasks.work import Conclusion, Told, Work

NODE_BYTES = 120
"""Memory per node of the fourth level while the coarser ones are made: its row, and those of the levels above it."""


@dataclass(frozen=True)
class Cycling(Step):
    """A stage of a cycle.

    Attributes
    ----------
    labels : StackedPixels
    state : StackedPixels
        Answers x of the parts, then directions p.
    rest, correction : StackedPixels
        Residual and correction of the fourth level.
    z : StackedPixels
        Corrections of the answers.
    active : tuple of bool
        False for parts that are solved.
    residuals : StackedPixels or None
        Array whose last plane holds the residuals of all parts, where what is solved is a barrier that bounds the
        errors; -1 where there is no answer.
    floor : float
        What is added to them.
    """

    labels: StackedPixels = field(kw_only=True)
    state: StackedPixels = field(kw_only=True)
    rest: StackedPixels = field(kw_only=True)
    correction: StackedPixels = field(kw_only=True)
    z: StackedPixels = field(kw_only=True)
    active: tuple[bool, ...] = (True,) * TOGETHER
    residuals: StackedPixels | None = None
    floor: float = 0.0

    @property
    def now(self) -> tuple[Part, ...]:
        """The parts that are solved now; the barrier is a part of its own."""
        return super().now if self.residuals is None else (Part(0, 0),)

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The scene, the labels, and the residuals of a barrier."""
        return (*self.scene.sources, self.labels, *(() if self.residuals is None else (self.residuals,)))

    @property
    def more_bytes(self) -> int:
        """Answers, directions and corrections of all parts, and the arrays of one."""
        return 8 * (3 * TOGETHER + 6)

    def solving(self) -> list[tuple[int, Part]]:
        """Return the parts that are not solved yet, each with its place."""
        return [(i, part) for i, part in enumerate(self.now) if self.active[i]]

    def right_side(self, setting: Any, grid: Any, part: Part, region: Region) -> Any:
        """Return b of a part."""
        if self.residuals is not None:
            values = grid.flat(self.residuals.read(region)[-1])
            return barrier(values, values >= 0, self.floor)
        return grid.flow(grid.flat(self.scene.problem.values(setting, part)))


@dataclass(frozen=True)
class Down(Cycling):
    """Take the step of an iteration, and bring what is left to the fourth level.

    Attributes
    ----------
    before : tuple of StackedPixels, or ()
        State and corrections that the step begins with.
    steps : tuple of Steps or None
        The step of each part.
    """

    before: tuple[StackedPixels, ...] = ()
    steps: tuple[Steps | None, ...] = (None,) * TOGETHER

    title = "down"
    level_bytes = 72
    reach = DOWN_HALO

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The scene, the labels, and the state before."""
        return (*super().sources, *self.before)

    @property
    def writes(self) -> ZarrPixels:
        """The state."""
        return self.state

    @property
    def carries(self) -> Carried:
        """The fourth level's residual."""
        return beside(self.rest)

    def arrays(self, grid: Grid) -> tuple[NewArray, ...]:
        """Return both arrays."""
        return self.state.new(grid, np.float64), self.rest.new(grid, np.float32)

    def compute(self, window: Window) -> Done:
        """Return the state of a tile after the step, and the fourth level's residual."""
        setting, fine = self.scene.fine(window.read, self.labels)
        grid, keep = fine.grid, self.scene.frames.spatial_part(window.keep)
        state = np.zeros((2 * TOGETHER, *setting.spatial))
        z = None
        if self.before:
            state, z = (pixels.read(window.read) for pixels in self.before)
        counts = np.diff(fine.base)
        rest = np.zeros((TOGETHER, *lattice_shape(grid.shape)), np.float32)
        for i, part in self.solving():
            x, p, step = state[i], state[TOGETHER + i], self.steps[i]
            if step is not None and z is not None:
                p *= step.beta
                p += z[i]
                x += step.alpha * p
            r = grid.residual(self.right_side(setting, grid, part, window.read), grid.flat(x))
            rest[i] = spread_out(fine.down(r)[1], counts, grid.shape)
        rest = rest if len(setting.spatial) == 3 else rest[:, 0]
        kept = rest[(slice(None), *in_cells(keep, self.rest))].copy()
        return Done(state[(slice(None), *keep)].copy(), {}, 4 * state.nbytes, kept)


@dataclass(frozen=True)
class Coarse(Cycling):
    """Correct the fourth level, in one task.

    Attributes
    ----------
    rows, held : StackedPixels
        Rows of the fourth level, and which of its nodes known pixels hold; the latter is the same in every cycle.
    """

    rows: StackedPixels = field(kw_only=True)
    held: StackedPixels = field(kw_only=True)

    title = "coarse"
    level_bytes = 0

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """Rows and residual."""
        return self.rows, self.rest

    @property
    def writes(self) -> ZarrPixels:
        """The correction."""
        return self.correction

    @property
    def carries(self) -> Carried:
        """Which nodes are held."""
        return beside(self.held)

    def arrays(self, grid: Grid) -> tuple[NewArray, ...]:
        """Return both arrays."""
        return self.correction.new(grid, np.float32), self.held.new(grid, np.float32)

    def cost(self, grid: Grid) -> Cost:
        """Return the cost: the coarser levels, and the lattices."""
        pixels = math.prod(self.scene.spatial)
        volume = len(self.scene.frames.spatial) == 3
        # Corrections, which nodes are held, a residual, and two copies of one on its way.
        lattices = 4 * (TOGETHER + 4) * math.prod(lattice_shape(padded_shape(self.scene.spatial)))
        memory = planned_nodes(pixels) * NODE_BYTES + lattices + self.codec_bytes
        per_cell = 12 if volume else 2
        seconds = pixels * NODES / 1.5e6
        return Cost(memory, 4 * per_cell * pixels, pixels, seconds=seconds)

    def compute(self, window: Window) -> Done:
        """Return the corrections."""
        shape = padded_shape(self.scene.spatial)
        levels, counts = coarse_levels(self._bands(window.read, shape), shape, len(self.scene.frames.spatial))
        found, read_bytes = np.zeros((TOGETHER + 1, *lattice_shape(shape)), np.float32), 0
        for i, _ in self.solving():
            one = as_volume(self.rest.read_one(window.read, i))
            read_bytes += one.nbytes
            values = levels.correction(collected(one, counts, shape).astype(np.float64))
            found[i] = spread_out(values.astype(np.float32), counts, shape)
        found[-1] = spread_out(levels.held().astype(np.float32), counts, shape)
        found = found if len(self.scene.spatial) == 3 else found[:, 0]
        return Done(found[:-1], {}, read_bytes, found[-1:])

    def _bands(self, region: Region, shape: tuple[int, int, int]) -> Any:
        """Yield the rows of the fourth level, a few rows of cells after another."""
        axis = self.rows.along[0]
        for start in range(0, region[axis].stop, BAND):
            stop = min(start + BAND, region[axis].stop)
            part = tuple(slice(start, stop) if a == axis else s for a, s in enumerate(region))
            band = as_volume(self.rows.read(part)[0])
            thin = (band.shape[0], band.shape[1], shape[2])
            yield by_cell(band, thin)


SUMS = ("gamma", "delta")


@dataclass(frozen=True)
class Up(Cycling):
    """Correct the finest levels, and decide by the corrections whether another cycle follows.

    Attributes
    ----------
    number : int
        Number of the stage that goes down, the first of the cycle.
    survey : int
        Number of the stage that finds the parts.
    down, coarse : Work
        The stages before it in a cycle.
    cycle : int
        Number of cycles before this one.
    """

    number: int = field(kw_only=True)
    survey: int = field(kw_only=True)
    down: Down = field(kw_only=True)
    coarse: Coarse = field(kw_only=True)
    cycle: int = 0

    title = "up"
    level_bytes = 75
    reach = UP_HALO

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The scene, the labels, the state and the fourth level's correction."""
        return (*super().sources, self.state, self.correction)

    @property
    def writes(self) -> ZarrPixels:
        """The corrections."""
        return self.z

    @property
    def stored(self) -> tuple[ZarrPixels, ...]:
        """The arrays that it reads, and those that lie beside what a resumed run or another cycle reads."""
        return (*super().stored, self.coarse.rows, self.rest)

    @property
    def statistics(self) -> Mapping[str, Statistic]:
        """Both products and the largest correction of each part."""
        found = {f"{name} {i}": make_statistic("mean") for name in SUMS for i in range(TOGETHER)}
        return {**found, **{f"largest {i}": make_statistic("maximum") for i in range(TOGETHER)}}

    def arrays(self, grid: Grid) -> tuple[NewArray, ...]:
        """Return the array of the corrections."""
        return (self.z.new(grid, np.float64),)

    def rehearse(self, walls: bool) -> None:
        """Solve a problem on a few cells, and add up a few products."""
        super().rehearse(walls)
        exact_sum.tally_of_values(np.ones(2))

    def compute(self, window: Window) -> Done:
        """Return the corrections of a tile, and their products."""
        setting, fine = self.scene.fine(window.read, self.labels)
        grid, keep = fine.grid, self.scene.frames.spatial_part(window.keep)
        state, lattice = self.state.read(window.read), self.correction.read(window.read)
        counts, tallies = np.diff(fine.base), {}
        z = np.zeros((TOGETHER, *sizes_of(keep)))
        cells = kept_cells(grid.shape, keep)
        for i, part in self.solving():
            b = self.right_side(setting, grid, part, window.read)
            r = grid.residual(b, grid.flat(state[i]))
            one = as_volume(lattice[i])
            found = fine.up(r, fine.down(r)[0], collected(one, counts, grid.shape).astype(np.float64))
            z[i] = grid.image(found)[keep]
            products = (grid.products(found, other)[cells] for other in (r, grid.applied(found)))
            tallies.update(
                {f"{n} {i}": exact_sum.tally_of_values(v) for n, v in zip(SUMS, products, strict=True)}
            )
            left = float(np.abs(z[i]).max())
            if self.residuals is not None:
                left = left_of_barrier(grid.image(r)[keep], grid.image(b)[keep])
            tallies[f"largest {i}"] = tally_of_largest(left)
        return Done(z, tallies, 2 * state.nbytes)

    def conclude(self, told: Told) -> Conclusion:
        """Begin another cycle, unless the corrections are small enough, or no further one is allowed."""
        here = replace(self, parts=self.parts_of(told))
        tolerance = largest_correction(self.scene.tolerance) if self.residuals is None else BARRIER_LEFT
        active, steps, most = list(self.active), list(self.down.steps), 0.0
        for i, part in enumerate(here.now):
            if not self.active[i]:
                continue
            largest = self.statistics[f"largest {i}"].value(told.tallies[f"largest {i}"])
            most = max(most, largest / part.span if part.span else 0.0)
            active[i] = not largest <= tolerance * part.span
            gamma, delta = (float(exact_sum.total(told.tallies[f"{name} {i}"])) for name in SUMS)
            steps[i] = Steps.after(gamma, delta, self.down.steps[i])
        values = {"cycles": float(self.cycle), "largest correction": most}
        if not any(active[: len(here.now)]):
            return Conclusion(values, reader=self.number + 3)
        if self.cycle == CYCLES:
            return Conclusion(values, problem=unreached_tolerance(self.cycle, most, tolerance))
        return Conclusion(values, again=self.following(tuple(active), tuple(steps)))

    def parts_of(self, told: Told) -> tuple[Part, ...]:
        """Return all parts, as the survey has found them."""
        return as_parts(told.earlier[self.survey].bound[-1 - self.position])

    def following(self, active: tuple[bool, ...], steps: tuple[Steps | None, ...]) -> dict[int, Work]:
        """Return the stages of the next cycle."""
        return cycle_of(self, self.cycle + 1, self.first, active, steps, (self.state, self.z))


def cycle_of(
    up: Up,
    cycle: int,
    first: int,
    active: tuple[bool, ...],
    steps: tuple[Steps | None, ...],
    before: tuple[StackedPixels, ...],
) -> dict[int, Work]:
    """Return the three stages of a cycle that follows one, by number, in arrays of its own."""

    def anew(pixels: StackedPixels) -> StackedPixels:
        return replace(pixels, path=f"{pixels.path.rpartition('@')[0]}@{first}.{cycle}")

    names = ("state", "rest", "correction", "z")
    common: dict[str, Any] = {name: anew(getattr(up, name)) for name in names}
    common |= {"active": active, "first": first, "residuals": up.residuals, "floor": up.floor}
    down = replace(up.down, **common, steps=steps, before=before)
    coarse = replace(up.coarse, **common)
    following = replace(up, **common, down=down, coarse=coarse, cycle=cycle)
    return {up.number: down, up.number + 1: coarse, up.number + 2: following}


def kept_cells(shape: tuple[int, int, int], keep: Region) -> NDArray[np.int64]:
    """Return the numbers of the cells of 32 pixels that a part of a window has."""
    grid = cell_grid(shape)
    spans = ((0, 1),) * (3 - len(keep)) + tuple((s.start // CELL, -(-s.stop // CELL)) for s in keep)
    numbers = np.arange(math.prod(grid)).reshape(grid)
    return numbers[tuple(slice(*span) for span in spans)].reshape(-1)
