"""Define the options that verbs of the command share: their names, help and choices."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer


class Kind(StrEnum):
    """What can be listed."""

    operators = "operators"
    formats = "formats"
    clusters = "clusters"


class Spacing(StrEnum):
    """What time, contrast and sigma are measured in."""

    pixel = "pixel"
    units = "units"


class Channels(StrEnum):
    """Whether channels share one conductance."""

    joint = "joint"
    separate = "separate"


class Criterion(StrEnum):
    """What tells a good result without a clean image."""

    sure = "sure"
    j_invariance = "j-invariance"
    discrepancy = "discrepancy"
    decorrelation = "decorrelation"


HOW, READ, WRITE = "How it is carried out", "What is read", "What is written"
MANY = "Many sources"

SpecFile = Annotated[
    str, typer.Argument(metavar="SPEC", help="YAML file that says what to do.", show_default=False)
]
Target = Annotated[
    str, typer.Argument(metavar="RUN", help="The target of a run, or its .run folder.", show_default=False)
]
Memory = Annotated[
    str | None,
    typer.Option(
        help="Memory that the whole run may use, such as 2GiB.", rich_help_panel=HOW, metavar="SIZE"
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(help="Tasks at a time; all processors by default.", rich_help_panel=HOW, metavar="N"),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        help="A name of `diffuse list clusters`, or the address or file of a scheduler; threads by default.",
        rich_help_panel=HOW,
        metavar="NAME|ADDRESS",
    ),
]
ClusterOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--cluster-option",
        "-c",
        metavar="NAME=VALUE",
        help="Option of the cluster, such as -c workers=8; `diffuse list clusters slurm` names those of slurm.",
        rich_help_panel=HOW,
    ),
]
Walltime = Annotated[
    str | None,
    typer.Option(
        help="Begin no more tiles after so long, such as 50min: exit code 75, and the same command goes on.",
        rich_help_panel=HOW,
        metavar="TIME",
    ),
]
Dashboard = Annotated[
    bool,
    typer.Option(
        "--dashboard", help="Serve Dask's dashboard here, and say its address.", rich_help_panel=HOW
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace a target that exists.", rich_help_panel=HOW)
]
Workdir = Annotated[
    str | None,
    typer.Option(help="Folder or address of the run, where run.workdir was set.", metavar="FOLDER"),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print JSON: one object, or one per line and event while a run goes on."),
]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter",
        "-p",
        metavar="NAME=VALUE",
        help="Parameter of the operator, such as -p contrast=0.05.",
    ),
]
Candidates = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter",
        "-p",
        metavar="NAME=V1,V2,...",
        help="Values to choose from, such as -p contrast=4,8,16; every combination is tried.",
    ),
]
OperatorName = Annotated[
    str,
    typer.Argument(metavar="OPERATOR", help="Name, as in `diffuse list operators`.", show_default=False),
]
Source = Annotated[
    str, typer.Argument(metavar="SOURCE", help="Path or address of the image.", show_default=False)
]
Result = Annotated[
    str, typer.Argument(metavar="TARGET", help="Path or address of the result.", show_default=False)
]
Markers = Annotated[
    str | None,
    typer.Option(
        help="Where fronts start, or labels: an image of whole numbers, or a CSV or GeoJSON file of points.",
        metavar="FILE",
        rich_help_panel=READ,
    ),
]
Known = Annotated[
    str | None,
    typer.Option(help="Image that is not 0 where the source is known.", metavar="FILE", rich_help_panel=READ),
]
Time = Annotated[
    str | None, typer.Option(help="Diffusion time, in squared pixels, or auto.", metavar="NUMBER")
]
Steps = Annotated[int | None, typer.Option(help="Number of explicit steps.")]
StepSize = Annotated[float | None, typer.Option(help="Size of an explicit step.")]
Schedule = Annotated[str | None, typer.Option(help="explicit, cycles, or {cycles: count}.", metavar="WORD")]
SpacingUnit = Annotated[Spacing | None, typer.Option(help="Unit of time, contrast and sigma.")]
Dimensions = Annotated[int | None, typer.Option(help="Axes that diffuse together, 2 or 3.", metavar="N")]
ChannelCoupling = Annotated[Channels | None, typer.Option(help="Whether channels share one conductance.")]
Level = Annotated[int | None, typer.Option(help="Pyramid level, 0 is the finest.", rich_help_panel=READ)]
ArrayPath = Annotated[str | None, typer.Option(help="Array inside a Zarr or NetCDF.", rich_help_panel=READ)]
Series = Annotated[int | None, typer.Option(help="Image series of a TIFF file.", rich_help_panel=READ)]
Axes = Annotated[str | None, typer.Option(help="Axes where the file does not tell.", rich_help_panel=READ)]
NoData = Annotated[float | None, typer.Option(help="Value of invalid pixels.", rich_help_panel=READ)]
ComplexPart = Annotated[
    str | None,
    typer.Option("--complex", help="Of complex pixels: amplitude or intensity.", rich_help_panel=READ),
]
FormatName = Annotated[
    str | None,
    typer.Option("--format", help="Format of the result; by its ending by default.", rich_help_panel=WRITE),
]
PixelType = Annotated[str | None, typer.Option(help="Pixel type of the result.", rich_help_panel=WRITE)]
Pyramid = Annotated[str | None, typer.Option(help="auto, none, or how many levels.", rich_help_panel=WRITE)]
Each = Annotated[
    str | None,
    typer.Option(
        help="Sources, each of which the spec is carried out for: 'scans/*.tif', s3://bucket/in/, a list (.txt), "
        "a STAC catalogue (.json).",
        metavar="PATTERN",
        rich_help_panel=MANY,
    ),
]
Asset = Annotated[
    str | None,
    typer.Option(help="Which assets of a STAC catalogue.", metavar="NAME", rich_help_panel=MANY),
]
LedgerFile = Annotated[
    str | None,
    typer.Option(
        "--ledger",
        help="What became of each source: a file, or an address in a store (s3://) that machines share; SPEC.ledger by "
        "default.",
        metavar="FILE|ADDRESS",
        rich_help_panel=MANY,
    ),
]
Retries = Annotated[
    int,
    typer.Option(help="Tries of a failing source after the first.", min=0, max=1000, rich_help_panel=MANY),
]
Settle = Annotated[
    float,
    typer.Option(
        help="Seconds for which a source must not have changed.", min=0, max=86400, rich_help_panel=MANY
    ),
]
RetryQuarantined = Annotated[
    bool,
    typer.Option(
        "--retry-quarantined", help="Try again what was refused or failed too often.", rich_help_panel=MANY
    ),
]
Interval = Annotated[
    float, typer.Option(help="Seconds between two looks.", min=0.1, max=86400, rich_help_panel=MANY)
]
Once = Annotated[
    bool, typer.Option("--once", help="End when all that is there now is done.", rich_help_panel=MANY)
]
ShowLedger = Annotated[
    bool, typer.Option("--status", help="Show the ledger, and do nothing.", rich_help_panel=MANY)
]


def how_to_run(
    memory: str | None,
    threads: int | None,
    cluster: str | None,
    cluster_options: list[str] | None,
    dashboard: bool,
    walltime: str | None = None,
) -> dict[str, Any]:
    """Return the `run` section of a spec that the options say, with texts NAME=VALUE; what they do not say is None."""
    how = {"memory": memory, "threads": threads, "cluster": cluster, "dashboard": dashboard or None}
    return {**how, "walltime": walltime, "options": cluster_options}


def which_sources(
    each: str | None, asset: str | None, ledger: str | None, retries: int, settle: float
) -> dict[str, Any]:
    """Return what the options say of many sources."""
    return {"each": each, "asset": asset, "ledger": ledger, "retries": retries, "settle": settle}


def word_of(choice: StrEnum | None) -> str | None:
    """Return the word of a choice, None without one."""
    return None if choice is None else choice.value
