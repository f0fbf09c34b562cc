"""Draw an image that is filled from a tenth of its pixels, for a guide: `python -m tests.pictures.make_inpainting`."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as imageio
import numpy as np
from skimage import data

import diffusion_ops as do

WAYS = ("harmonic", "total-variation", "edge-enhancing")


def main() -> None:
    """Write the picture: what is known, the image filled in three ways, and the image itself."""
    image = data.camera()
    known = np.random.default_rng(0).random(image.shape) < 0.1
    filled = [do.solve(image, do.Inpainting(by=by), known=known, dtype=np.uint8) for by in WAYS]
    shown = [np.where(known, image, 255), *filled, image]
    part = (slice(60, 290), slice(130, 330))
    gap = np.full((230, 6), 255, np.uint8)
    row = [one for picture in shown for one in (picture[part], gap)][:-1]
    path = Path(__file__).parents[2] / "notebooks" / "filled.png"
    imageio.imwrite(path, np.concatenate(row, axis=1).astype(np.uint8), compress_level=9)


if __name__ == "__main__":
    main()
