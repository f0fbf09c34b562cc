"""Resolve what is to be solved from shapes and types alone, and convert what is read beside the image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.fields import cast_all, check_image, check_nodata, give_back, valid_cells
from diffusion_ops.evolution.arguments import resolve_spacing
from diffusion_ops.evolution.operator import OPERATORS
from diffusion_ops.evolution.problems.problem import Problem, Setting

BESIDE = ("markers", "known")
"""Further images that a problem may read."""


@dataclass(frozen=True)
class SolveRequest:
    """A problem on an array of known shape and dtype.

    Attributes
    ----------
    problem : Problem
    result_type : numpy dtype
    channel_axis : int or None
        Axis of the channels, counted from the first.
    spacing : tuple of float
        Grid spacing per spatial axis.
    nodata : float or None
        Value that marks invalid pixels.
    tolerance : float or None
    """

    problem: Problem
    result_type: np.dtype[Any]
    channel_axis: int | None
    spacing: tuple[float, ...]
    nodata: float | None
    tolerance: float | None

    def setting(self, fields: NDArray[Any], mask: Any, beside: Mapping[str, Any]) -> Setting:
        """Return what is solved, from an image of shape (channels, *spatial) and checked images beside it."""
        markers, known = beside.get("markers"), beside.get("known")
        valid = valid_cells(fields, self.nodata, mask)
        if self.problem.fills:
            given = np.ones(fields.shape[1:], bool) if known is None else known
            known, valid = given if valid is None else given & valid, mask
        own = valid
        if markers is not None:
            if markers.dtype.kind == "u" and markers.size and int(markers.max()) > np.iinfo(np.int64).max:
                raise ValueError(
                    f"markers holds {int(markers.max())}. Allowed: at most {np.iinfo(np.int64).max}."
                )
            if markers.dtype.kind == "i" and (markers < 0).any():
                valid = markers >= 0 if valid is None else valid & (markers >= 0)
                markers = np.maximum(markers, 0)
        return Setting(fields, self.spacing, valid, markers, known, self.tolerance, self.result_type, own)

    def finish(self, values: NDArray[Any], setting: Setting) -> NDArray[Any]:
        """Return an answer of shape (channels, *spatial) in the result's type, with what walls get."""
        original, problem = setting.fields, self.problem
        if problem.gives_labels:
            require_labels(values, self.result_type)
        nodata = problem.result_nodata(self.nodata)
        if problem.new_quantity:
            fill = problem.fill_value(self.result_type, self.nodata)
            original = np.broadcast_to(np.float64(fill), (1, *setting.spatial))
        valid = setting.valid
        if problem.new_quantity and values.dtype.kind == "f" and (none := np.isnan(values[0])).any():
            # The problem has found further walls.
            valid = ~none if valid is None else valid & ~none
        result = cast_all(values, self.result_type, nodata)
        if valid is not None:
            give_back(result, original, valid, nodata)
        return result


def make_solve_request(
    image: Any,
    problem: Any,
    *,
    spacing: Any = None,
    channel_axis: int | None = None,
    nodata: float | None = None,
    tolerance: float | None = None,
    dtype: Any = None,
    given: tuple[str, ...] = (),
) -> SolveRequest:
    """Return a problem on an array from its shape and dtype alone; see `diffusion_ops.solve`.

    Parameters
    ----------
    given : tuple of str
        Names of the images that are given beside it.

    Raises
    ------
    TypeError, ValueError
        For an image that is not numeric, and for arguments that are impossible or contradict each other.
    """
    problem = as_problem(problem)
    check_image(image.shape, image.dtype, channel_axis, None, nodata)
    axis = None if channel_axis is None else channel_axis % image.ndim
    result_type = problem.result_type(np.dtype(image.dtype), dtype)
    check_nodata(problem.result_nodata(nodata), result_type, "result")
    spacing = resolve_spacing(spacing, image.ndim - (axis is not None))
    require_dimensions(problem, len(spacing))
    require_beside(problem, given)
    check_tolerance(problem, tolerance)
    return SolveRequest(problem, result_type, axis, spacing, nodata, tolerance)


def as_problem(problem: Any) -> Problem:
    """Return a problem, also from its name with default parameters.

    Raises
    ------
    TypeError
        For anything else, such as an operator that evolves.
    """
    if isinstance(problem, str):
        problem = OPERATORS[problem]()
    if not isinstance(problem, Problem):
        able = ", ".join(n for n, one in OPERATORS.items() if one.controlled_by == "convergence")
        raise TypeError(
            f"{problem!r} is not a problem of the whole image. Allowed: {able}. "
            "An operator evolves: evolve(image, ...)."
        )
    return problem


def refuse_stack(problem: Any) -> None:
    """Refuse a problem whose result has a new axis, in containers that keep the image's axes.

    Raises
    ------
    ValueError
    """
    if getattr(problem, "stacks", False):
        raise ValueError(
            f"{problem.name}: probabilities have a new first axis, and results in Dask and xarray have the axes of the "
            "image. Give NumPy arrays, or run it over files, where labels are channels: diffuse run."
        )


def require_dimensions(problem: Problem, ndim: int) -> None:
    """Refuse a number of spatial axes that a problem is not defined for."""
    if ndim not in problem.dimensions:
        allowed = " or ".join(f"{n}-D" for n in problem.dimensions)
        raise ValueError(f"{problem.name} does not work on {ndim} spatial axes. Allowed: {allowed}.")


def require_beside(problem: Problem, given: tuple[str, ...]) -> None:
    """Refuse images beside the image that a problem does not read, and the lack of one that it needs."""
    for word in given:
        if word not in problem.reads:
            able = ", ".join(n for n, one in OPERATORS.items() if word in one.reads)
            raise ValueError(
                f"{word} is given, but {problem.name} does not read it. Remove it; allowed with {word}: {able}."
            )
    for word in problem.requires:
        if word not in given:
            what = {
                "markers": "whole numbers of the image's shape, 0 where there is none",
                "known": "True where the image is known",
            }
            raise ValueError(f"{problem.name} needs {word}: {what[word]}. Give {word}=...")


def check_tolerance(problem: Problem, tolerance: Any) -> None:
    """Refuse a tolerance that is not a number > 0, or of a problem that has none."""
    if tolerance is None:
        return
    if not problem.takes_tolerance:
        raise ValueError(
            f"tolerance={tolerance!r} is not possible: {problem.name} finds its answer without one. Remove it."
        )
    if not isinstance(tolerance, Real) or isinstance(tolerance, bool) or not 0 < float(tolerance) < math.inf:
        raise ValueError(f"tolerance={tolerance!r} is not possible. Allowed: a number > 0.")


def require_labels(labels: NDArray[Any], dtype: np.dtype[Any]) -> None:
    """Refuse labels that a type cannot hold: rounded or clipped they would name another region."""
    most = int(labels.max(initial=0))
    holds = np.iinfo(dtype).max if dtype.kind in "iu" else 1 << (np.finfo(dtype).nmant + 1)
    if most > holds:
        raise ValueError(f"The label {most} cannot be held by {dtype}. Give another dtype, such as int64.")


def check_beside(word: str, image: Any, spatial: tuple[int, ...]) -> Any:
    """Return an image of whole numbers or of booleans, or refuse another type or shape.

    Raises
    ------
    TypeError, ValueError
    """
    kinds, allowed = {
        "markers": ("iu", "integers, 0 where there is no marker; of a mask, mask.astype('int32')"),
        "known": ("b", "bool, True where the image is known, such as known > 0"),
    }[word]
    if image.dtype.kind not in kinds:
        raise TypeError(f"{word} is {image.dtype}. Allowed: {allowed}.")
    if image.shape != spatial:
        raise ValueError(
            f"{word} has shape {image.shape}, the image's spatial shape is {spatial}. They must agree."
        )
    return image
