"""Prove that a process computes the bits that another one would: by its code, its libraries and a sample of results."""

from __future__ import annotations

import functools
import hashlib
import math
import platform
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from diffusion_ops.compilation import vector_library
from pipelines.tasks.version import code_version, installed_version, source_time

LIBRARIES = (
    *("numpy", "scipy", "numba", "llvmlite"),
    *("zarr", "zarrs", "numcodecs", "tifffile", "imagecodecs", "imageio"),
)
"""Libraries that compute pixels, or decode them."""

SAMPLES = 4099
"""Values that each function is tried at: more than any width of a vector, and a remainder of it."""

_ONE = (
    np.exp,
    np.expm1,
    np.log,
    np.log1p,
    np.sqrt,
    np.cbrt,
    np.sin,
    np.cos,
    np.tan,
    np.tanh,
    np.arctan,
    np.sinh,
)
_TWO = (np.power, np.hypot, np.arctan2)
_SCALAR = (math.exp, math.log, math.sin, math.cos, math.tanh, math.atan, math.erf, math.gamma)


@dataclass(frozen=True)
class Proof:
    """What decides the bits that a process computes.

    Attributes
    ----------
    parts : mapping of str to str
        Each by a name for people.
    """

    parts: Mapping[str, str]

    @functools.cached_property
    def digest(self) -> str:
        """A short text that is the same for equal proofs alone."""
        content = hashlib.sha256(repr(sorted(self.parts.items())).encode())
        return content.hexdigest()[:16]

    def differences(self, other: Mapping[str, str]) -> str:
        """Return which parts of another process differ, with what it has and what is wanted; "" for none."""
        unable = [f"{name}: {said}" for name, said in other.items() if name not in self.parts]
        return ", ".join(unable) or ", ".join(
            f"{name} is {other.get(name, 'missing')}, wanted {wanted}"
            for name, wanted in self.parts.items()
            if other.get(name) != wanted
        )


@functools.cache
def own_proof() -> Proof:
    """Return the proof of this process, the one of its first call: what is loaded then stays loaded."""
    parts = {
        "code": code_version(),
        **{name: installed_version(name) for name in LIBRARIES},
        "machine": f"{_machine()}, {sys.byteorder} endian",
        "vector library": vector_library(),
        "results of functions": f"{probe():08x}",
    }
    return Proof(MappingProxyType(parts))


def sources_changed() -> bool:
    """Return whether a source that decides bits is younger than this process, which may have loaded the older one."""
    return bool(source_time() > psutil.Process().create_time())


def _machine() -> str:
    name = platform.machine().lower()
    return {"amd64": "x86_64", "aarch64": "arm64"}.get(name, name)


def probe() -> int:
    """Return a checksum of what transcendental functions give.

    NumPy chooses loops by the processor's features, and the C library does so too. Other features need not mean other
    bits, so it is the bits that are compared.
    """
    crc = 0
    for values in _results():
        crc = zlib.crc32(np.ascontiguousarray(values).data.cast("B"), crc)
    return crc


def _results() -> Iterator[NDArray[Any]]:
    # Integer arithmetic alone makes the inputs, so that they are the same everywhere.
    whole = (np.arange(SAMPLES, dtype=np.uint32) * np.uint32(2654435761)) % np.uint32(1 << 24)
    for name in ("f4", "f8"):
        dtype: np.dtype[Any] = np.dtype(name)
        near = (whole.astype(dtype) + dtype.type(0.5)) / dtype.type(1 << 24)
        for values in (near, near * dtype.type(37)):
            for function in _ONE:
                yield function(values)
            for pair in _TWO:
                yield pair(values, near[::-1])
    scalars = [9 * float(value) for value in near[:512]]
    for scalar in _SCALAR:
        yield np.array([scalar(value) for value in scalars])
    yield np.array([math.pow(a, b) for a, b in zip(scalars, reversed(scalars), strict=True)])
