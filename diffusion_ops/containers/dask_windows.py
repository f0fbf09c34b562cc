"""Apply a function to every chunk of Dask arrays with its halo, and never rechunk."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.base import tokenize
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from diffusion_ops.containers.tiling import Tiling
from diffusion_ops.lazy_modules import LazyModule

if TYPE_CHECKING:
    import dask.array as da
else:
    da = LazyModule("dask.array")


def map_windows(
    function: Callable[..., Any],
    arrays: Sequence[Any],
    tiling: Tiling,
    chunks: tuple[tuple[int, ...], ...],
    dtype: np.dtype[Any],
    **arguments: Any,
) -> Any:
    """Return the lazy array of function(*windows, block_id=..., **arguments) of aligned windows of arrays.

    The argument `bound` may be lazy.
    """
    meta = np.empty((0,) * arrays[0].ndim, dtype)
    if not tiling.fits:
        return _gather_windows(function, arrays, tiling, chunks, meta, arguments)
    # A chunk that is alone along an axis has no neighbours to exchange with.
    depth = {a: h if len(tiling.chunks[a]) > 1 else 0 for a, h in enumerate(tiling.halo)}
    # trim=False: the function returns its chunk as an array of its own; a view would keep the window alive.
    return da.map_overlap(
        function,
        *arrays,
        depth=depth,
        boundary="none",
        trim=False,
        align_arrays=False,
        allow_rechunk=False,
        chunks=chunks,
        dtype=dtype,
        meta=meta,
        **arguments,
    )


def _gather_windows(
    function: Callable[..., Any],
    arrays: Sequence[Any],
    tiling: Tiling,
    chunks: tuple[tuple[int, ...], ...],
    meta: Any,
    arguments: Mapping[str, Any],
) -> Any:
    """Do what `map_overlap` does for a halo wider than a chunk: one task per chunk, no rechunk."""
    bound = arguments.get("bound")
    lazy = [bound] if isinstance(bound, Delayed) else []
    fixed = {name: value for name, value in arguments.items() if value is not bound or not lazy}
    name = f"windows-{tokenize(function, [a.name for a in arrays], tiling, fixed, [d.key for d in lazy])}"
    call = functools.partial(_call_on_windows, functools.partial(function, **fixed), tiling)
    graph: dict[Any, Any] = {}
    reads = [
        [[k for k, _ in tiling.chunk_slices(axis, i)] for i in range(len(sizes))]
        for axis, sizes in enumerate(tiling.chunks)
    ]
    for index in itertools.product(*(range(len(sizes)) for sizes in tiling.chunks)):
        read = [reads[axis][i] for axis, i in enumerate(index)]
        keys = [[(a.name, *chunk) for chunk in itertools.product(*read)] for a in arrays]
        graph[(name, *index)] = (call, list(index), keys, *(d.key for d in lazy))
    dependencies = [*arrays, *lazy]
    return da.Array(HighLevelGraph.from_collections(name, graph, dependencies), name, chunks, meta=meta)


def _call_on_windows(
    function: Callable[..., Any], tiling: Tiling, index: list[int], chunks: list[list[Any]], *bound: Any
) -> Any:
    windows = [tiling.gather(index, some) for some in chunks]
    return function(*windows, block_id=tuple(index), **({"bound": bound[0]} if bound else {}))
