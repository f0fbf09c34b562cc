"""Compute a region alone, with the bits that it has in the full run."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.events import Listener
from pipelines.image.info import ImageInfo
from pipelines.image.kept_sources import cached_source
from pipelines.image.sink import SinkSpec
from pipelines.image.window import Region
from pipelines.record.workdir import Workdir
from pipelines.refusal import RefusedError
from pipelines.run.driver import Driver
from pipelines.run.run import check_place
from pipelines.run.warm import plan_run
from pipelines.spec.spec import Spec
from pipelines.store.addresses import labelled_image
from pipelines.store.targets import is_taken
from pipelines.tasks.process import prepare_process
from pipelines.tasks.workers import check_cluster
from pipelines.tuning.times import settle_times


def preview(spec: Spec, roi: str, output: str, listeners: Sequence[Listener] = ()) -> dict[str, Any]:
    """Write a region of the result to `output` and return the report's data.

    The region is read with the halo of all steps and computed in one pass; statistics are measured over the whole image
    first, as in the full run.

    Parameters
    ----------
    spec : Spec
    roi : str
        "Y0:Y1,X0:X1", or with more axes in front in the order t, c, z; a missing bound is the image's.
    output : str
        Path whose ending says the format; must not exist.

    Raises
    ------
    RefusedError
        For a region outside the image, an output that exists or lies inside the source, or a statistic that only the
        full run can measure.
    """
    prepare_process(spec.run.threads)
    source = cached_source(spec.source)
    info = source.info
    region = parse_roi(roi, info)
    if is_taken(output):
        raise RefusedError(f"The output {output} exists already. Choose another, or remove it.")
    if labelled_image(output) is not None:
        raise RefusedError(
            f"{output}: a part of an image cannot be among its labels. Give a path of its own."
        )
    check_place(spec, output)
    check_cluster(spec.run.cluster, spec.run.dashboard)
    settled = settle_times(spec, source, listeners, Workdir(spec.workdir).begun)
    with tempfile.TemporaryDirectory(prefix=".preview-", dir=Path(output).absolute().parent) as folder:
        sink = SinkSpec(uri=output, dtype=spec.sink.dtype, pyramid="none")
        run = spec.run.model_copy(update={"workdir": folder, "batch": None})
        part = settled.spec.model_copy(update={"sink": sink, "run": run})
        plan = plan_run(part, info, roi=region)
        return Driver(part, plan, Workdir(folder), listeners, settled.tuning).run()


def parse_roi(text: str, info: ImageInfo) -> Region:
    """Return the region that "Y0:Y1,X0:X1" means, per canonical axis of an image.

    Raises
    ------
    RefusedError
        For text of another form, and for regions that are empty or outside the image.
    """
    axes = info.canonical_axes
    parts = [part.strip() for part in text.split(",")]
    if not 2 <= len(parts) <= len(axes) or not all(re.fullmatch(r"\d*:\d*", part) for part in parts):
        raise RefusedError(
            f"--roi {text!r} is not a region. Give Y0:Y1,X0:X1 in pixels, such as 0:512,1024:1536 "
            f"(the image has axes {axes})."
        )
    region = [slice(0, info.size(a)) for a in axes[: len(axes) - len(parts)]]
    for a, part in zip(axes[-len(parts) :], parts, strict=True):
        start, stop = (
            int(v) if v else default for v, default in zip(part.split(":"), (0, info.size(a)), strict=True)
        )
        if not start < stop <= info.size(a):
            raise RefusedError(
                f"--roi {text!r}: {a} {start}:{stop} is empty or outside the image. Allowed: within 0:{info.size(a)}."
            )
        region.append(slice(start, stop))
    return tuple(region)
