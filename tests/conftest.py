"""Fixtures that several folders of tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# Kernels compile during the first example, and machines are shared: no property has a deadline.
settings.register_profile("shared", deadline=None, max_examples=50)
settings.load_profile("shared")

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
