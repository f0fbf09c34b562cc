"""A run as a process, what may be done to it, and a look at all that it must have made and must not have touched."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import psutil
import zarr

from pipelines.run.verify import verify
from pipelines.store.places import place_of
from tests.pipelines.dask_processes import DaskProcesses
from tests.pipelines.runs import contents_of, ragged_image
from tests.plugin_examples import ROOT

FIGURES: collections.Counter[str] = collections.Counter()
"""How often each thing was done, over all tests of the process."""

PATIENCE = 240.0
"""Seconds after which a process that says nothing hangs."""

TRIES = 12
"""Number of times that a command is repeated, at most, until it ends with 0."""

MOST = 80
"""Most commands of one test."""

ENDS = (0, 2, 3, 130)
"""Exit codes that a run may have."""

CONTRASTS = (5000, 40)
"""Contrasts of two specs whose results differ."""

POINTS = "row,column,label\n3,4,1\n200,300,2\n320,20,3\n"
"""Markers, in a file beside each spec."""


def save_image(path: Path, seed: int = 0) -> None:
    """Write the image of a seed whole or not at all, as a careful user does."""
    part = path.with_name(f"{path.name}.part.npy")
    np.save(part, ragged_image((331, 457), seed))
    part.replace(path)


def save_objects(folder: str) -> str:
    """Write the first of these images into a folder of a store, and return its address."""
    image = ragged_image((331, 457))
    uri = f"{folder}/source/in.zarr"
    array = zarr.create_array(uri, shape=image.shape, dtype="f4", chunks=(64, 64), fill_value=0)
    array[...] = image
    return uri


class Job:
    """One spec and its target among things of others.

    Parameters
    ----------
    folder : Path
        Holds source, spec, the run's folder and, where it is local, the target.
    target : str
        Name of the target.
    bucket : str
        Address of the folder of the target where that is in a store, else "".
    stored : bool
        True where the run's folder is in the store, too.
    cluster : str or mapping
    environment : dict
        Variables that the command gets besides.
    steps : list of dict, optional
        Steps of the spec; by default diffusion in several passes.
    """

    def __init__(
        self,
        folder: Path,
        target: str = "out.zarr",
        *,
        bucket: str = "",
        stored: bool = False,
        cluster: str | Mapping[str, object] = "threads",
        environment: Mapping[str, str] | None = None,
        source: str = "",
        name: str = "job",
        place: Path | None = None,
        steps: Sequence[Mapping[str, object]] = (),
    ) -> None:
        self.folder, self.name = folder, name
        self.place = place or folder
        # Workers that are started elsewhere import the packages from there.
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
        self.where = bucket or str(self.place / "results")
        self.target = f"{self.where}/{target}"
        self.runs = f"{bucket}/runs" if stored else str(self.place / "runs")
        self.workdir = f"{self.runs}/{name}"
        self.commands = 0
        self.options: list[str] = []
        self.words: list[str] = []
        for part in ("results", "runs"):
            (self.place / part).mkdir(exist_ok=True)
        if not source and not (folder / "source.npy").exists():
            save_image(folder / "source.npy")
        self.source = source or str(folder / "source.npy")
        self.cluster, self.contrast, self.seed, self.steps = cluster, CONTRASTS[0], 0, steps
        (folder / "points.csv").write_text(POINTS)
        self._write_strangers(target)
        self._started = list[subprocess.Popen[bytes]]()

    # ---- things of others

    def _write_strangers(self, target: str) -> None:
        beside = [f"{target}.bak", f"{target}-2/zarr.json", f".{target}.part.mine", "run-0123456789ab/c/0/0"]
        among_runs = ["run-0123456789ab/c/0/0", "journal.jsonl", "run.json"]
        places = [f"{self.where}/{name}" for name in beside] + [f"{self.runs}/{name}" for name in among_runs]
        self.strangers = dict.fromkeys(places, b"mine")
        for uri, content in self.strangers.items():
            place, path = place_of(uri)
            place.write(path, content)

    def require_strangers(self) -> None:
        """Fail where a thing of others is gone or changed."""
        for uri, content in self.strangers.items():
            place, path = place_of(uri)
            assert place.read(path) == content, f"{uri} was touched"

    # ---- processes

    def spec(self) -> Path:
        """Write the spec as it is now, and return its path."""
        # Two jobs of one name may start at once, with other parameters.
        path = self.folder / f"{self.name}-{self.contrast}.yaml"
        data = {
            "source": {"uri": self.source},
            "steps": self.steps
            or [
                {
                    "operator": "perona-malik",
                    "contrast": self.contrast,
                    "conductance": "rational",
                    "steps": 24,
                }
            ],
            "sink": {"uri": self.target, "chunk": 64},
            "run": {
                "tile": 64,
                "batch": 4,
                "threads": 2,
                "cluster": self.cluster,
                "memory": "3GiB",
                "workdir": self.workdir,
            },
        }
        path.write_text(json.dumps(data))
        return path

    def start(self) -> Running:
        """Start the command."""
        FIGURES["commands"] += 1
        self.commands += 1
        assert self.commands <= MOST, f"{self.commands} commands, and no end"
        command = [
            *self.words,
            sys.executable,
            "-m",
            "pipelines.cli.command",
            "run",
            str(self.spec()),
            "--json",
        ]
        return Running(self, [*command, *self.options])

    def finish(self, *, after: Callable[[], object] = lambda: None) -> None:
        """Give the same command until it ends with 0, and require what must hold then."""
        said = []
        for _ in range(TRIES):
            running = self.start()
            code = running.end()
            if code == 0:
                break
            said.append((code, running.errors()))
            after()
        else:
            raise AssertionError(f"the command does not end with 0: {said}")
        self.require_result()

    def require_result(self) -> None:
        """Fail unless the result is complete, has the right bits, and nothing else was touched."""
        FIGURES["results compared"] += 1
        expected, found = (
            expected_objects(self.contrast, self.seed, Path(self.target).name, self.steps),
            contents_of(self.target),
        )
        assert expected.keys() - found.keys() == set(), "objects are missing"
        assert found.keys() - expected.keys() == set(), "there are objects too many"
        assert [name for name in expected if expected[name] != found[name]] == [], "bits differ"
        self.require_strangers()

    def verify(self) -> None:
        """Fail unless `diffuse verify` finds nothing wrong."""
        found = verify(self.target, samples=2, workdir=self.workdir)
        assert found["ok"], found

    # ---- what there is of the run

    def files(self, pattern: str) -> list[Path]:
        """Return files of the run's folder."""
        return sorted(path for path in Path(self.workdir).glob(pattern) if path.is_file())


class Running:
    """One process of the command, and what it says."""

    def __init__(self, job: Job, command: Sequence[str]) -> None:
        self.job, self.command = job, command
        self.number = FIGURES["commands"]
        self._out, self._err = (job.folder / f"said-{self.number}.{kind}" for kind in ("out", "err"))
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=err, env=job.environment, cwd=job.folder, start_new_session=True
            )
        self.struck = False

    @property
    def runs(self) -> bool:
        """True until it ends."""
        return self.process.poll() is None

    def output(self) -> str:
        """Return what it has printed."""
        return self._out.read_text(errors="replace")

    def errors(self) -> str:
        """Return what it has said to the standard error."""
        return self._err.read_text(errors="replace")

    def until(self, true: Callable[[], bool]) -> bool:
        """Wait until something is true, and return False where the process has ended before."""
        end = time.monotonic() + PATIENCE
        while self.runs:
            if true():
                return True
            assert time.monotonic() < end, f"hangs: {self.command}: {self.output()[-2000:]} {self.errors()}"
            time.sleep(0.005)
        return False

    def tiles(self) -> int:
        """Return the number of tiles that it has done."""
        return self.output().count("tile_done")

    def until_tiles(self, count: int) -> bool:
        """Wait for so many more tiles."""
        before = self.tiles()
        return self.until(lambda: self.tiles() >= before + count)

    def until_said(self, event: str) -> bool:
        """Wait until it tells of an event."""
        return self.until(lambda: f'"event": "{event}"' in self.output())

    def until_moment(self, chance: random.Random) -> bool:
        """Wait for a random moment: before, among or after the tiles."""
        kind = chance.random()
        if kind < 0.2:
            end = time.monotonic() + chance.uniform(0, 4)
            return self.until(lambda: time.monotonic() > end)
        if kind < 0.35:
            come = self.until_said("run_started")
        elif kind < 0.8:
            come = self.until_tiles(chance.randint(1, 120))
        else:
            come = self.until_said("exporting")
        time.sleep(chance.random() ** 2 * 0.1)
        return come and self.runs

    def family(self) -> list[psutil.Process]:
        """Return the processes that it has started."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def kill(self, what: str) -> bool:
        """Kill it, and return whether it was there to be killed."""
        if not self.runs:
            return False
        children = self.family()
        self.struck = True
        self.process.kill()
        self.process.wait()
        count_kill(what)
        # What it has started ends by itself, as it would after any death of a driver; a killed one is no zombie here.
        _, left = psutil.wait_procs(children, 30)
        for child in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        FIGURES["orphans that had to be ended"] += len(left)
        return True

    def end(self) -> int:
        """Return the exit code, which must be one that a run may have; nothing may look like a crash."""
        said, since = -1, time.monotonic()
        while (code := self.process.poll()) is None:
            if (says := self._out.stat().st_size + self._err.stat().st_size) != said:
                said, since = says, time.monotonic()
            if time.monotonic() > since + PATIENCE:
                self.process.kill()
                raise AssertionError(f"hangs: {self.output()[-2000:]} {self.errors()}")
            time.sleep(0.1)
        errors = self.errors()
        assert "Traceback" not in errors, errors
        allowed = (*ENDS, -signal.SIGKILL) if self.struck else ENDS
        assert code in allowed, (code, errors)
        assert code in (0, -signal.SIGKILL) or "problem" in self.output() or errors.strip(), (
            f"{code} without a word"
        )
        return code


def workers_of(process: psutil.Process | subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return the processes below one that do tasks."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            # One that has just died has no command line any more.
            with contextlib.suppress(psutil.NoSuchProcess):
                if "spawn_main" in " ".join(child.cmdline()):
                    found.append(child)
    return found


def processes_of(process: subprocess.Popen[bytes], module: str) -> list[psutil.Process]:
    """Return the processes below one that carry out a module."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            # A shell that starts it has this as a part of a word.
            if module in child.cmdline():
                found.append(child)
    return found


def count_kill(what: str) -> None:
    """Count a SIGKILL."""
    FIGURES["kills"] += 1
    FIGURES[f"kills of {what}"] += 1


def kill_one(processes: Sequence[psutil.Process], chance: random.Random) -> bool:
    """Kill one of some processes, and return whether there was one."""
    if not processes:
        return False
    try:
        chance.choice(processes).kill()
    except psutil.NoSuchProcess:
        return False
    return True


def once_more(job: Job) -> None:
    """Let the next commands begin anew where the job is done."""
    job.require_result()
    job.options = ["--overwrite"]


Way = Callable[[random.Random], bool]
"""Kills something, and returns whether it was there."""


def kill_at_random(
    job: Job,
    chance: random.Random,
    kills: Mapping[str, int],
    ways: Mapping[str, Way],
    where: str,
    tiles: int = 0,
) -> None:
    """Kill things at random moments, and give the same command until all is as it would be without.

    Parameters
    ----------
    job : Job
    chance : random.Random
    kills : mapping
        How often each thing is killed; "driver" is the command itself.
    ways : mapping
        How the others are killed.
    where : str
        Kind of cluster, for the figures.
    tiles : int
        Most tiles between two kills; 0 for moments before and after all tiles, too.
    """
    left = [what for what, count in kills.items() for _ in range(count)]
    chance.shuffle(left)
    vain = 0
    while left:
        running, before = job.start(), len(left)
        while left and (
            running.until_tiles(chance.randint(1, tiles)) if tiles else running.until_moment(chance)
        ):
            what = f"{left[-1]} on {where}"
            if left[-1] == "driver":
                if running.kill(what):
                    left.pop()
                break
            if ways[left[-1]](chance):
                count_kill(what)
                left.pop()
        if (code := running.end()) == 0:
            once_more(job)
        vain = vain + 1 if code and len(left) == before else 0
        assert vain < 3, f"nothing was killed, and the command does not end with 0: {running.errors()}"
    job.finish()
    job.verify()


class Cluster:
    """A scheduler and two workers under nannies, of which each may be killed and comes back."""

    def __init__(self, processes: DaskProcesses) -> None:
        self.processes = processes
        self.nannies = [processes.worker(nanny=True) for _ in range(2)]

    def workers(self) -> list[psutil.Process]:
        """Return the processes that do tasks."""
        return [worker for nanny in self.nannies for worker in workers_of(nanny)]

    def ways(self) -> dict[str, Way]:
        """Return how each thing is killed."""
        return {"worker": self.kill_worker, "nanny": self.kill_nanny, "scheduler": self.kill_scheduler}

    def kill_worker(self, chance: random.Random) -> bool:
        """Kill a worker, which its nanny starts again."""
        nanny = chance.choice(self.nannies)
        if not kill_one(workers_of(nanny), chance):
            return False
        # One whose first worker has not come yet ends with it, and nobody else would start another.
        with contextlib.suppress(subprocess.TimeoutExpired):
            nanny.wait(5)
            self.nannies[self.nannies.index(nanny)] = self.processes.worker(nanny=True)
        return True

    def kill_nanny(self, chance: random.Random) -> bool:
        """Kill a nanny, and start another one."""
        self.nannies.pop(chance.randrange(2)).kill()
        self.nannies.append(self.processes.worker(nanny=True))
        return True

    def kill_scheduler(self, chance: random.Random) -> bool:
        """Kill the scheduler with all that belongs to it, and start it at the same place."""
        self.processes.scheduler.kill()
        self.processes.start_scheduler()
        for nanny in self.nannies:
            nanny.kill()
        self.nannies = [self.processes.worker(nanny=True) for _ in range(2)]
        return True


# ---- the undisturbed results

_expected: dict[tuple[int, int, str, str], dict[str, bytes]] = {}
_undisturbed: list[Path] = []


@contextlib.contextmanager
def undisturbed(folder: Path) -> Iterator[None]:
    """Let undisturbed runs have a folder for the time of the context."""
    _undisturbed.append(folder)
    try:
        yield
    finally:
        _undisturbed.pop()


def expected_objects(
    contrast: int, seed: int, name: str, steps: Sequence[Mapping[str, object]] = ()
) -> dict[str, bytes]:
    """Return the files of the result of a run that nothing happens to."""
    key = (contrast, seed, name, json.dumps(steps))
    if key not in _expected:
        folder = _undisturbed[-1] / f"{len(_expected)}-{name}"
        folder.mkdir()
        save_image(folder / "source.npy", seed)
        job = Job(folder, name, steps=steps)
        job.contrast = contrast
        running = job.start()
        assert running.end() == 0, running.errors()
        _expected[key] = contents_of(job.target)
    return _expected[key]


# ---- faults


def flip(path: Path, chance: random.Random) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
