"""Publish results: each appears at its target complete or not at all, and takes the place of nothing else.

A result is first finished inside the run's folder. Then the driver looks at the target for the last time, notes in the
journal what it is about to move there, moves it, and notes that it is there. A run that was killed in between finds
out from these two lines where it stands.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipelines.events import Exporting, Listener, tell
from pipelines.image.sink import Sink, open_sink
from pipelines.plan.plan import Output, Plan
from pipelines.plan.prediction import kernels_bytes
from pipelines.record.holding import held
from pipelines.record.journal import Claimed, Event, Journal, Published
from pipelines.record.state import RunState
from pipelines.refusal import RefusedError, refusing
from pipelines.store.addresses import (
    is_remote,
    labelled_image,
    name_of,
    outside,
    require_local,
    shown,
    within,
)
from pipelines.store.publish import bring_beside, content_checksum, hand_over, remove_local, stamp, stamp_of
from pipelines.store.targets import is_complete, remove, require_no_labels
from pipelines.store.upload import TargetTakenError
from pipelines.tasks.memory import tasks_bytes

PATIENCE = 60
"""Seconds to wait for another run that lists its labels in the same image, which takes milliseconds."""


def require_surroundings(plan: Plan) -> None:
    """Refuse to begin where what is around a target cannot take its result.

    Raises
    ------
    RefusedError
    """
    with refusing():
        for output in plan.outputs:
            open_sink(output.spec, output.info).require_surroundings(output.info)


class Publication:
    """The way of the results of a run to their targets.

    Parameters
    ----------
    plan : Plan
    folder : str
        Path or address of the run's arrays.
    sinks : sequence of Sink
        Formats of the results.
    replaced : mapping
        Stamps of the targets that may be replaced, by their address.
    """

    def __init__(
        self, plan: Plan, folder: str, sinks: Sequence[Sink], replaced: Mapping[str, list[int] | None]
    ) -> None:
        self.plan, self.folder, self.sinks, self.replaced = plan, folder, sinks, replaced
        self._is_stored = is_remote(folder)
        # Formats write files on a disk.
        self._scratch = (
            Path(tempfile.gettempdir(), f"diffuse-{plan.folder}") if self._is_stored else Path(folder)
        )

    def _finished(self, number: int) -> str:
        """Return the place of a result that is ready to be moved: inside the run's folder if that is on a disk.

        In a store a hierarchy stays where it was filled, and a file lies on this machine until it is sent.
        """
        output = self.plan.outputs[number]
        if self._is_stored and output.is_zarr:
            return self._root(output)
        return str(self._scratch / f"finished-{number}" / name_of(output.spec.uri))

    def _root(self, output: Output) -> str:
        return within(self.folder, output.folder)

    def settle(self, state: RunState, note: Callable[[Event], object]) -> None:
        """Find out on resume what has reached its target, and take back what has not."""
        for number, output in enumerate(self.plan.outputs):
            if number in state.published:
                continue
            if not is_remote(output.spec.uri) and is_own(output.spec.uri, state.claims.get(number)):
                list_target(self.sinks[number])
                note(Published(number, content_checksum(output.spec.uri) or 0))
                continue
            finished = self._finished(number)
            if is_remote(finished) or not os.path.exists(finished):
                continue
            if output.is_zarr:
                # It is compared with the journal once more, like everything that is taken over.
                os.rename(finished, self._root(output))
            else:
                remove_local(Path(finished))

    def publish(
        self, state: RunState, note: Callable[[Event], object], listeners: Sequence[Listener]
    ) -> None:
        """Move all results to their targets, the main one last.

        Raises
        ------
        TargetTakenError
            Where something has appeared at a target; it is left alone, and the result is kept.
        """
        for number, output in reversed(list(enumerate(self.plan.outputs))):
            if number not in state.published:
                tell(listeners, Exporting(output.spec.uri))
                self._finish(number, output)
                crc = content_checksum(self._finished(number)) or 0
                self._hand_over(number, output, state, note)
                note(Published(number, crc))
        if self._is_stored:
            remove_local(self._scratch)

    def _finish(self, number: int, output: Output) -> None:
        finished = self._finished(number)
        if not is_remote(finished):
            self._scratch.mkdir(mode=0o700, exist_ok=True)
            Path(finished).parent.mkdir(exist_ok=True)
        # The tasks are done: what they took is free for the formats.
        plan = self.plan
        process = tasks_bytes(kernels_bytes(plan.stages, plan.loaded)) + plan.extra_bytes
        memory = max(32 << 20, plan.memory_total - process)
        self.sinks[number].finish(self._root(output), output.info, output.levels, finished, memory)

    def _hand_over(
        self, number: int, output: Output, state: RunState, note: Callable[[Event], object]
    ) -> None:
        uri, finished = output.spec.uri, self._finished(number)
        # What an upload that was cut short has sent is this run's own.
        begun = is_remote(uri) and number in state.claims
        if not begun:
            self._clear_target(number, uri)
        ready = bring_beside(finished, uri)
        note(Claimed(number, [] if is_remote(ready) else stamp(Path(ready)) or []))
        with self._held_list(number):
            try:
                hand_over(ready, uri)
            except TargetTakenError:
                if not (begun and uri in self.replaced):
                    raise TargetTakenError(self._refusal(uri, finished)) from None
                # It is damaged, or another's, and may be replaced.
                self._clear_target(number, uri)
                hand_over(ready, uri)
            if labelled_image(uri) is not None:
                self.sinks[number].list_target(True)

    @contextmanager
    def _held_list(self, number: int) -> Iterator[None]:
        """Hold the list that a result belongs to, around which all must still be as when the run began."""
        sink = self.sinks[number]
        with held_list(sink.spec.uri):
            try:
                sink.require_surroundings(self.plan.outputs[number].info)
            except ValueError as error:
                raise TargetTakenError(f"{error} The result is kept in {self._finished(number)}.") from None
            yield

    def _clear_target(self, number: int, uri: str) -> None:
        """Take the target that may be replaced out of the way; refuse any other."""
        found = stamp_of(uri)
        if found is None:
            return
        if found != self.replaced.get(uri):
            raise TargetTakenError(self._refusal(uri, self._finished(number)))
        try:
            require_no_labels(uri)
        except RefusedError as error:
            raise TargetTakenError(f"{error} The result is kept in {self._finished(number)}.") from None
        if labelled_image(uri) is not None:
            with self._held_list(number):
                self.sinks[number].list_target(False)
        if is_remote(uri):
            remove(uri)
            return
        target = require_local(uri)
        if self._is_stored:
            remove_local(target)
            return
        aside = self._scratch / f"replaced-{number}" / target.name
        remove_local(aside)
        aside.parent.mkdir(exist_ok=True)
        shutil.move(target, aside)

    @staticmethod
    def _refusal(target: str, finished: str) -> str:
        return (
            f"Something has appeared at {shown(target)} since the run began. It is left alone, and the result is kept "
            f"in {finished}. Move one of them away and run the same command again, or allow what is there to be "
            "replaced with --overwrite."
        )


def unlisted(plan: Plan) -> dict[str, Sink]:
    """Return the formats of results that are there, but not in the list that they belong to, by what is wrong."""
    sinks = [open_sink(output.spec, output.info) for output in plan.outputs]
    return {
        f"{shown(sink.spec.uri)} is not listed by its image, so that readers do not find it": sink
        for sink in sinks
        if is_complete(sink.spec.uri) and not sink.is_listed()
    }


def list_target(sink: Sink) -> None:
    """List a label image among those of its image."""
    if labelled_image(sink.spec.uri) is not None:
        with held_list(sink.spec.uri):
            sink.list_target(True)


@contextmanager
def held_list(uri: str) -> Iterator[None]:
    """Hold the list of labels of the image that a target belongs to, or nothing where there is no such image.

    The file of the lock stays, as a process that waits for one that was removed would not exclude others.
    """
    if labelled_image(uri) is None:
        yield
        return
    beside = Path(outside(str(require_local(uri)))).with_suffix("")
    lock = beside.with_name(f".{beside.name}.lock")
    late = f"Another run that lists its labels has held {lock} for {PATIENCE} seconds."
    with held(lock, lambda: TimeoutError(late), PATIENCE):
        yield


def is_own(uri: str, claim: list[int] | None) -> bool:
    """Return whether what is at a target, if anything, is the result that a run has claimed to put there."""
    return claim is not None and (is_remote(uri) or claim == stamp(require_local(uri)))


def own_targets(journal: Journal, plan: Plan) -> set[str]:
    """Return the targets at which a run has put its results already, or has begun to."""
    found = set()
    for event in journal.events(repair=False):
        uri = plan.outputs[event.output].spec.uri if isinstance(event, Claimed | Published) else ""
        if isinstance(event, Published) or (isinstance(event, Claimed) and is_own(uri, event.stamp)):
            found.add(uri)
    return found
