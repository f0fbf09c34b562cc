"""Prepare a steady state: find its parts, and set up the levels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.statistic import Reduction, Tally, make_statistic
from diffusion_ops.families.steady_state import tallies_of
from diffusion_ops.steady.aggregates import SETUP_HALO, set_up
from diffusion_ops.steady.couplings import padded_shape
from diffusion_ops.steady.lattice import as_lattice, by_cell, require_room, rows_shape
from pipelines.image.window import Grid, Window
from pipelines.steady.scene import Scene
from pipelines.steady.stacks import StackedPixels, as_volume, beside, in_cells, sizes_of
from pipelines.steady.step import REFUSED, Step, as_numbers
from pipelines.tasks.pixels import ZarrPixels
from pipelines.tasks.values import Carried, Done, NewArray
from pipelines.tasks.work import Conclusion, Told

NODES = 0.075
"""Nodes of the fourth level per pixel that are planned for; 0.015 to 0.03 are usual, and pure noise has up to 0.071."""


@dataclass(frozen=True)
class _Surveyed(Reduction):
    """What the parts follow from, as a quantity that tiles add to."""

    scene: Scene

    def radius(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        """Return 0: a pixel contributes itself."""
        return (0,) * len(spacing)

    def measure(self, block: Block, keep: tuple[slice, ...]) -> Tally:
        """Refuse: markers and known pixels do not lie in a block."""
        raise NotImplementedError("a survey reads markers and known pixels beside the block")

    def merge(self, first: Tally, second: Tally) -> Tally:
        """Return the survey of both."""
        return self.scene.problem.merge_surveys(first, second)


@dataclass(frozen=True)
class Survey(Step):
    """Find the parts, such as labels, and measure the problem's statistics."""

    title = "survey"
    sections = ("statistics",)

    @property
    def level_bytes(self) -> int:  # type: ignore[override]
        """What the problem says."""
        return self.scene.problem.survey_bytes

    @property
    def scene_bytes(self) -> int:
        """What is read."""
        return self.scene.reading_bytes()

    @property
    def statistics(self) -> Mapping[str, Reduction]:
        """The problem's statistics, and the survey."""
        return {**self.scene.problem.statistics(), "survey": _Surveyed(self.scene)}

    def compute(self, window: Window) -> Done:
        """Return the tallies of a tile."""
        setting, problem = self.scene.setting(window.read), self.scene.problem
        tallies = tallies_of(problem, setting, (slice(None),) * len(setting.spatial))
        return Done(None, {**tallies, "survey": problem.survey(setting)}, setting.fields.nbytes)

    def conclude(self, told: Told) -> Conclusion:
        """Return the values of the statistics, and the parts."""
        try:
            found = self.scene.problem.parts(told.tallies["survey"])
            self.scene.problem.require_range(found, self.scene.frames.spacing, self.scene.image.dtype)
            values = {n: s.value(told.tallies[n]) for n, s in self.scene.problem.statistics().items()}
        except ValueError as error:
            return Conclusion(bound={-1 - self.position: {f"{REFUSED}{error}": 0.0}})
        more = self.scene.problem.numbers(found, self.scene.frames.spacing)
        return Conclusion(
            values, bound={self.position: {**values, **more}, -1 - self.position: as_numbers(found)}
        )

    def report(self, title: str, concluded: Conclusion | None) -> Mapping[str, Mapping[str, Any]]:
        """Return the values, and the position of the problem that they are for."""
        if concluded is None or not concluded.values:
            return {}
        return {"statistics": {"title": title, "position": self.position, "values": dict(concluded.values)}}


@dataclass(frozen=True)
class SetUp(Step):
    """Label the pixels by their aggregates, and write the rows of the fourth level."""

    labels: StackedPixels = field(kw_only=True)
    rows: StackedPixels = field(kw_only=True)

    title = "set up"
    level_bytes = 152
    reach = SETUP_HALO

    @property
    def writes(self) -> ZarrPixels:
        """The labels."""
        return self.labels

    @property
    def carries(self) -> Carried:
        """The rows."""
        return beside(self.rows)

    @property
    def statistics(self) -> Mapping[str, Reduction]:
        """The number of nodes, and of those without room."""
        return {"nodes": make_statistic("mean")}

    @property
    def more_bytes(self) -> int:
        """The rows, of the window and of the tile."""
        return 2 * 4 * (2 if len(self.scene.frames.spatial) == 2 else 12)

    def arrays(self, grid: Grid) -> tuple[NewArray, ...]:
        """Return both arrays."""
        return self.labels.new(grid, np.uint32), self.rows.new(grid, np.float32)

    def compute(self, window: Window) -> Done:
        """Return the labels of a tile, and its rows."""
        setting, grid = self.scene.couplings(window.read)
        labels, rows, crowded = set_up(grid)
        keep = self.scene.frames.spatial_part(window.keep)
        image = labels.reshape(grid.shape)
        image = image if len(setting.spatial) == 3 else image[0]
        lattice = as_lattice(rows, grid.shape, rows_shape(grid.shape))
        lattice = lattice if len(setting.spatial) == 3 else lattice[0]
        kept = lattice[in_cells(keep, self.rows)]
        nodes = int(by_cell(as_volume(kept), padded_shape(sizes_of(keep)))[:, 0].sum())
        tally = Tally(np.array([0, 1]), np.array([nodes, crowded]))
        return Done(image[keep].copy(), {"nodes": tally}, setting.fields.nbytes, kept[None].copy())

    def conclude(self, told: Told) -> Conclusion:
        """Refuse an image that is cut into more pieces than there is room or memory for."""
        counts = dict(
            zip(
                *map(np.ndarray.tolist, (told.tallies["nodes"].keys, told.tallies["nodes"].counts)),
                strict=True,
            )
        )
        try:
            require_room(counts.get(1, 0))
            require_planned(counts.get(0, 0), math.prod(self.scene.spatial))
        except ValueError as error:
            return Conclusion(bound={-1 - self.position: {f"{REFUSED}{error}": 0.0}})
        return Conclusion({"nodes": float(counts.get(0, 0))})


def require_planned(nodes: int, pixels: int) -> None:
    """Refuse more nodes of the fourth level than memory was planned for.

    Raises
    ------
    ValueError
    """
    if nodes > planned_nodes(pixels):
        raise ValueError(
            f"The fourth level has {nodes:,} nodes; memory was planned for {planned_nodes(pixels):,}, {NODES:g} per "
            "pixel: walls or known pixels cut the image too finely. Solve it in memory with diffusion_ops.solve."
        )


def planned_nodes(pixels: int) -> int:
    """Return how many nodes of the fourth level are planned for."""
    return math.ceil(NODES * pixels) + 4096
