"""Whatever happens to a run, it ends with the right bits or with a sentence, and touches nothing of others.

Every test has a seed in its name, so that one that fails can be repeated. The usual ones are a small selection; all of
them, with the figures at the end: `pytest -m "slow or not slow" tests/pipelines/run/test_chaos.py`.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.store.places import place_of
from tests.faulty_proxy import Fault
from tests.pipelines.chaos import (
    CONTRASTS,
    FIGURES,
    Cluster,
    Job,
    Running,
    count_kill,
    flip,
    kill_at_random,
    kill_one,
    once_more,
    save_image,
    save_objects,
    workers_of,
)
from tests.pipelines.dask_processes import dask_processes
from tests.pipelines.runs import contents_of
from tests.pipelines.small_disks import small_disk

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals"),
    pytest.mark.usefixtures("figures"),
]


def seeds(count: int, usual: int = 0) -> pytest.MarkDecorator:
    """Return seeds of which the first ones are among the usual tests."""
    slow = pytest.mark.slow
    return pytest.mark.parametrize(
        "seed", [pytest.param(n, marks=() if n < usual else slow) for n in range(count)]
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Give a scheduler and two workers under nannies."""
    with dask_processes(tmp_path_factory.mktemp("cluster")) as processes:
        yield Cluster(processes)


# ---- kills


def kill_drivers(job: Job, chance: random.Random, kills: int, what: str = "drivers") -> None:
    """Kill so many commands at random moments."""
    while kills:
        running = job.start()
        running.until_moment(chance)
        kills -= running.kill(what)
        if running.end() == 0:
            once_more(job)
    job.finish()
    job.verify()


@pytest.mark.thorough
@seeds(6, usual=1)
def test_killed_drivers_with_threads(tmp_path: Path, seed: int) -> None:
    kill_drivers(
        Job(tmp_path, ["out.zarr", "out.ome.zarr", "out.tif"][seed % 3]),
        random.Random(seed),
        1 if seed == 0 else 12,
    )


@seeds(2)
def test_killed_drivers_with_local_processes(tmp_path: Path, seed: int) -> None:
    kill_drivers(Job(tmp_path, cluster="local"), random.Random(seed), 8)


@seeds(2)
def test_killed_drivers_of_a_cluster(tmp_path: Path, cluster: Cluster, seed: int) -> None:
    kill_drivers(Job(tmp_path, cluster=cluster.processes.address), random.Random(seed), 10)


EIKONAL = {"name": "times", "operator": "eikonal", "markers": "./points.csv"}

OTHER_KINDS = {
    "front": [EIKONAL],
    "front of second order": [{**EIKONAL, "order": 2}],
    "geodesic labels": [{"operator": "geodesic-labels", "markers": "./points.csv"}],
    "components": [{"operator": "components"}],
    "shortest path": [EIKONAL, {"operator": "shortest-path", "input": "times", "markers": "./points.csv"}],
    "random walker": [{"operator": "random-walker", "markers": "./points.csv"}],
}
"""Steps whose work is no evolution: worklists, merged tallies, one long task, levels of a pyramid."""


@pytest.mark.parametrize("kind", OTHER_KINDS)
@seeds(2)
def test_killed_workers_of_other_kinds_of_work(tmp_path: Path, kind: str, seed: int) -> None:
    kill_workers(Job(tmp_path, cluster="local", steps=OTHER_KINDS[kind]), random.Random(f"{kind}-{seed}"), 4)


@seeds(2)
def test_killed_workers_of_local_processes(tmp_path: Path, seed: int) -> None:
    kill_workers(Job(tmp_path, cluster="local"), random.Random(seed), 12)


def kill_workers(job: Job, chance: random.Random, most: int) -> None:
    """Kill so many workers at random moments."""
    kills = 0
    while kills < most:
        running = job.start()
        while running.until_tiles(chance.randint(1, 60)):
            if kill_one(workers_of(running.process), chance):
                count_kill("workers")
                kills += 1
        if running.end() == 0:
            once_more(job)
    job.finish()
    job.verify()


@pytest.mark.parametrize(
    "kills",
    [
        {"worker": 12},
        {"nanny": 8},
        {"scheduler": 6},
        {"worker": 3, "nanny": 2, "scheduler": 2, "driver": 3},
    ],
    ids=["worker", "nanny", "scheduler", "anything"],
)
@seeds(2)
def test_killed_processes_of_a_cluster(
    tmp_path: Path, cluster: Cluster, kills: dict[str, int], seed: int
) -> None:
    job, chance = Job(tmp_path, cluster=cluster.processes.address), random.Random(f"{kills}-{seed}")
    kill_at_random(job, chance, kills, cluster.ways(), "a cluster")


def s3_job(folder: Path, objects, name: str, **how) -> Job:
    bucket = f"{objects.bucket}/{folder.name}"
    return Job(folder, name, bucket=bucket, environment=objects.environment, **how)


@seeds(6)
def test_killed_uploads(tmp_path: Path, objects, seed: int) -> None:
    chance = random.Random(seed)
    job, kills = s3_job(tmp_path, objects, ["out.zarr", "out.ome.zarr", "out.tif"][seed % 3]), 12
    while kills:
        objects.proxy.clear()
        objects.proxy.add(Fault.slow, method="PUT", rate=0.05, seed=seed)
        puts = chance.randint(1, 55) if "zarr" in job.target else 1
        running = job.start()
        running.until(lambda n=puts: sum(m == "PUT" for m, _ in list(objects.proxy.requests)) >= n)
        time.sleep(chance.random() * 0.05)
        kills -= running.kill("uploads")
        if running.end() == 0:
            objects.proxy.clear()
            once_more(job)
    objects.proxy.clear()
    job.finish()
    job.verify()


# ---- faults of stores


FAULTS = [fault for fault in Fault if fault is not Fault.unsupported]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
@seeds(1)
def test_a_store_with_faults(tmp_path: Path, objects, fault: Fault, seed: int) -> None:
    job = s3_job(tmp_path, objects, "out.zarr", source=save_objects(f"{objects.bucket}/{tmp_path.name}"))
    job.require_strangers()
    rules = [
        objects.proxy.add(fault, times=4, method="GET|HEAD", path="in.zarr", rate=0.2, seed=seed),
        objects.proxy.add(fault, times=4, path="results|out.zarr", rate=0.2, seed=seed + 100),
    ]
    job.finish()
    FIGURES[f"storage faults: {fault.name}"] += sum(rule.used for rule in rules)
    assert sum(rule.used for rule in rules) >= 5
    objects.proxy.clear()
    job.verify()


# ---- faults of disks


@pytest.mark.parametrize("what", ["disk full", "inodes full"])
@seeds(2)
def test_a_full_disk(tmp_path: Path, what: str, seed: int) -> None:
    chance, (low, high) = random.Random(seed), (60, 900) if what == "disk full" else (40, 140)
    unit = "size={}k,nr_inodes=9999" if what == "disk full" else "size=64m,nr_inodes={}"
    with small_disk(tmp_path / "disk", unit.format(low)) as change:
        job = Job(tmp_path, place=tmp_path / "disk")
        for _ in range(6):
            running = job.start()
            if running.end() == 0:
                once_more(job)
            else:
                FIGURES[f"storage faults: {what}"] += 1
                said = running.output() + running.errors()
                assert "disk is full" in said or "No space is left" in said or "space left" in said, said[
                    -3000:
                ]
            low = min(high, low + chance.randint(1, (high - low) // 4))
            change(unit.format(low))
        change("size=64m,nr_inodes=9999")
        job.finish()
        job.verify()


@seeds(2)
def test_permission_lost_and_given_back(tmp_path: Path, seed: int) -> None:
    from tests.pipelines.cli.test_unprivileged import USER, as_user

    chance, job = random.Random(seed), Job(tmp_path)
    job.words = as_user()
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, USER, USER)
    for _ in range(5):
        running = job.start()
        if running.until_tiles(chance.randint(1, 150)):
            folder = Path(job.workdir)
            places = [*folder.glob("run-*/*"), *folder.glob("run-*"), folder, Path(job.target).parent]
            place = chance.choice([p for p in places if p.is_dir()])
            with contextlib.suppress(FileNotFoundError):
                place.chmod(0o500)
                FIGURES["storage faults: permission lost"] += 1
            code = running.end()
            with contextlib.suppress(FileNotFoundError):
                place.chmod(0o700)
        else:
            code = running.end()
        if code == 0:
            once_more(job)
    job.finish()
    job.verify()


DAMAGE = {
    "state": "run-*/state*/**/*",
    "result": "run-*/result*/**/*",
    "anything": "run-*/**/*",
    "journal": "journal.jsonl",
    "run.json": "run.json",
}


@pytest.mark.parametrize("how", ["flipped", "missing"])
@pytest.mark.parametrize("what", DAMAGE)
@seeds(3)
def test_damage_between_two_commands(tmp_path: Path, what: str, how: str, seed: int) -> None:
    chance, job, done = random.Random(f"{what}-{how}-{seed}"), Job(tmp_path), 0
    while done < 2:
        running = job.start()
        running.until_tiles(chance.randint(20, 250))
        running.kill("drivers")
        if running.end() == 0:
            once_more(job)
            continue
        files = job.files(DAMAGE[what])
        if not files:
            continue
        for path in chance.sample(files, min(len(files), 3)):
            flip(path, chance) if how == "flipped" else path.unlink()
        FIGURES[f"storage faults: {how} {what}"] += 1
        done += 1
        go_on(job)
    job.verify()


def go_on(job: Job) -> None:
    """Give the same command, and with --overwrite where it says that this is needed."""
    for _ in range(3):
        running = job.start()
        if (code := running.end()) == 0:
            once_more(job)
            return
        said = running.errors() + running.output()
        assert "--overwrite" in said or code == 3, said[-2000:]
        if "--overwrite" in said:
            job.options = ["--overwrite"]
    job.finish()
    once_more(job)


@pytest.mark.parametrize("how", ["flipped", "missing", "other"])
@seeds(3)
def test_damage_to_an_upload_that_was_killed(tmp_path: Path, objects, how: str, seed: int) -> None:
    chance, job, done = random.Random(seed), s3_job(tmp_path, objects, "out.zarr"), 0
    while done < 2:
        objects.proxy.clear()
        running = job.start()
        puts = chance.randint(3, 50)
        running.until(lambda n=puts: sum(m == "PUT" for m, _ in list(objects.proxy.requests)) >= n)
        running.kill("uploads")
        if running.end() == 0:
            once_more(job)
            continue
        there = sorted(contents_of(job.target))
        if not there:
            continue
        place, path = place_of(f"{job.target}/{chance.choice(there)}")
        if how == "missing":
            place.delete([path])
        else:
            data = bytearray(place.read(path))
            data[chance.randrange(len(data))] ^= 4
            place.write(path, bytes(data) if how == "flipped" else b"of somebody else")
        FIGURES[f"storage faults: {how} object of a target in the making"] += 1
        done += 1
        go_on(job)
    job.verify()


@seeds(5)
def test_a_source_that_changes(tmp_path: Path, seed: int) -> None:
    chance, job = random.Random(seed), Job(tmp_path)
    running = job.start()
    running.until_tiles(chance.randint(1, 200))
    save_image(tmp_path / "source.npy", 1)
    FIGURES["storage faults: changed source"] += running.runs
    if chance.random() < 0.5:
        running.kill("drivers")
    code = running.end()
    if code == 0:  # it had been read
        job.require_result()
    job.seed = 1
    again = job.start()
    assert again.end() == 2, again.errors()
    job.options = ["--overwrite"]
    job.finish()
    job.verify()


# ---- several drivers


def start_both(first: Job, second: Job, chance: random.Random) -> list[Running]:
    running = [first.start()]
    time.sleep(chance.random() * 2)
    return [*running, second.start()]


@pytest.mark.parametrize("where", ["disk", "store"])
@pytest.mark.parametrize("apart", [False, True], ids=["same folder", "two folders"])
@pytest.mark.parametrize("other", [False, True], ids=["same", "other parameters"])
@seeds(2)
def test_two_drivers_for_one_target(
    tmp_path: Path, objects, where: str, apart: bool, other: bool, seed: int
) -> None:
    chance = random.Random(seed)
    jobs = []
    for number in range(2):
        name = "two" if not apart else f"two-{number}"
        how = {"bucket": f"{objects.bucket}/{tmp_path.name}", "environment": objects.environment}
        job = Job(tmp_path, name=name, **(how if where == "store" else {}))
        job.contrast = CONTRASTS[number * other]
        jobs.append(job)
    if seed % 2:
        jobs[1].options = ["--overwrite"]
    running = start_both(*jobs, chance) if not other or apart else [jobs[0].start(), jobs[1].start()]
    codes = [one.end() for one in running]
    FIGURES["two drivers at once"] += 1
    ready = [job for job, code in zip(jobs, codes, strict=True) if code == 0]
    if ready and (where == "disk" or len({job.contrast for job in ready}) == 1):
        (ready[0] if len(ready) == 1 else ready[-1]).require_result()
    jobs[1].options = ["--overwrite"]
    jobs[1].finish()
    jobs[1].verify()


@seeds(5)
def test_tasks_of_a_killed_driver(tmp_path: Path, cluster: Cluster, seed: int) -> None:
    chance, job = random.Random(seed), Job(tmp_path, cluster=cluster.processes.address)
    running = job.start()
    running.until_tiles(chance.randint(1, 150))
    stopped = chance.sample(cluster.workers(), 1) if seed % 2 else []
    for worker in stopped:
        worker.suspend()
        FIGURES["stopped processes"] += 1
    running.kill("drivers")
    FIGURES["zombies"] += 1
    job.contrast, job.options = CONTRASTS[1], ["--overwrite"]
    again = job.start()
    tiles = chance.randint(1, 100)
    # The tasks that the scheduler has given to a stopped worker wait for it, and the run says so.
    again.until(lambda: again.tiles() >= tiles or '"event": "waiting"' in again.output())
    for worker in stopped:
        worker.resume()
    if again.end():
        job.finish()
    job.require_result()
    job.verify()


@seeds(3)
def test_two_runs_of_the_same_steps_on_one_cluster(tmp_path: Path, cluster: Cluster, seed: int) -> None:
    address = cluster.processes.address
    jobs = [Job(tmp_path, f"out-{n}.zarr", name=f"job-{n}", cluster=address) for n in range(2)]
    running = start_both(*jobs, random.Random(seed))
    assert [one.end() for one in running] == [0, 0]
    FIGURES["two runs on one cluster"] += 1
    for job in jobs:
        job.require_result()
        job.verify()


@pytest.mark.parametrize("where", ["disk", "store"])
@seeds(3)
def test_a_stopped_driver_that_comes_back(tmp_path: Path, objects, where: str, seed: int) -> None:
    chance = random.Random(seed)
    how = {"bucket": f"{objects.bucket}/{tmp_path.name}", "environment": objects.environment}
    jobs = [Job(tmp_path, name=f"job-{n}", **(how if where == "store" else {})) for n in range(2)]
    jobs[1].contrast, jobs[1].options = CONTRASTS[1], ["--overwrite"]
    first = jobs[0].start()
    if where == "store" and seed:
        puts = chance.randint(1, 50)
        first.until(lambda: sum(m == "PUT" for m, _ in list(objects.proxy.requests)) >= puts)
    else:
        first.until_tiles(chance.randint(1, 150))
    if first.runs:
        first.process.send_signal(signal.SIGSTOP)
        FIGURES["stopped processes"] += 1
    second = jobs[1].start()
    code = second.end()
    first.process.send_signal(signal.SIGCONT)
    if where == "disk":
        assert (code, first.end()) == (2, 0), second.errors()
        jobs[0].require_result()
    else:
        # The lease of a stopped driver lasts for two minutes.
        assert (first.end(), code) in ((0, 2), (3, 0), (2, 0), (0, 3), (3, 3)), second.errors()
        if code == 0:
            jobs[1].require_result()
    jobs[1].finish()
    jobs[1].verify()


@seeds(1)
def test_workers_with_other_code(tmp_path: Path, edited: Path, seed: int) -> None:
    with dask_processes(tmp_path / "cluster") as processes:
        processes.worker(path=[edited])
        right = processes.worker()
        job, chance = Job(tmp_path, cluster=processes.address), random.Random(seed)
        for _ in range(3):
            running = job.start()
            running.until_tiles(chance.randint(1, 100))
            right.kill()
            count_kill("workers")
            right = processes.worker()
            processes.worker(path=[edited])
            FIGURES["workers with other code"] += 2
            assert running.end() == 0, running.errors()
            once_more(job)
        job.verify()
