"""Fixtures that several folders of tests share."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from diffusion_ops.evolution.operator import OPERATORS

# Kernels compile during the first example, and machines are shared: no property has a deadline.
settings.register_profile("shared", deadline=None, max_examples=50)
settings.load_profile("shared")


LONG = (
    "tests/pipelines/run/test_run.py",
    "tests/test_site.py",
    "tests/pipelines/run/test_graph.py",
    "tests/test_readme.py",
    "tests/pipelines/run/test_never_lost.py",
    "tests/pipelines/tasks/admission/test_admission.py",
    "tests/pipelines/run/test_chaos.py",
    "tests/pipelines/clusters/test_jobqueue.py",
    "tests/pipelines/clusters/test_chaos_on_clusters.py",
    "tests/test_plugin_packages.py",
    "tests/diffusion_ops/kernels/test_compiled_cache.py",
    "tests/pipelines/kinds/test_kinds_of_others.py",
    "tests/test_notebooks.py",
    "tests/pipelines/run/test_bounded.py",
    "tests/pipelines/run/test_publication.py",
    "tests/pipelines/run/test_object_store.py",
    "tests/pipelines/cli/test_command.py",
)
"""Files that take longest, the longest first; what they run are mostly processes of their own."""


class ByKernel(LoadScopeScheduling):  # type: ignore[misc]
    """Give a process all contracts of an operator, and whole files else: no two compile the same kernels."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, parameters = nodeid.partition("[")
        meant = [name for name in OPERATORS if name in parameters]
        contract = "test_contracts" in file or "test_properties" in file
        return max(meant, key=len) if contract and meant else file.partition("::")[0]

    def _assign_work_unit(self, node: Any) -> None:
        """Hand out long files first: few tests make them the last ones otherwise, which one process works on alone."""
        long = next((file for file in LONG if file in self.workqueue), None)
        if long is not None:
            self.workqueue.move_to_end(long, last=False)
        super()._assign_work_unit(node)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByKernel:
    """Hand out tests by the kernels that they need."""
    assert all((config.rootpath / file).is_file() for file in LONG), "LONG names a file that is not there"
    return ByKernel(config, log)


WHOLE = ("heat", "perona-malik", "random-noise", "total-variation")
"""Operators whose doubles, colours and chunked volumes are not slow: by time, iterations, and once."""

VOLUMES = (*WHOLE, "mean-curvature")
"""Operators whose volumes are not: one or two for each of the ways that kernels go through planes of cells."""


def part(chosen: Mapping[str, Any]) -> str | None:
    """Return the part that a test of every operator belongs to by its parameters: None, "thorough" or "slow".

    Of every operator all contracts hold for planes of singles and its first sample among the usual tests. Volumes and
    doubles go through the same code, which tests of single operators compare with formulas, most of them in both;
    further samples take the same paths for all types and axes, and so do colours. Volumes of several channels are the
    dearest. Bytes become singles before any operator sees them. The slow tests have all of it, the thorough ones what
    few kernels do for.
    """
    name = chosen.get("name")
    if name not in OPERATORS or not {"sample", "case", "ndim"} & set(chosen):
        return None
    case, further, whole = chosen.get("case", "plane"), bool(chosen.get("sample")), name in WHOLE
    if case == "double" or chosen.get("dtype") is np.float64:
        return "thorough" if whole and not further else "slow"
    if case == "volume" or (chosen.get("ndim") == 3 and 3 in OPERATORS[name].dimensions):
        flat = 2 in OPERATORS[name].dimensions
        return "slow" if flat and (further or name not in VOLUMES) else "thorough"
    if case == "channels" or (case in ("colours", "bytes") and not whole) or (further and case != "plane"):
        return "slow"
    return None if case == "plane" and not further else "thorough"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to other parts what is dear."""
    for item in items:
        belongs = (
            part(item.callspec.params)
            if isinstance(item, pytest.Function) and hasattr(item, "callspec")
            else None
        )
        if belongs is not None:
            item.add_marker(belongs)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Let the collector of garbage pass over what lasts for all tests, and come by less often.

    Compiling makes many small objects that live long: by default a tenth of its time goes to looking through them.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Callable[..., Path]:
    """Return the path of a real image; the test is skipped where there is none."""

    def find(*parts: str) -> Path:
        path = SHARED.joinpath(*parts)
        if not path.exists():
            pytest.skip(f"the real image {'/'.join(parts)} is not here")
        return path

    return find
