"""Operators that say that they compile nothing run no kernels, whose memory a plan then leaves out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from diffusion_ops.evolution.operator import OPERATORS
from tests.operator_samples import sample_arguments

pytestmark = pytest.mark.thorough

SCRIPT = """
import gc
import numpy as np
from numba.core.dispatcher import Dispatcher
from diffusion_ops.blocks.fields import make_block
from diffusion_ops.evolution.operator import OPERATORS
from diffusion_ops.evolution.schedule import Cycle
for name, arguments in {samples!r}:
    block = make_block(np.arange(12.0, dtype=np.float32).reshape(1, 3, 4), (1.0, 1.0))
    OPERATORS[name](**arguments).run(block, Cycle(0.1), 1)
print(any(one.overloads for one in gc.get_objects() if isinstance(one, Dispatcher)))
"""


def runs_kernels(samples: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Return what a fresh process says that applies operators: "True" where it has compiled or loaded kernels."""
    script = SCRIPT.format(samples=list(samples))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_what_compiles_nothing_runs_no_kernels():
    silent = [name for name in OPERATORS.names() if not OPERATORS[name].compiles]
    assert silent
    assert runs_kernels([(name, sample_arguments(name)[0]) for name in silent]) == "False"
    assert runs_kernels([("heat", {})]) == "True"
