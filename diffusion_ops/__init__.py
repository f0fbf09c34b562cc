"""Diffusion PDEs on images: operators, schedules, statistics, and `evolve` on NumPy, Dask and xarray."""

from diffusion_ops import accessor as _accessor  # noqa: F401  (registers `image.diffuse`)
from diffusion_ops.blocks.block import Block
from diffusion_ops.blocks.statistic import STATISTICS, Statistic
from diffusion_ops.ensemble import Ensemble, combine, ensemble
from diffusion_ops.evolution.adaptive import Adaptive
from diffusion_ops.evolution.advance import Leg, advance, total_halo
from diffusion_ops.evolution.operator import OPERATORS, Iteration, Map, Operator, RateOperator, register
from diffusion_ops.evolution.schedule import Cycle, Cycles, Explicit, Schedule
from diffusion_ops.evolve import evolve
from diffusion_ops.tuning.criterion import CRITERIA, Criterion
from diffusion_ops.tuning.tune import Tuning, tune

__all__ = [
    "CRITERIA",
    "OPERATORS",
    "STATISTICS",
    "Adaptive",
    "Block",
    "Criterion",
    "Cycle",
    "Cycles",
    "Ensemble",
    "Explicit",
    "Iteration",
    "Leg",
    "Map",
    "Operator",
    "RateOperator",
    "Schedule",
    "Statistic",
    "Tuning",
    "advance",
    "combine",
    "ensemble",
    "evolve",
    "register",
    "total_halo",
    "tune",
]

# Operators and statistics are names of this module too (`Heat`, `GradientQuantile`), found by the registries.
for _registry in (OPERATORS, STATISTICS):
    for _plugin in _registry.values():
        globals()[_plugin.__name__] = _plugin
        __all__ += [_plugin.__name__]
