"""Draw an operator before and after on a real image, for README.md and the site, and write README's table.

Run it as `python -m tests.pictures.make_pictures`, or with the names of some operators.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import color, data

import diffusion_ops as do
from diffusion_ops.evolution.operator import OPERATORS, Operator
from pipelines.cli.words import PICTURES, with_table
from pipelines.spec.describe import describe_operator

ROOT = Path(__file__).parents[2]
SIZE, GAP = 160, 4
LEVELS = 6
"""Grey levels apart: what noise leaves of a picture that the eye does not miss."""

Image = NDArray[Any]


def crop(image: Image, row: int, column: int) -> Image:
    """Return a square of an image, as floats."""
    return image[row : row + SIZE, column : column + SIZE].astype(np.float32)


def noisy(image: Image, level: float, law: str = "gaussian") -> Image:
    """Return an image with noise of a known law."""
    add = OPERATORS["random-noise"](level=level, law=law)
    return np.clip(do.evolve(image, add), 0, 255)


def contrasted(image: Image, factor: float) -> Image:
    """Return an image spread about its mean, as faint structures need to be to be seen."""
    return np.clip(128 + factor * (image - image.mean()), 0, 255)


def times_of(cost: Image) -> Image:
    """Return the times of a front that runs through the dark parts of an image, up to 255."""
    markers = np.zeros(cost.shape, np.int32)
    markers[73, 42] = 1
    times: Image = do.solve(cost, do.Eikonal("cost", order=2), markers=markers)
    return times / times.max() * 255


def holed(image: Image, known: float) -> Image:
    """Return an image with NaN, but for a part of its pixels."""
    return np.where(np.random.default_rng(0).random(image.shape) < known, image, np.nan).astype(np.float32)


IMAGES: dict[str, Callable[[], Image]] = {
    "man": lambda: crop(data.camera(), 60, 170),
    "noisy man": lambda: noisy(crop(data.camera(), 60, 170), 20),
    "speckled man": lambda: noisy(crop(data.camera(), 60, 170), 0.25, "speckle"),
    "peppered man": lambda: noisy(crop(data.camera(), 60, 170), 0.15, "impulse"),
    "holed man": lambda: holed(crop(data.camera(), 60, 170), 0.1),
    "coins": lambda: crop(data.coins(), 25, 20),
    "masked coins": lambda: 255 * (ndimage.gaussian_filter(crop(data.coins(), 25, 20), 2) > 107.0),
    "bricks": lambda: crop(data.brick(), 100, 100),
    "vessels": lambda: contrasted(crop(data.retina()[..., 1], 560, 980), 5),
    "times of vessels": lambda: times_of(contrasted(crop(data.retina()[..., 1], 560, 980), 5)),
    "noisy vessels": lambda: noisy(contrasted(crop(data.retina()[..., 1], 560, 980), 5), 20),
    "blurred text": lambda: ndimage.gaussian_filter(crop(data.text(), 0, 100), 1.5),
    "grey": lambda: np.full((SIZE, SIZE), 128, np.float32),
    "stained tissue": lambda: crop(data.immunohistochemistry(), 20, 230),
    "noisy scene": lambda: noisy(crop(data.astronaut(), 20, 150), 20),
}
"""Images that come with scikit-image, which may be passed on."""

IMAGES_IN_WORDS: dict[str, str] = {
    "man": "a part of `data.camera()`",
    "noisy man": "a part of `data.camera()` with Gaussian noise of 20 grey levels",
    "speckled man": "a part of `data.camera()` with speckle of 25 %",
    "peppered man": "a part of `data.camera()` with 15 % salt and pepper",
    "holed man": "a part of `data.camera()` of which 10 % of the pixels are known, the others black",
    "coins": "a part of `data.coins()`",
    "masked coins": "a mask of a part of `data.coins()`",
    "bricks": "a part of `data.brick()`",
    "vessels": "vessels of `data.retina()`",
    "times of vessels": "times of a front along vessels of `data.retina()`, later ones lighter",
    "noisy vessels": "vessels of `data.retina()` with Gaussian noise of 20 grey levels",
    "blurred text": "a part of `data.text()`, blurred with a Gaussian of 1.5 pixels",
    "grey": "an even grey",
    "stained tissue": "a part of `data.immunohistochemistry()`",
    "noisy scene": "a part of `data.astronaut()` with Gaussian noise of 20 grey levels",
}
"""The images in words, for captions."""


def drawn(name: str) -> Image:
    """Return an image before and after an operator, side by side."""
    operator = OPERATORS[name]
    wanted = operator.picture
    before = IMAGES[wanted.image]()
    axis = -1 if before.ndim == 3 else None
    after = carried_out(before, operator, axis)
    before = np.nan_to_num(before)
    panels = [before, labelled(before, after) if wanted.shown == "labels" else SHADES[wanted.shown](after)]
    colours = any(panel.ndim == 3 and panel.shape[-1] == 3 for panel in panels)
    flat = [panel if panel.ndim == 3 or not colours else np.stack([panel] * 3, axis=-1) for panel in panels]
    gap = np.full((SIZE, GAP, *flat[0].shape[2:]), 255, np.float32)
    picture = np.concatenate([flat[0], gap, flat[1]], axis=1)
    return np.clip(np.rint(picture / LEVELS) * LEVELS, 0, 255).astype(np.uint8)


def carried_out(image: Image, operator: type[Operator], axis: int | None) -> Image:
    """Return the result of an operator on the image of its picture."""
    made, wanted = operator(**operator.picture.parameters), operator.picture
    if operator.controlled_by != "convergence":
        found: Image = do.evolve(image, made, channel_axis=axis, **extent(operator))
        return found
    beside = {}
    if wanted.markers:
        beside["markers"] = np.zeros(image.shape[:2], np.int32)
        for label, place in enumerate(wanted.markers, start=1):
            beside["markers"][place] = label
    solved: Image = do.solve(image, made, channel_axis=axis, **beside)
    return solved


def labelled(image: Image, labels: Image) -> Image:
    """Return an image with its regions in colours."""
    found: Image = color.label2rgb(labels.astype(int), image / 255, alpha=0.4, bg_label=0) * 255
    return found


def extent(operator: type[Operator]) -> dict[str, Any]:
    """Return how far an operator goes in its picture."""
    return dict(operator.picture.far) or ({"time": 4} if operator.controlled_by == "time" else {})


def stretched(values: Image) -> Image:
    """Return values spread from black to white; of one channel, if they have one, without its axis."""
    values = values[..., 0] if values.shape[-1] == 1 else values
    low, high = np.percentile(values, [1, 99])
    return (values - low) / max(high - low, 1e-9) * 255


def hues(angles: Image) -> Image:
    """Return angles of lines, which come again after π, as colours."""
    hue = np.mod(angles, np.pi) / np.pi
    return color.hsv2rgb(np.stack([hue, np.full_like(hue, 0.8), np.full_like(hue, 0.9)], axis=-1)) * 255


def coloured(labels: Image) -> Image:
    """Return labels as colours that differ, and 0 as black."""
    # The golden ratio leaves no two of the first labels near each other.
    hue = np.mod(labels * 0.618034, 1)
    bright = np.where(labels > 0, 0.9, 0)
    return color.hsv2rgb(np.stack([hue, np.full_like(hue, 0.7), bright], axis=-1)) * 255


SHADES: dict[str, Callable[[Image], Image]] = {
    "grey levels": lambda values: values,
    "stretched": stretched,
    "angles": hues,
    "labels": coloured,
}


def main(*names: str) -> None:
    """Write the pictures of some operators or of all, and the table into README."""
    folder = ROOT / PICTURES
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        if old.stem not in OPERATORS:
            os.remove(old)
    for name in names or OPERATORS:
        imageio.imwrite(folder / f"{name}.png", drawn(name), optimize=True)
    readme = ROOT / "README.md"
    entries = [describe_operator(cls) for cls in OPERATORS.values()]
    readme.write_text(with_table(readme.read_text(encoding="utf-8"), entries), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
