"""Collect the stages of a run, name the arrays that they write, and ask kinds of work for stages of their own."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.image.frames import Frames
from pipelines.image.window import Grid, Region
from pipelines.plan.graph import Chain
from pipelines.plan.plan import Geometry, Output, Stage
from pipelines.tasks.inputs import Reading
from pipelines.tasks.pixels import ConstantPixels, ZarrPixels
from pipelines.tasks.work import KINDS, Work


class NotAloneError(ValueError):
    """A part of the result that cannot be computed without the whole of it."""


@dataclass(frozen=True)
class Image:
    """The result of a step, or the source, on one level.

    Attributes
    ----------
    reading : Reading
    shape : tuple of int
        Per canonical axis.
    stages : tuple of int
        That write it.
    """

    reading: Reading
    shape: tuple[int, ...]
    stages: tuple[int, ...] = ()


@dataclass
class Stages:
    """Stages one after another, and what all of them share.

    Attributes
    ----------
    frames : Frames
    workdir : str
    geometry : Geometry
    roi : tuple of slice or None
        Part of the image that the result holds: then all before the last batch is computed as it is read.
    stages : list of Stage
    states : list of int
        Stages that write a state between batches.
    """

    frames: Frames
    workdir: str
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
        """Number of the stage that is added next."""
        return len(self.stages)

    def grid(self, shape: tuple[int, ...]) -> Grid:
        """Return the tiles of an image."""
        return Grid(shape, self.geometry.tile)

    def array(self, name: str, path: str) -> ZarrPixels:
        """Return an array of the run's folder."""
        return ZarrPixels(f"{self.workdir}/{name}", path, self.frames.axes, self.frames.axes)

    def level(self, output: Output, number: int) -> ZarrPixels:
        """Return an array of a result."""
        level = output.levels[number]
        return ZarrPixels(f"{self.workdir}/{output.folder}", level.path, level.info.axes, self.frames.axes)

    def with_channels(self, shape: tuple[int, ...], channels: int) -> tuple[int, ...]:
        """Return a shape with another number of channels, where they are joint."""
        joint = "c" in self.frames.together
        pairs = zip(self.frames.axes, shape, strict=True)
        return tuple(channels if joint and a == "c" else n for a, n in pairs)

    @staticmethod
    def original(output: Output, source: Reading) -> Reading:
        """Return where invalid pixels of a result get their values from."""
        if output.fill is None:
            return source
        return Reading(ConstantPixels(output.fill), np.dtype(np.float64), None, 1)


@dataclass(frozen=True)
class ChainRequest:
    """A chain of operators that a kind of work is to lay out.

    Attributes
    ----------
    stages : Stages
        Where its stages go.
    source : Reading
        What invalid pixels of a result get back.
    chain : Chain
    frames : Frames
        Of the chain's level.
    begin : Image
        What the chain begins with.
    beside : dict
        Images that it reads beside, by "guide" and "mask".
    output : Output or None
        The result that the chain ends in.
    needs : tuple of int
        Stages that must be complete before its last batch.
    number : int
        Of its first state, where others were written for the same chain.
    given_back : Reading or None
        What cells beyond the chain's mask get back at its end; by default what the chain begins with.
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
        """Return the shape of the result that the chain ends in, or of the state where it ends in none."""
        if self.output is None:
            return shape
        return tuple(self.output.info.size(a) for a in self.frames.axes)

    def final_dtype(self, working: np.dtype[Any]) -> np.dtype[Any]:
        """Return the type of the result that the chain ends in, or of the state where it ends in none."""
        return working if self.output is None else self.output.info.dtype

    def final_original(self) -> Reading | None:
        """Return where invalid pixels of the result get their values from; None where the chain ends in none."""
        return None if self.output is None else self.stages.original(self.output, self.source)

    def refuse_part(self, reason: str) -> None:
        """Refuse to compute a part of the image alone.

        Raises
        ------
        NotAloneError
            With the reason and what to do, where only a part is asked for.
        """
        if self.stages.roi is not None:
            raise NotAloneError(f"{self.chain.name} {reason}")


class ChainWork(Work):
    """A kind of work that carries out chains of operators: those whose `work_kind` names it."""

    @classmethod
    @abstractmethod
    def lay_out(cls, request: ChainRequest) -> Image:
        """Add the stages of a chain and return what it makes.

        Raises
        ------
        NotAloneError
            Where only a part of the image is asked for, and that needs the whole of it.
        """


def lay_out_chain(request: ChainRequest, kind: str = "") -> Image:
    """Let a kind of work, by default that of the chain's operators, lay out a chain and return what it makes.

    Raises
    ------
    UnknownNameError
        For a kind that is not there.
    TypeError
        For one that does not carry out operators.
    """
    found = KINDS[kind or request.chain.kind]
    if not issubclass(found, ChainWork):
        raise TypeError(f"The kind of work {kind or request.chain.kind!r} does not carry out operators.")
    return found.lay_out(request)
