"""Carry out the verb `watch`, and `run --each`: many sources, one after the other, and the ledger of them."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from pipelines.cli import verbs
from pipelines.cli.json_lines import json_line
from pipelines.cli.progress import progress
from pipelines.cli.show import draw, fact_list, new_table
from pipelines.cli.wording import count_text, plural, time_text
from pipelines.events import Listener
from pipelines.refusal import RefusedError
from pipelines.run.run import Report
from pipelines.run.run import run as run_spec
from pipelines.schedule.ledger.ledger import Ledger
from pipelines.schedule.ledger.open_ledger import open_ledger
from pipelines.schedule.ledger.rows import LedgerError, Row, State
from pipelines.schedule.template import Template
from pipelines.schedule.watch import Policy, Watch, WatchEndedError, counts
from pipelines.spec.spec import Spec
from pipelines.stopping import Stopping
from pipelines.store.addresses import shown

DONE, LEFT = 0, 3

ENDING = ".ledger"
"""Of the ledger's file, which lies beside the spec."""

_STYLES = {State.failed: "yellow", State.quarantined: "red", State.done: "green"}


def run(
    path: str,
    how: Mapping[str, Any],
    which: Mapping[str, Any],
    overwrite: bool,
    retry_quarantined: bool,
    json_output: bool,
) -> int:
    """Carry out a spec, or for each of many sources that are there now."""
    if which["each"] is not None:
        return watch(path, how, which, None, overwrite, retry_quarantined, json_output)
    given = {f"--{name}": which[name] for name in ("asset", "ledger")}
    said = [name for name, value in {**given, "--retry-quarantined": retry_quarantined}.items() if value]
    if said:
        raise RefusedError(
            f"{', '.join(said)}: goes with --each PATTERN alone, which says which sources there are."
        )
    return verbs.run(path, how, overwrite, json_output)


def watch(
    path: str,
    how: Mapping[str, Any],
    which: Mapping[str, Any],
    interval: float | None,
    overwrite: bool,
    retry_quarantined: bool,
    json_output: bool,
) -> int:
    """Carry out a spec for each source; without an interval for those that are there now."""
    if which["each"] is None:
        raise RefusedError("Give --each PATTERN, or --status to see what became of the sources.")
    template, console = Template(path, verbs.with_parsed_options(how)), Console(stderr=True)
    policy = Policy(which["each"], which["asset"], which["retries"], which["settle"], overwrite)

    stopping = Stopping(template.example.run.walltime)  # one for all runs

    def carry_out(spec: Spec, replaces: bool, begins: Listener) -> Report:
        with progress(json_output, sys.stdout, console) as meter:
            return run_spec(spec, overwrite=replaces, listeners=[begins, meter], stopping=stopping)

    with (
        verbs.at_sigterm(stopping.ask),
        _ledger(path, which["ledger"]) as ledger,
        progress(json_output, sys.stdout, console) as listener,
    ):
        if retry_quarantined:
            ledger.release()
        work = Watch(template, policy, ledger, carry_out, [listener])
        try:
            if interval is not None:
                work.forever(interval)
            rows = work.once()
        except WatchEndedError as ended:
            return ended.exit_code
        _print(rows, ledger.address, json_output)
    return LEFT if any(row.state in (State.failed, State.quarantined) for row in rows) else DONE


def show_ledger(path: str, file: str | None, json_output: bool) -> int:
    """Print the ledger of a spec."""
    with _ledger(path, file) as ledger:
        if not ledger.is_there():
            raise LedgerError(
                f"There is no ledger {ledger.address}. It begins with `diffuse watch {path} --each PATTERN`; "
                "give its path or address where --ledger said another one."
            )
        if json_output:
            rows = [dataclasses.asdict(row) for row in ledger.rows()]
            sys.stdout.write(f"{json.dumps({'ledger': ledger.address, 'sources': rows}, indent=2)}\n")
        else:
            draw(Console(), _picture(ledger.rows(), ledger.address, all_of_them=True))
    return DONE


def _ledger(path: str, said: str | None) -> Ledger:
    return open_ledger(said or str(Path(path).with_suffix(ENDING)))


def _print(rows: Sequence[Row], ledger: str, json_output: bool) -> None:
    if json_output:
        told = [
            {
                "address": r.address,
                "target": _target(r),
                "state": r.state,
                "tries": r.tries,
                "message": r.message,
            }
            for r in rows
        ]
        line = json_line("watch_finished", counts=counts(rows), ledger=ledger, sources=told)
        sys.stdout.write(f"{line}\n")
    else:
        draw(Console(), _picture(rows, ledger))


def _picture(rows: Sequence[Row], ledger: str, *, all_of_them: bool = False) -> RenderableType:
    """Return a picture of rows: how many there are of each state; each one, or those that are not done."""
    totals = ", ".join(f"{count_text(n)} {state}" for state, n in counts(rows).items() if n)
    facts = fact_list({"sources": f"{plural(len(rows), 'source')}: {totals or 'none'}", "ledger": ledger})
    listed = [row for row in rows if all_of_them or row.state is not State.done]
    table = new_table("state", "source", "target", "tries", "time")
    for row in listed:
        seconds = row.ended - row.started if row.ended and row.started else None
        table.add_row(
            Text(row.state, style=_STYLES.get(row.state, "")),
            row.address,
            _target(row),
            str(row.tries),
            _duration(row, seconds),
        )
    said = [Text(f"{row.address}: {row.message}") for row in listed if row.message]
    again = "Look at them, and try again with --retry-quarantined."
    hint = [Text(again)] if any(row.state is State.quarantined for row in listed) else []
    shown_rows: list[RenderableType] = [Text(), table] if listed else []
    return Group(facts, *shown_rows, *said, *hint)


def _target(row: Row) -> str:
    return shown(row.targets[0]) if row.targets else ""


def _duration(row: Row, seconds: float | None) -> str:
    if row.state is State.running and row.started:
        return f"since {time_text(time.time() - row.started)}"
    return "" if seconds is None else time_text(seconds)
