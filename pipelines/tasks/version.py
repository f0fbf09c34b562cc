"""Name the version of the code, so that two versions of it never share a journal or a run."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from diffusion_ops.registry import plugin_packages

OURS = ("diffusion_ops", "pipelines")

UNCONCERNED = "pipelines/cli/"
"""How people give commands decides no bit."""


@functools.cache
def code_version() -> str:
    """Return the package's version and a digest of the sources that decide bits, also those of plug-ins."""
    content = hashlib.sha256()
    for name, path in _sources():
        source = path.read_bytes()
        content.update(b"%s\0%d\0%s" % (name.encode(), len(source), source))
    return f"{installed_version('diffuse')}+{content.hexdigest()[:16]}"


def source_time() -> float:
    """Return when the youngest of these sources was written or put where it is, in seconds as `time.time` has it."""
    found = (path.stat() for _, path in _sources())
    return max(max(one.st_mtime, one.st_ctime) for one in found)


def installed_version(distribution: str) -> str:
    """Return the version of an installed distribution, "0" where there is none."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "0"


def _sources() -> Iterator[tuple[str, Path]]:
    """Yield the names and paths of the sources that decide bits."""
    for package in (*OURS, *plugin_packages()):
        for name, path in _modules(package):
            if not name.startswith(UNCONCERNED):
                yield name, path


def _modules(package: str) -> list[tuple[str, Path]]:
    """Return names and paths of a package's modules, or of a module that is in none; it is not imported."""
    found = importlib.util.find_spec(package)
    if found is None:
        return []
    if found.submodule_search_locations is None:
        return [(f"{package}.py", Path(str(found.origin)))]
    roots = [Path(place) for place in found.submodule_search_locations]
    files = ((root, path) for root in roots for path in root.rglob("*.py"))
    return sorted((f"{package}/{path.relative_to(root).as_posix()}", path) for root, path in files)
