"""Collect the stages of a run, name the arrays that they write, and let each kind of work add stages of its own."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.image.frames import Frames
from pipelines.image.window import Grid, Region
from pipelines.plan.graph import Chain
from pipelines.plan.plan import Geometry, Output
from pipelines.plan.stage import Stage
from pipelines.refusal import RefusedError
from pipelines.tasks.inputs import Reading, constant
from pipelines.tasks.pixels import ZarrPixels
from pipelines.tasks.values import Carried
from pipelines.tasks.work import KINDS, Work


class NotAloneError(RefusedError):
    """A region of the result is wanted that cannot be computed without the whole image."""


@dataclass(frozen=True)
class Image:
    """The result of a step, or the source, on one level.

    Attributes
    ----------
    reading : Reading
    shape : tuple of int
        Length per canonical axis.
    stages : tuple of int
        Numbers of the stages that write it.
    table : int or None
        Number of the stage that makes a table of it; None where regions are measured for one.
    carried : Carried or None
        Arrays beside it, where it is a state in the middle of an operator.
    """

    reading: Reading
    shape: tuple[int, ...]
    stages: tuple[int, ...] = ()
    table: int | None = None
    carried: Carried | None = None


@dataclass
class Stages:
    """Stages one after another, and what all of them share.

    Attributes
    ----------
    frames : Frames
    folder : str
        Folder of the run's arrays.
    geometry : Geometry
    roi : tuple of slice or None
        Region that the result holds, where it is not the whole; states are then computed when they are read.
    stages : list of Stage
    states : list of int
        Numbers of the stages that write a state between batches.
    """

    frames: Frames
    folder: str
    geometry: Geometry
    roi: Region | None = None
    stages: list[Stage] = field(default_factory=list)
    states: list[int] = field(default_factory=list)

    def add(
        self,
        title: str,
        work: Work,
        grid: Grid,
        after: tuple[int, ...] = (),
        needs: tuple[int, ...] = (),
    ) -> int:
        """Append a stage and return its number."""
        self.stages.append(Stage(title, work, grid, after, needs))
        return len(self.stages) - 1

    @property
    def following(self) -> int:
        """Number that the next added stage will have."""
        return len(self.stages)

    def grid(self, shape: tuple[int, ...]) -> Grid:
        """Return the tiles of an image; joint channels are in one tile, however many a state has of them."""
        tile = self.geometry.tile
        if "c" in self.frames.together:
            tile = self.with_channels(tile, shape[self.frames.axes.index("c")])
        return Grid(shape, tile)

    def array(self, name: str, path: str) -> ZarrPixels:
        """Return an array of the run."""
        return ZarrPixels(f"{self.folder}/{name}", path, self.frames.axes, self.frames.axes)

    def level(self, output: Output, number: int) -> ZarrPixels:
        """Return an array of a result."""
        level = output.levels[number]
        return ZarrPixels(f"{self.folder}/{output.folder}", level.path, level.info.axes, self.frames.axes)

    def with_channels(self, shape: tuple[int, ...], channels: int) -> tuple[int, ...]:
        """Return a shape with another number of channels, where they are joint."""
        joint = "c" in self.frames.together
        pairs = zip(self.frames.axes, shape, strict=True)
        return tuple(channels if joint and a == "c" else n for a, n in pairs)

    @staticmethod
    def original(output: Output, source: Reading) -> Reading:
        """Return what invalid pixels of a result get, with its nodata: the source's values, or the fill value."""
        if output.fill is None:
            return source
        return constant(output.fill, output.info.nodata)


@dataclass(frozen=True)
class ChainRequest:
    """A chain of operators that a kind of work is to lay out.

    Attributes
    ----------
    stages : Stages
        Collection that its stages are added to.
    source : Reading
        Image whose values invalid pixels of a result get back.
    chain : Chain
    frames : Frames
        Frames of the chain's level.
    begin : Image
        Image that the chain begins with.
    beside : dict
        Images that it reads beside its input, by "guide" and "mask".
    output : Output or None
        Result that the chain ends in; None where it ends in a state.
    needs : tuple of int
        Numbers of the stages that must be complete before its last batch.
    number : int
        Number of its first state; above 0 where states of the same chain come before.
    given_back : Reading or None
        Image whose values cells outside the chain's mask get back at its end; by default that of `begin`.
    """

    stages: Stages
    source: Reading
    chain: Chain
    frames: Frames
    begin: Image
    beside: dict[str, Image]
    output: Output | None
    needs: tuple[int, ...] = ()
    number: int = 0
    given_back: Reading | None = None

    def target(self, number: int, output: Output | None) -> ZarrPixels:
        """Return the array of a result, or of one of the chain's states."""
        if output is not None:
            return self.stages.level(output, 0)
        return self.stages.array("state", f"{self.chain.name}@{number}")

    def final_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the result or state that the chain ends in."""
        if self.output is None:
            return shape
        return tuple(self.output.info.size(a) for a in self.frames.axes)

    def final_dtype(self, working: np.dtype[Any]) -> np.dtype[Any]:
        """Return the type of the result or state that the chain ends in."""
        return working if self.output is None else self.output.info.dtype

    def final_original(self) -> Reading | None:
        """Return what invalid pixels of the result get; None where the chain ends in a state."""
        return None if self.output is None else self.stages.original(self.output, self.source)

    def refuse_part(self, reason: str) -> None:
        """Refuse to compute a region of the result alone.

        Raises
        ------
        NotAloneError
            With the reason and what to do, where only a region is wanted.
        """
        if self.stages.roi is not None:
            raise NotAloneError(f"{self.chain.name} {reason}")


class ChainWork(Work):
    """A kind of work that carries out chains of operators: those whose `work_kind` names it."""

    @classmethod
    @abstractmethod
    def lay_out(cls, request: ChainRequest) -> Image:
        """Add the stages of a chain and return its result.

        Raises
        ------
        NotAloneError
            Where only a region is wanted that needs the whole image.
        """


def lay_out_chain(request: ChainRequest, kind: str = "") -> Image:
    """Let a kind of work, by default that of the chain's operators, lay out a chain; return its result.

    Raises
    ------
    UnknownNameError
        For an unknown kind.
    TypeError
        For a kind that does not carry out operators.
    """
    found = KINDS[kind or request.chain.kind]
    if not issubclass(found, ChainWork):
        raise TypeError(f"The kind of work {kind or request.chain.kind!r} does not carry out operators.")
    return found.lay_out(request)
