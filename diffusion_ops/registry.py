"""Find every plug-in of a kind by itself: one file here, or one entry point of another package."""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

T = TypeVar("T")


class UnknownNameError(ValueError):
    """A name that no plug-in answers to; the message lists those that exist."""


class NameClashError(ValueError):
    """Two plug-ins of one name; the message names both."""


class PluginWarning(UserWarning):
    """A plug-in of another package that could not be loaded; everything else goes on."""


class Registry(Mapping[str, T], Generic[T]):
    """Names of one kind of plug-in; reading it imports what registers them, once.

    These are every module of a package of ours, in name order, and then what other installed packages name as entry
    points of a group, such as `fisher = "my_package.fisher"` under `[project.entry-points."diffuse.operators"]` in
    their pyproject.toml. One that fails to load is warned of once, and looking up its name tells why.

    Parameters
    ----------
    kind : str
        What is registered, for messages ("operator").
    package : str
        The package whose modules are imported before the first look-up.
    group : str, optional
        The entry points of other packages.

    Raises
    ------
    NameClashError
        At any look-up, where two packages register the same name.

    Examples
    --------
    >>> colours = Registry[str]("colour", "")
    >>> colours.register("red")("#f00")
    '#f00'
    >>> colours["red"]
    '#f00'
    """

    def __init__(self, kind: str, package: str, group: str = "") -> None:
        self.kind = kind
        self._package, self._group = package, group
        self._entries: dict[str, T] = {}
        self._broken: dict[str, str] = {}
        self._scanned = self._scanning = False
        self._lock = threading.RLock()

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that files its argument under `name`."""

        def add(entry: T) -> T:
            before, now = _origin(self._entries.get(name, entry)), _origin(entry)
            # A class that is defined anew, as by a cell of a notebook that is run again, takes its own place.
            if name in self._entries and before != now:
                raise NameClashError(
                    f"The {self.kind} {name!r} is registered twice, by {before} and by {now}. "
                    "Choose another name, or uninstall the package of one of them."
                )
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
            raise UnknownNameError(self._broken.get(name) or self._unknown(name))
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
            # A plug-in that looks names up while it is imported sees those before it.
            if self._scanned or self._scanning:
                return
            self._scanning = True
            try:
                self._import_all()
                self._scanned = True
            finally:
                self._scanning = False

    def _import_all(self) -> None:
        if self._package:
            package = importlib.import_module(self._package)
            for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
                importlib.import_module(f"{self._package}.{module}")
        for entry_point in sorted(_installed().select(group=self._group), key=lambda one: one.name):
            try:
                entry_point.load()
            except NameClashError:
                raise
            except Exception as error:
                # Whatever is wrong with a package, all others go on.
                self._leave_out(entry_point, error)

    def _leave_out(self, entry_point: EntryPoint, error: Exception) -> None:
        """Warn of a plug-in that could not be loaded, and take back what it may have registered so far."""
        module = entry_point.module
        self._entries = {
            name: one for name, one in self._entries.items() if getattr(one, "__module__", "") != module
        }
        owner = entry_point.dist.name if entry_point.dist else module
        self._broken[entry_point.name] = (
            f"The plug-in {entry_point.name!r} of the package {owner} could not be loaded from {entry_point.value}: "
            f"{type(error).__name__}: {error}. Update or uninstall {owner}."
        )
        warnings.warn(self._broken[entry_point.name], PluginWarning, stacklevel=2)

    def _unknown(self, name: str) -> str:
        close = difflib.get_close_matches(str(name), self.names(), n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        return f"There is no {self.kind} {name!r}.{hint} Allowed: {', '.join(self.names())}."


def _origin(entry: object) -> str:
    """Return where an entry is defined."""
    return f"{getattr(entry, '__module__', '')}.{getattr(entry, '__qualname__', entry)}".lstrip(".")


_installed = functools.cache(entry_points)
"""The entry points of all installed packages; reading them takes tens of milliseconds."""


def plugin_packages() -> tuple[str, ...]:
    """Return the import names of the packages that have entry points in any group of ours, sorted."""
    groups = (group for group in _installed().groups if group.startswith("diffuse."))
    modules = (entry_point.module for group in groups for entry_point in _installed().select(group=group))
    return tuple(sorted({module.partition(".")[0] for module in modules}))
