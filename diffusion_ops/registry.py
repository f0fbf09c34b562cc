"""Find every plug-in of a kind by itself: one file, one registration."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class UnknownNameError(ValueError):
    """A name that no plug-in answers to; the message lists those that exist."""


class Registry(Mapping[str, T], Generic[T]):
    """Names of one kind of plug-in; reading it imports every module of its package once.

    Parameters
    ----------
    kind : str
        What is registered, for messages ("operator").
    package : str
        The package whose modules are imported, in name order, before the first look-up.

    Examples
    --------
    >>> colours = Registry[str]("colour", "")
    >>> colours.register("red")("#f00")
    '#f00'
    >>> colours["red"]
    '#f00'
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._entries: dict[str, T] = {}
        self._scanned = not package
        self._lock = threading.RLock()

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that files its argument under `name`."""

        def add(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"The {self.kind} {name!r} is registered twice; choose another name.")
            self._entries[name] = entry
            return entry

        return add

    def names(self) -> tuple[str, ...]:
        """Return all names, sorted."""
        self._scan()
        return tuple(sorted(self._entries))

    def __getitem__(self, name: str) -> T:
        self._scan()
        if name not in self._entries:
            raise UnknownNameError(self._unknown(name))
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def __contains__(self, name: object) -> bool:
        self._scan()
        return name in self._entries

    def _scan(self) -> None:
        if self._scanned:
            return
        # Tasks of one process look names up at the same time: none may see half of them.
        with self._lock:
            package = importlib.import_module(self._package)
            for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
                importlib.import_module(f"{self._package}.{module}")
            self._scanned = True

    def _unknown(self, name: str) -> str:
        close = difflib.get_close_matches(str(name), self.names(), n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        return f"There is no {self.kind} {name!r}.{hint} Allowed: {', '.join(self.names())}."
