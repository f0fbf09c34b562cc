"""Put what an operator says of itself into a few words, and all operators into a table of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipelines.cli.wording import plural

_BEGIN = "<!-- operators: made from the registry -->"
_END = "<!-- end of operators -->"

PICTURES = "notebooks/pictures"

_PER_STEP = {"time": "per step", "iterations": "per iteration", "once": "", "convergence": ""}
_PER = {"cycle": "per cycle", "start": "at the start", "finish": "at the end"}


def goes_text(entry: Mapping[str, Any]) -> str:
    """Return what controls the extent of an operator: "time, in cycles or steps"."""
    if entry["goes_by"] == "time":
        return "time, in cycles or steps" if entry["cycles"] else "time, in steps"
    return str(entry["goes_by"])


def keeps_text(entry: Mapping[str, Any]) -> str:
    """Return which of maximum and mean it keeps."""
    return ", ".join(word for word in ("maximum", "mean") if entry[f"keeps_{word}"])


def dimensions_text(entry: Mapping[str, Any]) -> str:
    """Return the numbers of axes: "2-D, 3-D"."""
    return ", ".join(f"{n}-D" for n in entry["dimensions"])


def halo_text(entry: Mapping[str, Any]) -> str:
    """Return how many pixels it reads on each side, and of what: "1 per step; 3 per cycle: the reach of a Gaussian"."""
    per = {**_PER, "step": _PER_STEP[entry["goes_by"]]}
    return "; ".join(_part_text(per[part], one) for part, one in entry["halo"].items())


def _part_text(when: str, part: Mapping[str, Any]) -> str:
    count = "" if part["cells"] is None else plural(part["cells"], "pixel")
    words = " ".join(word for word in (count, when) if word)
    # The number itself is said already.
    about = part["about"].removeprefix(str(part["cells"])).lstrip(" ,:")
    return ": ".join(text for text in (words, about) if text)


def markdown_table(entries: Iterable[Mapping[str, Any]]) -> str:
    """Return the operators as a table of Markdown, two in a row: name with a link to its file, purpose, picture."""
    cells = [cell for entry in entries for cell in _entry(entry)]
    rows = [cells[i : i + 4] for i in range(0, len(cells), 4)]
    head = (["operator", "before and after"] * 2, ["---"] * 4)
    return "\n".join(_row([*row, *[""] * (4 - len(row))]) for row in (*head, *rows))


def _entry(entry: Mapping[str, Any]) -> tuple[str, str]:
    """Return the cells of an operator."""
    name, file = entry["name"], f"{entry['module'].replace('.', '/')}.py"
    return f"[`{name}`]({file}): {entry['purpose']}", f"![{name}]({PICTURES}/{name}.png)"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def value_text(value: Any) -> str:
    """Return a value as people write it: 0.5, and not 0.50000001."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def with_table(text: str, entries: Iterable[Mapping[str, Any]]) -> str:
    """Return a text with the table of the operators between its two marks."""
    before, _, rest = text.partition(f"{_BEGIN}\n")
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{markdown_table(entries)}\n{_END}{after}"
