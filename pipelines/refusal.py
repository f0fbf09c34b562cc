"""Define the error of all that is refused, and the error of a run that stopped after it had begun."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class RefusedError(ValueError):
    """What is asked for cannot be done; the message says what, what was got, what is allowed, and what to do.

    It is raised before anything is done. The command tells it from all other errors by this class: exit code 2.
    """


class StoppedError(Exception):
    """A run that had begun and could not go on, because of the error that is its `__cause__`."""


class TerminatedError(KeyboardInterrupt):
    """A run that was asked to stop by SIGTERM while nothing was at work, or a second time."""


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Turn errors of values, such as those of an operator or of a format, into refusals: nothing has begun yet.

    Raises
    ------
    RefusedError
        With the message of the error; also for numbers that overflow.
    """
    try:
        yield
    except RefusedError:
        raise
    except ValueError as error:
        raise RefusedError(str(error)) from error
    except ArithmeticError as error:
        raise RefusedError(
            f"A number is too large or too small to compute with ({error}). "
            "Check the times and parameters of the steps, the spacing of the source, and the chunks of the sink."
        ) from error
