"""Compile the kernels of a plan before its tiles need them: beside the driver's preparations, or by themselves."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from diffusion_ops.compilation import cache_folder
from pipelines.events import Compiling, Listener, tell
from pipelines.plan.plan import Plan


def warm(
    plan: Plan, listeners: Sequence[Listener] = (), walls: Sequence[bool] = (False, True)
) -> dict[str, str]:
    """Load the kernels that the tasks of a plan need, or compile and keep them.

    Parameters
    ----------
    plan : Plan
    listeners : sequence of Listener
        Are told the stages.
    walls : sequence of bool
        Whether for images with invalid pixels, and for those without.

    Returns
    -------
    dict
        What went wrong, per title of a stage; what is wrong with an operator its tiles will say, too.
    """
    wrong: dict[str, str] = {}
    for number, stage in enumerate(plan.stages):
        tell(listeners, Compiling(stage.title, number / len(plan.stages)))
        for there in walls:
            try:
                stage.work.rehearse(there)
            except Exception as error:
                wrong[stage.title] = f"{type(error).__name__}: {error}"
    return wrong


def warm_beside(plan: Plan) -> None:
    """Begin to load the kernels of images without invalid pixels, while the driver prepares the rest."""
    threading.Thread(target=warm, args=(plan, (), (False,)), daemon=True, name="rehearsal").start()


def kept_kernels() -> tuple[str, int]:
    """Return the folder of machine code, and how many functions it holds; "" and 0 where the compiler chooses it."""
    folder = cache_folder()
    return (str(folder), len(list(folder.glob("*.nbc")))) if folder else ("", 0)
