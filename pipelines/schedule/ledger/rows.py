"""Say what a ledger holds: one row per source as it was found."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

from pipelines.refusal import RefusedError


class State(StrEnum):
    """What became of a source."""

    waiting = "waiting"
    running = "running"
    done = "done"
    failed = "failed"
    quarantined = "quarantined"
    replaced = "replaced"


ABOUT = {
    State.waiting: "found, and not begun",
    State.running: "a process works on it",
    State.done: "its result is complete",
    State.failed: "failed, and is tried again later",
    State.quarantined: "refused, or failed too often; --retry-quarantined tries again",
    State.replaced: "has changed since; another row stands for what it is now",
}

TABLE = """
CREATE TABLE sources (
    number INTEGER PRIMARY KEY,
    address TEXT NOT NULL, stamp TEXT NOT NULL, recipe TEXT NOT NULL, targets TEXT NOT NULL,
    state TEXT NOT NULL, message TEXT NOT NULL DEFAULT '',
    tries INTEGER NOT NULL DEFAULT 0, deaths INTEGER NOT NULL DEFAULT 0,
    begun INTEGER NOT NULL DEFAULT 0, tiles INTEGER NOT NULL DEFAULT 0, identity TEXT NOT NULL DEFAULT '',
    found REAL NOT NULL, started REAL, ended REAL, due REAL NOT NULL DEFAULT 0,
    holder TEXT NOT NULL DEFAULT '', host TEXT NOT NULL DEFAULT '', report TEXT NOT NULL DEFAULT '{}',
    UNIQUE (address, stamp, recipe, targets)
)
"""


class LedgerError(RefusedError):
    """What is no ledger, or cannot be one."""


@dataclass(frozen=True)
class Row:
    """One source as it was found.

    Attributes
    ----------
    number : int
    address, stamp, recipe : str
        What it is: its address without secrets, its stamp, the digest of the spec.
    targets : list of str
        What its run writes, the main result first.
    state : State
    message : str
        Why it failed or was refused.
    tries, deaths : int
        Number of its runs that were begun, and of processes that died in them lately.
    begun : bool
        True where a run of it has begun to write.
    tiles : int
        Tiles that were finished when the latest run began.
    identity : str
        Identity of the source when the latest run began.
    found, started, ended : float or None
        Times, in seconds since 1970.
    due : float
        Time before which it is not tried again.
    holder, host : str
        Process that works on it, and its machine.
    report : dict
        Summary of the latest run.
    """

    number: int
    address: str
    stamp: str
    recipe: str
    targets: Sequence[str]
    state: State
    message: str
    tries: int
    deaths: int
    begun: bool
    tiles: int
    identity: str
    found: float
    started: float | None
    ended: float | None
    due: float
    holder: str
    host: str
    report: Mapping[str, Any]


COLUMNS = tuple(field.name for field in fields(Row))


def row_of(values: sqlite3.Row) -> Row:
    """Return a row from what the table has of it."""
    plain = dict(values)
    parsed = {"targets": json.loads(plain["targets"]), "report": json.loads(plain["report"])}
    return Row(**{**plain, **parsed, "state": State(plain["state"]), "begun": bool(plain["begun"])})
