"""Compare the ways to fill unknown pixels with scikit-image's biharmonic equation; nothing passes or fails.

    python tests/benchmarks/bench_inpainting.py [--folder FOLDER] [--repeats 2] [--pictures FOLDER]

A folder holds triples NAME_clean.png, NAME_mask.png (not 0 where known) and NAME_input.png. Without one, photographs
that come with scikit-image are filled from a tenth and a twentieth of their pixels, under scratches, and in few holes;
scikit-image fills all at once and region by region. PSNR is of unknown pixels, for a range of 255; times are those of
the processor, the least of the repeats.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from skimage import data
from skimage.restoration import inpaint_biharmonic

import diffusion_ops as do
from tests.benchmarks.bench_steady import fastest

WAYS = do.Inpainting.parameters()["by"].values


def triples(folder: Path) -> Iterator[tuple[str, Any, Any, Any]]:
    """Yield name, clean image, image to be filled, and where that is known."""
    for path in sorted(folder.glob("*_clean.png")):
        name = path.name.removesuffix("_clean.png")
        clean, mask, given = (iio.imread(folder / f"{name}_{k}.png") for k in ("clean", "mask", "input"))
        yield name, clean, given, (mask if mask.ndim == 2 else mask[..., 0]) > 0


def photographs() -> Iterator[tuple[str, Any, Any, Any]]:
    """Yield the same of photographs with pixels taken away."""
    random = np.random.default_rng(0)
    for name in ("camera", "astronaut"):
        clean = getattr(data, name)()
        rows, columns = np.mgrid[: clean.shape[0], : clean.shape[1]]
        lost = {f"{name} {part:.0%}": random.random(clean.shape[:2]) >= part for part in (0.1, 0.05)}
        lost[f"{name} scratched"] = (rows + 3 * columns) % 97 < 12
        for title, gone in lost.items():
            yield title, clean, np.where(gone if clean.ndim == 2 else gone[..., None], 0, clean), ~gone
    for title, clean, count, side in (
        ("retina, ten holes", data.retina()[..., 1], 10, 20),
        ("camera, one hole", data.camera(), 1, 60),
    ):
        known = np.ones(clean.shape, bool)
        for _ in range(count):
            row, column = random.integers(0, np.subtract(clean.shape, side))
            known[row : row + side, column : column + side] = False
        yield title, clean, np.where(known, clean, 0), known


def psnr(filled: Any, clean: Any, known: Any) -> float:
    """Return the PSNR over unknown pixels in dB."""
    error = np.square(filled.astype(np.float64) - clean)[~known].mean()
    return float(10 * np.log10(255**2 / error)) if error else np.inf


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--pictures", type=Path, help="where to write what was filled")
    chosen = parser.parse_args()
    for name, clean, given, known in triples(chosen.folder) if chosen.folder else photographs():
        axis = -1 if given.ndim == 3 else None
        shape = " x ".join(map(str, given.shape))
        print(f"{name}, {shape}, {known.mean():.1%} known", flush=True)
        results, theirs = {}, {}
        for title, split in (("scikit-image", False), ("by regions", True)):
            theirs[title], filled = fastest(
                lambda given=given, known=known, axis=axis, split=split: inpaint_biharmonic(
                    given / 255, ~known, channel_axis=axis, split_into_regions=split
                ),
                chosen.repeats if known.mean() > 0.9 else 1,
            )
            results[title] = 255 * filled
            error = psnr(results[title], clean, known)
            print(f"  {title:15} {theirs[title]:8.3f} s {'':12} {error:6.2f} dB", flush=True)
        for by in WAYS:
            way = do.Inpainting(by=by)
            seconds, results[by] = fastest(
                lambda way=way, given=given, known=known, axis=axis: do.solve(
                    given, way, known=known, channel_axis=axis
                ),
                chosen.repeats,
            )
            error = psnr(results[by], clean, known)
            faster = min(theirs.values()) / seconds
            print(f"  {by:15} {seconds:8.3f} s {faster:6.1f} times {error:6.2f} dB", flush=True)
        if chosen.pictures:
            shown = [given, *results.values(), clean]
            row = np.concatenate([np.clip(np.rint(one), 0, 255).astype(np.uint8) for one in shown], axis=1)
            chosen.pictures.mkdir(parents=True, exist_ok=True)
            iio.imwrite(chosen.pictures / f"{name.replace(' ', '_')}.png", row)


if __name__ == "__main__":
    main()
