"""Measure a statistic per block in integers, add the blocks up, and compute the number; no tiling changes it."""

from __future__ import annotations

import base64
import math
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.blocks.block import Block
from diffusion_ops.registry import Registry

STATISTICS: Registry[type[Statistic]] = Registry(
    "statistic", "diffusion_ops.statistics", "diffuse.statistics"
)

Integers = NDArray[np.int64]


def _no_integers() -> Integers:
    return np.zeros(0, np.int64)


@dataclass(frozen=True)
class Tally:
    """Counts per integer key, sorted by key: the contribution of a block to a statistic.

    Adding tallies is integer addition, so the sum over an image is the same in any order and for any tiling.
    """

    keys: Integers = field(default_factory=_no_integers)
    counts: Integers = field(default_factory=_no_integers)

    def __add__(self, other: Tally) -> Tally:
        most, few = (self, other) if len(self.keys) >= len(other.keys) else (other, self)
        index = np.searchsorted(most.keys, few.keys)
        # Most tiles bring no new key to the sum.
        if len(index) and index[-1] < len(most.keys) and np.array_equal(most.keys[index], few.keys):
            counts = most.counts.copy()
            np.add.at(counts, index, few.counts)
            return Tally(most.keys, counts)
        return self.merged(other, np.add)

    def merged(self, other: Tally, one: np.ufunc) -> Tally:
        """Return both with the counts of a key made one, such as by `numpy.add`."""
        keys = np.concatenate([self.keys, other.keys])
        # Sorting two sorted parts so takes a look at each number.
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        first = np.ones(len(keys), np.bool_)
        np.not_equal(keys[1:], keys[:-1], out=first[1:])
        starts, keys = np.flatnonzero(first), keys[first]
        counts = np.concatenate([self.counts, other.counts])[order]
        del order
        return Tally(keys, one.reduceat(counts, starts) if len(starts) else counts)

    @property
    def nbytes(self) -> int:
        """Bytes of keys and counts."""
        return self.keys.nbytes + self.counts.nbytes

    def to_text(self) -> str:
        """Return the tally as a short text of letters and digits."""
        # Differences of sorted keys, and counts, are small numbers: bytes of one place side by side are mostly equal.
        numbers = np.stack([np.diff(self.keys, prepend=np.int64(0)), self.counts]).astype("<i8")
        places = numbers.reshape(-1).view(np.uint8).reshape(-1, 8).T
        return base64.b64encode(zlib.compress(places.tobytes(), 1)).decode("ascii")

    @classmethod
    def from_text(cls, text: str) -> Tally:
        """Return the tally that `to_text` wrote."""
        places = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(8, -1)
        differences, counts = np.ascontiguousarray(places.T).view("<i8").astype(np.int64).reshape(2, -1)
        return cls(np.cumsum(differences), counts)


@dataclass(frozen=True)
class Reduction(ABC):
    """A whole-image quantity: every block contributes an integer tally, and the merged tallies say what it is."""

    @abstractmethod
    def radius(self, spacing: tuple[float, ...]) -> tuple[int, ...]:
        """Return how many cells around a cell its contribution reads, per axis."""

    @abstractmethod
    def measure(self, block: Block, keep: tuple[slice, ...]) -> Tally:
        """Return the contribution of the valid cells in `keep` (spatial slices of the block)."""

    def extra_arrays(self, ndim: int, channels: int) -> float:
        """Return how many float arrays of one channel's size `measure` holds at its peak beside the block."""
        return 0.0

    def merge(self, first: Tally, second: Tally) -> Tally:
        """Return the contribution of both."""
        return first + second


@dataclass(frozen=True)
class Statistic(Reduction):
    """A whole-image quantity that stands for the value of a parameter.

    An operator may have one as a parameter (`PeronaMalik(contrast=GradientQuantile(0.9))`). It is measured over the
    whole image first, and a new operator gets its value; no kernel decides anything global.
    """

    @abstractmethod
    def value(self, tally: Tally) -> float:
        """Return the value for the whole image.

        Raises
        ------
        ValueError
            Where no valid cell contributed.
        """


def ordered_key(value: float) -> int:
    """Return an integer that sorts as float64 values do; -0.0 and 0.0 share one."""
    bits = int(np.float64(value + 0.0).view(np.int64))
    return bits if bits >= 0 else bits ^ 0x7FFFFFFFFFFFFFFF


def value_of_key(key: int) -> float:
    """Return the float64 of a key; the inverse of `ordered_key`."""
    return float(np.int64(key if key >= 0 else key ^ 0x7FFFFFFFFFFFFFFF).view(np.float64))


def statistic_from(parameter: str, value: Any) -> Any:
    """Return `value` with a mapping of one known name, such as {"quantile": 0.9}, turned into its statistic.

    Raises
    ------
    ValueError
        For a mapping that is not one known name, with those that are; for an argument out of range.
    """
    if not isinstance(value, dict):
        return value
    if len(value) != 1:
        raise ValueError(
            f"{parameter}: a statistic is one name and its number, such as {{quantile: 0.9}}, got {value!r}."
        )
    ((name, argument),) = value.items()
    given = argument if isinstance(argument, dict) else {} if argument is None else None
    try:
        return make_statistic(name, argument) if given is None else make_statistic(name, **given)
    except TypeError as error:
        allowed = ", ".join(f.name for f in fields(STATISTICS[name])) or "none"
        raise ValueError(
            f"{parameter}: {value!r} does not fit the statistic {name}. Its parameters: {allowed}."
        ) from error


def make_statistic(name: str, *args: Any, **kwargs: Any) -> Statistic:
    """Return the statistic of a name with the parameters of its class."""
    make: Callable[..., Statistic] = STATISTICS[name]
    return make(*args, **kwargs)


def no_valid_cell(what: str) -> ValueError:
    """Return the error for an image without a valid cell."""
    return ValueError(
        f"The image has no valid cell to take {what} of: every one is nodata, NaN, infinite or masked. "
        "Check `mask` and `nodata`."
    )


def check_argument(
    statistic: str,
    name: str,
    value: object,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float = math.inf,
) -> None:
    """Refuse a parameter of a statistic that is not a number in its range."""
    low = above if above is not None else least
    assert low is not None
    ok = isinstance(value, Real) and not isinstance(value, bool) and low <= float(value) < below
    if not ok or (above is not None and value == above):
        end = "" if below == math.inf else f" and < {below:g}"
        raise ValueError(
            f"{statistic}: {name}={value!r} is not possible. "
            f"Allowed: a number {'>' if above is not None else '>='} {low:g}{end}."
        )
