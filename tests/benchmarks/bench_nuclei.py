"""Quality of the specs of nuclei in `deploy/` on DSB2018, beside usual recipes, by two figures for each image.

    python -m tests.benchmarks.bench_nuclei ../shared/data/segment/DSB2018

F1 of objects at an overlap of 0.5, and the aggregated Jaccard index (Kumar et al. 2017). Parameters were chosen on
every third image of a kind; the mean is that of the others. The recipes are scikit-image's: Otsu's threshold, of the
hematoxylin of `rgb2hed` where the picture is stained, maxima of the distance to the ground at least MIN_DISTANCE
apart, which was chosen on the same images, and a watershed from them.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
from scipy import ndimage
from skimage.color import rgb2hed
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from pipelines.image.open_source import open_source
from pipelines.image.source import SourceSpec, read_canonical
from pipelines.run.run import run
from pipelines.spec.spec import load_spec

DEPLOY = Path(__file__).parents[2] / "deploy"
MIN_DISTANCE = 7


def grey(image: Any) -> Any:
    """Return the mean of the colours."""
    return np.rint(image.mean(axis=-1)).astype(np.uint8)


def hematoxylin(image: Any) -> Any:
    """Return how much of it a stained picture shows."""
    return rgb2hed(image)[..., 0]


KINDS: dict[str, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "Gd": ("fluorescence_nuclei", grey, grey),
    "HEb": ("stained_nuclei", np.asarray, hematoxylin),
}
"""Kinds of images by how their names begin: the spec, what it reads, and what the recipe takes a threshold of."""


def overlaps(found: Any, truth: Any) -> tuple[Any, Any]:
    """Return the shared cells of every pair of labels, background first, and the cells of their union."""
    wide = int(truth.max()) + 1
    pairs = np.bincount(
        (found.astype(np.int64) * wide + truth).ravel(), minlength=(int(found.max()) + 1) * wide
    )
    shared = pairs.reshape(-1, wide)
    return shared, shared.sum(axis=1, keepdims=True) + shared.sum(axis=0, keepdims=True) - shared


def objects_f1(shared: Any, union: Any) -> float:
    """Return 2 TP / (found + true objects), where a pair whose overlap is above half of its union is a hit."""
    hits = (2 * shared > union)[1:, 1:].sum()
    objects = (shared.sum(axis=1)[1:] > 0).sum() + (shared.sum(axis=0)[1:] > 0).sum()
    return float(2 * hits / objects)


def aggregated_jaccard(shared: Any, union: Any) -> float:
    """Return Σ shared / Σ union over true objects and their best match, with found objects that match none below."""
    true, best = (
        np.flatnonzero(shared.sum(axis=0)[1:]) + 1,
        (shared / np.maximum(union, 1))[1:].argmax(axis=0) + 1,
    )
    matched = best[true]
    met = shared[matched, true] > 0
    below = np.where(met, union[matched, true], shared.sum(axis=0)[true]).sum()
    alone = np.setdiff1d(np.arange(1, len(shared)), matched[met])
    return float(shared[matched, true].sum() / (below + shared[alone].sum()))


def by_spec(name: str, image: Any, folder: Path) -> Any:
    """Return the labels of a spec."""
    imageio.imwrite(folder / "image.png", image)
    text = (DEPLOY / f"{name}.yaml").read_text(encoding="utf-8")
    image_there = load_spec(DEPLOY / f"{name}.yaml").source.uri
    (folder / "spec.yaml").write_text(text.replace(Path(image_there).name, "image.png"), encoding="utf-8")
    spec = load_spec(folder / "spec.yaml")
    assert run(spec, overwrite=True).exit_code == 0
    return read_canonical(open_source(SourceSpec(uri=spec.sink.uri)), {}).squeeze()


def by_recipe(image: Any) -> Any:
    """Return the labels of scikit-image's watershed of distances."""
    inside = image > threshold_otsu(image)
    depth = ndimage.distance_transform_edt(inside)
    markers = np.zeros(image.shape, int)
    places = peak_local_max(depth, min_distance=MIN_DISTANCE, labels=ndimage.label(inside)[0])
    markers[tuple(places.T)] = np.arange(1, len(places) + 1)
    return watershed(-depth, markers, mask=inside)


def compare(kind: str, folder: Path) -> None:
    """Print both figures of every image of a kind, and the means of those that nothing was chosen on."""
    name, read, measured = KINDS[kind]
    means = []
    for number, path in enumerate(p for p in sorted(folder.glob(f"{kind}_*.png")) if "_labels" not in p.name):
        image = imageio.imread(path)[..., :3]
        truth = imageio.imread(path.with_name(f"{path.stem}_labels.png")).astype(int)
        with tempfile.TemporaryDirectory() as place:
            found = [by_spec(name, read(image), Path(place)), by_recipe(measured(image))]
        pairs = [overlaps(one, truth) for one in found]
        row = [figure(*pair) for pair in pairs for figure in (objects_f1, aggregated_jaccard)]
        means += [row] if number % 3 else []
        print(f"{path.stem:24} {told(row)}{'' if number % 3 else '  (chosen on)'}", flush=True)
    print(f"{f'mean of the others, {kind}':24} {told(np.mean(means, axis=0))}", flush=True)


def told(row: Any) -> str:
    """Return F1 and the aggregated Jaccard index of both in words."""
    return "spec {:.3f} {:.3f}  scikit-image {:.3f} {:.3f}".format(*row)


def main() -> None:
    """Compare every kind of images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", choices=KINDS)
    given = parser.parse_args()
    for kind in [given.kind] if given.kind else KINDS:
        compare(kind, given.folder)


if __name__ == "__main__":
    main()
