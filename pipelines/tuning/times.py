"""Replace `time: auto` in a spec by times chosen from samples of the source, before a run is planned."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.fields import working_dtype
from diffusion_ops.evolution.arguments import make_legs
from diffusion_ops.evolution.legs import Leg
from diffusion_ops.evolution.operator import Operator
from diffusion_ops.evolution.parameters import AUTO
from diffusion_ops.tuning.samples import Frame, SamplePosition, sample_frames
from diffusion_ops.tuning.tune import Tuning, tune_samples
from pipelines.events import Choosing, Listener, tell
from pipelines.image.frames import Frames
from pipelines.image.info import digest
from pipelines.image.source import Source, read_canonical
from pipelines.image.window import Region
from pipelines.plan.search import make_frames
from pipelines.refusal import RefusedError, refusing
from pipelines.spec.spec import Spec
from pipelines.spec.step import StepSpec
from pipelines.tasks.inputs import Reading
from pipelines.tasks.memory import COMPILER_BYTES, give_back_compiler, give_back_freed, total_memory
from pipelines.tasks.pixels import Pixels, SourcePixels
from pipelines.tasks.version import code_version

SAMPLES, SIZE = 16, 256
"""Number of samples, and the side of a square one; as in `diffusion_ops.tune`, so that both choose the same."""

SAMPLE_ARRAYS = 24
"""Number of arrays of the samples' size at the peak of a choice, beside the operator's own; measured."""


class TuningError(RefusedError):
    """A time or a parameter that cannot be chosen; the message has the reason and what to do."""


@dataclass(frozen=True)
class Settled:
    """A spec whose times are numbers.

    Attributes
    ----------
    spec : Spec
    asked : str
        Digest of what the choices depend on, "" where nothing was to be chosen.
    tuning : tuple of dict
        Choices with their scores, as JSON values.
    """

    spec: Spec
    asked: str = ""
    tuning: tuple[dict[str, Any], ...] = ()

    def record(self) -> dict[str, Any]:
        """Return the values that the folder of a run keeps, for `settle_times` to find again."""
        return {"asked": self.asked, "tuning": self.tuning}


@dataclass(frozen=True)
class _HeldPixels(Pixels):
    """An image in memory, because its format cannot be read by region."""

    values: NDArray[Any] = field(repr=False)

    def read(self, region: Region) -> NDArray[Any]:
        """Return a region of the image."""
        return self.values[region]


@dataclass(frozen=True)
class _SourceFrame:
    """One frame of a source as an array of shape (channels, *spatial), which reads only the slices asked for."""

    reading: Reading
    frames: Frames
    index: tuple[int | slice, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, and the lengths of the spatial axes."""
        return (self.reading.channels, *self.frames.spatial_part(self.frames.shape))

    def __getitem__(self, part: tuple[slice, ...]) -> NDArray[Any]:
        tile = dict(zip(self.frames.spatial, part[1:], strict=True))
        region = (
            tile.get(a) or (slice(0, n) if isinstance(i, slice) else slice(i, i + 1))
            for a, n, i in zip(self.frames.axes, self.frames.shape, self.index, strict=True)
        )
        return self.reading.fields(self.frames, tuple(region))[part[0]]


@dataclass(frozen=True)
class Trials:
    """Samples of a source to try operators on.

    Attributes
    ----------
    frames : Frames
    positions : list of SamplePosition
    blocks : list of Block
    """

    frames: Frames
    positions: list[SamplePosition]
    blocks: list[Block]

    @classmethod
    def read(cls, spec: Spec, source: Source, samples: int = SAMPLES) -> Trials:
        """Read samples of a source, without the rest of it where it can be read by region.

        Raises
        ------
        ValueError
            Where the samples need more memory than is allowed, or hold no valid pixel.
        """
        info, frames = source.info, make_frames(spec, source.info)
        channels = info.size("c") if "c" in frames.together else 1
        _require_memory(spec, source, samples * SIZE**2 * channels)
        axes = frames.axes
        pixels = (
            SourcePixels(spec.source, axes) if info.by_region else _HeldPixels(read_canonical(source, {}))
        )
        reading = Reading(pixels, info.dtype, info.nodata, channels)
        images = [
            Frame(_SourceFrame(reading, frames, index), frames.spacing, info.nodata)
            for index in frames.each(frames.shape)
        ]
        return cls(frames, *sample_frames(images, samples, SIZE))

    def legs(self, steps: Sequence[StepSpec]) -> tuple[Leg, ...]:
        """Return the legs of steps whose times are numbers."""
        spacing = self.frames.spacing
        return tuple(make_legs(step.make_operator(), spacing, **step.times())[0] for step in steps)


def _require_memory(spec: Spec, source: Source, values: int) -> None:
    """Refuse samples that need more memory than a run may use."""
    size = working_dtype(source.info.dtype).itemsize
    values = min(values, math.prod(source.info.shape))
    arrays = max(_operator_arrays(step.make_operator()) for step in spec.steps) + SAMPLE_ARRAYS
    held = 0 if source.info.by_region else source.info.nbytes
    # Kernels are loaded while the samples are held.
    need = total_memory([int(values * size * arrays) + held + COMPILER_BYTES], 0)
    if need > spec.run.memory:
        raise TuningError(
            f"Choosing from samples needs {need:,} bytes ({values:,} values), but only {spec.run.memory:,} are "
            f"allowed. Allow --memory {math.ceil(need / 2**20)}MiB, or give the time as a number."
        )


def _operator_arrays(operator: Operator) -> float:
    """Return the number of arrays of the image's size that an operator holds beside it."""
    ndim = operator.dimensions[-1]
    own = operator.extra_arrays(ndim, operator.inertial_cycles, 1) + operator.setup_arrays(ndim, 1)
    return own + 3 * operator.carried_arrays(ndim, 1)


# ---- times in a spec


@refusing()
def settle_times(
    spec: Spec, source: Source, listeners: Sequence[Listener] = (), begun: Mapping[str, Any] | None = None
) -> Settled:
    """Return the spec with numbers instead of `time: auto`.

    Each number is the time with the least estimated error for white Gaussian noise, after the chain from the source to
    its step, on samples of the source. It depends on the image and the spec alone. The choices in `begun`, the record
    of an earlier run, are kept where that run was of the same spec and image.

    Raises
    ------
    TuningError
        For a step that is not at the end of a straight chain from the source; where the samples give no time.
    """
    wanted = [i for i, step in enumerate(spec.steps) if step.time == AUTO]
    if not wanted:
        return Settled(spec)
    for i in wanted:
        way_to(spec, i)
    science = spec.science()
    said = [science[part] for part in ("source", "image", "steps")]
    asked = digest(said, source.info.identity, code_version())
    if begun and begun.get("asked") == asked:
        return Settled(with_times(spec, begun["tuning"]), asked, tuple(begun["tuning"]))
    tuning = choose_times(spec, wanted, Trials.read(spec, source), listeners)
    # Otherwise 48 MB of samples stay with the process, and the compiler's code, and count as memory of the run.
    give_back_freed()
    give_back_compiler()
    return Settled(with_times(spec, tuning), asked, tuple(tuning))


def choose_times(
    spec: Spec, wanted: Sequence[int], trials: Trials, listeners: Sequence[Listener]
) -> list[dict[str, Any]]:
    """Return the choices for steps at increasing positions, each made after the steps before it, as JSON values."""
    tuning: list[dict[str, Any]] = []
    for i in wanted:
        tuning.append(_choose_time(with_times(spec, tuning), i, trials, listeners))
    return tuning


def with_times(spec: Spec, tuning: Sequence[Mapping[str, Any]]) -> Spec:
    """Return the spec with the times that were chosen."""
    times = {one["position"]: one["time"] for one in tuning}
    steps = tuple(
        step.model_copy(update={"time": times[i]}) if i in times else step
        for i, step in enumerate(spec.steps)
    )
    return spec.model_copy(update={"steps": steps})


def _choose_time(spec: Spec, position: int, trials: Trials, listeners: Sequence[Listener]) -> dict[str, Any]:
    *before, step = way_to(spec, position)
    title = f"choose the time of {step.name}"
    try:
        found = tune_samples(
            trials.positions,
            trials.blocks,
            [step.make_operator()],
            before=trials.legs(before),
            schedule=step.schedule,
            watch=watching(title, listeners),
        )
    except ValueError as error:
        raise TuningError(
            f"steps[{position}] ({step.name}): the time cannot choose itself. {error} "
            "In a spec, give the time as a number; `diffuse tune` finds one by other criteria."
        ) from None
    (curve,) = found.curves
    scores = {"times": curve.times, "scores": curve.scores, "best": curve.best}
    return {"step": step.name, "position": position, "time": curve.time, **facts(found), **scores}


def way_to(spec: Spec, position: int) -> list[StepSpec]:
    """Return the chain of steps from the source to the step at a position.

    Raises
    ------
    TuningError
        For steps that samples cannot pass: they read a guide or a mask, work on another octave, stop by the energy of
        the whole image, or change the channels.
    """
    by_name = {step.name: step for step in spec.steps}
    way = [spec.steps[position]]
    while way[0].input in by_name:
        way.insert(0, by_name[way[0].input])
    for step in way:
        reason = _obstacle(step)
        if reason:
            raise TuningError(
                f"steps[{position}] ({way[-1].name}): what chooses itself stands on a straight chain of steps from "
                f"the source, but {step.name!r} {reason}. Give the time of {way[-1].name!r} as a number."
            )
    return way


def _obstacle(step: StepSpec) -> str:
    """Return the reason why samples cannot pass a step, "" where they can."""
    for key, words in _OBSTACLES.items():
        if getattr(step, key):
            return words
    several = 3
    if step.make_operator().result_channels(several) != several:
        return "does not give an image like the source"
    return ""


_OBSTACLES = {
    "guide": "reads a guide",
    "mask": "reads a mask",
    "octave": "works on a coarser octave",
    "until": "stops by the energy of the whole image",
}


def facts(found: Tuning) -> dict[str, Any]:
    """Return the facts that a choice rests on, as JSON values."""
    samples = [{"frame": frame, "region": tile} for frame, tile in found.positions]
    return {
        "criterion": found.criterion,
        "noise": found.noise,
        "samples": samples,
        "cells": found.cells,
        "work": found.work,
        "seconds": found.seconds,
    }


def watching(title: str, listeners: Sequence[Listener]) -> Callable[[float], None]:
    """Tell listeners that a choice begins, and return the function that tells them its progress."""

    def watch(part: float) -> None:
        tell(listeners, Choosing(title, part))

    watch(0.0)
    return watch
