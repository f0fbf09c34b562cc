"""What the last stages of steady states share: they write the result, or a state that another step reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.fields import cast_all, give_back
from diffusion_ops.evolution.problems.problem import Setting
from diffusion_ops.families.steady_state import SteadyState, largest_correction
from pipelines.image.window import Grid, Window
from pipelines.plan.stages import ChainRequest, ChainWork, Image
from pipelines.refusal import RefusedError
from pipelines.steady.scene import Scene
from pipelines.steady.step import Step
from pipelines.tasks.inputs import Reading
from pipelines.tasks.pixels import Pixels, ZarrPixels
from pipelines.tasks.values import NewArray


@dataclass(frozen=True)
class Result(ChainWork, Step):
    """Write the result.

    Attributes
    ----------
    target : ZarrPixels
    result_type : numpy dtype
    original : Reading or None
        Image whose values invalid pixels get back; None for a state.
    """

    target: ZarrPixels = field(kw_only=True)
    result_type: np.dtype[Any] = field(kw_only=True)
    original: Reading | None = field(kw_only=True)

    title = "write"

    @property
    def is_state(self) -> bool:
        """True where another step reads it."""
        return self.original is None

    @property
    def sources(self) -> tuple[Pixels, ...]:
        """The scene, and the image whose values invalid pixels get back."""
        return (*self.scene.sources, *(() if self.original is None else (self.original.pixels,)))

    @property
    def writes(self) -> ZarrPixels:
        """The result."""
        return self.target

    def arrays(self, grid: Grid) -> tuple[NewArray, ...]:
        """Return the array of the result."""
        return (NewArray(self.target, grid.shape, grid.tile, self.result_type),)

    def finished(self, values: NDArray[Any], setting: Setting, window: Window) -> NDArray[Any]:
        """Return values in the result's type, with what invalid pixels get."""
        result = self.converted(values)
        self.finish(result, setting, window)
        return result

    def converted(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return values in the result's type."""
        if self.original is None:
            return values.astype(self.result_type)
        return cast_all(values, self.result_type, self._nodata)

    def finish(self, result: NDArray[Any], setting: Setting, window: Window) -> None:
        """Put what invalid pixels get into a result, in place."""
        if setting.valid is None:
            return
        if self.original is None:
            result[:, ~setting.valid] = np.nan
        else:
            original = self.original.fields(self.scene.frames, window.write)
            give_back(result, original, setting.valid, self._nodata)

    @property
    def _nodata(self) -> float | None:
        return self.scene.problem.result_nodata(self.scene.frames.nodata)

    @classmethod
    def add(cls, request: ChainRequest, scene: Scene, needs: tuple[int, ...], **parts: Any) -> Image:
        """Add the stage that writes the result of `scene`, after stages that are complete."""
        stages, problem = request.stages, scene.problem
        channels = problem.result_channels(scene.image.channels)
        shape = stages.with_channels(scene.shape, channels)
        dtype = request.final_dtype(np.dtype(np.float64))
        work = cls(
            scene=scene,
            position=request.chain.positions[-1],
            target=request.target(0, request.output),
            result_type=dtype,
            original=request.final_original(),
            **parts,
        )
        grid = stages.grid(request.final_shape(shape))
        stage = stages.add(f"write {problem.name}", work, grid, needs=needs)
        return Image(Reading(work.target, dtype, None, channels), shape, (stage,))


def scene_of(request: ChainRequest) -> Scene:
    """Return what a problem is solved on.

    Raises
    ------
    RefusedError
        For what is not possible over files.
    """
    request.refuse_part(
        "is solved over the whole image, so a part alone cannot be computed. Run the spec first."
    )
    problem, frames, begin = request.chain.legs[-1].operator, request.frames, request.begin
    assert isinstance(problem, SteadyState)
    loose = {
        a: n for a, n in zip(frames.axes, begin.shape, strict=True) if a not in frames.together and n > 1
    }
    if loose:
        found = ", ".join(f"{n} along {a}" for a, n in loose.items())
        raise RefusedError(
            f"{problem.name} takes one image, and this one has several: {found}. Solve them one by one, "
            "with a source that holds one each."
        )
    tolerance = request.chain.tolerance
    largest_correction(tolerance)
    beside = {word: image.reading for word, image in request.beside.items()}
    return Scene(problem, begin.reading, beside, frames, begin.shape, tolerance)
