"""Name the version of the code, so that two versions of a kernel never share a journal."""

from __future__ import annotations

import functools
import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import diffusion_ops


@functools.cache
def code_version() -> str:
    """Return the package's version and a digest of the sources that decide bits."""
    try:
        number = version("diffuse")
    except PackageNotFoundError:
        number = "0"
    root = Path(diffusion_ops.__file__).parent
    content = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        content.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return f"{number}+{content.hexdigest()[:12]}"
