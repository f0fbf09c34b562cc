"""Diffusion PDEs on images: operators, schedules, statistics, and `evolve` on NumPy, Dask and xarray."""

from diffusion_ops import accessor as _accessor  # noqa: F401  (registers `image.diffuse`)
from diffusion_ops.advance import Leg, advance, total_halo
from diffusion_ops.block import Block
from diffusion_ops.evolve import evolve
from diffusion_ops.operator import OPERATORS, Iteration, Map, Operator, RateOperator, register
from diffusion_ops.schedule import Cycle, Cycles, Explicit, Schedule
from diffusion_ops.statistic import STATISTICS, Statistic

__all__ = [
    "OPERATORS",
    "STATISTICS",
    "Block",
    "Cycle",
    "Cycles",
    "Explicit",
    "Iteration",
    "Leg",
    "Map",
    "Operator",
    "RateOperator",
    "Schedule",
    "Statistic",
    "advance",
    "evolve",
    "register",
    "total_halo",
]

# Operators and statistics are names of this module too (`Heat`, `GradientQuantile`), found by the registries.
for _registry in (OPERATORS, STATISTICS):
    for _plugin in _registry.values():
        globals()[_plugin.__name__] = _plugin
        __all__ += [_plugin.__name__]
