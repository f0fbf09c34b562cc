"""Write the error messages of a spec: where, what, got, allowed, and what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from pipelines.spec.yaml_lines import Location, YamlText

Sections = Mapping[Location, type[BaseModel]]
"""The model at each location of a spec."""


def refusal(text: str, *at: str | int) -> PydanticCustomError:
    """Return an error for a validator to raise; `at` is the location inside the value that is validated."""
    return PydanticCustomError("refused", "{text}", {"text": text, "at": list(at)})


def unknown_key(key: object, allowed: Iterable[str]) -> str:
    """Return the message about an unknown key."""
    return f"unknown key {key!r}.{_close(key, allowed)} Allowed: {', '.join(allowed)}."


def no_such(kind: str, name: str, allowed: Iterable[str]) -> str:
    """Return the message about an unknown name."""
    return f"there is no {kind} {name!r}.{_close(name, allowed)} Allowed: {', '.join(allowed)}."


def _close(word: object, allowed: Iterable[str]) -> str:
    found = difflib.get_close_matches(str(word), list(allowed), n=1, cutoff=0.6)
    return f" Did you mean {found[0]!r}?" if found else ""


def explain(error: ValidationError, text: YamlText, sections: Sections) -> Iterator[str]:
    """Yield one message per wrong location: file, line, location, what, what is allowed.

    Parameters
    ----------
    error : ValidationError
    text : YamlText
        Text that was validated.
    sections : dict
        The model at each location, for the keys that it allows; all items of a list have one model.
    """
    said: dict[tuple[Location, Location], list[str]] = {}
    for one in error.errors(include_url=False):
        if one["type"] == "default_factory_not_called":
            # It would follow from a value that is wrong, of which another message tells.
            continue
        marked, shown, words = _words(dict(one), text.value, sections)
        said.setdefault((marked, shown), []).append(words)
    for (marked, shown), all_words in said.items():
        parts = [text.where(marked), dotted(shown), " or ".join(dict.fromkeys(all_words))]
        yield ": ".join(part for part in parts if part) + _got(text.value, shown, all_words)


def _words(one: Mapping[str, Any], value: Any, sections: Sections) -> tuple[Location, Location, str]:
    """Return the location whose line is named, the location that is shown, and the message."""
    context = one.get("ctx", {})
    location = (*one["loc"], *context.get("at", ()))
    marked = _existing(value, location)
    kind = one["type"]
    if kind == "refused":
        is_key = bool(context["at"]) and isinstance(location[-1], str) and marked == location
        return marked, marked[:-1] if is_key else marked, context["text"]
    if kind == "missing":
        return marked, marked, f"the key {location[-1]!r} is missing."
    if kind in ("extra_forbidden", "invalid_key"):
        above = tuple(location[:-1])
        section = sections[tuple(part for part in above if isinstance(part, str))]
        return marked, above, unknown_key(location[-1], list(section.model_fields))
    return marked, marked, plain_words(one)


def plain_words(one: Mapping[str, Any]) -> str:
    """Return what an error of pydantic's about a value says."""
    if one["type"] == "value_error":
        return str(one["ctx"]["error"])
    return _PLAIN.get(one["type"], str(one["msg"]).replace("Input should", "should"))


_PLAIN = {
    "model_type": "should be keys and values",
    "tuple_type": "should be a list, each item after a '-'",
    "int_parsing": "should be a whole number",
    "int_type": "should be a whole number",
    "float_type": "should be a number",
    "float_parsing": "should be a number",
    "string_type": "should be a word",
    "dict_type": "should be keys and values",
}


def _got(value: Any, location: Location, words: Iterable[str]) -> str:
    """Return the value that the user gave, or "" where a message already ends and so contains it."""
    if any(map(_ends, words)):
        return ""
    for part in location:
        value = value[part]
    return with_got("", value)


def _ends(words: str) -> bool:
    return words.endswith((".", ")", "?"))


def with_got(words: str, value: Any) -> str:
    """Return a message with the value that the user gave, where it does not end already and so contains it."""
    return words if _ends(words) else f"{words}, got {shortened(value)}."


def shortened(value: Any) -> str:
    """Return a value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _existing(value: Any, location: Location) -> Location:
    """Return the part of a location that is in the user's values, without what pydantic adds for unions."""
    for i, part in enumerate(location):
        inside = isinstance(value, dict) and part in value
        inside = inside or (isinstance(value, list | tuple) and isinstance(part, int) and part < len(value))
        if not inside:
            return location[:i]
        value = value[part]
    return location


def dotted(location: Location) -> str:
    """Return a location as people write it: "outputs[0].uri"."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in location]
    return "".join(parts).lstrip(".")
