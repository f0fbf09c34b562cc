"""The plugin with which a worker proves itself; it travels as source text, as a worker may lack this package.

A worker of another program's, with another version of this package or of Python, must not come to harm by it.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import sys
from typing import Any

import distributed
from distributed.core import Status


class ProveWorker(distributed.WorkerPlugin):
    """Compare a worker's proof with the driver's, tell it, and give a worker whose proof is equal a resource.

    Tasks ask for the resource, so that no other worker gets one, whenever it joins.

    Parameters
    ----------
    topic : str
        Where the answer goes among the scheduler's events.
    resource : str
    wanted : dict of str to str
        The parts of the driver's proof.
    threads : int
        Number of tasks that run in the process at a time, at least.
    """

    def __init__(self, topic: str, resource: str, wanted: dict[str, str], threads: int) -> None:
        self.name = topic
        self.arguments: dict[str, Any] = {
            "topic": topic,
            "resource": resource,
            "wanted": wanted,
            "threads": threads,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        text = inspect.getsource(sys.modules[__name__])
        made = f"exec({text!r}, space) or space['ProveWorker'](**{self.arguments!r})"
        return eval, (f"(lambda space: {made})({{'__name__': 'builtins'}})",)

    async def setup(self, worker: distributed.Worker) -> None:
        """Let the process prove itself, and make it ready where it has done so."""
        threads = max(self.arguments["threads"], worker.state.nthreads)
        try:
            # In a thread, as libraries are loaded: the worker goes on to answer meanwhile.
            found = await asyncio.to_thread(prove, self.arguments["wanted"], threads)
        except Exception as error:
            found = {"this program": f"{type(error).__name__}: {error}"}
        if found == self.arguments["wanted"]:
            await self._admit(worker)
        worker.log_event(self.name, {"worker": worker.address, "found": found})

    async def _admit(self, worker: distributed.Worker) -> None:
        resource, amount = self.arguments["resource"], float(worker.state.nthreads)
        if worker.state.total_resources.get(resource) == amount:
            return
        await worker.set_resources(**{resource: amount})
        if worker.status == Status.running:
            # The scheduler looks for tasks that wait for such a worker when one becomes ready, not at a new resource.
            worker.status = Status.paused
            worker.status = Status.running


def prove(wanted: dict[str, str], threads: int) -> dict[str, str]:
    """Return the parts of this process's proof, and set its allocator and codecs where they are those wanted."""
    # Whatever has loaded modules of ours before has them from the files of that time. The proof itself is made once.
    loaded = {"diffusion_ops", "pipelines"} & set(
        sys.modules
    ) and "pipelines.tasks.admission.proof" not in sys.modules
    proof = importlib.import_module("pipelines.tasks.admission.proof")
    if loaded and proof.sources_changed():
        raise RuntimeError("its files have changed since the process began to use them")
    found = dict(proof.own_proof().parts)
    if found == wanted:
        importlib.import_module("pipelines.tasks.process").prepare_process(threads)
        # What is imported stays: looking through it for garbage stopped all threads for 0.15 s now and then.
        gc.freeze()
    return found
