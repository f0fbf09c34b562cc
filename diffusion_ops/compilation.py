"""Keep compiled kernels on disk under a digest of all their sources, and compile nothing while a process ends.

So an edited kernel never runs old machine code. Numba itself compares only the file of a function, and not the other
files whose functions become part of its machine code. It also caches nothing where the package's folder is read-only,
as in many containers.
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
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
from numba.core import config
from numba.core.caching import CacheImpl, _CacheLocator
from numba.core.ccallback import CFunc
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher

PACKAGE = Path(__file__).parent

COMPILED = ("kernels", "blocks")
"""Folders of the package with all compiled sources; `tests/test_architecture.py` holds this."""

NEWEST = 4
"""Number of other digests' folders that are kept, for branches that are worked on in turn."""

_IN_USE_SECONDS = 3600.0
_NAME = 20


@functools.cache
def sources_digest() -> str:
    """Return a digest of all compiled sources and the compiler's version; "" where the sources are not files."""
    files = sorted(file for folder in COMPILED for file in (PACKAGE / folder).rglob("*.py"))
    content = hashlib.sha256(numba.__version__.encode())
    for file in files:
        content.update(b"\0" + file.relative_to(PACKAGE).as_posix().encode() + b"\0" + file.read_bytes())
    return content.hexdigest()[:_NAME] if files else ""


def vector_library() -> str:
    """Return the library whose functions the compiler may put into vectorised loops: its results are not libm's."""
    return "SVML" if getattr(config, "USING_SVML", False) else "none"


@functools.cache
def cache_folder() -> Path | None:
    """Return the folder of this code's kernels, in the first parent folder that is writable.

    The candidates are NUMBA_CACHE_DIR where it is set, the package itself, the user's cache folder, and the folder for
    temporary files. The kernels of read-only candidates, such as a container's, are copied.

    Returns
    -------
    Path or None
        None where the sources are not files: numba then decides by itself. None also where no folder can be written:
        kernels are then compiled by each process, and not kept.
    """
    if not sources_digest():
        return None
    readable: list[Path] = []
    for parent in _parent_folders():
        folder = parent / sources_digest()
        if _is_ready(folder, readable):
            return folder
        if folder.is_dir():
            readable.append(folder)
    return None


def _parent_folders() -> Iterator[Path]:
    """Yield folders that hold one folder per digest, best first."""
    given = config.CACHE_DIR  # type: ignore[attr-defined]
    if given:
        yield Path(given).absolute() / "diffusion_ops"
    yield PACKAGE / "__pycache__" / "compiled"
    # There may be no home.
    with contextlib.suppress(RuntimeError):
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diffusion_ops"
    # There may be no folder for temporary files that can be written.
    with contextlib.suppress(OSError):
        yield _temporary_folder()


def _temporary_folder() -> Path:
    """Return a temporary folder that only this user can write to: its files are run as machine code."""
    folder = Path(tempfile.gettempdir()) / f"diffusion_ops-{_user()}"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if sys.platform == "win32" or (found.st_uid == os.getuid() and not found.st_mode & 0o077):
            return folder
    other = tempfile.mkdtemp(prefix="diffusion_ops-")
    atexit.register(shutil.rmtree, other, ignore_errors=True)
    return Path(other)


def _user() -> str:
    return getpass.getuser() if sys.platform == "win32" else str(os.getuid())


def _is_ready(folder: Path, others: list[Path]) -> bool:
    """Return True where a folder is writable; a new one gets the content of the others."""
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
    """Make a folder with the content of the others, atomically: other processes may read it already."""
    draft = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}")
    draft.mkdir()
    for other in others:
        # Kernels that cannot be read are compiled again.
        with contextlib.suppress(OSError):
            shutil.copytree(other, draft, copy_function=shutil.copyfile, dirs_exist_ok=True)
    # A copied folder has the permissions of its source.
    draft.chmod(folder.parent.stat().st_mode)
    try:
        draft.rename(folder)
    except OSError:
        # Another process was first.
        shutil.rmtree(draft, ignore_errors=True)


def _discard_old(parent: Path) -> None:
    """Remove folders of other digests but the newest few, and those that a process may be using."""
    ages = {}
    for folder in parent.iterdir():
        # Other processes may be removing folders, too.
        with contextlib.suppress(OSError):
            ages[folder] = time.time() - folder.stat().st_mtime
    for folder in sorted(ages, key=lambda one: ages[one])[1 + NEWEST :]:
        if ages[folder] > _IN_USE_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


class KernelLocator(_CacheLocator):
    """Tell numba where the machine code of our kernels is kept, and to compare nothing but the digest.

    Functions of other packages are left to numba.
    """

    def __init__(self, folder: Path, function: str) -> None:
        self._folder, self._function = folder, function

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> KernelLocator | None:
        """Return the locator of a function in one of our files, else None."""
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
        """Return the folder of the function's machine code."""
        return str(self._folder)

    def get_source_stamp(self) -> str:
        """Return the digest of the sources that a stored function must have been compiled from."""
        return sources_digest()

    def get_disambiguator(self) -> str:
        """Return the module and line, which distinguish functions of one name."""
        return self._function


class NotKeptError(Exception):
    """No machine code is kept of a kernel: it would have to be compiled."""


class _Making(threading.local):
    """Whether a thread may make kernels."""

    allowed = True


_making, _made = _Making(), threading.Event()


@contextlib.contextmanager
def loading_only() -> Iterator[None]:
    """Let this thread load kernels and make none.

    Raises
    ------
    NotKeptError
        Where one would have to be made.
    """
    _making.allowed = False
    try:
        yield
    finally:
        _making.allowed = True


def has_compiled() -> bool:
    """Return whether this process has made a kernel: what the compiler took for it is never given back."""
    return _made.is_set()


@functools.cache
def prepare_compiler() -> None:
    """Make numba ask `KernelLocator` first from now on, note what it makes, and compile nothing at exit."""
    CacheImpl._locator_classes.insert(0, KernelLocator)
    for compiled in (Dispatcher, CFunc):
        _cache_where_possible(compiled)
    atexit.register(_finish_compiling, os.getpid())


def _cache_where_possible(compiled: Any) -> None:
    """Let compiled functions of a sort do without a cache: numba refuses those whose machine code it cannot keep."""
    enable = compiled.enable_caching

    def enable_where_possible(function: Any) -> None:
        if cache_folder() is not None or not sources_digest():
            enable(function)
        _note_made(function)

    compiled.enable_caching = enable_where_possible


def _note_made(function: Any) -> None:
    """Note it when no machine code is kept of a function that is called, before it is compiled."""
    load = function._cache.load_overload

    def load_or_note(*words: Any) -> Any:
        found = load(*words)
        if found is None:
            if not _making.allowed:
                raise NotKeptError(f"No machine code is kept of {function.__name__}.")
            _made.set()
        return found

    function._cache.load_overload = load_or_note


def _finish_compiling(process: int) -> None:
    """Wait for the function that another thread compiles or loads, and let no further one begin.

    LLVM frees its data at the end of a process; a thread that still uses them would end the process by an assertion
    and SIGABRT, whatever its exit code should be.
    """
    # A forked process may have a lock without the thread that would release it.
    while os.getpid() == process:
        # A second Ctrl-C does not end the wait: one function takes a second or two.
        with contextlib.suppress(KeyboardInterrupt):
            global_compiler_lock.acquire()  # type: ignore[no-untyped-call]
            return
