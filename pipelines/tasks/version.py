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
    for package in (*OURS, *plugin_packages()):
        for name, source in _sources(package):
            if not name.startswith(UNCONCERNED):
                content.update(b"%s\0%d\0%s" % (name.encode(), len(source), source))
    return f"{installed_version('diffuse')}+{content.hexdigest()[:16]}"


def installed_version(distribution: str) -> str:
    """Return the version of an installed distribution, "0" where there is none."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "0"


def _sources(package: str) -> Iterator[tuple[str, bytes]]:
    """Yield the names and bytes of a package's modules, or of a module that is in none; it is not imported."""
    found = importlib.util.find_spec(package)
    if found is None:
        return
    if found.submodule_search_locations is None:
        files = [(f"{package}.py", Path(str(found.origin)))]
    else:
        roots = [Path(place) for place in found.submodule_search_locations]
        files = [
            (f"{package}/{path.relative_to(r).as_posix()}", path) for r in roots for path in r.rglob("*.py")
        ]
    for name, path in sorted(files):
        yield name, path.read_bytes()
