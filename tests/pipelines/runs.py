"""Small images, specs and readers that the tests of runs share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr

from pipelines.spec.spec import Spec, make_spec
from pipelines.store.addresses import is_remote, within
from pipelines.store.listings import tree
from pipelines.store.places import place_of


def ragged_image(shape: tuple[int, ...] = (331, 457), seed: int = 0, holes: bool = True) -> np.ndarray:
    """Return float32 noise on a slope, with NaN holes."""
    random = np.random.default_rng(seed)
    image = (random.random(shape) * 100 + np.indices(shape).sum(0) % 97).astype(np.float32)
    if holes:
        image[..., 40:60, 70:200] = np.nan
        image[..., 5, 5] = np.nan
    return image


def save_source(folder: Path, image: np.ndarray) -> str:
    """Write an image as .npy and return its path."""
    path = folder / "source.npy"
    np.save(path, image)
    return str(path)


def small_spec(source: str, target: Path | str, /, **sections: Any) -> Spec:
    """Return a spec that cuts a small image into many tiles and several passes.

    The contrast is far above the image's range, so that conductances are near 1 and a halo that is too
    short would show.
    """
    data: dict[str, Any] = {
        "source": {"uri": source},
        "steps": [{"operator": "perona-malik", "contrast": 5000, "conductance": "rational", "steps": 9}],
        "sink": {"uri": str(target), "chunk": 64},
        "run": {"tile": 64, "batch": 4, "threads": 2, "memory": "2GiB"},
    }
    for section, values in sections.items():
        data[section] = (
            {**data[section], **values} if isinstance(values, dict) and section in data else values
        )
    return make_spec(data)


def contents_of(uri: Path | str) -> dict[str, bytes]:
    """Return the bytes of all files or objects at a path or address, by name; nothing where nothing is."""
    if is_remote(str(uri)):
        place, base = place_of(str(uri))
        try:
            return {e.name: place.read(within(base, e.name)) for e in tree(place, base)}
        except FileNotFoundError:
            return {"": place.read(base)} if place.entry(base) else {}
    path = Path(uri)
    if path.is_file():
        return {"": path.read_bytes()}
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def read_result(target: Path | str) -> np.ndarray:
    """Return the finest level of a plain Zarr or OME-Zarr result."""
    node = zarr.open(str(target), mode="r")
    if isinstance(node, zarr.Array):
        return np.asarray(node[...])
    ome = node.attrs.get("ome")
    name = ome["multiscales"][0]["datasets"][0]["path"] if ome else next(iter(node.array_keys()))
    return np.asarray(node[name][...])
