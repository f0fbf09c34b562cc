"""The `diffuse` accessor of xarray: one method per registered operator."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import xarray as xr

from diffusion_ops.evolution.arguments import ALIASES, OperatorLike
from diffusion_ops.evolution.operator import OPERATORS, Operator
from diffusion_ops.evolution.problems.problem import Problem
from diffusion_ops.evolve import evolve
from diffusion_ops.solve import solve

I = TypeVar("I")


def function_of(cls: type[Operator]) -> Callable[..., Any]:
    """Return the public function that carries an operator out: `solve` for problems, else `evolve`."""
    return solve if cls.controlled_by == "convergence" else evolve


def keywords_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the arguments of a public function that are given by name."""
    given = inspect.signature(function).parameters.items()
    return {name: p for name, p in given if p.kind is p.KEYWORD_ONLY}


@xr.register_dataset_accessor("diffuse")
@xr.register_dataarray_accessor("diffuse")
class DiffuseAccessor(Generic[I]):
    """Diffusion of an image by every registered operator; coordinates, attributes and encoding are kept.

    Methods are the operators' names with underscores, and take the operator's parameters and those of
    `diffusion_ops.evolve`, or of `diffusion_ops.solve` for problems of the whole image; `dir(image.diffuse)` lists
    them. Type checkers read them in accessor.pyi; mypy needs `plugins = ["diffusion_ops.mypy_plugin"]` in its settings,
    as it cannot know what is added to xarray's classes.

    Examples
    --------
    >>> import numpy as np, xarray as xr, diffusion_ops
    >>> image = xr.DataArray(np.eye(4), dims=("y", "x"), name="eye")
    >>> image.diffuse.heat(time=1).name
    'eye'
    """

    def __init__(self, image: I) -> None:
        self._image = image

    def evolve(self, operator: OperatorLike | Sequence[OperatorLike], **arguments: Any) -> I:
        """Diffuse with an operator or a chain of them; see `diffusion_ops.evolve`."""
        found: I = evolve(self._image, operator, **arguments)
        return found

    def solve(self, problem: Problem | str, **arguments: Any) -> I:
        """Solve a problem of the whole image; see `diffusion_ops.solve`."""
        found: I = solve(self._image, problem, **arguments)
        return found

    def __getattr__(self, word: str) -> Callable[..., I]:
        name = word.replace("_", "-")
        if word.startswith("_") or name not in OPERATORS:
            known = ", ".join(self._methods())
            raise AttributeError(f"The accessor has no method {word!r}. Allowed: evolve, solve, {known}.")
        return _method(self._image, word, OPERATORS[name])

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._methods()]

    @staticmethod
    def _methods() -> list[str]:
        return [name.replace("-", "_") for name in OPERATORS]


def _method(image: I, word: str, cls: type[Operator]) -> Callable[..., I]:
    """Return a function with the parameters of an operator and of how it is carried out, documented as both."""
    function = function_of(cls)
    keywords = keywords_of(function)

    def method(*args: Any, **kwargs: Any) -> I:
        travel = {k: kwargs.pop(k) for k in list(kwargs) if k in keywords or k in ALIASES}
        found: I = function(image, cls(*args, **kwargs), **travel)
        return found

    method.__name__ = method.__qualname__ = word
    method.__doc__ = (
        f"{inspect.getdoc(cls)}\n\nFurther arguments are those of `diffusion_ops.{function.__name__}`:\n\n"
        f"{function.__doc__}"
    )
    parameters = [*inspect.signature(cls).parameters.values(), *keywords.values()]
    method.__dict__["__signature__"] = inspect.Signature(parameters)
    return method
