"""Show how a run goes: a live picture on a terminal, plain lines elsewhere, or one JSON object per event."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipelines.cli.json_lines import JsonProgress
from pipelines.cli.wording import bytes_text, count_text, plural, speed_text, time_text
from pipelines.events import (
    Choosing,
    Compiling,
    Connected,
    Event,
    Exporting,
    Listener,
    RunFinished,
    RunStarted,
    SourceEnded,
    SourcesFound,
    SourceStarted,
    StageDone,
    StageStarted,
    TileDone,
    TileFailed,
    TileLost,
    Waiting,
    WorkerLeftOut,
)

SLOW = 2.0
"""Seconds after which something is said of what has no tiles."""

RECENT = 64
"""Tiles that the present speed is measured over."""


class Meter:
    """Where a run stands, in numbers: fed with events, read by whatever shows them.

    Parameters
    ----------
    clock : callable
        Returns the time in seconds.

    Attributes
    ----------
    tiles, done, retries, failed : int
        Tiles of all stages, finished ones (of an earlier run too), tasks tried again, tiles given up.
    stage : str
        What is being done.
    chosen : float or None
        Part of a choice that is done while nothing runs yet.
    memory_bytes : int
        Largest resident memory that a worker's process was measured at.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = clock()
        self._weights: list[float] = []
        self._left = 0.0
        self._recent: deque[tuple[float, float, TileDone]] = deque(maxlen=RECENT)
        self._begin_span()
        self.plan: dict[str, Any] = {}
        self.chosen: float | None = None
        self.tiles = self.done = self.retries = self.failed = self.memory_bytes = 0
        self.target = self.stage = self.dashboard = ""

    def __call__(self, event: Event) -> None:
        """Take one event."""
        match event:
            case Choosing() | Compiling():
                self._choose(event)
            case RunStarted():
                self._start(event)
            case Connected():
                self.dashboard = event.dashboard
            case StageStarted():
                self._begin_stage(event)
            case TileDone():
                self._count(event)
            case TileFailed():
                self.retries += event.left > 0
                self.failed += event.left <= 0
            case Exporting():
                self.stage = f"write {event.target}"

    def _choose(self, event: Choosing | Compiling) -> None:
        if not event.part:
            self._started = self._clock()
        self.stage, self.chosen = event.title, event.part

    def _start(self, event: RunStarted) -> None:
        self._started, self.chosen = self._clock(), None
        self.target, self.plan = event.target, event.plan
        self.tiles, self.done = event.tiles, event.done
        stages = event.plan.get("stages", [])
        # A tile of one stage may cost a hundred of another: what the plan expects of each says what is left.
        self._weights = [s["expected_seconds"] / max(1, s["tiles"]) for s in stages]
        counts = _without_first([s["tiles"] for s in stages], event.done)
        self._left = sum(w * n for w, n in zip(self._weights, counts, strict=True))
        self._recent.clear()
        self._begin_span()

    def _begin_span(self) -> None:
        # The first entry only says when the span of the latest tiles begins.
        self._recent.append((self._clock(), 0.0, TileDone(0, 0, 0, 0, 0.0, 0, 0)))

    def _begin_stage(self, event: StageStarted) -> None:
        self.stage = event.title
        if not self.target:
            # A check has stages without a run, so nothing has said how many tiles there are in all.
            self.tiles += event.tiles

    def _count(self, event: TileDone) -> None:
        self.done += 1
        weight = self._weights[event.stage] if event.stage < len(self._weights) else 1.0
        # Tiles may have to be done again, which nobody knew before.
        more = 0 if event.left is None else max(0, event.left - (self.tiles - self.done))
        self.tiles += more
        self._left = max(0.0, self._left + (more - 1) * weight)
        self._recent.append((self._clock(), weight, event))
        self.memory_bytes = max(self.memory_bytes, event.memory_bytes)

    @property
    def elapsed(self) -> float:
        """Seconds since this process began with the run."""
        return self._clock() - self._started

    @property
    def seconds_left(self) -> float | None:
        """Expected time to the end, from the plan at the speed of the latest tiles; None before the first."""
        if self.chosen is not None:
            return self.elapsed * (1 / self.chosen - 1) if self.chosen else None
        speed = self._per_second(lambda weight, tile: weight)
        if not self._weights:
            speed = self._per_second(lambda weight, tile: 1.0)
            return (self.tiles - self.done) / speed if speed else None
        return self._left / speed if speed else self.plan.get("expected_seconds")

    @property
    def cell_steps_per_second(self) -> float:
        """Pixels times steps per second, lately."""
        return self._per_second(lambda weight, tile: tile.cell_steps)

    @property
    def read_per_second(self) -> float:
        """Bytes read per second, lately."""
        return self._per_second(lambda weight, tile: tile.read_bytes)

    @property
    def written_per_second(self) -> float:
        """Bytes written per second, lately."""
        return self._per_second(lambda weight, tile: tile.written_bytes)

    def _per_second(self, amount: Callable[[float, TileDone], float]) -> float:
        if len(self._recent) < 2:
            return 0.0
        spanned = list(self._recent)[1:]
        seconds = self._recent[-1][0] - self._recent[0][0]
        return sum(amount(weight, tile) for _, weight, tile in spanned) / seconds if seconds > 0 else 0.0

    @property
    def memory_text(self) -> str:
        """Memory measured and what was predicted and allowed."""
        predicted, limit = self.plan.get("memory_total"), self.plan.get("memory_limit")
        each = " per process" if self.plan.get("processes", 0) > 1 else ""
        parts = [f"{bytes_text(self.memory_bytes)}{each}"] if self.memory_bytes else []
        parts += [f"predicted {bytes_text(predicted)}"] if predicted else []
        parts += [f"limit {bytes_text(limit)}"] if limit else []
        return f"memory {', '.join(parts)}" if parts else ""

    @property
    def trouble_text(self) -> str:
        """Retries and failures, "" without any."""
        words = [f"{self.retries} tried again"] if self.retries else []
        words += [f"{self.failed} failed"] if self.failed else []
        return ", ".join(words)


def _without_first(counts: list[int], taken: int) -> list[int]:
    """Return counts less `taken` in all, the first ones first: stages are finished about in order."""
    left = []
    for count in counts:
        gone = min(count, taken)
        taken -= gone
        left.append(count - gone)
    return left


class LiveProgress:
    """A bar over all tiles with stage, time left, throughput and memory, redrawn in place."""

    def __init__(self, console: Console, meter: Meter | None = None) -> None:
        self.meter = meter or Meter()
        self._live = Live(console=console, get_renderable=self.render, refresh_per_second=4, transient=True)

    def __enter__(self) -> LiveProgress:
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Take one event."""
        self.meter(event)
        match event:
            case Choosing() | Compiling() | RunStarted() | StageStarted():
                self._live.start()
            case RunFinished():
                self._live.stop()
            case TileFailed() | TileLost() | Waiting() | WorkerLeftOut():
                self._live.console.print(Text(_trouble_text(event), style="yellow"), highlight=False)
            case SourceStarted() | SourceEnded() | SourcesFound():
                self._live.console.print(Text(_source_text(event)), highlight=False)

    def render(self) -> RenderableType:
        """Return the picture of this moment."""
        m = self.meter
        if m.chosen is not None:
            return Group(Text(m.stage, style="bold"), _bar(m, m.chosen))
        share = m.done / m.tiles if m.tiles else 0.0
        line = _bar(m, share, f"{count_text(m.done)} of {count_text(m.tiles)} tiles")
        speed = "  ".join(
            [
                speed_text(m.cell_steps_per_second),
                f"read {bytes_text(m.read_per_second)}/s",
                f"write {bytes_text(m.written_per_second)}/s",
            ]
        )
        lines: list[RenderableType] = [
            Text(m.stage or "starting", style="bold"),
            line,
            Text(speed, style="dim"),
            Text(m.memory_text, style="dim"),
        ]
        lines += [Text(m.trouble_text, style="yellow")] if m.trouble_text else []
        lines += [Text(f"dashboard {m.dashboard}", style="dim")] if m.dashboard else []
        return Group(*lines)


def _bar(meter: Meter, share: float, *words: str) -> Table:
    """Return a line with a bar, words, and the time gone and left."""
    line = Table.grid(padding=(0, 2))
    line.add_row(
        ProgressBar(total=1.0, completed=share, width=32),
        *words,
        f"{share:.0%}",
        f"{time_text(meter.elapsed)} gone",
        f"{time_text(meter.seconds_left)} left",
    )
    return line


class LineProgress:
    """A line at every new stage, every failure, and every few seconds; for logs and pipes.

    Parameters
    ----------
    stream : text stream
    every : float
        Seconds between lines of an undisturbed run.
    """

    def __init__(
        self, stream: IO[str], every: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.meter = Meter(clock)
        self._stream, self._every, self._clock = stream, every, clock
        self._last = clock()
        self._title = ""

    def __enter__(self) -> LineProgress:
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.flush()

    def __call__(self, event: Event) -> None:
        """Take one event."""
        self.meter(event)
        text = self._text(event)
        if text:
            self._last = self._clock()
            print(text, file=self._stream, flush=True)

    @property
    def _is_time(self) -> bool:
        return self._clock() - self._last >= self._every

    def _is_slow(self, event: Choosing) -> bool:
        """Return whether a choice, of which nothing was said, takes long enough to say it."""
        return event.title != self._title and self.meter.elapsed >= SLOW

    def _text(self, event: Event) -> str:
        m = self.meter
        match event:
            case Choosing() if 0 < event.part < 1 and (self._is_time or self._is_slow(event)):
                self._title = event.title
                return f"{event.title}: {event.part:.0%}, {time_text(m.seconds_left)} left"
            case Compiling():
                return f"compile: {event.title}"
            case RunStarted():
                earlier = f", {count_text(m.done)} of them done before" if m.done else ""
                memory = f"; {m.memory_text}" if m.memory_text else ""
                return f"{m.target}: {plural(m.tiles, 'tile')}{earlier}{memory}"
            case Connected() if event.dashboard:
                return f"dashboard {event.dashboard}"
            case StageStarted() if event.title != self._title or self._is_time:
                self._title = event.title
                return f"stage {event.stage}, {event.title}: {plural(event.tiles, 'tile')}"
            case StageDone() if event.values:
                values = ", ".join(f"{name} = {value:.6g}" for name, value in event.values.items())
                return f"{event.title}: {values}"
            case TileFailed() | TileLost() | Waiting() | WorkerLeftOut():
                return _trouble_text(event)
            case SourceStarted() | SourceEnded() | SourcesFound():
                return _source_text(event)
            case Exporting():
                return f"writing {event.target}"
            case TileDone() if self._is_time:
                return self._standing()
        return ""

    def _standing(self) -> str:
        m = self.meter
        parts = [
            f"{count_text(m.done)} of {count_text(m.tiles)} tiles ({m.done / max(1, m.tiles):.0%})",
            f"{time_text(m.seconds_left)} left",
            speed_text(m.cell_steps_per_second),
            m.memory_text,
            m.trouble_text,
        ]
        return ", ".join(part for part in parts if part)


def _trouble_text(event: TileFailed | TileLost | Waiting | WorkerLeftOut) -> str:
    match event:
        case Waiting():
            return f"waiting for {time_text(event.seconds)}: {event.reason}"
        case WorkerLeftOut():
            return f"the worker {event.worker} gets no task: {event.reason}"
        case TileLost():
            return f"tile {event.tile} of {event.title} ({event.window}) is damaged or gone and is done again"
    after = f"{event.left} more tries" if event.left else "given up"
    return f"tile {event.tile} of stage {event.stage} ({event.window}) failed, {after}: {event.error}"


def _source_text(event: SourceStarted | SourceEnded | SourcesFound) -> str:
    match event:
        case SourcesFound():
            changing = f", {event.changing} of them may still be being written" if event.changing else ""
            return f"{event.pattern}: {plural(event.count, 'source')}{changing}"
        case SourceStarted():
            again = f", try {event.tries}" if event.tries > 1 else ""
            return f"{event.address} to {event.target}{again}"
    why = f": {event.message}" if event.message else ""
    return f"{event.address}: {event.state} after {time_text(event.seconds)}{why}"


@contextmanager
def progress(json_events: bool, out: IO[str], console: Console) -> Iterator[Listener]:
    """Give the listener that suits where the output goes, for the time of a run.

    Parameters
    ----------
    json_events : bool
        Whether each event is a line of JSON on `out`.
    out : text stream
    console : rich Console
        Where people look (standard error, so that results can be piped).
    """
    shown: JsonProgress | LiveProgress | LineProgress
    if json_events:
        shown = JsonProgress(out)
    elif console.is_terminal:
        shown = LiveProgress(console)
    else:
        shown = LineProgress(console.file)
    with shown:
        yield shown
