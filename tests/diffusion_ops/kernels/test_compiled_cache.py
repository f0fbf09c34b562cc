"""Kernels are compiled once per machine: later processes load them from the compiler's cache on disk.

The cache knows a kernel by a digest of all that is compiled, the types of its arguments, and the pickle of what it
captures. A captured compiled function has another pickle in every process, so only plain values and functions known by
name may be captured.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import itertools
import json
import os
import pkgutil
import shutil
import subprocess
import sys
import time
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import pytest

from diffusion_ops import kernels
from diffusion_ops.kernels.motions.curvature import mean_curvature_row

pytestmark = pytest.mark.thorough

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
    """Yield the factories of functions to be compiled; they compile nothing themselves."""
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
        made = factory(*arguments)
        function = getattr(made, "py_func", made)
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
from diffusion_ops.solve import solve
from tests.operator_samples import PROBLEMS, picture, problem_image, samples, short_ways, takes
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
    for operator in filter(lambda one: takes(one, 1), samples(name)):
        evolve(u, operator, **short_ways(operator)[-1])
for name in PROBLEMS:
    given = {"markers": (u > 190).astype(int), "known": u > 100}
    for problem in samples(name):
        solve(problem_image(problem, *u.shape), problem, **{word: given[word] for word in problem.reads})
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
    *("coherence", "stain-separation", "zero-crossings"),
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


COUNT = """
import json, sys
import numpy as np
from numba.core import event
import diffusion_ops as do

class Compiled(event.Listener):
    def on_start(self, started):
        found.append(started.data["dispatcher"].py_func.__qualname__)
    def on_end(self, ended):
        pass

found = []
event.register("numba:compile", Compiled())
"""
EVOLVE = """
image = np.random.default_rng(0).random((20, 36), np.float32)
results = {name: do.evolve(image, do.PeronaMalik(0.2, name), steps=1).tolist() for name in sys.argv[1:]}
print(json.dumps([do.__file__, len(found), results]))
"""
SUM = """
from diffusion_ops.blocks.exact_sum import add_singles, empty_sums
ones = np.ones(9, np.float32).view(np.uint32)
sums, table = empty_sums(np.dtype(np.float32))
add_singles(sums, table, ones, 9)
print(json.dumps([do.__file__, len(found), table.sum(0).tolist()]))
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a folder to import a copy of the package from, with nothing compiled yet."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "diffusion_ops", tmp_path / "site" / "diffusion_ops", ignore=ignored)
    return tmp_path / "site"


def start(code: str, package: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start a process that imports the copy; root must ask for permission to write like everybody else."""
    as_user = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
    return subprocess.Popen(
        [*as_user, sys.executable, "-c", COUNT + code, *arguments],
        env={k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
        | {"PYTHONPATH": str(package)}
        | environment,
        cwd=package,
        stdout=subprocess.PIPE,
        text=True,
    )


def answer(process: subprocess.Popen[str], package: Path) -> tuple[int, Any]:
    """Return how many functions a process compiled, and its results."""
    text, _ = process.communicate()
    assert process.returncode == 0
    file, compiled, results = json.loads(text)
    assert Path(file).is_relative_to(package)
    return compiled, results


def kept(folder: Path) -> set[str]:
    """Return the names of all files of machine code below a folder."""
    return {path.name for path in folder.rglob("*.nbc")}


def test_an_edited_kernel_never_runs_old_machine_code(package: Path, tmp_path: Path) -> None:
    """Perona-Malik's kernel takes its conductance from another file, which becomes a part of its machine code."""
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def evolved(*names: str) -> tuple[int, Any]:
        return answer(start(EVOLVE, package, *names, **cache), package)

    compiled, before = evolved("charbonnier", "rational")
    assert compiled > 0
    assert before["charbonnier"] != before["rational"]
    edited = package / "diffusion_ops" / "kernels" / "conductance.py"
    text = edited.read_text()
    assert text.count("return one / math.sqrt(one + q)") == 1
    edited.write_text(text.replace("return one / math.sqrt(one + q)", "return one / (one + q)"))
    compiled, after = evolved("charbonnier")
    assert compiled > 0
    assert after["charbonnier"] == before["rational"]
    # What was compiled before is still there for who goes back to it.
    edited.write_text(text)
    assert evolved("charbonnier") == (0, {"charbonnier": before["charbonnier"]})


def test_kernels_are_kept_wherever_can_be_written(package: Path, tmp_path: Path) -> None:
    """Kernels in a read-only folder, as in a container, are copied to the next folder that is writable."""
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("root may write anywhere, and there is no setpriv to give that up")
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    variables = {"XDG_CACHE_HOME": str(home), "TMPDIR": str(temporary)}
    for folder in (home, temporary):
        folder.mkdir()
    inside = package / "diffusion_ops" / "__pycache__"
    counts, names = [], []
    for where, folders in ((inside, (package / "diffusion_ops",)), (home, (inside, home)), (temporary, ())):
        counts.append(answer(start(SUM, package, **variables), package)[0])
        names.append(kept(where))
        for folder in folders:
            for path in (folder, *folder.rglob("*")):
                path.chmod(0o555 if path.is_dir() else 0o444)
    assert counts[0] > 0
    assert counts[1:] == [0, 0]
    assert names[0] == names[1] == names[2] != set()
    (own,) = temporary.iterdir()
    assert own.stat().st_mode & 0o077 == 0


def test_processes_that_start_together_fill_one_folder(package: Path, tmp_path: Path) -> None:
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    processes = [start(SUM, package, **cache) for _ in range(3)]
    assert len({json.dumps(answer(one, package)[1]) for one in processes}) == 1
    files = kept(tmp_path / "cache")
    assert answer(start(SUM, package, **cache), package)[0] == 0
    assert kept(tmp_path / "cache") == files != set()
    assert len(list((tmp_path / "cache" / "diffusion_ops").iterdir())) == 1


def test_folders_of_older_code_are_removed_but_the_newest(package: Path, tmp_path: Path) -> None:
    parent = tmp_path / "cache" / "diffusion_ops"
    for hours in range(9):
        (parent / f"{hours}").mkdir(parents=True)
        os.utime(parent / f"{hours}", (time.time() - 3600 * hours,) * 2)
    answer(
        start("print(json.dumps([do.__file__, 0, 0]))", package, NUMBA_CACHE_DIR=str(parent.parent)), package
    )
    left = {path.name for path in parent.iterdir()}
    assert {name for name in left if len(name) == 1} == {"0", "1", "2", "3"}
    assert len(left) == 5


EXIT = """
import atexit, sys, threading, time
from numba.core import event
def look():
    before = len(calls)
    time.sleep(0.5)
    print(len(calls) - before, flush=True)
# First in, last out: after all that a process does at its end.
atexit.register(look)
class Calls(event.Listener):
    def on_start(self, started):
        calls.append(started)
        if len(calls) > int(sys.argv[1]):
            begun.set()
    def on_end(self, ended):
        pass
calls, begun = [], threading.Event()
event.register("numba:llvm_lock", Calls())
import numpy as np
import diffusion_ops as do
image = np.ones((20, 36), np.float32)
evolve = lambda: do.evolve(image, do.PeronaMalik(0.2), steps=1)
threading.Thread(target=evolve, daemon=True).start()
begun.wait()
sys.exit(2)
"""


@pytest.mark.parametrize("calls", [1, 2000])
def test_no_thread_compiles_while_a_process_ends(calls: int, tmp_path: Path) -> None:
    """The process ends early or late in a compilation, and counts the calls of LLVM after all its exit handlers."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", EXIT, str(calls)],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (2, "0\n"), run.stderr
