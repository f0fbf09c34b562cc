"""Kernels are compiled once per machine: later processes load them from the compiler's cache on disk.

The cache knows a kernel by its source file, the types of its arguments, and the pickle of what it captures. A captured
compiled function has another pickle in every process, so only plain values and functions known by name may be captured.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import itertools
import json
import os
import pkgutil
import subprocess
import sys
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import pytest

from diffusion_ops import kernels
from diffusion_ops.kernels.motions.curvature import mean_curvature_row

ROOT = Path(__file__).parents[3]

VALUES: dict[Any, tuple[Any, ...]] = {
    bool: (False, True),
    int: (1,),
    tuple[bool, bool]: ((False, True),),
    Callable[..., None]: (mean_curvature_row,),
    Callable[..., None] | None: (None, mean_curvature_row),
}
"""What factories are called with, by the type of the parameter."""


def modules() -> list[types.ModuleType]:
    """Return all modules of kernels."""
    found = pkgutil.walk_packages(kernels.__path__, "diffusion_ops.kernels.")
    return [importlib.import_module(m.name) for m in found if not m.ispkg]


def factories() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the factories of compiled functions; nothing is compiled before what they return is called."""
    for module in modules():
        for name, factory in vars(module).items():
            own = getattr(factory, "__module__", None) == module.__name__
            if own and name.lstrip("_").startswith("build_") and hasattr(factory, "cache_info"):
                yield f"{module.__name__.rpartition('.')[2]}.{name}", factory


def is_plain(value: Any) -> bool:
    """Return whether the pickle of a captured value is the same in every process."""
    if isinstance(value, tuple):
        return all(map(is_plain, value))
    if isinstance(value, types.FunctionType):
        return vars(sys.modules[value.__module__]).get(value.__qualname__) is value
    return isinstance(value, bool | int | float | str)


@pytest.mark.parametrize(("name", "factory"), [pytest.param(*pair, id=pair[0]) for pair in factories()])
def test_kernels_capture_plain_values(name: str, factory: Any) -> None:
    hints = typing.get_type_hints(factory.__wrapped__)
    choices = [VALUES[hints[parameter]] for parameter in inspect.signature(factory).parameters]
    for arguments in itertools.product(*choices):
        function = factory(*arguments).py_func
        captured = dict(
            zip(
                function.__code__.co_freevars,
                (c.cell_contents for c in function.__closure__ or ()),
                strict=True,
            )
        )
        assert [key for key, value in captured.items() if not is_plain(value)] == []


def test_every_cached_kernel_comes_from_a_factory_or_captures_nothing() -> None:
    made_by = {name.partition(".")[0] for name, _ in factories()}
    for module in modules():
        source = Path(inspect.getfile(module)).read_text()
        nested = "    @kernel\n" in source
        assert not nested or module.__name__.rpartition(".")[2] in made_by


def test_a_captured_compiled_function_is_not_plain() -> None:
    assert not is_plain(numba.njit(mean_curvature_row))
    assert not is_plain(functools.partial(int))
    assert not is_plain(lambda: None)
    assert is_plain((1, (True, "x"), 0.5))


STATISTICS = [
    *({"mean": None}, {"energy": None}, {"quantile": 0.9}, {"noise": None}, {"speckle": 3}),
    *({"rms": None}, {"rof-energy": 5.0}, {"potential": {"contrast": 20.0}}),
]

RUN = """
import json, sys
import numpy as np
from numba.core import event
from diffusion_ops.blocks.block import Block
from diffusion_ops.tuning.criterion import exact_means
from diffusion_ops.evolve import evolve
from diffusion_ops.blocks.statistic import statistic_from
from tests.operator_samples import picture, samples, short_ways
from tests.diffusion_ops.kernels.test_compiled_cache import OPERATORS, STATISTICS

class Compiled(event.Listener):
    def on_start(self, started):
        function = started.data["dispatcher"].py_func
        found.append([function.__module__, function.__qualname__])
    def on_end(self, ended):
        pass

found = []
event.register("numba:compile", Compiled())
u = picture(20, 36)
for name in OPERATORS:
    for operator in samples(name):
        evolve(u, operator, **short_ways(operator)[-1])
block = Block.from_image(u[None], (1.0, 1.0))
for one in STATISTICS:
    statistic = statistic_from("contrast", one)
    statistic.value(statistic.measure(block, (slice(None),) * 2))
exact_means([block], [[u[None].astype(np.float64)]])
print(json.dumps(found))
"""

OPERATORS = (
    *("additive-splitting", "canny", "edge-enhancing", "finite-element-perona-malik", "forward-backward"),
    *(
        "orientation",
        "perona-malik",
        "random-noise",
        "salt-and-pepper",
        "speckle-reducing",
        "total-variation",
    ),
    *("coherence", "zero-crossings"),
)
"""Operators that have every kernel file compiled."""


@pytest.mark.slow
def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    compiled, files = [], []
    for _ in range(2):
        run = subprocess.run(
            [sys.executable, "-c", RUN],
            env=environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        compiled.append(json.loads(run.stdout))
        files.append(sorted(path.name for path in tmp_path.rglob("*.nbc")))
    kept = {m.__name__ for m in modules() if "@kernel\n" in Path(inspect.getfile(m)).read_text()}
    assert kept <= {module for module, _ in compiled[0]}
    assert compiled[1] == []
    assert files[0] == files[1] != []
