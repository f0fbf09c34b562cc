"""Run a spec: decide whether to begin, to go on or to refuse, and never mix two runs."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.events import Listener, RunFinished, tell
from pipelines.image.info import ImageInfo
from pipelines.image.kept_sources import fresh_source
from pipelines.plan.plan import Plan
from pipelines.record.holding import BusyError
from pipelines.record.lease import lease
from pipelines.record.workdir import DamagedError, Workdir, unfinished
from pipelines.refusal import RefusedError
from pipelines.run.driver import Driver
from pipelines.run.publication import list_target, own_targets, require_surroundings, unlisted
from pipelines.run.validity import require_valid_pixels
from pipelines.run.warm import plan_run, warm_beside
from pipelines.spec.spec import Spec
from pipelines.stopping import EXIT_CODES, Stopping
from pipelines.store.addresses import is_remote, labelled_image, lies_inside, shown, within
from pipelines.store.publish import stamp_of
from pipelines.store.targets import is_complete, is_taken, require_no_labels
from pipelines.tasks.process import prepare_process
from pipelines.tasks.workers import check_cluster
from pipelines.tuning.times import Settled, settle_times


@dataclass(frozen=True)
class Report:
    """How a run ended.

    Attributes
    ----------
    data : dict
        What was written to report.json.
    """

    data: dict[str, Any]

    @property
    def exit_code(self) -> int:
        """0 where the target is complete, 3 where tiles are left, and what says so where the run has stopped."""
        return 0 if self.data["complete"] else EXIT_CODES.get(self.data.get("ended_by", ""), 3)


def run(
    spec: Spec,
    *,
    overwrite: bool = False,
    listeners: Sequence[Listener] = (),
    stopping: Stopping | None = None,
) -> Report:
    """Carry out a spec, or go on where it was interrupted.

    Parameters
    ----------
    spec : Spec
    overwrite : bool
        True where targets that exist may be replaced.
    listeners : sequence of Listener
    stopping : Stopping, optional
        Says when no more tiles are taken; at the walltime of the spec by default.

    Raises
    ------
    RefusedError
        For anything that is refused before a pixel is read: nothing on disk is touched then.
    """
    stopping = stopping or Stopping(spec.run.walltime)
    prepare_process(spec.run.threads)
    source = fresh_source(spec.source)
    check_places(spec)
    check_cluster(spec.run.cluster, spec.run.dashboard)
    workdir = Workdir(spec.workdir)
    workdir.require_own()
    earlier = _earlier(workdir, overwrite)
    settled = settle_times(spec, source, listeners, earlier.run)
    spec = settled.spec
    begun = unfinished(earlier.run, earlier.report)
    plan = plan_run(spec, source.info, begun=begun, tuned=bool(settled.tuning))
    require_valid_pixels(source, plan)
    # Workers in other processes load what they need before their first tiles.
    rehearsal = warm_beside(plan) if spec.run.cluster.in_process else None
    with contextlib.ExitStack() as held:
        leases = [held.enter_context(workdir.lock(spec.sink.uri))]
        leases += [held.enter_context(lease(target, workdir.uri)) for target in spec.targets]
        if _earlier(workdir, overwrite) != earlier:
            raise BusyError(
                f"Another process has just worked on {spec.sink.uri}. Run the same command again to go on."
            )
        finished = begin(settled, plan, source.info, workdir, earlier, overwrite)
        if finished is not None:
            tell(listeners, RunFinished(finished))
            return Report(finished)
        replaced = {target: stamp_of(target) for target in spec.targets} if overwrite else {}
        driver = Driver(
            spec,
            plan,
            workdir,
            listeners,
            settled.tuning,
            replaced,
            leases,
            source.listing,
            rehearsal,
            stopping,
        )
        return Report(driver.run(source.absent_chunks()))


@dataclass(frozen=True)
class Earlier:
    """The run that was begun in a folder.

    Attributes
    ----------
    run, report : dict or None
        What run.json and report.json hold.
    """

    run: dict[str, Any] | None = None
    report: dict[str, Any] | None = None


def _earlier(workdir: Workdir, overwrite: bool) -> Earlier:
    """Return the run that was begun in a folder; one with damaged files counts only where it must not be replaced.

    Raises
    ------
    DamagedError
    """
    try:
        return Earlier(workdir.begun, workdir.read("report.json"))
    except DamagedError:
        if not overwrite:
            raise
        return Earlier()


def check_places(spec: Spec) -> None:
    """Refuse targets, source and the run's folder inside each other, and targets in folders that there are not.

    Raises
    ------
    RefusedError
    """
    for target in spec.targets:
        check_place(spec, target)
    for target, other in itertools.permutations([*spec.targets, spec.workdir], 2):
        if lies_inside(target, other):
            raise RefusedError(
                f"{target} lies inside {other}, which the run writes too. Choose another place."
            )


def check_place(spec: Spec, uri: str) -> None:
    """Refuse a target of a spec that lies inside its source, or around it, or in no folder.

    Raises
    ------
    RefusedError
    """
    source, read = spec.source.uri, within(spec.source.uri, (spec.source.path or "").strip("/"))
    for what, place in (("target", uri), ("run's folder", spec.workdir)):
        if place == uri and labelled_image(uri) is not None and not lies_inside(read, uri):
            continue
        if lies_inside(place, source) or lies_inside(source, place):
            raise RefusedError(
                f"The {what} {shown(place)} and the source {shown(source)} lie inside each other. "
                f"Choose a {what.split()[-1]} outside the source."
            )
    if is_remote(uri) or labelled_image(uri) is not None:
        return
    folder = Path(uri).resolve().parent
    if not folder.is_dir():
        raise RefusedError(f"There is no folder {folder} to put the target in. Create it, or choose another.")


def begin(
    settled: Settled, plan: Plan, source: ImageInfo, workdir: Workdir, earlier: Earlier, overwrite: bool
) -> dict[str, Any] | None:
    """Begin a run, or find the one that was begun here; return its report where nothing is left to do.

    Raises
    ------
    RefusedError
        Where the target exists, or holds labels of other runs, or cannot take the result, or something else was begun
        for it.
    """
    spec, begun, report = settled.spec, earlier.run, earlier.report or {}
    same = begun is not None and begun["science"] == plan.science
    complete, there = bool(report.get("complete")), is_complete(spec.sink.uri)
    if same and complete and there and not overwrite:
        for sink in unlisted(plan).values():
            list_target(sink)
        return report
    require_surroundings(plan)
    taken = [] if overwrite else [target for target in spec.targets if is_taken(target)]
    for target in spec.targets if overwrite else ():
        require_no_labels(target)
    own = own_targets(workdir.journal, plan) if taken and same and not complete else set()
    for target in taken:
        if target not in own:
            raise RefusedError(
                f"The target {target} exists already. Choose another, or allow it to be replaced with --overwrite."
            )
    if begun is not None and not same and not overwrite and workdir.has_tiles():
        raise RefusedError(
            f"{shown(workdir.uri)} holds an unfinished run of something else: {_difference(begun, spec, source)}. "
            "Finish that one, choose another target, or start anew with --overwrite."
        )
    if not same or complete:
        workdir.begin(spec, plan, settled.record())
    return None


def _difference(begun: dict[str, Any], spec: Spec, source: ImageInfo) -> str:
    """Return which part of a run changed."""
    if begun["identity"] != source.identity:
        return "the source has changed since"
    before, now = begun["spec"], spec.model_dump(mode="json")
    parts = [part for part in ("source", "steps", "image", "sink") if before.get(part) != now.get(part)]
    return f"its {' and '.join(parts)} differ" if parts else "it was made by another version of this program"
