"""Define the interface of an operator: parameters, reach, stable step, promises, and how a block takes its steps."""

from __future__ import annotations

import dataclasses
import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar, dataclass_transform

import numpy as np

from diffusion_ops.blocks.block import Block, Floats
from diffusion_ops.blocks.fields import fill_value, result_dtype
from diffusion_ops.blocks.statistic import Statistic
from diffusion_ops.evolution.completion import Completion
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.parameters import (
    Parameter,
    described,
    parameter,
    settle,
    words_of,
)
from diffusion_ops.evolution.reach import Reach
from diffusion_ops.evolution.refreshed import Refreshed
from diffusion_ops.evolution.schedule import Cycle
from diffusion_ops.registry import Registry

ControlledBy = Literal["time", "iterations", "once", "convergence"]


@dataclass(frozen=True, init=False)
class Operator(ABC):
    """One PDE; a final subclass is a frozen value whose fields are its parameters, in the image's own units.

    A subclass is one file in `diffusion_ops/operators`, or in another package that has an entry point for it,
    registered under its name; specs, the command line, plans and the contract tests pick it up by themselves. Every
    field is a `parameter`, and the constructor here is the only one.

    Parameters
    ----------
    *args, **kwargs
        The parameters, by position or by name, or by one of their aliases.

    Raises
    ------
    TypeError
        For an unknown word, one that is given twice, one that is missing.
    ValueError
        For a value out of range, with the range and its unit.
    """

    name: ClassVar[str]
    equation: ClassVar[str]
    """The PDE in one line."""
    reference: ClassVar[str]
    """The paper that it is from."""
    samples: ClassVar[Samples] = Samples()
    """What the contract tests make it with."""
    picture: ClassVar[Picture] = Picture("noisy man")
    """What is drawn of it."""
    __signature__: ClassVar[inspect.Signature]
    """What the constructor takes, for editors and documentation; made from the fields."""
    dimensions: ClassVar[tuple[int, ...]] = (2, 3)
    """Numbers of spatial axes that it is defined for."""
    controlled_by: ClassVar[ControlledBy] = "time"
    """What controls the extent: a time, a number of iterations, nothing as it is applied once, or that it is solved."""
    inertial_cycles: ClassVar[bool] = True
    """Whether FSI cycles make sense: for ∂u/∂t = div(D ∇u) with D frozen in a cycle."""
    radius: ClassVar[int] = 1
    """Cells that one step reads on each side."""
    compiles: ClassVar[bool] = True
    """Whether its steps run compiled kernels, which take memory; its completion says what those of its own take."""
    reads_guide: ClassVar[bool] = False
    """Whether gradients and tensors may be read from another image, the block's guide."""
    reads: ClassVar[tuple[str, ...]] = ()
    """Further images that it reads: "markers" (whole numbers, 0 for none), "known" (True where known)."""
    requires: ClassVar[tuple[str, ...]] = ()
    """Those of them that must be given."""
    gives_labels: ClassVar[bool] = False
    """Whether the result is whole numbers that name things: pyramids take the commonest, regions can be measured.

    Labels have no nodata value, as any number may name something: walls are 0, the ground, in integers."""
    gives_lines: ClassVar[bool] = False
    """Whether the labels are those of lines, which tables hold point by point."""
    new_quantity: ClassVar[bool] = False
    """Whether the result is no image but a slope, an angle, a class: invalid pixels have no value to get back then."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        for name, value in settle(type(self).__name__, self.parameters(), args, kwargs).items():
            # As the constructor of any frozen dataclass does.
            object.__setattr__(self, name, value)
        self.__post_init__()

    def __post_init__(self) -> None:  # noqa: B027 (most need nothing)
        """Refuse parameters that do not go together; each by itself is checked already."""

    @classmethod
    def parameters(cls) -> dict[str, Parameter]:
        """Return what each parameter may be, in order."""
        return described(cls)

    @classmethod
    def aliases(cls) -> dict[str, str]:
        """Return the other words for parameters, each with the parameter's name."""
        return words_of(cls.parameters())

    couples_channels: ClassVar[bool] = False
    """Whether a channel's result depends on the others."""
    keeps_maximum: ClassVar[bool] = False
    """Whether explicit steps keep every value between the extremes of the image."""
    keeps_mean: ClassVar[bool] = False
    """Whether the sum over the image stays, up to rounding."""

    @abstractmethod
    def stable_dt(self, spacing: tuple[float, ...]) -> float:
        """Return the largest stable explicit step for a grid spacing."""

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return how many cells its step, what it freezes, `start` and `finish` read: by default a step `radius`.

        What an operator says of them in a section "Returns", part by part, or in one line of the step alone, is the
        reason that lists of operators give.
        """
        return Reach((self.radius,) * len(spacing))

    @property
    def channels(self) -> int | None:
        """Number of channels that the image has to have; None for any."""
        return None

    def require_channels(self, channels: int) -> None:
        """Refuse another number of channels than it takes.

        Raises
        ------
        ValueError
        """
        if self.channels in (None, channels):
            return
        takes = "one channel" if self.channels == 1 else f"{self.channels} channels"
        how = "Give one of them, or their mean." if self.channels == 1 else "Give an image of as many."
        raise ValueError(f"{self.name} takes {takes}, the image has {channels}. {how}")

    def carried_arrays(self, ndim: int, channels: int) -> int:
        """Return how many arrays of one channel's size are carried from batch to batch beside the state."""
        return 0

    def result_channels(self, channels: int) -> int:
        """Return how many channels come out."""
        return channels

    def fill_value(self, dtype: np.dtype[Any], nodata: float | None) -> float:
        """Return what walls get in a new quantity: the result's nodata, NaN, or 0 in integers."""
        return fill_value(dtype, self.result_nodata(nodata))

    def result_nodata(self, nodata: float | None) -> float | None:
        """Return the value that marks walls in the result of an image with a nodata value; None for labels."""
        return None if self.gives_labels else nodata

    def result_type(self, dtype: np.dtype[Any], wanted: Any) -> np.dtype[Any]:
        """Return the type of the result for an image of `dtype`, where the user wants a type or, with None, any."""
        return result_dtype(dtype, wanted)

    @property
    def work_kind(self) -> str:
        """Name of the kind of work that carries it out over files; "evolve" for everything with a finite halo."""
        return "evolve"

    @property
    def takes_labels(self) -> bool:
        """True where the image may hold labels: no mean of two values is taken."""
        return False

    def completion(self) -> Completion | None:
        """Return what is left to do over the whole image after the last step, or None."""
        return None

    def refreshed(self) -> Refreshed | None:
        """Return the numbers of the whole image that it needs anew every few steps, or None."""
        return None

    def start(self, block: Block) -> None:  # noqa: B027 (most operators need nothing)
        """Make what is carried, before the first step; the state may change too."""

    def finish(self, block: Block) -> None:  # noqa: B027
        """Make the result of the state and what is carried, after the last step."""

    def energy(self) -> Statistic | None:
        """Return the functional that the PDE descends, measured on a block, or None."""
        return None

    def extra_arrays(self, ndim: int, inertial: bool, channels: int) -> float:
        """Return how many arrays of one channel's size a cycle holds beside the state and what is carried."""
        return channels if inertial else 0

    def setup_arrays(self, ndim: int, channels: int) -> float:
        """Return how many more such arrays exist only while coefficients are made."""
        return 0

    def pace(self, ndim: int, channels: int) -> float:
        """Return values times steps per second of one core, about, for plans."""
        return 1e9

    @abstractmethod
    def run(self, block: Block, cycle: Cycle, count: int) -> None:
        """Take a cycle `count` times in place.

        `count` is more than 1 only where nothing is frozen at the start of a cycle. What is frozen may read the whole
        block: `block.spoilt` counts its reach already, and cells that are spoilt before a step need not be made.
        """

    def rehearsed(self) -> Operator:
        """Return an operator of the same kernels that calls all of them on a few zeros; it has no statistics."""
        return self

    def statistics(self) -> dict[str, Statistic]:
        """Return the parameters that are still statistics, to be reduced over the whole image first."""
        return {name: v for name, v in self._single_values().items() if isinstance(v, Statistic)}

    def _single_values(self) -> dict[str, object]:
        """Return the values of the parameters, those of a list one by one: "thresholds[0]"."""
        found: dict[str, object] = {}
        for name in self.parameters():
            value = getattr(self, name)
            several = {f"{name}[{i}]": v for i, v in enumerate(value)} if isinstance(value, tuple) else {}
            found |= several or {name: value}
        return found

    def bind(self, values: Mapping[str, float]) -> Operator:
        """Return the operator with numbers in the place of its statistics.

        Raises
        ------
        ValueError
            Where a number is out of the parameter's range, such as a contrast of 0 from a constant image.
        """
        try:
            return dataclasses.replace(self, **self._grouped({**self._single_values(), **values}))
        except ValueError as error:
            found = ", ".join(
                f"{name} = {self.statistics()[name]} is {value:g}" for name, value in values.items()
            )
            raise ValueError(
                f"{type(self).__name__}: {found} over this image, which is out of range. {error} "
                "Give a number, or another statistic."
            ) from error

    def _grouped(self, singles: Mapping[str, object]) -> dict[str, object]:
        """Return the values of the parameters from those of `_single_values`."""
        found: dict[str, Any] = {}
        for name, value in singles.items():
            owner, _, index = name.partition("[")
            found[owner] = (*found.get(owner, ()), value) if index else value
        return found


class Iteration(Operator):
    """An operator that approaches a minimum by iterations: their number controls its extent, and it has no time."""

    controlled_by = "iterations"
    inertial_cycles = False
    usual_steps: ClassVar[int] = 200
    """Iterations where the user says no number."""

    def stable_dt(self, spacing: tuple[float, ...]) -> float:
        """Return infinity: iterations choose their own steps."""
        return math.inf


class Map(Operator):
    """An operator that is applied once, such as an edge map; it has neither time nor steps."""

    controlled_by = "once"
    inertial_cycles = False

    @abstractmethod
    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return how many cells it reads, as its one step."""

    @abstractmethod
    def apply(self, block: Block) -> None:
        """Put the result in the place of the state; the number of channels may change."""

    def stable_dt(self, spacing: tuple[float, ...]) -> float:
        """Return infinity: there is no step."""
        return math.inf

    def run(self, block: Block, cycle: Cycle, count: int) -> None:
        """Apply it."""
        self.apply(block)


class RateOperator(Operator):
    """An operator written as its rate of change in NumPy; steps and cycles are taken here.

    The shortest way to a new PDE: a subclass gives `rate` and `stable_dt`. Compiled operators override `run`.
    """

    @abstractmethod
    def rate(self, u: Floats, spacing: tuple[float, ...], valid: Any) -> Floats:
        """Return ∂u/∂t of a state of shape (channels, *spatial); sides of the array and invalid cells are walls."""

    def extra_arrays(self, ndim: int, inertial: bool, channels: int) -> float:
        """Return the state before, the rate and NumPy's temporaries."""
        return 6.0 * channels

    def run(self, block: Block, cycle: Cycle, count: int) -> None:
        """Take the steps of `count` cycles on the view of the block."""
        tau = block.storage.dtype.type(cycle.tau)
        for _ in range(count):
            before = block.u.copy()
            for weight in cycle.weights:
                a = block.storage.dtype.type(weight)
                new = a * (block.u + tau * self.rate(block.u, block.spacing, block.valid)) + (1 - a) * before
                before = block.u.copy()
                block.u[...] = new if block.valid is None else np.where(block.valid, new, before)


OPERATORS: Registry[type[Operator]] = Registry("operator", "diffusion_ops.operators", "diffuse.operators")

O = TypeVar("O", bound=type[Operator])


@dataclass_transform(field_specifiers=(parameter,), frozen_default=True)
def with_parameters(cls: O) -> O:
    """Make an operator of its fields, without a name: a base that several operators share.

    Raises
    ------
    TypeError
        For a field that is no `parameter`, a required one after others, a class with a constructor of its own.
    """
    if "__init__" in vars(cls):
        raise TypeError(
            f"{cls.__name__} has a constructor of its own. Remove it, and @dataclass where it stands: operators have "
            "one constructor, Operator's; what is to be checked of several parameters goes into __post_init__."
        )
    dataclass(frozen=True, init=False)(cls)
    cls.__signature__ = _signature_of(described(cls))
    return cls


@dataclass_transform(field_specifiers=(parameter,), frozen_default=True)
def register(name: str) -> Callable[[O], O]:
    """Return a decorator that makes a class the operator of a name, and a frozen dataclass of its parameters."""

    def add(cls: O) -> O:
        cls.name = name
        OPERATORS.register(name)(with_parameters(cls))
        return cls

    return add


def _signature_of(parameters: Mapping[str, Parameter]) -> inspect.Signature:
    """Return the signature of a constructor, for editors and documentation."""
    kind, empty = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty
    return inspect.Signature(
        [
            inspect.Parameter(name, kind, default=empty if one.required else one.default, annotation=one.type)
            for name, one in parameters.items()
        ]
    )
