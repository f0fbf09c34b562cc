"""Quality of `deploy/fluorescence_nuclei.yaml` on DSB2018: F1 of objects at an overlap of 0.5, beside a usual recipe.

    python -m tests.benchmarks.bench_nuclei ../shared/data/segment/DSB2018

Parameters were chosen on every third image; the mean is that of the others. The recipe is scikit-image's: Otsu's
threshold, maxima of the distance to the ground at least MIN_DISTANCE apart, which was chosen on the same images, and a
watershed from them.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from pipelines.image.open_source import open_source
from pipelines.image.source import SourceSpec, read_canonical
from pipelines.run.run import run
from pipelines.spec.spec import load_spec

SPEC = Path(__file__).parents[2] / "deploy" / "fluorescence_nuclei.yaml"
MIN_DISTANCE = 7


def objects_f1(found: Any, truth: Any) -> float:
    """Return 2 TP / (found + true objects), where a pair whose overlap is above half of its union is a hit."""
    wide = int(truth.max()) + 1
    pairs = np.bincount(
        (found.astype(np.int64) * wide + truth).ravel(), minlength=(int(found.max()) + 1) * wide
    )
    shared = pairs.reshape(-1, wide)
    union = shared.sum(axis=1, keepdims=True) + shared.sum(axis=0, keepdims=True) - shared
    hits = (2 * shared > union)[1:, 1:].sum()
    objects = (shared.sum(axis=1)[1:] > 0).sum() + (shared.sum(axis=0)[1:] > 0).sum()
    return float(2 * hits / objects)


def by_spec(image: Any, folder: Path) -> Any:
    """Return the labels of the spec."""
    np.save(folder / "image.npy", image)
    text = SPEC.read_text(encoding="utf-8").replace("uri: nuclei.ome.zarr", "uri: image.npy")
    (folder / SPEC.name).write_text(text, encoding="utf-8")
    spec = load_spec(folder / SPEC.name)
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


def main() -> None:
    """Print the F1 of every image, and the mean of those that nothing was chosen on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    means = []
    images = [p for p in sorted(parser.parse_args().folder.glob("Gd_*.png")) if "_labels" not in p.name]
    for number, path in enumerate(images):
        grey = np.rint(imageio.imread(path)[..., :3].mean(axis=-1)).astype(np.uint8)
        truth = imageio.imread(path.with_name(f"{path.stem}_labels.png")).astype(int)
        with tempfile.TemporaryDirectory() as folder:
            both = [objects_f1(found, truth) for found in (by_spec(grey, Path(folder)), by_recipe(grey))]
        means += [both] if number % 3 else []
        print(
            f"{path.stem:24} spec {both[0]:.3f}  scikit-image {both[1]:.3f}{'' if number % 3 else '  (chosen on)'}"
        )
    print("mean of the others       spec {:.3f}  scikit-image {:.3f}".format(*np.mean(means, axis=0)))


if __name__ == "__main__":
    main()
