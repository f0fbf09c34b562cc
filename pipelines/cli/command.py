"""Define the command `diffuse`: its verbs and options; `pipelines.cli.verbs` carries them out.

Nothing heavy is imported before a verb needs it, so that help and completion are instant.
"""

from __future__ import annotations

import gc
import importlib.metadata
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import lazy_loader
import typer

from pipelines.cli.exit_codes import DONE, app_options, finish
from pipelines.cli.options import (
    ArrayPath,
    Asset,
    Axes,
    Candidates,
    ChannelCoupling,
    Cluster,
    ClusterOptions,
    ComplexPart,
    Criterion,
    Dashboard,
    Dimensions,
    Each,
    FormatName,
    Interval,
    Json,
    Kind,
    Known,
    LedgerFile,
    Level,
    Markers,
    Memory,
    NoData,
    Once,
    OperatorName,
    Overwrite,
    Parameters,
    PixelType,
    Pyramid,
    Result,
    Retries,
    RetryQuarantined,
    Schedule,
    Series,
    Settle,
    ShowLedger,
    Source,
    SpacingUnit,
    SpecFile,
    Steps,
    StepSize,
    Target,
    Threads,
    Time,
    Walltime,
    Workdir,
    how_to_run,
    which_sources,
    word_of,
)

if TYPE_CHECKING:
    from pipelines.cli import verbs, watching
else:
    verbs = lazy_loader.load("pipelines.cli.verbs", suppress_warning=True)
    watching = lazy_loader.load("pipelines.cli.watching", suppress_warning=True)

app = typer.Typer(
    name="diffuse",
    help="Diffusion PDEs on images that do not fit in memory: exact, bounded, never lost.",
    epilog="Exit codes: 0 done, 2 refused, 3 failed or tiles left, 75 cancelled or stopped at its walltime, "
    "130 interrupted, 143 terminated; the same command goes on.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def carry_out(work: Callable[[], int], json_output: bool, *, resumable: bool = False) -> None:
    """Import the verbs, do the work of one, and leave with its exit code; see `finish`."""

    def loaded() -> int:
        _load_verbs()
        return work()

    finish(loaded, json_output, resumable=resumable)


def _load_verbs() -> None:
    """Import what carries out the verbs; it all stays, and looking through it for garbage took 0.25 s of a second."""
    collects = gc.isenabled()
    gc.disable()
    try:
        # The first attribute that is asked for imports a lazy module.
        assert verbs.DONE == DONE
        gc.freeze()
    finally:
        if collects:
            gc.enable()


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"diffuse {importlib.metadata.version('diffuse')}")
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    show_traceback: Annotated[
        bool, typer.Option("--traceback", help="Say where in the code an error arose.")
    ] = False,
) -> None:
    """Diffusion PDEs on images that do not fit in memory: exact, bounded, never lost."""
    app_options["traceback"] = show_traceback


@app.command()
def demo(
    folder: Annotated[str, typer.Argument(help="Where input, result, report and picture go.")] = "demo",
    memory: Memory = None,
    threads: Threads = None,
    cluster: Cluster = None,
    cluster_option: ClusterOptions = None,
    dashboard: Dashboard = False,
    overwrite: Overwrite = False,
    json_output: Json = False,
) -> None:
    """Denoise a real image that comes along, and say where the result and the report are."""
    how = how_to_run(memory, threads, cluster, cluster_option, dashboard)
    carry_out(lambda: verbs.demo(folder, how, overwrite, json_output), json_output, resumable=True)


@app.command()
def apply(
    operator: OperatorName,
    source: Source,
    target: Result,
    markers: Markers = None,
    known: Known = None,
    time: Time = None,
    steps: Steps = None,
    dt: StepSize = None,
    schedule: Schedule = None,
    parameter: Parameters = None,
    spacing: SpacingUnit = None,
    ndim: Dimensions = None,
    channels: ChannelCoupling = None,
    level: Level = None,
    path: ArrayPath = None,
    series: Series = None,
    axes: Axes = None,
    nodata: NoData = None,
    complex_part: ComplexPart = None,
    format_name: FormatName = None,
    dtype: PixelType = None,
    pyramid: Pyramid = None,
    memory: Memory = None,
    threads: Threads = None,
    cluster: Cluster = None,
    cluster_option: ClusterOptions = None,
    walltime: Walltime = None,
    dashboard: Dashboard = False,
    overwrite: Overwrite = False,
    json_output: Json = False,
) -> None:
    """Apply one operator to an image, without a spec file."""
    step = {"operator": operator, "time": time, "steps": steps, "dt": dt, "schedule": schedule}
    step |= {"markers": markers, "known": known}
    spec: dict[str, dict[str, Any]] = {
        "source": {
            "uri": source,
            "level": level,
            "path": path,
            "series": series,
            "axes": axes,
            "nodata": nodata,
            "complex": complex_part,
        },
        "image": {"ndim": ndim, "channels": word_of(channels), "spacing": word_of(spacing)},
        "sink": {"uri": target, "format": format_name, "dtype": dtype, "pyramid": pyramid},
        "run": how_to_run(memory, threads, cluster, cluster_option, dashboard, walltime),
    }
    carry_out(
        lambda: verbs.apply(step, parameter or [], spec, overwrite, json_output), json_output, resumable=True
    )


@app.command()
def plan(
    spec: SpecFile,
    memory: Memory = None,
    threads: Threads = None,
    cluster: Cluster = None,
    cluster_option: ClusterOptions = None,
    dashboard: Dashboard = False,
    json_output: Json = False,
) -> None:
    """Say what a spec would take: tiles, passes, bytes, memory, time. Nothing is written."""
    how = how_to_run(memory, threads, cluster, cluster_option, dashboard)
    carry_out(lambda: verbs.plan(spec, how, json_output), json_output)


@app.command()
def run(
    spec: SpecFile,
    memory: Memory = None,
    threads: Threads = None,
    cluster: Cluster = None,
    cluster_option: ClusterOptions = None,
    walltime: Walltime = None,
    dashboard: Dashboard = False,
    overwrite: Overwrite = False,
    each: Each = None,
    asset: Asset = None,
    ledger: LedgerFile = None,
    retries: Retries = 3,
    settle: Settle = 10.0,
    retry_quarantined: RetryQuarantined = False,
    json_output: Json = False,
) -> None:
    """Carry out a spec, or go on where an interrupted run stopped; with --each for every source that is there."""
    how = how_to_run(memory, threads, cluster, cluster_option, dashboard, walltime)
    which = which_sources(each, asset, ledger, retries, settle)
    carry_out(
        lambda: watching.run(spec, how, which, overwrite, retry_quarantined, json_output),
        json_output,
        resumable=True,
    )


@app.command()
def watch(
    spec: SpecFile,
    each: Each = None,
    asset: Asset = None,
    interval: Interval = 60.0,
    once: Once = False,
    show_ledger: ShowLedger = False,
    ledger: LedgerFile = None,
    retries: Retries = 3,
    settle: Settle = 10.0,
    retry_quarantined: RetryQuarantined = False,
    memory: Memory = None,
    threads: Threads = None,
    cluster: Cluster = None,
    cluster_option: ClusterOptions = None,
    walltime: Walltime = None,
    dashboard: Dashboard = False,
    overwrite: Overwrite = False,
    json_output: Json = False,
) -> None:
    """Carry out a spec for every source that appears, each exactly once, until stopped."""
    if show_ledger:
        carry_out(lambda: watching.show_ledger(spec, ledger, json_output), json_output)
    how = how_to_run(memory, threads, cluster, cluster_option, dashboard, walltime)
    which = which_sources(each, asset, ledger, retries, settle)
    every = None if once else interval
    carry_out(
        lambda: watching.watch(spec, how, which, every, overwrite, retry_quarantined, json_output),
        json_output,
        resumable=True,
    )


@app.command()
def status(target: Target, workdir: Workdir = None, json_output: Json = False) -> None:
    """Say where a run stands: tiles done, left and failed."""
    carry_out(lambda: verbs.status(target, workdir, json_output), json_output)


@app.command()
def cancel(target: Target, workdir: Workdir = None, json_output: Json = False) -> None:
    """Let a run end after the tiles that are at work; the same `diffuse run` goes on."""
    carry_out(lambda: verbs.cancel(target, workdir, json_output), json_output)


@app.command()
def preview(
    spec: SpecFile,
    roi: Annotated[str, typer.Option(help="Region, in pixels of the source.", metavar="Y0:Y1,X0:X1")],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="Where the region goes; beside the target by default."),
    ] = None,
    memory: Memory = None,
    threads: Threads = None,
    cluster: Cluster = None,
    cluster_option: ClusterOptions = None,
    dashboard: Dashboard = False,
    json_output: Json = False,
) -> None:
    """Compute a region alone, with the same bits as in the full run."""
    how = how_to_run(memory, threads, cluster, cluster_option, dashboard)
    carry_out(lambda: verbs.preview(spec, roi, output, how, json_output), json_output)


@app.command()
def tune(
    spec: SpecFile,
    step: Annotated[str | None, typer.Option(help="Name of the step; the last by default.")] = None,
    criterion: Annotated[
        Criterion, typer.Option(help="What tells a good result without a clean image.")
    ] = Criterion.sure,
    times: Annotated[
        str | None, typer.Option(help="Times to choose from; 27 of them by default.", metavar="T1,T2,...")
    ] = None,
    parameter: Candidates = None,
    noise: Annotated[
        float | None, typer.Option(help="Level of the noise, in image units; estimated by default.")
    ] = None,
    samples: Annotated[int, typer.Option(help="Samples to look at, each of 65,536 pixels.", min=1)] = 16,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Also say what all of them gain together, with weights.")
    ] = False,
    memory: Memory = None,
    json_output: Json = False,
) -> None:
    """Choose the time and parameters of a step from samples of the image, and say what to put into the spec."""
    asked = {
        "step": step or "",
        "criterion": criterion.value,
        "noise": noise,
        "samples": samples,
        "ensemble": ensemble,
    }
    carry_out(lambda: verbs.tune(spec, asked, times, parameter or [], memory, json_output), json_output)


@app.command()
def warm(spec: SpecFile, json_output: Json = False) -> None:
    """Compile the kernels that a spec needs, and keep them: for container images, and before many workers start."""
    carry_out(lambda: verbs.warm(spec, json_output), json_output)


@app.command()
def verify(
    target: Target,
    samples: Annotated[int, typer.Option(help="Random windows to compute again.", min=1)] = 16,
    workdir: Workdir = None,
    json_output: Json = False,
) -> None:
    """Compare what a run has written with its journal, and random windows with the source, bit by bit."""
    carry_out(lambda: verbs.verify(target, samples, workdir, json_output), json_output)


@app.command()
def repair(target: Target, workdir: Workdir = None, json_output: Json = False) -> None:
    """Compute what is damaged in a result again, and only that where it can be."""
    carry_out(lambda: verbs.repair(target, workdir, json_output), json_output, resumable=True)


@app.command("list")
def list_(
    kind: Annotated[Kind, typer.Argument(help="What to list.", show_default=False)],
    name: Annotated[str | None, typer.Argument(help="Only this one.")] = None,
    json_output: Json = False,
) -> None:
    """Say what there is: operators with parameters and units, formats, clusters."""
    carry_out(lambda: verbs.list_plugins(kind.value, name, json_output), json_output)


@app.command()
def schema() -> None:
    """Print the JSON schema of specs, for editors."""
    carry_out(lambda: verbs.schema(), json_output=True)


def _show_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Show an exception that Python ignores with --traceback alone.

    It says nothing that a user could do: a coroutine of a library that an error has cut short, a look of Dask's at the
    garbage collector that began in the middle.
    """
    if app_options["traceback"]:
        sys.__unraisablehook__(unraisable)


def main() -> None:
    """Run the command `diffuse`."""
    sys.unraisablehook = _show_unraisable
    # So does asyncio of what nobody has waited for, such as an answer of a worker that the end of a run cuts short.
    logging.getLogger("asyncio").addFilter(lambda record: app_options["traceback"])
    app()


if __name__ == "__main__":
    main()
