"""The rules of the house: which package may know what, held by reading the imports of every module."""

from __future__ import annotations

import ast
import functools
import graphlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from diffusion_ops import compilation
from diffusion_ops.evolution.operator import OPERATORS
from diffusion_ops.evolution.parameters import Choice

ROOT = Path(__file__).parents[1]
PACKAGES = ("diffusion_ops", "pipelines")

ALLOWED = {
    "diffusion_ops": {"numpy", "numba", "llvmlite", "scipy", "dask", "xarray"},
    "pipelines": {
        *("diffusion_ops", "numpy", "dask", "distributed", "zarr", "zarrs", "xarray", "fsspec", "pydantic"),
        *("pydantic_core", "ruamel", "typer", "lazy_loader", "rich", "filelock", "psutil", "pystac"),
        *("obstore", "boto3", "botocore"),
    },
}
"""Libraries that a package may import; the table in notebooks/architecture.md says the same."""

FORMAT_LIBRARIES = {
    *("tifffile", "imagecodecs", "imageio", "PIL", "rasterio", "affine", "netCDF4", "h5netcdf", "xarray"),
    "pyarrow",
}
"""Libraries that only a format's own file may import."""

TYPE_CHECKERS = {"mypy"}
"""Libraries that a module is only for, and which import it themselves; nothing of ours needs them."""

ONLY_IN = {
    "diffusion_ops": {
        "|".join(TYPE_CHECKERS): r"mypy_plugin\.py",
        r"dask": r"(containers/\w+|evolve|solve)\.py",
        r"xarray": r"(containers/xarray_objects|accessor|evolve|solve)\.py",
        r"llvmlite": r"kernels/lanes\.py",
        # An operator may bring its own kernel, so that it is one file.
        r"numba": r"(operators/\w+|kernels/(\w+/)?\w+|blocks/(histogram|exact_sum)|compilation)\.py",
    },
    "pipelines": {
        "|".join(sorted(FORMAT_LIBRARIES - {"imagecodecs"})): r"formats/(metadata/)?\w+\.py",
        # It has the fastest CRC-32 too.
        r"imagecodecs": r"(formats/(metadata/)?\w+|tasks/values)\.py",
        r"typer|lazy_loader": r"cli/(command|exit_codes|options)\.py",
        r"rich": r"cli/\w+\.py",
        r"ruamel": r"spec/yaml_lines\.py",
        r"filelock": r"record/holding\.py",
        r"psutil": r"tasks/(memory|admission/proof)\.py",
        r"distributed": r"(tasks/(workers|encryption|hired|admission/\w+)|run/submission|clusters/\w+)\.py",
        r"fsspec": r"store/places\.py",
        r"obstore|boto3|botocore": r"store/object_place\.py",
        r"dask_\w+|kr8s": r"clusters/\w+\.py",
        r"pystac": r"schedule/stac\.py",
    },
}
"""Libraries that only some modules of a package may import: containers, a format's file, the terminal."""

CLUSTER_LIBRARIES = {"dask_jobqueue", "dask_kubernetes", "kr8s", "dask_gateway"}
"""Libraries that only a cluster's own file may import."""

COMPILERS = {"numba", "llvmlite"}

PLUGINS = (
    *("diffusion_ops.operators.", "diffusion_ops.statistics.", "diffusion_ops.criteria."),
    *("pipelines.formats.", "pipelines.clusters."),
)
"""Modules that only a registry imports."""

SHARED_BY_PLUGINS = "pipelines.formats.metadata."

OPTIONAL = {
    "rasterio",
    "affine",
    "netCDF4",
    "h5netcdf",
    "pyarrow",
    "obstore",
    "boto3",
    "botocore",
    "pystac",
    *CLUSTER_LIBRARIES,
}
"""Libraries of the extras: they may be imported inside functions, so that the base works without them."""

MOST_FLOORS = {"diffusion_ops": 8, "pipelines": 12}
"""Rooms above each other in a package: a room is a folder or a module, and stands above all that it imports."""

MOST_MODULES = 14
"""In one folder, but for those of plug-ins."""

FOLDERS_OF_PLUGINS = {"operators", "statistics", "criteria", "kinds", "formats", "clusters"}

TOP_LEVEL = {
    *("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"),
    *("pipelines", "diffusion_ops", "deploy", "tests", "notebooks"),
}

MOST_LINES = 400

MOST_SILENCED = 20
"""Lines outside kernels that a type checker is told to pass over."""

MOST_LINES_OF_FUNCTION = 60
"""With the functions inside it, without docstrings: one that is longer has a second concept inside."""


@dataclass(frozen=True)
class Import:
    """One imported module, and how."""

    module: str
    line: int
    inside_function: bool
    for_types: bool


@dataclass(frozen=True)
class Module:
    """One file of ours."""

    path: Path

    @property
    def package(self) -> str:
        return self.path.relative_to(ROOT).parts[0]

    @property
    def inner(self) -> str:
        return self.path.relative_to(ROOT / self.package).as_posix()

    @property
    def name(self) -> str:
        return ".".join(self.path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @functools.cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def imports(self) -> list[Import]:
        return list(_imports(self.tree, False, False))

    def __str__(self) -> str:
        return f"{self.package}/{self.inner}"


def _imports(node: ast.AST, inside_function: bool, for_types: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(a.name, child.lineno, inside_function, for_types) for a in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            # `from package import module` reads the module, `from module import name` does not.
            for alias in child.names:
                inner = f"{child.module}.{alias.name}"
                found = inner if inner in NAMES else child.module or ""
                yield Import(found, child.lineno, inside_function, for_types)
        else:
            types = for_types or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test))
            function = inside_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from _imports(child, function, types)


MODULES = [Module(path) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
NAMES = {module.name for module in MODULES}


def each_module(check: Callable[[Module], None]) -> Callable[[], None]:
    """Return a test that checks all modules and names those that fail.

    One test per module and rule would be thousands, which every process of pytest collects and reports.
    """

    def test() -> None:
        failures = []
        for module in MODULES:
            try:
                check(module)
            except AssertionError as error:
                failures.append(f"{module}: {error}")
        assert not failures, "\n".join(failures)

    test.__name__, test.__doc__ = check.__name__, check.__doc__
    return test


@each_module
def test_imports_only_what_its_package_may_know(module: Module) -> None:
    for found in module.imports():
        library = found.module.split(".")[0]
        if library in sys.stdlib_module_names or library == module.package:
            continue
        place = f"{module}:{found.line}"
        allowed = (
            ALLOWED[module.package]
            | TYPE_CHECKERS
            | (FORMAT_LIBRARIES | CLUSTER_LIBRARIES if module.package == "pipelines" else set())
        )
        assert library in allowed, f"{place}: {module.package} must not know {library}"
        for libraries, files in ONLY_IN[module.package].items():
            if re.fullmatch(libraries, library):
                assert re.fullmatch(files, module.inner), f"{place}: {library} belongs into {files}"


@each_module
def test_imports_stand_at_the_top_except_optional_libraries(module: Module) -> None:
    hidden = [i for i in module.imports() if i.inside_function and i.module.split(".")[0] not in OPTIONAL]
    assert not hidden, f"{module}: {hidden}"


@each_module
def test_no_plugin_is_imported_by_name(module: Module) -> None:
    """Operators, statistics, formats and clusters are found by their registries."""
    plugins = (i.module for i in module.imports() if i.module.startswith(PLUGINS))
    named = [name for name in plugins if not name.startswith(SHARED_BY_PLUGINS)]
    assert not named


def compiles(module: Module) -> bool:
    """Return whether some of its functions become machine code."""
    compilers = COMPILERS & {i.module.split(".")[0] for i in module.imports()}
    return bool(compilers) and module.name != compilation.__name__


@each_module
def test_all_that_becomes_machine_code_is_in_its_digest(module: Module) -> None:
    """What a kernel inlines, and the constants that it takes, come from folders that the cache looks at."""
    lent = {i.module for i in module.imports() if i.module in NAMES}
    names = lent | {module.name} if compiles(module) else set()
    assert {name.split(".")[1] for name in names} <= set(compilation.COMPILED)


def test_some_modules_become_machine_code() -> None:
    assert any(map(compiles, MODULES))


@each_module
def test_no_operator_is_meant_by_its_name(module: Module) -> None:
    mine = [name for name in OPERATORS if OPERATORS[name].__module__ == module.name]
    # A word that a parameter takes means the method, not the operator of that name.
    choices = (
        one for name in mine for one in OPERATORS[name].parameters().values() if isinstance(one, Choice)
    )
    own = {*mine, *(value for one in choices for value in one.values)}
    words = {node.value for node in ast.walk(module.tree) if isinstance(node, ast.Constant)}
    assert not words & (set(OPERATORS) - own)


@pytest.mark.parametrize("with_types", [False, True], ids=["at run time", "with imports for types"])
def test_no_import_cycles(with_types: bool) -> None:
    graph = {
        module.name: {i.module for i in module.imports() if with_types or not i.for_types} & NAMES
        for module in MODULES
    }
    graphlib.TopologicalSorter(graph).prepare()


def rooms_of(folder: str) -> dict[str, set[str]]:
    """Return the rooms directly in a folder, and for each those that it imports."""
    depth = folder.count(".") + 2

    def room(name: str) -> str:
        return ".".join(name.split(".")[:depth])

    graph: dict[str, set[str]] = {}
    for module in MODULES:
        # The `__init__` of a package only re-exports names.
        if module.name.startswith(f"{folder}."):
            inside = {i.module for i in module.imports() if i.module in NAMES - {folder}}
            found = {room(name) for name in inside if name.startswith(f"{folder}.")}
            graph.setdefault(room(module.name), set()).update(found - {room(module.name)})
    return graph


FOLDERS = sorted({module.name.rpartition(".")[0] for module in MODULES if "." in module.name})


@pytest.mark.parametrize("folder", FOLDERS)
def test_rooms_stand_on_floors(folder: str) -> None:
    """No room imports one that stands on it, and a package is not too tall to survey."""
    graph = rooms_of(folder)
    floors: dict[str, int] = {}
    for name in graphlib.TopologicalSorter(graph).static_order():
        floors[name] = 1 + max((floors[below] for below in graph[name]), default=0)
    assert max(floors.values()) <= MOST_FLOORS[folder.split(".")[0]], floors


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_are_small_enough_to_survey(folder: str) -> None:
    name = folder.rpartition(".")[2]
    if name in FOLDERS_OF_PLUGINS:
        pytest.skip("plug-ins may be many")
    modules = [m for m in MODULES if m.name.rpartition(".")[0] == folder and m.path.name != "__init__.py"]
    assert len(modules) <= MOST_MODULES, f"{folder} has {len(modules)} modules, more than {MOST_MODULES}"


@each_module
def test_only_the_store_reads_addresses(module: Module) -> None:
    """What "://" means is known in one place; help texts may name an address."""
    parts = (
        n.value for n in ast.walk(module.tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)
    )
    assert module.name == "pipelines.store.addresses" or "://" not in {
        part for part in parts if len(part) < 8
    }


@each_module
def test_only_advance_keeps_the_ledger_of_what_is_spoilt(module: Module) -> None:
    """Kernels and operators read it; a block begins it, and copies it for a later kernel of one call."""
    assigned = {
        n.attr
        for n in ast.walk(module.tree)
        if isinstance(n, ast.Attribute) and not isinstance(n.ctx, ast.Load)
    }
    given = {n.arg for n in ast.walk(module.tree) if isinstance(n, ast.keyword)}
    keepers = {"diffusion_ops.evolution.advance", "diffusion_ops.blocks.block"}
    assert module.name in keepers or "spoilt" not in assigned | given


@each_module
def test_modules_have_a_subject_and_a_readable_length(module: Module) -> None:
    assert module.path.stem not in {"utils", "util", "core", "common", "helpers", "misc"}
    lines = module.text.count("\n")
    assert lines <= MOST_LINES, f"{module} has {lines} lines, more than {MOST_LINES}: it has two subjects."
    assert ast.get_docstring(module.tree), f"{module} does not say what it is for"


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function, decorators and docstrings not counted."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    for node in ast.walk(function):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node) is not None:
            assert node.body[0].end_lineno is not None
            lines -= node.body[0].end_lineno - node.body[0].lineno + 1
    return lines


@each_module
def test_functions_are_short_enough_to_read(module: Module) -> None:
    functions = (n for n in ast.walk(module.tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
    lines = {function.name: code_lines(function) for function in functions}
    assert {name: n for name, n in lines.items() if n > MOST_LINES_OF_FUNCTION} == {}


@each_module
def test_arithmetic_is_strict(module: Module) -> None:
    """`fastmath` lets a compiler reorder sums differently for tiles of different widths."""
    assert not [n for n in ast.walk(module.tree) if isinstance(n, ast.keyword) and n.arg == "fastmath"]


@each_module
def test_engine_is_silent(module: Module) -> None:
    """What a run has to say goes through listeners; only the command prints."""
    calls = [n for n in ast.walk(module.tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "print"]
    printers = {f"pipelines.cli.{name}" for name in ("verbs", "progress", "json_lines")}
    assert not calls or module.name in printers


def _returns(node: ast.AST) -> Iterator[int]:
    """Yield the lines of a function's own return statements."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Return):
            yield child.lineno
        elif not isinstance(child, ast.FunctionDef | ast.Lambda):
            yield from _returns(child)


def test_no_test_is_green_without_a_check() -> None:
    """A test that does not apply is skipped with a reason, or its parameters are left out."""
    found = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found += [f"{path.name}:{line}" for line in _returns(node)]
    assert not found


def test_types_are_hardly_ever_left_unchecked() -> None:
    """Compiled code has its own types; elsewhere a comment that silences the checker is an exception."""
    folders = ("diffusion_ops", "pipelines", "tests", "notebooks")
    mark = "type: " + "ignore"
    files = [
        path for folder in folders for path in (ROOT / folder).rglob("*.py") if "kernels" not in path.parts
    ]
    silenced = [
        path for path in files for line in path.read_text(encoding="utf-8").splitlines() if mark in line
    ]
    assert len(silenced) <= MOST_SILENCED, silenced


def test_top_level_names() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone: the folder may hold anything")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    names = {line.split("/")[0] for line in tracked.splitlines()}
    assert {name for name in names if not name.startswith(".")} <= TOP_LEVEL


def test_deploy_holds_no_logic() -> None:
    assert not list((ROOT / "deploy").rglob("*.py"))


def test_site_shows_the_layers_as_they_are() -> None:
    text = (ROOT / "notebooks" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)/` \|([^|]*)\|", text, re.MULTILINE)
    shown = {package: set(re.findall(r"`(\w+)`", cell)) for package, cell in rows}
    assert {package: shown[package] for package in ALLOWED} == ALLOWED


@pytest.mark.parametrize("package", PACKAGES)
def test_site_describes_every_room(package: str) -> None:
    text = (ROOT / "notebooks" / "architecture.md").read_text(encoding="utf-8")
    table = text.partition(f"| room of `{package}/` |")[2].split("\n\n")[0]
    rooms = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
    assert rooms <= set(re.findall(r"^\| `(\w+)/` \|", table, re.MULTILINE))


def test_site_draws_modules_that_exist() -> None:
    text = (ROOT / "notebooks" / "architecture.md").read_text(encoding="utf-8")
    (picture,) = re.findall(r"^```text\n(.*?)^```$", text, re.M | re.S)
    folder = ROOT
    for line in picture.splitlines():
        title, *words = re.split(r"\s{2,}", line.strip())
        if title.endswith("/"):
            folder = ROOT / title
            assert folder.is_dir()
        # What has a space in it is a remark.
        for word in (word for word in words if " " not in word and word != "|"):
            assert (folder / word).is_dir() or (folder / f"{word}.py").is_file(), f"{folder.name}: no {word}"
