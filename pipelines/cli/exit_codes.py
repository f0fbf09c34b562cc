"""Carry out the work of a verb, and turn each way in which it can end into one sentence and an exit code."""

from __future__ import annotations

import errno
import json
import shlex
import sys
import traceback
from collections.abc import Callable

import typer

from pipelines.refusal import RefusedError, StoppedError, TerminatedError

DONE, REFUSED, FAILED, INTERRUPTED, TERMINATED = 0, 2, 3, 130, 143
"""Exit codes: complete; refused, so nothing was done; failed, or failed tiles are left; stopped by the user; or by
SIGTERM. A run that has stopped in order says its own, see `pipelines.stopping`."""

IMPOSSIBLE = (
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
)
"""Error numbers of paths that cannot be read or written."""

FULL = {
    errno.ENOSPC: "The disk is full",
    errno.EDQUOT: "The disk quota is used up",
}

app_options = {"traceback": False}


def finish(work: Callable[[], int], json_output: bool, *, resumable: bool = False) -> None:
    """Do the work of a verb, print its errors as text, and leave with its exit code.

    Parameters
    ----------
    work : callable
        Returns the exit code. Raises `StoppedError` for all that goes wrong after a run has begun.
    json_output : bool
        True where errors are also printed as a JSON object on standard output.
    resumable : bool
        True where the same command resumes after an interruption.
    """
    try:
        code = work()
    except KeyboardInterrupt as error:
        again = f" Finished tiles are kept. Go on with:\n  {this_command()}" if resumable else ""
        if isinstance(error, TerminatedError):
            code = _say("terminated", f"Terminated.{again}", TERMINATED, json_output)
        else:
            code = _say("interrupted", f"Interrupted.{again}", INTERRUPTED, json_output)
    except StoppedError as stopped:
        code = _say("failed", _words(stopped.__cause__ or stopped, resumable), FAILED, json_output)
    except RefusedError as error:
        code = _say("refused", str(error), REFUSED, json_output)
    except Exception as error:  # whatever it is, the user gets a sentence
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            raise
        if isinstance(error, OSError) and error.errno in IMPOSSIBLE:
            code = _say("refused", f"{_os_words(error)} Choose another place.", REFUSED, json_output)
        else:
            code = _say("failed", _words(error, resumable), FAILED, json_output)
    raise typer.Exit(code)


def this_command() -> str:
    """Return the command line, for a user to repeat."""
    return shlex.join(["diffuse", *sys.argv[1:]])


def _words(error: BaseException, resumable: bool) -> str:
    """Return what went wrong, and how to go on."""
    again = f" Once that is solved, go on with:\n  {this_command()}" if resumable else ""
    match error:
        case RefusedError():
            return f"{error}{again}"
        case OSError():
            return f"{_os_words(error)}{again}"
        case MemoryError():
            return f"The machine has no memory left for this. Close other programs, or give less to --memory.{again}"
    reason = (str(error).strip() or "no reason given").splitlines()[0].rstrip(".")
    where = shlex.join(["diffuse", "--traceback", *(word for word in sys.argv[1:] if word != "--traceback")])
    said = f"Unexpected {type(error).__name__}: {reason}. To see where in the code it arose:\n  {where}"
    return said + again.replace(" ", "\n", 1)


def _os_words(error: OSError) -> str:
    """Return what the system refused, and the path."""
    words = FULL.get(error.errno or 0, error.strerror or str(error) or type(error).__name__)
    path = f" ({error.filename})" if error.filename else ""
    # A disk may have room for bytes and none for files.
    look = " See `df` and `df -i`." if error.errno == errno.ENOSPC else ""
    return f"{words}{path}.{look}"


def _say(event: str, message: str, code: int, json_output: bool) -> int:
    if app_options["traceback"]:
        traceback.print_exc()
    typer.echo(message, err=True)
    if json_output:
        typer.echo(json.dumps({"event": event, "message": message, "exit_code": code}))
    return code
