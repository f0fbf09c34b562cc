"""Draw plans, reports, states and lists for people; takes plain values, and decides nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pipelines.cli.wording import bytes_text, count_text, plural, shape_text, speed_text, time_text
from pipelines.cli.words import dimensions_text, goes_text, halo_text, keeps_text

LINE = 1000
"""Largest number of characters of a line in files and pipes, which have no width of their own."""

SHOWN_FAILURES = 10
"""Failed tiles that are named on a terminal; all of them are in the report."""


def plan(summary: Mapping[str, Any], source: str, target: str) -> RenderableType:
    """Return a picture of `Plan.summary`."""
    s, finest = summary, summary["result"]["levels"][0]
    result = f"{shape_text(finest['shape'], finest['axes'])}, {s['result']['dtype']}"
    chunked = f"{plural(len(s['result']['levels']), 'level')}, chunks {shape_text(finest['chunks'])}"
    facts = {
        "source": source,
        "": f"{shape_text(s['source']['shape'], s['source']['axes'])}, {s['source']['dtype']}",
        "target": target,
        " ": f"a table, of labels of {result}" if s["result"]["table"] else f"{result}, {chunked}",
        "diffuses along": f"{', '.join(s['diffuses_along'])}, spacing {_numbers_text(s['spacing'])}",
        "tile": shape_text(s["tile"], s["axes"]),
        "halo": _halos(s["halo"]),
        "passes": f"{count_text(s['passes'])} over the data, of at most {plural(s['batch'], 'step')} each",
        "work": f"{count_text(s['cell_steps'] / 1e6)} Mpx·steps, computed {s['redundancy']:.2f} times "
        "(halos are computed by both neighbours)",
        "reads": bytes_text(s["bytes_read"]),
        "writes": f"{bytes_text(s['bytes_written'])}, {bytes_text(s['disk_bytes'])} on disk at the most",
        "memory": f"{bytes_text(s['memory_total'])} of {bytes_text(s['memory_limit'])} allowed: "
        f"{plural(s['threads'], 'task')} at a time, {bytes_text(s['memory_per_task'])} each",
        "time": f"about {time_text(s['expected_seconds'])}",
    }
    notes = [Text(f"note: {note}") for note in s["notes"]]
    return Group(fact_list(facts), Text(), _stages(s["stages"]), *notes)


def _numbers_text(values: Iterable[float]) -> str:
    return " × ".join(f"{value:g}" for value in values)


def _halos(halos: Sequence[Sequence[int] | None]) -> str:
    different = list(dict.fromkeys(shape_text(halo) for halo in halos if halo is not None))
    return f"{' or '.join(different)} pixels on each side" if different else "none"


def _runs(values: Sequence[Any]) -> Iterator[tuple[int, int]]:
    """Yield first and last position of each run of equal values: a hundred passes are one line."""
    for _, run in itertools.groupby(range(len(values)), key=lambda i: values[i]):
        positions = list(run)
        yield positions[0], positions[-1]


def _stages(stages: Sequence[Mapping[str, Any]]) -> RenderableType:
    table = new_table("stage", "what", "tiles", "tile", "memory per task", "expected each")
    for first, last in _runs([(s["title"], s["tiles"], s["tile"]) for s in stages]):
        stage = stages[last]
        table.add_row(
            str(first) if first == last else f"{first} to {last}",
            stage["title"],
            count_text(stage["tiles"]),
            shape_text(stage["tile"]),
            bytes_text(stage["memory_per_task"]),
            time_text(stage["expected_seconds"]),
        )
    return table


def report(data: Mapping[str, Any], workdir: str, *, already: bool = False) -> RenderableType:
    """Return a picture of how a run ended: `Report.data`; `already` is True where it had ended before."""
    memory = data["memory"]
    resumed = f", {count_text(data['tiles_resumed'])} of them before" if data["tiles_resumed"] else ""
    steps = data["plan"]["cell_steps"] / max(data["seconds"], 1e-9)
    values = {
        "result": data["target"] if data["complete"] else "not complete yet",
        "report": f"{workdir}/report.json",
        "tiles": f"{count_text(data['tiles_done'])} of {count_text(data['tiles'])} done{resumed}"
        + (f", {data['retries']} tried again" if data["retries"] else ""),
        "time": time_text(data["seconds"]) + ("" if data["tiles_resumed"] else f", {speed_text(steps)}"),
        "memory": f"{bytes_text(memory['measured'])} measured, {bytes_text(memory['predicted'])} predicted, "
        f"{bytes_text(memory['limit'])} allowed",
    }
    if data["absent_chunks"]:
        values["source"] = f"{count_text(data['absent_chunks'])} chunks are absent there: read as fill value"
    blocks: list[RenderableType] = [Text("complete already; nothing was left to do")] if already else []
    blocks += [fact_list(values)]
    blocks += [Text(_statistic_text(one)) for one in data["statistics"]]
    blocks += _troubles(data)
    if not data["complete"]:
        left = count_text(data["tiles"] - data["tiles_done"])
        blocks.append(Text(f"{left} tiles are left. Finished tiles are kept: the same command goes on."))
    return Group(*blocks)


def preview(data: Mapping[str, Any], roi: str) -> RenderableType:
    """Return a picture of a preview: the region, and where it was written."""
    values = {"region": roi, "result": data["target"], "time": time_text(data["seconds"])}
    return Group(
        fact_list(values), *(Text(_statistic_text(one)) for one in data["statistics"]), *_troubles(data)
    )


def _statistic_text(one: Mapping[str, Any]) -> str:
    values = ", ".join(f"{key} = {value:.6g}" for key, value in one["values"].items())
    return f"{one['title']}: {values}"


def _troubles(data: Mapping[str, Any]) -> Iterator[RenderableType]:
    if data["problem"]:
        yield Text(str(data["problem"]), style="red")
    failed = data["failed"]
    for one in failed[:SHOWN_FAILURES]:
        yield Text(
            f"failed: {one['stage']}, tile {one['tile']} ({one['region']}): {one['error']}", style="red"
        )
    if len(failed) > SHOWN_FAILURES:
        yield Text(f"and {count_text(len(failed) - SHOWN_FAILURES)} more, in the report", style="red")


def status(standing: Mapping[str, Any]) -> RenderableType:
    """Return a picture of the status of a run."""
    s = standing
    if s["complete"]:
        state = "complete"
    elif s["running"]:
        state = "running"
    else:
        state = "stopped; the same `diffuse run` goes on"
    values = {
        "target": s["target"],
        "state": state,
        "tiles": f"{count_text(s['done'])} of {count_text(s['tiles'])} done",
        **_pace(s),
        "folder": s["workdir"],
        **({"dashboard": s["dashboard"]} if s["dashboard"] else {}),
    }
    table = new_table("stage", "what", "done", "tiles")
    stages = s["stages"]
    for first, last in _runs([(x["title"], x["tiles"], x["done"]) for x in stages]):
        number = str(first) if first == last else f"{first} to {last}"
        table.add_row(
            number,
            stages[first]["title"],
            count_text(stages[first]["done"]),
            count_text(stages[first]["tiles"]),
        )
    return Group(fact_list(values), Text(), table, *_troubles(s))


def cancelled(asked: Mapping[str, Any]) -> RenderableType:
    """Return a picture of what was asked of a run."""
    tiles = f"{count_text(asked['done'])} of {count_text(asked['tiles'])} tiles are done"
    if asked["asked"]:
        said = "It ends after the tiles that are at work, with exit code 75. The same `diffuse run` goes on."
    elif asked["complete"]:
        said = "It is complete already; nothing was cancelled."
    else:
        said = "No process works on it; nothing was cancelled. The same `diffuse run` goes on."
    return Text(f"{asked['target']}: {tiles}. {said}")


def _pace(s: Mapping[str, Any]) -> dict[str, str]:
    """Return how fast a run is and when it will end, where that can be told."""
    if not s["running"] or s["tiles_per_second"] is None:
        return {}
    ago = time_text(s["seconds_since_tile"])
    return {
        "speed": f"{s['tiles_per_second']:.3g} tiles/s, the last {ago} ago",
        "left": f"about {time_text(s['seconds_left'])}",
    }


def demo(made: Mapping[str, Any]) -> RenderableType:
    """Return a picture of the files of the demonstration, and what to try next."""
    lines = [Text(command) for command in made["next"]]
    values = {key: str(made[key]) for key in ("input", "spec", "picture")}
    return Group(
        Text(),
        fact_list(values),
        Text("\nTry next:", style="bold"),
        *(Padding(x, (0, 0, 0, 2)) for x in lines),
    )


def verified(result: Mapping[str, Any]) -> RenderableType:
    """Return a picture of what `verify` found."""
    tiles, windows = plural(result["tiles"], "tile"), plural(result["windows"], "window")
    checked = f"{tiles} against the journal, {windows} against the source"
    verdict = Text("every bit is as it should be", style="green")
    if not result["ok"]:
        verdict = Text(f"{plural(len(result['problems']), 'problem')}:", style="red")
    lines = (Text(f"  {line}") for line in [*result["problems"], *result.get("notes", [])])
    return Group(fact_list({"target": result["target"], "checked": checked}), verdict, *lines)


def repaired(result: Mapping[str, Any]) -> RenderableType:
    """Return a picture of what `repair` found and did."""
    lines = [Text(f"  {line}") for line in result["damaged"]]
    if not lines:
        return Group(fact_list({"target": result["target"]}), Text("nothing is damaged", style="green"))
    if result["whole"]:
        done = f"done again as a whole: {result['whole']}"
    else:
        done = f"{plural(result['tiles'], 'tile')} computed again"
    facts = {"target": result["target"], "damaged": str(len(lines)), "repair": done}
    return Group(fact_list(facts), *lines)


def warmed(made: Mapping[str, Any]) -> RenderableType:
    """Return a picture of what `warm` compiled."""
    facts = {
        "compiled": plural(made["compiled"], "function"),
        "kept": f"{made['kept']:,} in {made['folder']}",
    }
    lines = (Text(f"  {title}: {error}") for title, error in made["failed"].items())
    verdict = Text("some stages cannot be compiled:", style="red") if made["failed"] else Text("")
    return Group(fact_list(facts), verdict, *lines)


def operators(entries: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return the operators in one table, and each with its parameters, units, reach and promises."""
    details = [part for entry in entries for part in _operator(entry)]
    return Group(*([_overview(entries), Text()] if len(entries) > 1 else []), *details)


def _overview(entries: Sequence[Mapping[str, Any]]) -> RenderableType:
    table = new_table("operator", "goes by", "keeps", "axes", "guide", "equation")
    for entry in entries:
        guide, axes = "yes" if entry["reads_guide"] else "", dimensions_text(entry)
        table.add_row(entry["name"], goes_text(entry), keeps_text(entry), axes, guide, entry["equation"])
    return table


def _operator(entry: Mapping[str, Any]) -> Iterator[RenderableType]:
    yield Text.assemble((entry["name"], "bold"), f"   {entry['equation']}")
    yield Padding(Text(entry["about"]), (0, 0, 0, 2))
    if entry["parameters"]:
        yield Padding(_parameters(entry), (0, 0, 0, 2))
    yield Padding(fact_list(_promises(entry)), (0, 0, 1, 2))


def _promises(entry: Mapping[str, Any]) -> dict[str, str]:
    return {
        "goes by": goes_text(entry),
        "halo": halo_text(entry),
        "maximum principle": "kept by explicit steps" if entry["keeps_maximum"] else "not kept",
        "mean": "kept" if entry["keeps_mean"] else "not kept",
        "dimensions": dimensions_text(entry),
        "guide": "may be read in place of the image's own structure" if entry["reads_guide"] else "none",
        "paper": entry["reference"],
    }


def _parameters(entry: Mapping[str, Any]) -> RenderableType:
    table = new_table("parameter", "default", "unit", "also", "meaning")
    for parameter in entry["parameters"]:
        name = parameter["name"]
        default = "required" if parameter["required"] else str(parameter["default"])
        also = ", ".join(word for word, meant in entry["aliases"].items() if meant == name)
        table.add_row(name, default, parameter["unit"], also, parameter["about"])
    return table


def plugins(entries: Sequence[Mapping[str, Any]], title: str) -> RenderableType:
    """Return plug-ins of one kind: name, file name endings where there are any, one line about each."""
    endings = any(entry.get("extensions") for entry in entries)
    table = new_table(title, *(["endings"] if endings else []), "about")
    for entry in entries:
        ending = [" ".join(entry["extensions"])] if endings else []
        table.add_row(entry["name"], *ending, entry["about"])
    alone = entries[0].get("options") if len(entries) == 1 else None
    return Group(table, Text(), *([_options(alone), Text()] if alone else []))


def _options(options: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return the options of a cluster, each with its type, default and meaning."""
    table = new_table("option", "type", "default", "about")
    for one in options:
        default = "" if one["default"] is None else str(one["default"])
        table.add_row(one["name"], one["type"], "required" if one["required"] else default, one["about"])
    return table


def draw(console: Console, *pictures: RenderableType) -> None:
    """Print pictures; in files and pipes, lines are as long as they need to be."""
    if console.is_terminal:
        console.print(Group(*pictures), highlight=False)
        return
    wide = Console(width=LINE, color_system=None)
    with wide.capture() as captured:
        wide.print(Group(*pictures), highlight=False)
    text = "\n".join(line.rstrip() for line in captured.get().splitlines())
    console.file.write(f"{text}\n")


def fact_list(values: Mapping[str, str]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for key, value in values.items():
        table.add_row(key, Text(value))
    return table


def new_table(*headings: str) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _words(key: str) -> str:
    return key.replace("_", " ")
