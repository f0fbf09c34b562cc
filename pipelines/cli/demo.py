"""The main job on a real image that comes inside a package we depend on, so that it needs no download."""

from __future__ import annotations

import importlib.resources
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.cli.picture import read_colours, side_by_side, write_picture
from pipelines.image.source import SourceSpec
from pipelines.refusal import RefusedError
from pipelines.spec.spec import Spec, load_spec

INTRODUCTION = (
    "Denoising a real image: fields and woods from the air, on grainy film; it comes with PyWavelets.\n"
    "The first run on a machine also compiles the kernels, once; that takes most of its time."
)

SIDE = 1024
"""Pixels per side of what the picture shows at most."""


def prepare(folder: Path) -> Spec:
    """Put the image and its spec into a folder, and return the spec; files that are there stay as they are.

    Raises
    ------
    RefusedError
        For a folder that cannot be made, or a spec in it that was changed into something impossible.
    """
    if folder.exists() and not folder.is_dir():
        raise RefusedError(
            f"{folder} is a file. Give a folder for the demonstration, such as `diffuse demo here`."
        )
    folder.mkdir(parents=True, exist_ok=True)
    image, spec = folder / "aerial.png", folder / "spec.yaml"
    if not image.exists():
        write_picture(read_photograph(), image)
    if not spec.exists():
        part = folder / "spec.yaml.part"
        part.write_bytes((importlib.resources.files("pipelines.cli") / "demo.yaml").read_bytes())
        os.replace(part, spec)
    return load_spec(spec)


def read_photograph() -> NDArray[np.uint8]:
    """Return the grey aerial photograph of (512, 512) pixels that comes with PyWavelets."""
    # The file rather than `pywt.data.aero`: importing that at the top would take 30 ms of every verb.
    content = (importlib.resources.files("pywt.data") / "aero.npz").read_bytes()
    with np.load(io.BytesIO(content)) as arrays:
        return np.asarray(arrays["data"], np.uint8)


def finish(folder: Path, spec: Spec) -> dict[str, Any]:
    """Draw before and after side by side, and return where everything is and what to try next."""
    picture = folder / "before_after.png"
    before, after = (read_colours(part, SIDE) for part in (spec.source, SourceSpec(uri=spec.sink.uri)))
    write_picture(side_by_side([before, after]), picture)
    return {
        "input": spec.source.uri,
        "spec": str(folder / "spec.yaml"),
        "result": spec.sink.uri,
        "picture": str(picture),
        "report": f"{spec.workdir}/report.json",
        "next": [
            f"diffuse verify {spec.sink.uri}",
            f"diffuse plan {folder / 'spec.yaml'}",
            "diffuse apply perona-malik YOUR_IMAGE out.ome.zarr -p contrast='{quantile: 0.6}' --time 4",
            "diffuse list operators",
        ],
    }
