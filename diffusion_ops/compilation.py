"""Keep compiled kernels on disk under a digest of all their sources, and compile nothing while a process ends.

An edited kernel so never runs old machine code: by itself numba compares the file of a function only, and not what
other files lend to it, which becomes part of its machine code. It also keeps nothing where folders are read-only, as
those of packages and containers often are.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import getpass
import hashlib
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
from numba.core import config
from numba.core.caching import CacheImpl, _CacheLocator
from numba.core.compiler_lock import global_compiler_lock

PACKAGE = Path(__file__).parent

COMPILED = ("kernels", "blocks")
"""Folders of the package with all that becomes machine code; `tests/test_architecture.py` holds this."""

NEWEST = 4
"""Folders of other digests that are left where they are: of branches that are worked on in turn, for instance."""

_IN_USE_SECONDS = 3600.0
_NAME = 20


@functools.cache
def sources_digest() -> str:
    """Return a digest of all sources that become machine code and of the compiler; "" where they are not files."""
    files = sorted(file for folder in COMPILED for file in (PACKAGE / folder).rglob("*.py"))
    content = hashlib.sha256(numba.__version__.encode())
    for file in files:
        content.update(b"\0" + file.relative_to(PACKAGE).as_posix().encode() + b"\0" + file.read_bytes())
    return content.hexdigest()[:_NAME] if files else ""


@functools.cache
def cache_folder() -> Path | None:
    """Return the folder of this code's kernels, in the first place that can be written to.

    These are NUMBA_CACHE_DIR where it is set, the package itself, the user's folder for caches, and one for temporary
    files. What a place has that can only be read, such as a container's, is copied.

    Returns
    -------
    Path or None
        None where the sources are not files: numba then decides by itself.
    """
    if not sources_digest():
        return None
    readable: list[Path] = []
    for place in _places():
        folder = place / sources_digest()
        if _is_ready(folder, readable):
            return folder
        if folder.is_dir():
            readable.append(folder)
    return None


def _places() -> Iterator[Path]:
    """Yield folders that hold one folder per digest, best first."""
    given = config.CACHE_DIR  # type: ignore[attr-defined]
    if given:
        yield Path(given).absolute() / "diffusion_ops"
    yield PACKAGE / "__pycache__" / "compiled"
    # There may be no home.
    with contextlib.suppress(RuntimeError):
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diffusion_ops"
    yield _temporary_place()


def _temporary_place() -> Path:
    """Return a folder among temporary files that is ours alone: what lies there is run as machine code."""
    place = Path(tempfile.gettempdir()) / f"diffusion_ops-{_user()}"
    with contextlib.suppress(OSError):
        place.mkdir(mode=0o700, exist_ok=True)
        found = place.lstat()
        if sys.platform == "win32" or (found.st_uid == os.getuid() and not found.st_mode & 0o077):
            return place
    other = tempfile.mkdtemp(prefix="diffusion_ops-")
    atexit.register(shutil.rmtree, other, ignore_errors=True)
    return Path(other)


def _user() -> str:
    return getpass.getuser() if sys.platform == "win32" else str(os.getuid())


def _is_ready(folder: Path, others: list[Path]) -> bool:
    """Return whether files can be made in a folder; one that is new gets what the others hold."""
    try:
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            _fill(folder, others)
            _discard_old(folder.parent)
        tempfile.TemporaryFile(dir=folder).close()
        os.utime(folder)
    except OSError:
        return False
    return True


def _fill(folder: Path, others: list[Path]) -> None:
    """Make a folder with what the others hold, all at once: other processes may be reading it already."""
    draft = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}")
    draft.mkdir()
    for other in others:
        # What cannot be read is compiled again.
        with contextlib.suppress(OSError):
            shutil.copytree(other, draft, copy_function=shutil.copyfile, dirs_exist_ok=True)
    # A copy has the permissions of what it was copied from.
    draft.chmod(folder.parent.stat().st_mode)
    try:
        draft.rename(folder)
    except OSError:
        # Another process was first.
        shutil.rmtree(draft, ignore_errors=True)


def _discard_old(place: Path) -> None:
    """Remove folders of other digests but the newest few, and those that a process may be using."""
    ages = {}
    for folder in place.iterdir():
        # Others may be removing, too.
        with contextlib.suppress(OSError):
            ages[folder] = time.time() - folder.stat().st_mtime
    for folder in sorted(ages, key=lambda one: ages[one])[1 + NEWEST :]:
        if ages[folder] > _IN_USE_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


class KernelLocator(_CacheLocator):
    """Tell numba where the machine code of our kernels is kept, and that the digest is all to be compared.

    Functions of others are left to numba.
    """

    def __init__(self, folder: Path, place: str) -> None:
        self._folder, self._place = folder, place

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> KernelLocator | None:
        """Return the locator of a function in one of our files, None for others."""
        file = Path(py_file)
        if not any(file.is_relative_to(PACKAGE / folder) for folder in COMPILED):
            return None
        folder = cache_folder()
        if folder is None:
            return None
        module = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
        return cls(folder, f"{module}-{py_func.__code__.co_firstlineno}")

    def ensure_cache_path(self) -> None:
        """Make the folder, and note that it is in use."""
        self._folder.mkdir(parents=True, exist_ok=True)
        os.utime(self._folder)

    def get_cache_path(self) -> str:
        """Return where the function's machine code is kept."""
        return str(self._folder)

    def get_source_stamp(self) -> str:
        """Return what a stored function must have been compiled from."""
        return sources_digest()

    def get_disambiguator(self) -> str:
        """Return what tells functions of one name apart: the module and the line."""
        return self._place


@functools.cache
def prepare_compiler() -> None:
    """Make numba ask `KernelLocator` first for all that is kept from now on, and compile nothing at exit."""
    CacheImpl._locator_classes.insert(0, KernelLocator)
    atexit.register(_finish_compiling, os.getpid())


def _finish_compiling(process: int) -> None:
    """Wait for the function that another thread compiles or loads, and let none begin after it.

    At the end of a process LLVM's data go; a thread that is inside of it then stops the process with an assertion and
    SIGABRT, whatever the exit code was to be.
    """
    # A copy of a process may have a lock without the thread that would open it.
    while os.getpid() == process:
        # Not sooner for a second Ctrl-C: one function takes a second or two.
        with contextlib.suppress(KeyboardInterrupt):
            global_compiler_lock.acquire()  # type: ignore[no-untyped-call]
            return
