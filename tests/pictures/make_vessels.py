"""Draw shortest paths along vessels for a guide: `python -m tests.pictures.make_vessels`."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as imageio
import numpy as np
from scipy import ndimage
from skimage import data

import diffusion_ops as do

SEED = (5, 305)
"""A pixel of a large vessel, in the part that is drawn."""

ENDS = ((255, 428), (362, 150), (396, 252), (82, 113))
"""Pixels at the ends of vessels."""


def main() -> None:
    """Write the picture: the green channel, with the paths in colours."""
    green = data.retina()[500:900, 900:1340, 1].astype(np.float32)
    smooth = do.evolve(green, do.Heat(), time=2)
    # Vessels are darker than what is around them.
    depth = np.clip(ndimage.gaussian_filter(smooth, 12) - smooth, 0, None)
    speed = 0.02 + (depth / depth.max()) ** 2
    seeds, ends = np.zeros(green.shape, int), np.zeros(green.shape, int)
    seeds[SEED] = 1
    for label, end in enumerate(ENDS, start=1):
        ends[end] = label
    times = do.solve(speed, do.Eikonal(order=2), markers=seeds)
    labels = do.solve(times, do.ShortestPath(), markers=ends)
    shades = np.clip((green - green.min()) / np.ptp(green) * 255, 0, 255)
    picture = np.stack([shades] * 3, axis=-1).astype(np.uint8)
    colours = np.array([[0, 0, 0], [255, 90, 60], [80, 170, 255], [255, 220, 60], [90, 230, 120]], np.uint8)
    wide = ndimage.grey_dilation(labels, size=3)
    picture[wide > 0] = colours[wide[wide > 0]]
    path = Path(__file__).parents[2] / "notebooks" / "vessels.png"
    imageio.imwrite(path, picture, compress_level=9)


if __name__ == "__main__":
    main()
