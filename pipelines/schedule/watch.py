"""Look for sources, and carry out a spec for each that is new, exactly once, whoever else does the same."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pipelines.events import Event, Listener, RunStarted, SourceEnded, SourcesFound, SourceStarted, tell
from pipelines.image.open_source import reopen_identity
from pipelines.image.source import UnreadableSourceError
from pipelines.record.holding import BusyError
from pipelines.record.workdir import Workdir
from pipelines.refusal import RefusedError
from pipelines.schedule.ledger.ledger import TAKEN_OVER, Ledger
from pipelines.schedule.ledger.rows import Row, State
from pipelines.schedule.sources import Found, PatternError, find_sources, stamp_of
from pipelines.schedule.template import Template, UnfitSourceError, require_own_targets
from pipelines.spec.spec import Spec
from pipelines.stopping import CANCELLED
from pipelines.store.addresses import absolute, is_remote, shown

FIRST_DELAY, LONGEST_DELAY = 5.0, 3600.0
"""Seconds before a failed source is tried again, about: the first time, doubled each time, and at most."""

BUSY_DELAY = 10.0
"""Seconds before a source is looked at again whose target another run holds."""

SUMMARY = ("seconds", "tiles", "tiles_done", "tiles_resumed", "retries", "problem", "complete")
"""Values of a run's report that the ledger keeps."""


class WatchEndedError(Exception):
    """A run has stopped for a reason that holds for all that would follow: SIGTERM, or the walltime."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


class Ended(Protocol):
    """How a run ended."""

    @property
    def data(self) -> dict[str, Any]:
        """What was written to report.json."""

    @property
    def exit_code(self) -> int:
        """0 where the target is complete."""


CarryOut = Callable[[Spec, bool, Listener], Ended]
"""Runs a spec; the bool allows it to replace the target."""


@dataclass(frozen=True)
class Policy:
    """What to look for, and how often to try.

    Attributes
    ----------
    each : str
        Pattern of the sources.
    asset : str or None
        Name of the assets of a STAC catalogue.
    retries : int
        Tries of a failing source after the first.
    settle : float
        Seconds for which a source must not have changed.
    overwrite : bool
        Whether targets that exist are replaced.
    """

    each: str
    asset: str | None = None
    retries: int = 3
    settle: float = 10.0
    overwrite: bool = False


@dataclass(frozen=True)
class Seen:
    """What a look has found: the sources, by the numbers of their rows."""

    sources: Mapping[int, Found]
    resting: frozenset[int]

    @property
    def changing(self) -> set[int]:
        """Rows of sources that may still be being written."""
        return set(self.sources) - self.resting


class Watch:
    """Work on the sources of one pattern, in turn with other processes that have the same ledger.

    Parameters
    ----------
    template : Template
    policy : Policy
    ledger : Ledger
    carry_out : callable
    listeners : sequence of Listener
    """

    def __init__(
        self,
        template: Template,
        policy: Policy,
        ledger: Ledger,
        carry_out: CarryOut,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self._template, self._policy, self._ledger = template, policy, ledger
        self._carry_out, self._listeners = carry_out, listeners
        self._looks = 0

    # ---- look

    def look(self) -> Seen:
        """Find what is there now, and note it in the ledger.

        Raises
        ------
        RefusedError
            For a pattern that cannot be looked for; in the first look also for a spec that does not fit the sources.
        """
        found = find_sources(self._policy.each, self._policy.asset)
        made = self._without_results({shown(one.uri): one for one in found}, len(found))
        targets: dict[str, list[str]] = {}
        problems: dict[str, str] = {}
        for address, one in made.items():
            try:
                targets[address] = self._template.written_for(one)
            except UnfitSourceError as error:
                problems[address] = str(error)
        self._check(targets, problems)
        self._looks += 1
        stamps = {address: stamp_of(one) for address, one in made.items()}
        numbers = self._ledger.note(
            self._template.recipe, [(a, stamps[a].text, targets.get(a, [])) for a in made]
        )
        by_number = dict(zip(numbers, made, strict=True))
        rows = {row.number: row for row in self._ledger.rows(numbers)}
        for number, address in by_number.items():
            if address in problems and rows[number].state is State.waiting:
                self._ledger.end(rows[number], State.quarantined, problems[address])
        settle, now = self._policy.settle, time.time()
        resting = {
            n for n, a in by_number.items() if stamps[a].rests(settle) or now - rows[n].found >= settle
        }
        tell(self._listeners, SourcesFound(self._policy.each, len(made), len(made) - len(resting)))
        return Seen({n: made[a] for n, a in by_number.items()}, frozenset(resting))

    def _without_results(self, found: Mapping[str, Found], count: int) -> dict[str, Found]:
        """Leave out what the ledger knows as results, and the ledger.

        Raises
        ------
        RefusedError
            For sources whose addresses differ in what is secret alone.
        """
        if len(found) != count:
            raise RefusedError(
                f"--each {shown(self._policy.each)!r} names {count} sources, of which only {len(found)} differ in more "
                "than user name, password and what follows the '?'. Give each an address of its own."
            )
        own = {*self._ledger.others_targets([]), absolute(self._ledger.address, ".")}
        return {address: one for address, one in found.items() if one.uri not in own}

    def _check(self, targets: Mapping[str, Sequence[str]], problems: dict[str, str]) -> None:
        """Refuse what cannot be at the first look; later only the sources that came last."""
        if not self._looks:
            if len(targets) > 1:
                self._template.require_placeholders()
            require_own_targets(self._policy.each, targets)
        taken = self._ledger.others_targets(targets)
        for address, written in targets.items():
            for target in written:
                other = taken.setdefault(target, address)
                if other != address:
                    problems[address] = (
                        f"{other} has been or will be written to {shown(target)}, too. Tell them apart by further "
                        "placeholders in the spec, such as {parent} or {path}."
                    )

    # ---- work

    def once(self, sleep: Callable[[float], None] = time.sleep) -> list[Row]:
        """Work on all that is there now until each source is done, quarantined or another's; return their rows.

        What is still being written after `settle` seconds is left for another time.
        """
        first = self.look()
        numbers, seen, settled = set(first.sources), first, not first.changing
        while True:
            self._drain(seen, numbers)
            rows = self._ledger.rows(numbers & set(seen.sources))
            failed = [row.due for row in rows if row.state is State.failed]
            if not failed and settled:
                return rows
            delay = min(max(0.0, due - time.time()) for due in failed) if failed else self._policy.settle
            sleep(min(delay, self._policy.settle) if not settled else delay)
            seen, settled = self.look(), True

    def forever(self, interval: float, sleep: Callable[[float], None] = time.sleep) -> None:
        """Work on what is there, and look again every so many seconds, until the process is stopped."""
        while True:
            try:
                seen = self.look()
                self._drain(seen, seen.sources)
            except PatternError as error:
                if not self._looks:
                    raise
                # A disk or a store that is away for a while.
                tell(self._listeners, SourceEnded(self._policy.each, "", "failed", str(error), 0.0))
            sleep(interval)

    def _drain(self, seen: Seen, numbers: Iterable[int]) -> None:
        """Work on the sources that rest, one after the other, until none is due."""
        mine = seen.resting & set(numbers)
        while (row := self._ledger.claim(mine)) is not None:
            self._work(row, seen.sources[row.number])

    def _work(self, row: Row, found: Found) -> None:
        """Carry out the spec for one source, and note in the ledger how that ended."""
        tell(self._listeners, SourceStarted(row.address, shown(row.targets[0]), row.tries))
        started = time.monotonic()
        try:
            state, message = self._try(row, found)
        except BaseException:
            # Interrupted: nothing of the source is at fault, and whoever comes next goes on.
            self._ledger.end(row, State.waiting, counts=False)
            raise
        seconds = time.monotonic() - started
        tell(self._listeners, SourceEnded(row.address, shown(row.targets[0]), state, message, seconds))

    def _try(self, row: Row, found: Found) -> tuple[State, str]:
        def begins(event: Event) -> None:
            if isinstance(event, RunStarted):
                self._ledger.begin(row, event.done)

        try:
            spec = self._template.spec_for(found)
            self._template.make_folders(spec)
            ended = self._carry_out(spec, self._may_replace(row, spec), begins)
        except BusyError as error:
            self._ledger.end(row, State.waiting, str(error), due=time.time() + BUSY_DELAY, counts=False)
            return State.waiting, str(error)
        except RefusedError as error:
            if (
                isinstance(error, UnreadableSourceError)
                and error.__cause__ is not None
                and is_remote(found.uri)
            ):
                return self._fail(row, str(error))  # the store may be back soon
            return self._end(row, State.quarantined, str(error))
        except Exception as error:
            return self._fail(row, shown(f"{type(error).__name__}: {error}"))
        summary = {key: ended.data.get(key) for key in SUMMARY}
        identity = (Workdir(spec.workdir).begun or {}).get("identity", "")
        ended_by = ended.data.get("ended_by")
        if ended_by and ended_by != CANCELLED:
            # SIGTERM or the walltime: the source is given back, and whoever comes next goes on.
            raise WatchEndedError(ended.exit_code)
        if ended_by:
            return self._end(
                row, State.quarantined, "`diffuse cancel` stopped it", report=summary, identity=identity
            )
        if ended.exit_code:
            return self._fail(row, _trouble(ended.data), report=summary, identity=identity)
        return self._end(row, State.done, "", report=summary, identity=identity)

    def _may_replace(self, row: Row, spec: Spec) -> bool:
        """Return whether the targets may be replaced: by what was asked for, or as results of the same source before.

        A run that was finished, but not noted before its process died, is not done again.
        """
        if not (self._policy.overwrite or self._ledger.may_replace(row)):
            return False
        if not row.begun:
            return True
        workdir = Workdir(spec.workdir)
        begun, report = workdir.begun or {}, workdir.read("report.json") or {}
        return not (report.get("complete") and begun.get("identity") == reopen_identity(spec.source))

    def _end(self, row: Row, state: State, message: str, **more: Any) -> tuple[State, str]:
        if not self._ledger.end(row, state, message, **more):
            return State.running, TAKEN_OVER
        return state, message

    def _fail(self, row: Row, message: str, **more: Any) -> tuple[State, str]:
        """Let a source be tried again later, or quarantine it."""
        if row.tries > self._policy.retries:
            return self._end(row, State.quarantined, message, **more)
        # Sources that failed together, such as for a full disk, do not come back together.
        delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** (row.tries - 1)) * random.uniform(0.5, 1.5)
        return self._end(row, State.failed, message, due=time.time() + delay, **more)


def _trouble(report: Mapping[str, Any]) -> str:
    """Return why a run did not end, from its report."""
    failed = report["failed"]
    tiles = f"{len(failed)} tiles failed, the first: {failed[0]['error']}" if failed else ""
    return shown(report["problem"] or tiles or "tiles are left")


def counts(rows: Iterable[Row]) -> dict[str, int]:
    """Return how many sources are in each state."""
    found = Counter(row.state for row in rows)
    return {state.value: found[state] for state in State}
