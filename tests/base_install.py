"""Programs as they run where only the base is installed: the libraries of all extras cannot be found."""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

IMPORT_NAMES = {
    "azure-storage-blob": "azure",
    "pystac-core": "pystac",
    "itk-filtering": "itk",
    "pytest-xdist": "xdist",
    "pywavelets": "pywt",
    "ruamel.yaml": "ruamel",
    "scikit-image": "skimage",
}
"""Distributions that are not imported by their own names."""

BLOCKER = """
import importlib.machinery

blocked = {names!r}
found = importlib.machinery.PathFinder.find_spec


def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in blocked else found(name, path, target)


importlib.machinery.PathFinder.find_spec = find_spec
"""


def distribution(requirement: str) -> str:
    """Return the name in a requirement such as "dask[array]>=2025.1", in lower case."""
    name = re.match(r"[\w.-]+", requirement)
    assert name, requirement
    return name[0].lower().replace("_", "-")


def module(requirement: str) -> str:
    """Return what a requirement is imported as, in lower case."""
    name = distribution(requirement)
    return IMPORT_NAMES.get(name, name.replace("-", "_"))


def base() -> set[str]:
    """Return the distributions that the base needs, directly or not."""
    found: set[str] = set()
    left = [distribution(one) for one in PROJECT["dependencies"]]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            # "array" is the only extra that the base asks for; its parts are required by name.
            left += [distribution(one) for one in needs(name)]
    return found


def needs(name: str) -> list[str]:
    """Return what an installed distribution requires without any of its extras; nothing where it is not installed."""
    try:
        every = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [one for one in every if "extra ==" not in one]


def extras() -> dict[str, list[str]]:
    """Return the requirements of each extra, without other extras."""
    optional = PROJECT["optional-dependencies"]
    return {
        name: [one for one in some if distribution(one) != PROJECT["name"]] for name, some in optional.items()
    }


def blocked_modules() -> set[str]:
    """Return the modules of everything installed here that the base does not bring along."""
    kept = base()
    return {
        name
        for name, owners in importlib.metadata.packages_distributions().items()
        if not {distribution(owner) for owner in owners} & {*kept, PROJECT["name"], "pip", "setuptools"}
    }


def environment(folder: Path) -> dict[str, str]:
    """Return an environment in which Python finds the base alone; `folder` gets a file that sees to it."""
    (folder / "sitecustomize.py").write_text(BLOCKER.format(names=blocked_modules()), encoding="utf-8")
    paths = [str(folder), str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
