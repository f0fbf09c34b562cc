"""Import large libraries when they are first used: xarray and dask.array take 70 MiB, which no run needs.

A run over Zarr reads and writes by itself; only `evolve` on containers uses them.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from types import ModuleType
from typing import Any


class LazyModule(ModuleType):
    """A module by name, which is imported when one of its attributes is first asked for."""

    def __getattr__(self, word: str) -> Any:
        return getattr(importlib.import_module(self.__name__), word)


class _Follower:
    """Imports one module right after another, whoever imports that one.

    It is one of the finders of the import system, which asks all of them in turn for every new module.
    """

    def __init__(self, leader: str, follower: str) -> None:
        self.leader, self.follower = leader, follower
        self._looking = threading.local()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return the leader's own spec, with the follower imported once its module has run; None for all others."""
        if name != self.leader or getattr(self._looking, "now", False):
            return None
        self._looking.now = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._looking.now = False
        if spec is None or spec.loader is None:
            return spec
        run, follower = spec.loader.exec_module, self.follower

        def run_both(module: ModuleType) -> None:
            run(module)
            importlib.import_module(follower)

        spec.loader.exec_module = run_both  # type: ignore[method-assign]
        return spec


def import_after(leader: str, follower: str) -> None:
    """Import a module as soon as another one is imported; at once where it is already."""
    if leader in sys.modules:
        importlib.import_module(follower)
    else:
        sys.meta_path.insert(0, _Follower(leader, follower))
