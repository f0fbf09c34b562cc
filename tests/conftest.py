"""Fixtures that several folders of tests share."""

from __future__ import annotations

from collections.abc import Callable
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


class ByKernel(LoadScopeScheduling):  # type: ignore[misc]
    """Give a process all contracts of an operator, and whole files else: no two compile the same kernels."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, parameters = nodeid.partition("[")
        meant = [name for name in OPERATORS if name in parameters]
        contract = "test_contracts" in file or "test_properties" in file
        return max(meant, key=len) if contract and meant else file.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByKernel:
    """Hand out tests by the kernels that they need."""
    return ByKernel(config, log)


DEAR = ("channels",)
"""Cases that compile kernels for themselves alone: volumes of several channels."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave all but planes of an operator's further samples, their doubles, and dear cases to the slow tests."""
    for item in items:
        chosen = getattr(item, "callspec", None)
        if chosen is not None and "sample" in chosen.params:
            case, dtype = chosen.params.get("case", "plane"), chosen.params.get("dtype")
            if case in DEAR or (chosen.params["sample"] and (case != "plane" or dtype is np.float64)):
                item.add_marker("slow")


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
