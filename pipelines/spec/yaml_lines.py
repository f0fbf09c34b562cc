"""Read YAML into plain values, and find the line of each key."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from pipelines.refusal import RefusedError

_ONE_LINE = 1 << 30
"""Length of a line, longer than any that is written, after which a line of YAML is broken."""

MOST_BYTES, MOST_VALUES, DEEPEST = 1 << 20, 50_000, 64
"""Largest size of a spec file, number of values in it with all aliases unfolded, and depth of their nesting: two
thousand steps are 200 KB and 20,000 values, and a spec is 5 deep. So many values are read in a few seconds."""

Location = tuple[str | int, ...]
"""Keys and indices that lead to a value, from the top of the file."""


class BadYamlError(RefusedError):
    """Text that is not YAML; the message names the file and the line."""


@dataclass(frozen=True)
class YamlText:
    """The values of a YAML text.

    Attributes
    ----------
    name : str
        Name of the file, for messages.
    value : plain Python values, None for an empty text
    lines : dict
        Line (from 1) of every key and list item.
    """

    name: str
    value: Any
    lines: Mapping[Location, int]

    def where(self, location: Location) -> str:
        """Return "name, line 4" for a location; a missing key has the line of the value that it is missing from."""
        for end in range(len(location), 0, -1):
            if location[:end] in self.lines:
                return f"{self.name}, line {self.lines[location[:end]]}"
        return self.name


def read_yaml(path: str | Path) -> YamlText:
    """Return the values of a YAML file.

    Raises
    ------
    BadYamlError
        For a file that is missing, is not text or not YAML, or says a key twice.
    """
    file = Path(path)
    try:
        if file.is_dir():
            raise BadYamlError(f"{file} is a folder. Give the path of a YAML file.")
        with file.open("rb") as opened:
            content = opened.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise BadYamlError(
                f"{file} is too large for a spec. Allowed: at most {MOST_BYTES:,} bytes. Give the path of a YAML file."
            )
        return parse_yaml(content.decode(), file.name)
    except FileNotFoundError:
        raise BadYamlError(f"There is no file {file}. Give the path of a YAML file.") from None
    except UnicodeDecodeError:
        raise BadYamlError(f"{file} is not text. Give the path of a YAML file in UTF-8.") from None
    except OSError as error:
        raise BadYamlError(f"{file} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        if isinstance(error, BadYamlError):
            raise
        raise BadYamlError(f"{str(file)!r} is no path: {error}. Give the path of a YAML file.") from None


def parse_yaml(text: str, name: str) -> YamlText:
    """Return the values of a YAML text; `name` stands for it in messages.

    Raises
    ------
    BadYamlError
        For a text that is not YAML, says a key twice, or holds more than a spec can.
    """
    yaml = _yaml()
    yaml.Composer = BoundedComposer
    try:
        node = yaml.compose(text)
        if node is None:
            return YamlText(name, None, {})
        _count(node, {})
        return YamlText(name, yaml.constructor.construct_document(node), dict(_lines(node, ())))
    except TooMuchError as error:
        raise BadYamlError(f"{name}: {error} Write a spec, or remove anchors and aliases.") from None
    except DuplicateKeyError as error:
        key = str(error.problem).split('"')[1]
        raise BadYamlError(f"{_mark(name, error)}: the key {key!r} is given twice. Give it once.") from None
    except MarkedYAMLError as error:
        raise BadYamlError(f"{_mark(name, error)}: this is not valid YAML: {error.problem}.") from None
    except (YAMLError, ValueError) as error:
        raise BadYamlError(f"{name}: this is not valid YAML: {str(error).splitlines()[0]}.") from None
    except RecursionError:
        raise BadYamlError(f"{name}: this YAML is nested too deeply.") from None


class TooMuchError(Exception):
    """A text that holds more than a spec can; the message says what."""


class BoundedComposer(Composer):
    """Makes nodes of a text, and stops where they are too many or nested too deeply."""

    values = depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Return the next node."""
        self.values += 1
        self.depth += 1
        if self.values > MOST_VALUES:
            raise TooMuchError(f"it holds more than the {MOST_VALUES:,} values that are allowed.")
        if self.depth > DEEPEST:
            raise TooMuchError(f"it is nested more than the {DEEPEST} levels that are allowed.")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _count(node: Node, known: dict[int, int]) -> int:
    """Return the number of values in a node with all aliases unfolded.

    Raises
    ------
    TooMuchError
        Where they are too many, or a node contains itself.
    """
    if id(node) in known:
        if not known[id(node)]:
            raise TooMuchError("it contains itself.")
        return known[id(node)]
    known[id(node)] = 0
    parts: list[Node] = []
    if isinstance(node, MappingNode):
        parts = [part for pair in node.value for part in pair]
    elif isinstance(node, SequenceNode):
        parts = node.value
    known[id(node)] = 1 + sum(_count(part, known) for part in parts)
    if known[id(node)] > MOST_VALUES:
        raise TooMuchError(f"its aliases unfold to more than the {MOST_VALUES:,} values that are allowed.")
    return known[id(node)]


def flow_text(value: Any) -> str:
    """Return plain values as YAML on one line.

    Examples
    --------
    >>> flow_text({"operator": "heat", "time": 2.5})
    '{operator: heat, time: 2.5}'
    """
    yaml, text = _yaml(), io.StringIO()
    yaml.default_flow_style, yaml.width = True, _ONE_LINE
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(value, text)
    return text.getvalue().removesuffix("...\n").strip()


def _yaml() -> YAML:
    return YAML(typ="safe", pure=True)


def _mark(name: str, error: MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return name if mark is None else f"{name}, line {mark.line + 1}"


def _lines(node: Node, location: Location) -> Iterator[tuple[Location, int]]:
    parts: list[tuple[str | int, Node, Node]]
    if isinstance(node, MappingNode):
        parts = [(key.value, key, value) for key, value in node.value if isinstance(key.value, str)]
    elif isinstance(node, SequenceNode):
        parts = [(i, value, value) for i, value in enumerate(node.value)]
    else:
        return
    for word, marked, value in parts:
        yield (*location, word), marked.start_mark.line + 1
        yield from _lines(value, (*location, word))
