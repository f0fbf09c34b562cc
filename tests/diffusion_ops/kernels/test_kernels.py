"""The kernels against the same formulas written plainly in NumPy."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from diffusion_ops.blocks.block import LANES, Block, as_image
from diffusion_ops.blocks.fields import make_block
from diffusion_ops.evolution.advance import advance
from diffusion_ops.evolution.legs import Leg
from diffusion_ops.evolution.operator import Operator
from diffusion_ops.evolution.schedule import Cycle, Cycles, Explicit
from diffusion_ops.families.stencil import make_stencil
from diffusion_ops.kernels import perona_malik
from diffusion_ops.kernels.conductance import CONDUCTANCES, conductance, exp_negative
from diffusion_ops.kernels.gaussian import gaussian_radius, gaussian_taps, smoothed
from diffusion_ops.kernels.lanes import begin, load, store
from diffusion_ops.operators.heat import Heat
from diffusion_ops.operators.perona_malik import PeronaMalik

pytestmark = pytest.mark.thorough

Array = NDArray[Any]

FORMULAS: dict[str, Callable[[Array], Array]] = {
    "exponential": lambda q: np.exp(-q),
    "rational": lambda q: 1 / (1 + q),
    "charbonnier": lambda q: 1 / np.sqrt(1 + q),
    "tukey": lambda q: np.clip(1 - q / 5, 0, None) ** 2,
    "weickert": lambda q: 1 - np.exp(-3.31488 / np.maximum(q, 1e-9) ** 4),
}


# exp and conductances


def on_numbers_and_lanes(kind: int) -> tuple[Callable[..., None], Callable[..., None]]:
    """Return two compiled loops that put g(q), or exp(-q) for kind = -9, in an array."""

    @njit(error_model="numpy")
    def numbers(q, out):  # type: ignore[no-untyped-def]
        for i in range(q.shape[0]):
            out[i] = exp_negative(q[i]) if kind == -9 else conductance(kind, q[i])

    @njit(error_model="numpy")
    def lanes(q, out):  # type: ignore[no-untyped-def]
        q_at, out_at = begin(q), begin(out)
        for i in range(0, q.shape[0], LANES):
            x = load(q_at, i)
            store(out_at, i, exp_negative(x) if kind == -9 else conductance(kind, x))

    return numbers, lanes


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp_is_within_two_units_in_the_last_place(dtype: Any) -> None:
    x = np.concatenate([np.linspace(0, 79.9, 1 << 14), np.geomspace(1e-12, 1, 1 << 12)]).astype(dtype)
    results = [np.zeros_like(x), np.zeros_like(x)]
    for loop, result in zip(on_numbers_and_lanes(-9), results, strict=True):
        loop(x, result)
    exact = np.array([math.exp(-float(v)) for v in x])
    error = np.abs(results[0].astype(np.float64) - exact) / np.spacing(exact.astype(dtype)).astype(np.float64)
    assert error.max() <= 2
    assert np.array_equal(*results), "a group of lanes must give the bits of single numbers"


@pytest.mark.parametrize("name", CONDUCTANCES)
def test_conductances_follow_their_formulas(name: str) -> None:
    q = np.concatenate([[0], np.linspace(0, 12, 1023), np.geomspace(1e-6, 1e12, 1024)]).astype(np.float32)
    q = q[: q.size // LANES * LANES]
    results = [np.zeros_like(q), np.zeros_like(q)]
    for loop, result in zip(on_numbers_and_lanes(CONDUCTANCES.index(name)), results, strict=True):
        loop(q, result)
    expected = FORMULAS[name](q.astype(np.float64))
    assert np.abs(results[0] - expected).max() < 3e-7
    assert results[0][0] == 1
    assert np.array_equal(*results), "a group of lanes must give the bits of single numbers"


# Steps


@dataclass(frozen=True)
class Case:
    """One operator on one sort of image."""

    operator: Operator
    shape: tuple[int, ...]
    masked: bool = False
    cycles: int = 0
    dtype: Any = np.float64

    def __str__(self) -> str:
        kind = getattr(self.operator, "conductance", "heat")
        near = getattr(self.operator, "neighbours", None) or ""
        words = [
            kind,
            str(near),
            "x".join(map(str, self.shape)),
            "masked" * self.masked,
            "fsi" * bool(self.cycles),
        ]
        return "-".join(w for w in [*words, np.dtype(self.dtype).name] if w)

    @property
    def spacing(self) -> tuple[float, ...]:
        return (1.3, 0.9, 1.1)[: len(self.shape) - 1]

    @property
    def schedule(self) -> tuple[Cycle, ...]:
        stable = self.operator.stable_dt(self.spacing)
        if self.cycles:
            return Cycles(self.cycles).cycles(stable, 4.0, None, None)
        return Explicit().cycles(stable, None, 7, None)

    def image(self) -> tuple[Array, Any]:
        rng = np.random.default_rng(11)
        valid = rng.random(self.shape[1:]) > (0.2 if self.masked else -1)
        return (rng.random(self.shape) * 100).astype(self.dtype), valid


CASES = [
    *(Case(PeronaMalik(20, name), (1, 41, 53)) for name in CONDUCTANCES),
    Case(Heat(), (1, 41, 53), masked=True),
    Case(Heat(), (1, 13, 17, 37)),
    Case(Heat(), (2, 41, 53), cycles=2),
    Case(PeronaMalik(20, "rational"), (3, 41, 53), masked=True, dtype=np.float32),
    Case(PeronaMalik(20, "rational"), (1, 13, 17, 37), masked=True),
    Case(PeronaMalik(20, "rational"), (2, 13, 17, 37)),
    Case(PeronaMalik(20, "rational", neighbours=8), (1, 41, 53), masked=True),
    Case(PeronaMalik(20, "rational", neighbours=8), (3, 41, 53)),
    Case(PeronaMalik(20, "rational", neighbours=8), (1, 41, 53), masked=True, cycles=2),
    Case(PeronaMalik(20, "rational"), (2, 13, 17, 37), masked=True, cycles=2),
    Case(PeronaMalik(20, "rational"), (1, 1, 1)),
    Case(PeronaMalik(20, "rational", neighbours=8), (1, 1, 40), masked=True),
    Case(PeronaMalik(20, "rational"), (1, 1, 1, 1), masked=True),
]


def differences(u: Array, ndim: int, diagonal: bool) -> list[tuple[tuple[Any, ...], tuple[Any, ...], int]]:
    """Return (cells, their neighbours, direction 0 ... 3 = x, y, z, diagonal) for half of the neighbours."""
    offsets = [(tuple(int(a == k) for a in range(ndim)), ndim - 1 - k) for k in range(ndim)]
    offsets += [((1, 1), 3), ((1, -1), 3)] if diagonal else []
    both = []
    for offset, direction in offsets:
        sides = [
            (slice(0, n - o), slice(o, None)) if o >= 0 else (slice(-o, None), slice(0, n + o))
            for o, n in zip(offset, u.shape[1:], strict=True)
        ]
        both.append((*(tuple(s[i] for s in sides) for i in (0, 1)), direction))
    return both


def plain_weights(case: Case, u: Array, valid: Any) -> list[Array]:
    """Return w g per direction; g of the sum over the channels of squared differences, 0 at walls."""
    stencil = make_stencil(case.spacing, getattr(case.operator, "neighbours", None))
    weights = []
    for a, b, direction in differences(u, u.ndim - 1, stencil.diagonal):
        d = u[(slice(None), *b)] - u[(slice(None), *a)]
        g = np.ones(d.shape[1:])
        if isinstance(case.operator, PeronaMalik):
            q = (d**2).sum(0) / (float(case.operator.contrast) * stencil.lengths[direction]) ** 2  # type: ignore[arg-type]
            g = FORMULAS[case.operator.conductance](q)
        weights.append(g * stencil.weights[direction] * (valid[a] & valid[b]))
    return weights


def plain_steps(case: Case, image: Array, valid: Any) -> Array:
    """Return what the steps of a case make of an image, in float64."""
    u = np.where(valid, image, 0).astype(np.float64)
    stencil = make_stencil(case.spacing, getattr(case.operator, "neighbours", None))
    for cycle in case.schedule:
        before, frozen = u, plain_weights(case, u, valid)
        for alpha in cycle.weights:
            weights = frozen if cycle.inertial else plain_weights(case, u, valid)
            rate = np.zeros_like(u)
            for (a, b, _), w in zip(differences(u, u.ndim - 1, stencil.diagonal), weights, strict=True):
                flow = w * (u[(slice(None), *b)] - u[(slice(None), *a)])
                rate[(slice(None), *a)] += flow
                rate[(slice(None), *b)] -= flow
            u, before = alpha * (u + cycle.tau * rate) + (1 - alpha) * before, u
    return u


def advanced(case: Case) -> Array:
    """Return what the kernels make of the image of a case."""
    image, valid = case.image()
    return advance(Block.from_image(image, case.spacing, valid), [Leg(case.operator, case.schedule)]).u


@pytest.mark.parametrize("case", CASES, ids=str)
def test_steps_agree_with_plain_numpy(case: Case) -> None:
    image, valid = case.image()
    error = np.abs(advanced(case) - plain_steps(case, image, valid))[:, valid]
    assert error.max(initial=0) < (1e-10 if case.dtype == np.float64 else 1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (3, 2), (16, 5)])
@pytest.mark.parametrize("case", [CASES[1], CASES[8], CASES[9], CASES[11]], ids=str)
def test_grouping_of_steps_and_bands_changes_no_bit(
    case: Case, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = advanced(case)
    monkeypatch.setattr(
        perona_malik, "group_shape", lambda steps, grid, itemsize: (min(shape[0], steps), shape[1])
    )
    _, valid = case.image()
    assert np.array_equal(advanced(case)[:, valid], usual[:, valid])


def test_bits_do_not_depend_on_where_a_row_ends() -> None:
    image = np.random.default_rng(3).random((1, 30, 70)) * 100
    leg = [Leg(PeronaMalik(20, "rational"), Explicit().cycles(0.25, None, 5, None))]
    whole = advance(Block.from_image(image, (1.0, 1.0)), leg).u
    for stop in range(40, 70):
        open_right = ((False, False), (False, True))
        part = advance(Block.from_image(image[:, :, :stop], (1.0, 1.0), open_sides=open_right), leg).u
        assert np.array_equal(part[:, :, : stop - 5], whole[:, :, : stop - 5])


def test_second_process_compiles_nothing(tmp_path: Path) -> None:
    code = (
        "import numpy as np\n"
        "from diffusion_ops.blocks.block import Block\n"
        "from diffusion_ops.kernels import perona_malik\n"
        "block = Block.from_image(np.ones((1, 4, 4)), (1.0, 1.0))\n"
        "perona_malik.take_steps(block, block.storage[None], 1, [0.1] * 4, [1.0] * 4, [1.0])\n"
        "sweep = perona_malik.build_sweep(1, False, False, False, False, False)\n"
        "print(sum(sweep.stats.cache_hits.values()), sum(sweep.stats.cache_misses.values()))\n"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        for _ in range(2)
    ]
    assert [run.stdout.split() for run in runs] == [["0", "1"], ["1", "0"]]


# Smoothing and regularised conductances


def plain_smoothing(image: Array, valid: Any, sigma: float, spacing: tuple[float, ...]) -> Array:
    """Return K(u m) / K(m) by shifting whole arrays, 0 where invalid."""

    def convolve(x: Array) -> Array:
        for axis, (h, radius) in enumerate(zip(spacing, gaussian_radius(sigma, spacing), strict=True)):
            padded = np.pad(x, [(radius, radius) if a == axis else (0, 0) for a in range(x.ndim)])
            taps = gaussian_taps(sigma / h, radius)
            x = sum(  # type: ignore[assignment]
                t * padded.take(range(i, i + x.shape[axis]), axis) for i, t in enumerate(taps)
            )
        return x

    weight = np.where(valid, convolve(valid.astype(np.float64)), 1)
    return np.stack([np.where(valid, convolve(np.where(valid, c, 0)) / weight, 0) for c in image])


@pytest.mark.parametrize(("shape", "spacing"), [((2, 23, 37), (1.3, 0.9)), ((1, 9, 11, 19), (1.0, 1.0, 2.0))])
@pytest.mark.parametrize("masked", [False, True])
def test_smoothing_is_normalised_convolution(shape: tuple[int, ...], spacing: Any, masked: bool) -> None:
    rng = np.random.default_rng(5)
    image, valid = rng.random(shape), rng.random(shape[1:]) > (0.3 if masked else -1)
    result = as_image(smoothed(Block.from_image(image, spacing, valid), 1.7), shape[1:])
    assert np.abs(result - plain_smoothing(image, valid, 1.7, spacing)).max() < 1e-14


def test_smoothing_keeps_a_constant_at_every_wall() -> None:
    valid = np.random.default_rng(6).random((40, 50)) > 0.4
    block = Block.from_image(np.full((1, 40, 50), 7, np.float32), (1.0, 1.0), valid)
    result = as_image(smoothed(block, 2.0), (40, 50))[0]
    assert np.abs(result[valid] - 7).max() < 7 * 1e-6
    assert not result[~valid].any()


def test_nothing_leaks_through_a_wall_when_smoothing() -> None:
    image, valid = np.zeros((1, 20, 60)), np.ones((20, 60), bool)
    image[:, :, 40:] = 100
    valid[:, 25:40] = False
    result = as_image(smoothed(Block.from_image(image, (1.0, 1.0), valid), 3.0), (20, 60))[0]
    assert np.array_equal(result[:, :25], np.zeros((20, 25)))


@pytest.mark.parametrize(
    ("shape", "masked"), [((1, 31, 45), True), ((2, 31, 45), False), ((1, 9, 13, 21), True)]
)
def test_regularised_cycle_agrees_with_plain_numpy(shape: tuple[int, ...], masked: bool) -> None:
    case = Case(PeronaMalik(20, "rational", sigma=0.8), shape, masked, cycles=1)
    (image, valid), cycle, ndim = case.image(), case.schedule[0], len(shape) - 1
    soft = plain_smoothing(image, valid, 0.8, case.spacing)
    squares = np.zeros(shape[1:])
    for axis, h in enumerate(case.spacing):
        # A neighbour beyond a wall repeats the cell.
        d = np.diff(soft, axis=axis + 1)
        open_ = valid.take(range(1, valid.shape[axis]), axis) & valid.take(range(valid.shape[axis] - 1), axis)
        d = np.pad(d * open_, [(1, 1) if a == axis + 1 else (0, 0) for a in range(ndim + 1)])
        ahead, back = (d.take(range(i, i + valid.shape[axis]), axis + 1) for i in (1, 0))
        squares += (((ahead + back) / (2 * h)) ** 2).sum(0)
    g = 1 / (1 + squares / 20**2)
    u = before = np.where(valid, image, 0)
    for alpha in cycle.weights:
        rate = np.zeros_like(u)
        for a, b, direction in differences(u, ndim, False):
            w = (g[a] + g[b]) / 2 / case.spacing[ndim - 1 - direction] ** 2 * (valid[a] & valid[b])
            flow = w * (u[(slice(None), *b)] - u[(slice(None), *a)])
            rate[(slice(None), *a)] += flow
            rate[(slice(None), *b)] -= flow
        u, before = alpha * (u + cycle.tau * rate) + (1 - alpha) * before, u
    assert np.abs(advanced(case) - u)[:, valid].max() < 1e-10


@pytest.mark.parametrize("shape", [(61, 53), (17, 23, 19)])
@pytest.mark.parametrize("sigma", [0.6, 2.3])
def test_smoothing_far_from_walls_does_not_know_of_them(shape, sigma):
    """A window without walls and the whole image with some have the same bits beyond the reach of the taps."""
    spacing, image = (1.0,) * len(shape), np.random.default_rng(0).random((1, *shape)).astype(np.float32)
    valid = np.ones(shape, bool)
    valid[(0,) * len(shape)] = False
    free, walled = (smoothed(make_block(image, spacing, None, mask), sigma) for mask in (None, valid))
    far = (0, *(slice(gaussian_radius(sigma, spacing)[0] + 1, None),) * len(shape))
    assert np.array_equal(as_image(free, shape)[far], as_image(walled, shape)[far])
