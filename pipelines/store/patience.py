"""Ask again what failed in passing, with growing pauses; give up at once where asking again cannot help."""

from __future__ import annotations

import contextlib
import errno
import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from pipelines.store.addresses import shown

T = TypeVar("T")

PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0, 2.0)
"""Seconds between ten tries, half as many or half as many more by chance, so that workers which have failed together do
not come back together: as long as a busy store or a server that starts anew may take."""

LONGEST = 30.0
"""Seconds after which there is no further try: where a client waits long by itself, a few tries are enough."""

LASTING = (
    *(FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError),
    *(NotImplementedError, ValueError, TypeError, LookupError, AttributeError, ImportError),
)
"""Errors that the next try would meet too."""

LASTING_NUMBERS = (errno.ENOSYS, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENAMETOOLONG)


def patiently(call: Callable[[], T], *, absent_passes: bool = False) -> T:
    """Return what a call returns, tried again where it fails in passing.

    Parameters
    ----------
    call : function without arguments
    absent_passes : bool
        Take "not found" as a fault in passing too: where the thing is known to be there.
    """
    begun = time.monotonic()
    for pause in PAUSES:
        try:
            return call()
        except Exception as error:
            if not passes(error, absent_passes) or time.monotonic() - begun > LONGEST:
                raise
        time.sleep(pause * random.uniform(0.5, 1.5))
    return call()


def passes(error: Exception, absent_passes: bool = False) -> bool:
    """Return whether an error may be gone at the next try: the network's, and a store's 5xx."""
    if isinstance(error, FileNotFoundError):
        return absent_passes
    if isinstance(error, LASTING) or getattr(error, "errno", None) in LASTING_NUMBERS:
        return False
    return "Credentials" not in type(error).__name__


@contextlib.contextmanager
def naming(address: str) -> Iterator[None]:
    """Let a store's errors in a block name the address, which says of "Forbidden" what is forbidden."""
    try:
        yield
    except FileNotFoundError:
        raise  # it is an answer, and most stores name what they do not find
    except OSError as error:
        # Errors of libraries are made in other ways; those of Python are all that stores' clients turn a status into.
        if type(error).__module__ != "builtins" or error.filename is not None:
            raise
        number = error.errno or (errno.EACCES if isinstance(error, PermissionError) else errno.EIO)
        raise type(error)(number, error.strerror or str(error), shown(address)) from error
