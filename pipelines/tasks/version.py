"""Name the version of the code, so that two versions of a kernel never share a journal."""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from diffusion_ops.blocks.statistic import STATISTICS
from diffusion_ops.evolution.operator import OPERATORS


@functools.cache
def code_version() -> str:
    """Return the package's version and a digest of the sources that decide bits, also those of plug-ins."""
    try:
        number = version("diffuse")
    except PackageNotFoundError:
        number = "0"
    content = hashlib.sha256()
    for package in ("diffusion_ops", *sorted({*OPERATORS.other_packages(), *STATISTICS.other_packages()})):
        for name, source in _sources(Path(str(sys.modules[package].__file__))):
            content.update(name.encode() + b"\0" + source)
    return f"{number}+{content.hexdigest()[:12]}"


def _sources(file: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the names and bytes of a package's modules, or of a module that is in none."""
    root = file.parent
    for path in sorted(root.rglob("*.py")) if file.name == "__init__.py" else [file]:
        yield path.relative_to(root).as_posix(), path.read_bytes()
