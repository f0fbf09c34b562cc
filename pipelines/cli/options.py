"""Options that verbs of the command share: their names, help and choices."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

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
        help="threads, local (processes), or the address of a scheduler.",
        rich_help_panel=HOW,
        metavar="NAME|ADDRESS",
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
    str | None, typer.Option(help="Folder of the run, where run.workdir was set.", metavar="FOLDER")
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
