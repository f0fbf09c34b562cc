"""Write the pages that come from the registries: one per operator, their overview, and the reference of the API."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import diffusion_ops as do
from diffusion_ops.evolution.parameters import Parameter
from pipelines.cli.words import dimensions_text, goes_text, halo_text, keeps_text, value_text
from pipelines.spec.cluster import describe_options
from pipelines.spec.describe import describe_operator
from pipelines.tasks.workers import CLUSTERS
from tests.pictures.make_pictures import IMAGES_IN_WORDS, extent

Entry = Mapping[str, Any]

GROUPS = {
    "time": ("Along time", "How far they go is a time, or a number of steps."),
    "iterations": (
        "By iterations",
        "They approach the minimum of an energy; a number of iterations says how far.",
    ),
    "once": ("Once", "They are applied once, and have neither time nor steps."),
    "convergence": (
        "Problems of the whole image",
        "What one pixel gets depends on all of them. `do.solve` gives the answer, the same for any tiling.",
    ),
}
"""Title and words of the operators that go by the same."""


def write(folder: Path) -> None:
    """Write all pages below a folder; what is right already stays as it is, so that it is not built again."""
    operators = {name: describe_operator(cls) for name, cls in do.OPERATORS.items()}
    pages = {f"operators/{name}.md": operator_page(entry) for name, entry in operators.items()}
    pages["operators/index.md"] = operators_index(operators.values())
    pages["api/index.rst"] = api_page()
    pages["api/clusters.md"] = clusters_page()
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for old in (folder / "operators").glob("*.md"):
        if f"operators/{old.name}" not in pages:
            old.unlink()


# ---- one operator


def operator_page(entry: Entry) -> str:
    """Return the page of an operator."""
    cls = do.OPERATORS[entry["name"]]
    parts = [
        f"# {entry['title']}",
        f"`{entry['name']}` · {_sentence(entry['purpose'])}",
        _picture(cls),
        f"## Equation\n\n```text\n{entry['equation']}\n```",
        f"From: {entry['reference']}.",
        f"## Parameters\n\n{_parameters(cls, entry)}",
        f"## At a glance\n\n{_table(('', ''), _facts(entry))}",
        f"## How to call it\n\n{_example(cls, entry)}",
        f"## `{cls.__name__}`\n\n```{{eval-rst}}\n.. autoclass:: diffusion_ops.{cls.__name__}\n   :members:\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _picture(cls: type[do.Operator]) -> str:
    drawn, name = cls.picture, cls.name
    words = {**drawn.parameters, **extent(cls)}
    given = ", ".join(f"`{word}={value_text(value)}`" for word, value in words.items())
    caption = f"Before and after: {IMAGES_IN_WORDS[drawn.image]}, {given or 'as it is by default'}."
    return f"```{{figure}} ../pictures/{name}.png\n:alt: {name}, before and after\n\n{caption}\n```"


def _parameters(cls: type[do.Operator], entry: Entry) -> str:
    if not entry["parameters"]:
        return "None: only how far to go is said."
    rows = []
    for one in entry["parameters"]:
        about = one["about"] if one["about"].endswith(".") else f"{one['about']}."
        more = (
            ("Unit", "" if one["unit"] == "1" else one["unit"]),
            ("Allowed", one["range"]),
            ("Also called", also_called(cls.parameters()[one["name"]])),
        )
        meaning = "<br>".join([_escaped(about), *(f"*{word}:* {text}" for word, text in more if text)])
        rows.append((f"`{one['name']}`", _default(one), meaning))
    return _table(("parameter", "default", "meaning"), rows)


def _default(parameter: Entry) -> str:
    if parameter["required"]:
        return "required"
    return "none" if parameter["default"] in (None, [], "") else f"`{value_text(parameter['default'])}`"


def also_called(parameter: Parameter) -> str:
    """Return the words of other systems for a parameter, with the values that they are written with there."""
    words = []
    for word in parameter.aliases:
        values = parameter.alias_values.get(word, {})
        known = ", ".join(f"{theirs} is {ours}" for theirs, ours in values.items() if theirs != ours)
        words.append(f"`{word}`" + (f" ({known})" if known else ""))
    return ", ".join(words)


def _facts(entry: Entry) -> Iterable[tuple[str, str]]:
    kept = {
        "maximum, mean": "the extremes of the image, with explicit steps; the mean",
        "maximum": "the extremes of the image, with explicit steps",
        "mean": "the mean",
    }
    together = "depend on one another" if entry["couples_channels"] else "are treated one by one"
    yield "goes by", goes_text(entry)
    yield "{term}`halo`", _escaped(halo_text(entry))
    yield "keeps", kept.get(keeps_text(entry), "neither the extremes nor the mean")
    yield "axes", dimensions_text(entry)
    yield "channels", together
    yield "{term}`guide`", "may follow the structure of another image" if entry["reads_guide"] else "none"
    yield "file", f"`{entry['module'].replace('.', '/')}.py`"


_BESIDE = {
    "markers": "markers = (image == image.max()).astype(int)  # whole numbers, 0 for none\n",
    "known": "known = image > image.mean()  # True where the image is known\n",
}
"""Lines of an example that make what a problem reads beside the image."""

_BEFORE = {
    "noise": "",
    "times": "image = do.solve(image + 1.0, do.Eikonal(), markers=(image == image.min()).astype(int))  # times\n",
}
"""Lines of an example that make of an image what an operator takes."""

_CHANNELS = "image = image[None].repeat({}, axis=0)  # as a colour image is, channels first\n"
"""A line that makes as many channels as an operator takes."""


def _example(cls: type[do.Operator], entry: Entry) -> str:
    parameters, far = cls.picture.parameters, extent(cls)
    channels = cls(**parameters).channels or 1
    words = ", ".join(f"{word}={value!r}" for word, value in parameters.items())
    files = {word: f"{word}.tif" for word in cls.reads}
    known = {**far, **({"channel_axis": 0} if channels > 1 else {})}
    after = "".join(f", {word}={value!r}" for word, value in known.items())
    step = ", ".join(
        f"{k}: {value_text(v)}" for k, v in {"operator": entry["name"], **parameters, **far, **files}.items()
    )
    call = f"do.evolve(image, do.{cls.__name__}({words}){after})"
    if cls.controlled_by == "convergence":
        call = f"do.solve({', '.join(['image', f'do.{cls.__name__}({words})', *(f'{w}={w}' for w in cls.reads)])})"
    before = _BEFORE[cls.samples.image] + (_CHANNELS.format(channels) if channels > 1 else "")
    made = "".join(_BESIDE[word] for word in cls.reads)
    python = (
        "from pywt import data\n\nimport diffusion_ops as do\n\n"
        f"image = data.camera()  # any NumPy, Dask or xarray image\n{before}{made}result = {call}"
    )
    return (
        f"In Python:\n\n```python\n{python}\n```\n\n"
        f"As a {{term}}`step` of a spec:\n\n```yaml\nsteps:\n  - {{{step}}}\n```"
    )


# ---- all operators


def operators_index(entries: Iterable[Entry]) -> str:
    """Return the page with all operators."""
    entries = list(entries)
    parts = [
        "# Operators",
        "One PDE, or one map, each. Every page comes from the operator's own file, and so do the pictures, which show "
        "images that come with scikit-image before and after. `diffuse list operators` says the same in a terminal.",
    ]
    for word, (title, about) in GROUPS.items():
        rows = [
            (
                f"[{e['title']}]({e['name']}.md)<br>`{e['name']}`",
                _escaped(_sentence(e["purpose"])),
                _thumbnail(e["name"]),
            )
            for e in entries
            if e["goes_by"] == word
        ]
        parts += [f"## {title}", about, _table(("operator", "what it is for", "before and after"), rows)]
    names = "\n".join(e["name"] for e in entries)
    return "\n\n".join([*parts, f"```{{toctree}}\n:hidden:\n\n{names}\n```"]) + "\n"


def _thumbnail(name: str) -> str:
    return f"[![{name}, before and after](../pictures/{name}.png)]({name}.md)"


# ---- clusters


def clusters_page() -> str:
    """Return the page with all kinds of clusters and their options."""
    parts = [
        "# Clusters and their options",
        "As keys of `run.cluster` in a spec, beside `kind`, or as `--cluster-option NAME=VALUE` of the command. "
        "[](../guides/clusters.md) says which to take; `diffuse list clusters NAME` says the same in a terminal.",
    ]
    for name, kind in CLUSTERS.items():
        options = describe_options(kind)
        rows = [(f"`{one['name']}`", one["type"], _default(one), _escaped(one["about"])) for one in options]
        needs = f" Needs the extra `{kind.extra}`." if kind.extra else ""
        parts += [f"## `{name}`", f"{_sentence(_escaped(kind.about))}{needs}"]
        parts += [_table(("option", "type", "default", "meaning"), rows)] if rows else []
    return "\n\n".join(parts) + "\n"


# ---- the API


def api_page() -> str:
    """Return the reference: every public name, in groups that come from what it is."""
    names = {name: getattr(do, name) for name in dir(do)}
    plugins = {*do.OPERATORS.values(), *do.STATISTICS.values(), *do.CRITERIA.values()}
    classes = {n: v for n, v in names.items() if isinstance(v, type)}
    groups: list[tuple[str, str, Callable[[Any], bool]]] = [
        ("Functions", "", lambda v: callable(v) and not isinstance(v, type)),
        (
            "Statistics of the whole image",
            "They stand where an operator takes a number.",
            do.STATISTICS.values().__contains__,
        ),
        ("What they are made of", "", lambda v: isinstance(v, type) and v not in plugins),
    ]
    parts = [
        _heading("API reference", "="),
        "All public names of ``import diffusion_ops as do``. Operators have a page each: :doc:`/operators/index`.",
        "On xarray objects every operator is a method too: ``image.diffuse.perona_malik(contrast=8, time=4)``.",
        "Type checkers and editors know all of it. What xarray adds to its classes at run time mypy sees with "
        '``plugins = ["diffusion_ops.mypy_plugin"]`` in its settings.',
    ]
    for title, about, belongs in groups:
        members = [name for name, value in names.items() if belongs(value)]
        listed = "\n".join(f"   diffusion_ops.{name}" for name in members)
        parts += [_heading(title, "-"), about, f".. autosummary::\n   :toctree:\n\n{listed}"]
    registries = {n: v for n, v in names.items() if n not in classes and not callable(v)}
    parts += [_heading("Registries", "-"), "Mappings from names to classes; reading one finds every plug-in."]
    parts += [
        f"``{n}``\n   {_sentence(v.kind)} {', '.join(f'``{name}``' for name in v)}"
        for n, v in registries.items()
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _heading(title: str, line: str) -> str:
    return f"{title}\n{line * len(title)}"


# ---- Markdown


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    headings = tuple(headings)
    lines = [headings, ("---",) * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _escaped(text: str) -> str:
    """Return plain text with what Markdown would take for markup made harmless, but for code in backticks."""
    parts = text.split("`")
    for i in range(0, len(parts), 2):
        for sign in "\\|*_<[{$":
            parts[i] = parts[i].replace(sign, f"\\{sign}")
    return "`".join(parts)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
