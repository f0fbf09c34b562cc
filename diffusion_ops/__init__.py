"""Diffusion PDEs on images: operators, schedules, statistics, `evolve` and `solve` on NumPy, Dask and xarray."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.statistic import STATISTICS, Statistic
from diffusion_ops.ensemble import Ensemble, combine, ensemble
from diffusion_ops.evolution.adaptive import Adaptive
from diffusion_ops.evolution.advance import advance
from diffusion_ops.evolution.legs import Leg, total_halo
from diffusion_ops.evolution.operator import OPERATORS, Iteration, Map, Operator, RateOperator, register
from diffusion_ops.evolution.parameters import Choice, Count, Number, Parameter, parameter
from diffusion_ops.evolution.problems.problem import Problem, Setting
from diffusion_ops.evolution.schedule import Cycle, Cycles, Explicit, Schedule
from diffusion_ops.evolve import evolve
from diffusion_ops.lazy_modules import import_after
from diffusion_ops.solve import solve
from diffusion_ops.tuning.criterion import CRITERIA, Criterion
from diffusion_ops.tuning.tune import Tuning, tune

if TYPE_CHECKING:
    from diffusion_ops.accessor import DiffuseAccessor

__all__ = [
    "CRITERIA",
    "OPERATORS",
    "STATISTICS",
    "Adaptive",
    "Block",
    "Choice",
    "Count",
    "Criterion",
    "Cycle",
    "Cycles",
    "DiffuseAccessor",
    "Ensemble",
    "Explicit",
    "Iteration",
    "Leg",
    "Map",
    "Number",
    "Operator",
    "Parameter",
    "Problem",
    "RateOperator",
    "Schedule",
    "Setting",
    "Statistic",
    "Tuning",
    "advance",
    "combine",
    "ensemble",
    "evolve",
    "parameter",
    "register",
    "solve",
    "total_halo",
    "tune",
]


import_after("xarray", "diffusion_ops.accessor")


def _plugins() -> dict[str, type[Operator] | type[Statistic]]:
    """Return operators and statistics under the names of their classes (`Heat`, `GradientQuantile`)."""
    found = [cls for registry in (STATISTICS, OPERATORS) for cls in registry.values()]
    # Ours come last: a class of another package never takes the place of one of the same name.
    found.sort(key=lambda cls: cls.__module__.startswith(f"{__name__}."))
    return {cls.__name__: cls for cls in found}


def __getattr__(name: str) -> Any:
    if name == "DiffuseAccessor":
        return importlib.import_module(f"{__name__}.accessor").DiffuseAccessor
    # Names with underscores are asked for by the import system itself.
    if not name.startswith("_") and name in (plugins := _plugins()):
        return plugins[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_plugins()})
