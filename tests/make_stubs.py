"""Write what type checkers and editors read of `diffusion_ops`: the names of plug-ins, and the accessor's methods.

Run it as `python -m tests.make_stubs` after any change of an operator's parameters; a test says where it was forgotten.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import diffusion_ops
from diffusion_ops import evolve, solve
from diffusion_ops.accessor import function_of, keywords_of
from diffusion_ops.blocks.statistic import STATISTICS
from diffusion_ops.evolution.number_lists import NumbersOrStatistics
from diffusion_ops.evolution.operator import OPERATORS, Operator
from diffusion_ops.evolution.parameters import NumberOrStatistic

ROOT = Path(diffusion_ops.__file__).parent
_MADE = "# Made by `python -m tests.make_stubs`."

_HOMES = {
    "collections.abc": ("Callable", "Hashable", "Mapping", "Sequence"),
    "typing": ("Any", "Generic", "Literal", "TypedDict", "TypeVar", "Unpack"),
    "inspect": ("Parameter",),
    "numpy.typing": ("DTypeLike",),
    "diffusion_ops.evolution.operator": ("Operator",),
    "diffusion_ops.evolution.arguments": (
        *("OneOrEach", "OperatorLike", "ScheduleLike", "SpacingLike", "TimeLike"),
    ),
    "diffusion_ops.evolution.number_lists": ("NumbersOrStatistics",),
    "diffusion_ops.evolution.parameters": ("NumberOrStatistic",),
    "diffusion_ops.evolution.problems.problem": ("Problem",),
}
"""Words of annotations, by the module that they are from."""


def stubs() -> dict[Path, str]:
    """Return every stub as it should be."""
    return {ROOT / "__init__.pyi": package_stub(), ROOT / "accessor.pyi": accessor_stub()}


def own(registry: Mapping[str, type[object]]) -> Iterator[type[object]]:
    """Yield the plug-ins that come with the package, by the names of their classes."""
    ours = [cls for cls in registry.values() if cls.__module__.startswith("diffusion_ops.")]
    yield from sorted(ours, key=lambda cls: cls.__name__)


def package_stub() -> str:
    """Return the names of the package: those that it imports, operators and statistics."""
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    found = [
        (node.module or "", alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name in diffusion_ops.__all__
    ]
    found += [(cls.__module__, cls.__name__) for registry in (OPERATORS, STATISTICS) for cls in own(registry)]
    lines = [f"from {module} import {name} as {name}" for module, name in sorted(found)]
    names = [f'    "{name}",' for name in sorted(name for _, name in found)]
    return "\n".join([_MADE, "", *lines, "", "__all__ = [", *names, "]", ""])


def accessor_stub() -> str:
    """Return the accessor with a method for each operator, of its parameters and those of `evolve` or `solve`."""
    operator, problem = (
        f"{word}: {inspect.signature(function).parameters[word].annotation}"
        for word, function in (("operator", evolve), ("problem", solve))
    )
    methods = [
        _method("evolve", [operator], "Diffuse with an operator or a chain of them.", evolve),
        _method("solve", [problem], "Solve a problem of the whole image.", solve),
    ]
    for cls in own(OPERATORS):
        assert issubclass(cls, Operator)
        # The annotations of the class itself: they are what a user may write, as a checker sees them.
        arguments = [_argument(cls, one) for one in dataclasses.fields(cls)]
        about = (inspect.getdoc(cls) or "").split("\n")[0]
        methods.append(_method(cls.name.replace("-", "_"), arguments, about, function_of(cls)))
    text = "\n".join(
        [
            'I = TypeVar("I")',
            "",
            *_arguments(evolve),
            *_arguments(solve),
            "def function_of(cls: type[Operator]) -> Callable[..., Any]: ...",
            "def keywords_of(function: Callable[..., Any]) -> dict[str, Parameter]: ...",
            "",
            "class DiffuseAccessor(Generic[I]):",
            "    def __init__(self, image: I) -> None: ...",
            *methods,
        ]
    )
    return "\n".join([_MADE, "", *_imports(text), "", text, ""])


def _argument(cls: type[Operator], field: dataclasses.Field[object]) -> str:
    described = cls.parameters()[field.name]
    default = "" if described.required else f" = {described.default!r}"
    return f"{field.name}: {_annotation(field.type)}{default}"


def _annotation(kind: object) -> str:
    """Return an annotation as it stands in the source, also where it is evaluated already."""
    if isinstance(kind, str):
        return kind
    for word, meant in (
        ("NumberOrStatistic", NumberOrStatistic),
        ("NumbersOrStatistics", NumbersOrStatistics),
    ):
        if kind == meant:
            return word
    return inspect.formatannotation(kind)


def _arguments(function: Callable[..., Any]) -> list[str]:
    """Return the class of the arguments by name of a public function."""
    rows = [f"    {one.name}: {one.annotation}" for one in keywords_of(function).values()]
    return [f"class {_HOW[function]}(TypedDict, total=False):", *rows, ""]


_HOW: Mapping[Callable[..., Any], str] = {evolve: "_Evolution", solve: "_Solution"}


def _method(name: str, arguments: Iterable[str], about: str, function: Callable[..., Any]) -> str:
    lines = [f"        {one}," for one in ("self", *arguments)]
    head = [f"    def {name}(", *lines, f"        **how: Unpack[{_HOW[function]}],", "    ) -> I:"]
    return "\n".join([*head, f'        """{about}"""', ""])


def _imports(text: str) -> Iterator[str]:
    used = set(re.findall(r"\w+", re.sub(r'""".*?"""', "", text)))
    for module in sorted(_HOMES, key=lambda module: (module.startswith("diffusion_ops"), module)):
        names = sorted(set(_HOMES[module]) & used)
        if names:
            yield f"from {module} import {', '.join(names)}"


def main() -> None:
    """Write all stubs."""
    for path, text in stubs().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
