"""A scheduler that runs already, by its address or by the file that it has written."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import distributed
from distributed.comm.core import connect
from distributed.security import Security
from pydantic import Field, model_validator

from pipelines.refusal import RefusedError
from pipelines.store.addresses import is_address
from pipelines.tasks.encryption import Encrypted
from pipelines.tasks.workers import CLUSTERS, ClusterError, Wanted, Workers, quiet_logs

ANSWER_SECONDS = 10.0
"""Time in which a scheduler has to answer."""


@CLUSTERS.register("address")
class Address(Encrypted):
    """The workers of a running scheduler; its dashboard is its own."""

    about = (
        "a running scheduler: give its address, such as tcp://host:8786, or its file, such as scheduler.json"
    )
    shared = True
    paths: ClassVar[tuple[str, ...]] = (*Encrypted.paths, "file")

    address: str | None = Field(
        default=None,
        min_length=1,
        description="Address of the scheduler, tcp://host:8786 or tls://host:8786.",
    )
    file: str | None = Field(
        default=None,
        min_length=1,
        description="File that the scheduler has written (--scheduler-file of `dask scheduler`), instead of its "
        "address.",
    )

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Address:
        if (self.address is None) == (self.file is None):
            raise ValueError("give either the 'address' of a scheduler, or the 'file' that it has written.")
        return self

    @classmethod
    def meant_by(cls, text: str) -> dict[str, Any] | None:
        """Return the address or the file that a text is."""
        if is_address(text):
            return {"address": text}
        return {"file": text} if text.endswith(".json") else None

    def __str__(self) -> str:
        """Return the address or the file."""
        return self.address or self.file or self.kind

    def require(self) -> None:
        """Refuse certificates that cannot be used, and a file that names no scheduler."""
        super().require()
        self._scheduler()

    def _scheduler(self) -> str:
        """Return the address of the scheduler.

        Raises
        ------
        RefusedError
            For a file that names none.
        """
        if self.file is None:
            assert self.address is not None
            return self.address
        try:
            return str(json.loads(Path(self.file).read_text(encoding="utf-8"))["address"])
        except FileNotFoundError:
            reason = "there is no such file"
        except OSError as error:
            reason = f"it cannot be read: {error.strerror}"
        except (ValueError, KeyError, TypeError):
            reason = "it holds no JSON with an 'address'"
        raise RefusedError(
            f"The scheduler file {self.file} names no scheduler: {reason}. Start one with "
            f"`dask scheduler --scheduler-file {self.file}`."
        )

    @contextlib.contextmanager
    def connect(self, wanted: Wanted) -> Iterator[Workers]:
        """Connect for the time of the context; the scheduler and its workers stay."""
        address, security = self._scheduler(), self.security()
        try:
            # A client that cannot connect leaves a thread behind, whose end is a traceback: knock first.
            with ThreadPoolExecutor(1) as thread:
                thread.submit(asyncio.run, _knock(address, security)).result()
            client = distributed.Client(address, timeout=f"{ANSWER_SECONDS}s", security=security)
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise ClusterError(_refused(address, error)) from None
        with quiet_logs(), client:
            yield Workers(client, _dashboard(client))


def _refused(address: str, error: Exception) -> str:
    """Return what a scheduler that does not answer, or does not trust, means."""
    if address.startswith("tls") or not isinstance(error, OSError | ValueError):
        return (
            f"No scheduler at {address!r} answers and trusts this program ({error}). Over TLS both sides need "
            "certificates of one authority: give their folder with --cluster-option tls=FOLDER, or Dask's "
            "configuration (distributed.comm.tls). Or none answers there: look whether it runs."
        )
    return f"No scheduler answers at {address!r} ({error}). Start one with `dask scheduler`, or use --cluster local."


async def _knock(address: str, security: Security) -> None:
    """Open a connection to a scheduler, and close it."""
    comm = await connect(address, timeout=ANSWER_SECONDS, **security.get_connection_args("client"))
    await comm.close()


def _dashboard(client: distributed.Client) -> str:
    """Return where the scheduler says that its dashboard is, "" where it has none."""
    try:
        return str(client.dashboard_link or "")
    except KeyError:
        # No dashboard, or a pattern for its address (distributed.dashboard.link) with variables that are not set here.
        return ""
