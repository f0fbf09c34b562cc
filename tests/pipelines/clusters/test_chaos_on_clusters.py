"""Whatever is killed on a cluster of any kind, the same command ends with the bytes of threads.

Runs over threads, processes of this machine and a scheduler without encryption are in tests/pipelines/run. A short form
is carried out for every kind, a long one by `pytest -m slow tests/pipelines/clusters/test_chaos_on_clusters.py`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.pipelines import gateway_server, ssh_server
from tests.pipelines.certificates import make_certificates
from tests.pipelines.chaos import Cluster, Job, Way, kill_at_random, kill_one, processes_of, save_objects
from tests.pipelines.dask_processes import dask_processes
from tests.pipelines.network import DRIVER, WORKER, Hosts
from tests.pipelines.object_server import ObjectServer
from tests.pipelines.slurm import Slurm

pytestmark = pytest.mark.usefixtures("figures")

ONCE = {"driver": 1, "worker": 1}
"""How often each thing is killed in the short form."""

FEW_STEPS = [{"operator": "perona-malik", "contrast": 5000, "conductance": "rational", "steps": 8}]
"""The work of the short form: two passes instead of six."""

LONG = {
    "tls": {"driver": 4, "worker": 6, "nanny": 3, "scheduler": 2},
    "slurm": {"driver": 4, "worker": 8},
    "ssh": {"driver": 4, "worker": 8},
    "gateway": {"driver": 3, "worker": 6, "scheduler": 2},
    "hosts": {"driver": 4, "worker": 6, "cable": 3},
}
"""How often each thing is killed in the long form, by kind of cluster."""


@dataclass(frozen=True)
class Attacked:
    """A cluster of some kind.

    Attributes
    ----------
    cluster : str or mapping
        What a spec says of it.
    ways : mapping
        How the things that belong to it are killed.
    environment : mapping
        Variables that the command gets besides.
    words : sequence of str
        What stands before the command.
    """

    cluster: str | Mapping[str, object]
    ways: Mapping[str, Way]
    environment: Mapping[str, str] = field(default_factory=dict)
    words: Sequence[str] = ()


@pytest.fixture(scope="module", autouse=True)
def _known_everywhere(served: ObjectServer) -> None:
    """Have the address of the store in the environment before any server is started that hands it on."""


@pytest.fixture
def on_tls(tmp_path: Path) -> Iterator[Attacked]:
    keys = make_certificates(tmp_path / "keys")
    with dask_processes(tmp_path / "scheduler", tls=keys) as processes:
        scheduler = {"kind": "address", "file": str(processes.file), "tls": str(keys)}
        yield Attacked(scheduler, Cluster(processes).ways())


@pytest.fixture
def on_slurm(slurm_here: Slurm) -> Iterator[Attacked]:
    def kill_job(chance: random.Random) -> bool:
        """End a job as an administrator does, or without a warning."""
        jobs = slurm_here.jobs("RUNNING")
        how = chance.choice([(), ("--signal=KILL", "--full")])
        return bool(jobs) and slurm_here.kill(chance.choice(jobs), *how)

    environment = {"SLURM_CONF": slurm_here.environment["SLURM_CONF"]}
    yield Attacked({"kind": "slurm", "interface": "lo"}, {"worker": kill_job}, environment)
    slurm_here.cancel_all()


@pytest.fixture
def on_ssh(ssh_here: ssh_server.SshServer) -> Attacked:
    def kill_worker(chance: random.Random) -> bool:
        return kill_one(processes_of(ssh_here.process, ssh_server.WORKER), chance)

    return Attacked(ssh_here.options(), {"worker": kill_worker})


@pytest.fixture
def on_gateway(gateway_here: gateway_server.GatewayServer) -> Attacked:
    def way(module: str) -> Way:
        return lambda chance: kill_one(processes_of(gateway_here.process, module), chance)

    options = {"kind": "gateway", "auth": "basic", "address": gateway_here.address, "workers": 2}
    ways = {"worker": way(gateway_server.WORKER), "scheduler": way(gateway_server.SCHEDULER)}
    return Attacked(options, ways)


@pytest.fixture
def on_hosts(hosts: Hosts) -> Attacked:
    def kill_worker(chance: random.Random) -> bool:
        host = chance.choice(list(hosts.workers))
        hosts.workers[host].kill()
        hosts.workers[host] = hosts.worker(host)
        return True

    def pull_cable(chance: random.Random) -> bool:
        host = chance.choice([DRIVER, WORKER])
        hosts.net.cut(host)
        time.sleep(chance.uniform(0.2, 4))
        hosts.net.mend(host)
        return True

    ways = {"worker": kill_worker, "cable": pull_cable}
    return Attacked(hosts.address, ways, words=hosts.net.on(DRIVER))


def job_on(attacked: Attacked, folder: Path, objects: ObjectServer, where: str, **work: object) -> Job:
    """Return a job whose files are on this machine's disk, or in a store with all that belongs to it."""
    how = {"cluster": attacked.cluster, "environment": {**objects.environment, **attacked.environment}}
    if where == "store":
        bucket = f"{objects.bucket}/{folder.name}"
        how |= {"bucket": bucket, "stored": True, "source": save_objects(bucket)}
    job = Job(folder, **how, **work)
    job.words = list(attacked.words)
    return job


@pytest.mark.thorough
@pytest.mark.parametrize(("kind", "where"), [*((kind, "disk") for kind in LONG), ("tls", "store")])
def test_a_kill_of_each(
    tmp_path: Path, request: pytest.FixtureRequest, objects: ObjectServer, kind: str, where: str
) -> None:
    attacked: Attacked = request.getfixturevalue(f"on_{kind}")
    job = job_on(attacked, tmp_path, objects, where, steps=FEW_STEPS)
    kill_at_random(job, random.Random(kind), ONCE, attacked.ways, f"{kind} and {where}", tiles=40)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("where", ["disk", "store"])
@pytest.mark.parametrize("kind", LONG)
def test_many_kills(
    tmp_path: Path, request: pytest.FixtureRequest, objects: ObjectServer, kind: str, where: str, seed: int
) -> None:
    if (kind, where) == ("hosts", "store"):
        pytest.skip("the store of the tests is on the loopback, which other hosts do not see")
    attacked: Attacked = request.getfixturevalue(f"on_{kind}")
    job = job_on(attacked, tmp_path, objects, where)
    kill_at_random(
        job, random.Random(f"{kind}-{where}-{seed}"), LONG[kind], attacked.ways, f"{kind} and {where}"
    )
