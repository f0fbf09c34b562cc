"""Load or compile the kernels of a plan before its tiles need them, and plan with what they will take."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence

from diffusion_ops.compilation import NotKeptError, cache_folder, has_compiled, loading_only
from pipelines.events import Compiling, Listener, tell
from pipelines.image.info import ImageInfo
from pipelines.image.window import Region
from pipelines.plan.plan import Begun, Plan
from pipelines.plan.search import PlanError, make_plan
from pipelines.spec.spec import Spec
from pipelines.tasks.kernels import load_kernels_once, stage_name


def plan_run(
    spec: Spec,
    source: ImageInfo,
    begun: Begun | None = None,
    tuned: bool = False,
    roi: Region | None = None,
) -> Plan:
    """Return the best plan that fits, with the memory that its kernels take in this process; see `make_plan`.

    Loaded kernels take less than those that the process has to compile. Workers in other processes may be anywhere, and
    are counted as if they compile.
    """

    def make(loaded: bool) -> Plan:
        return make_plan(spec, source, begun=begun, tuned=tuned, roi=roi, loaded=loaded)

    if spec.run.cluster.in_process:
        # What is refused with loaded kernels is refused with the number that the others need.
        with contextlib.suppress(PlanError):
            plan = make(loaded=True)
            if _are_kept(plan):
                return plan
    return make(loaded=False)


def _are_kept(plan: Plan) -> bool:
    """Load the kernels of a plan, and return whether that is possible, and this process has made none so far."""
    try:
        with loading_only():
            for number, stage in enumerate(plan.stages):
                load_kernels_once(stage_name(plan.digest, number), stage.work)
    except NotKeptError:
        return False
    return not has_compiled()


def warm(plan: Plan, listeners: Sequence[Listener] = ()) -> dict[str, str]:
    """Load the kernels that the tasks of a plan need, or compile and keep them.

    Parameters
    ----------
    plan : Plan
    listeners : sequence of Listener
        Are told the stages.

    Returns
    -------
    dict
        What went wrong, per title of a stage; what is wrong with an operator its tiles will say, too.
    """
    wrong: dict[str, str] = {}
    for number, stage in enumerate(plan.stages):
        tell(listeners, Compiling(stage.title, number / len(plan.stages)))
        if said := load_kernels_once(stage_name(plan.digest, number), stage.work):
            wrong[stage.title] = said
    return wrong


def warm_beside(plan: Plan) -> threading.Thread:
    """Begin to load the kernels of a plan while the driver prepares the rest; return the thread that does."""
    thread = threading.Thread(target=warm, args=(plan,), daemon=True, name="rehearsal")
    thread.start()
    return thread


def kept_kernels() -> tuple[str, int]:
    """Return the folder of machine code, and how many functions it holds; "" and 0 where the compiler chooses it."""
    folder = cache_folder()
    return (str(folder), len(list(folder.glob("*.nbc")))) if folder else ("", 0)
