"""Draw the results of tuning for people: candidates, the curve of the best one, the step for the spec."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from pipelines.cli.show import fact_list, new_table
from pipelines.cli.wording import count_text, plural, time_text
from pipelines.spec.yaml_lines import flow_text

BARS = "▁▂▃▄▅▆▇█"


def chosen(tuning: Sequence[Mapping[str, Any]]) -> Iterator[RenderableType]:
    """Yield a line for each time that was chosen."""
    for one in tuning:
        noise = "" if one["noise"] is None else f", noise {one['noise']:.4g}"
        yield Text(
            f"choose the time of {one['step']}: time = {one['time']:.6g} ({one['criterion']} on "
            f"{plural(len(one['samples']), 'sample')}{noise})"
        )


def tuned(found: Mapping[str, Any]) -> RenderableType:
    """Return a picture of what `tune_step` found."""
    before = ", ".join(
        one["step"] if one["time"] is None else f"{one['step']} (time {one['time']:.4g})"
        for one in found["before"]
    )
    said = {"step": found["step"], "after": before, "criterion": found["criterion"]}
    if found["noise"] is not None:
        said["noise"] = f"{found['noise']:.6g} image units"
    said["looked at"] = f"{count_text(found['cells'])} pixels in {plural(len(found['samples']), 'sample')}"
    said["cost"] = f"{count_text(found['work'] / 1e6)} Mpx·steps in {time_text(found['seconds'])}"
    blocks: list[RenderableType] = [fact_list({key: text for key, text in said.items() if text}), Text()]
    blocks += [_ranking(found), Text(), *_curve(found["candidates"][0])]
    if "ensemble" in found:
        blocks += [*_weights(found["ensemble"]), Text()]
    paste = Padding(Text(found["best"]["yaml"]), (0, 0, 0, 2))
    return Group(*blocks, Text("for the spec:", style="dim"), paste)


def _ranking(found: Mapping[str, Any]) -> RenderableType:
    candidates, gains = found["candidates"], found["estimates_error"]
    headings = ["estimated error", "gain"] if gains else ["score"]
    drawn = new_table(*candidates[0]["parameters"], "best time", *headings)
    for one in candidates:
        values = [_value(value) for value in one["parameters"].values()]
        time = "as usual" if one["time"] is None else f"{one['time']:.6g}"
        score = [_error(one["score"]), _gain(one["gain"])] if gains else [f"{one['score']:.6g}"]
        drawn.add_row(*values, time, *score)
    return drawn


def _value(value: Any) -> str:
    return flow_text(value) if isinstance(value, dict | list) else str(value)


def _error(squared: float) -> str:
    """Return a mean squared error as its root, in image units."""
    return f"{math.sqrt(squared):.4g} RMS" if squared >= 0 else "below what can be told"


def _gain(decibels: float | None) -> str:
    return "unknown" if decibels is None else f"{decibels:+.2f} dB PSNR"


def _curve(best: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Yield the scores of the best candidate over its times, the chosen one marked."""
    times, scores = best["times"], best["scores"]
    if len(times) < 2:
        return
    line = f"{times[0]:.4g} "
    yield Text.assemble((line, "dim"), _bars(scores), (f" {times[-1]:.4g}", "dim"))
    yield Text(" " * (len(line) + best["best"]) + f"^ time {best['time']:.6g}")
    yield Text()


def _bars(scores: Sequence[float]) -> str:
    """Return a bar per score, in decibels where scores are positive: errors range over decades."""
    heights = [math.log10(s) for s in scores] if min(scores) > 0 else list(scores)
    low, high = min(heights), max(heights)
    span = (high - low) or 1.0
    return "".join(BARS[round((h - low) / span * (len(BARS) - 1))] for h in heights)


def _weights(ensemble: Mapping[str, Any]) -> Iterator[RenderableType]:
    gain = ensemble["gain"]
    more = "" if gain is None else f": {gain:+.2f} dB PSNR to the best of them alone"
    yield Text(f"together, with weights (diffusion_ops.combine){more}")
    drawn = new_table("weight", *ensemble["members"][0]["parameters"], "time", "estimated error")
    for one in sorted(ensemble["members"], key=lambda member: -abs(member["weight"])):
        values = [_value(value) for value in one["parameters"].values()]
        time = "as usual" if one["time"] is None else f"{one['time']:.4g}"
        drawn.add_row(f"{one['weight']:+.3f}", *values, time, _error(one["score"]))
    yield drawn
