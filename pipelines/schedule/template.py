"""Fill the placeholders of a spec for one source after another, and refuse specs that would mix their results."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.image.info import digest
from pipelines.refusal import RefusedError
from pipelines.schedule.sources import Found, matches, stem_of
from pipelines.spec.errors import dotted, no_such
from pipelines.spec.spec import Spec, SpecError, override_run, spec_of_text
from pipelines.spec.yaml_lines import Location, read_yaml
from pipelines.store.addresses import absolute, local_path, name_of, shown

ABOUT = {
    "source": "its whole address",
    "name": "its name: scan.ome.tif",
    "stem": "its name without ending: scan",
    "folder": "the address of its folder",
    "parent": "the name of its folder",
    "path": "its path below the part of the pattern without wildcards, without ending: monday/scan",
    "item": "the id of its STAC item",
    "asset": "the key of its STAC asset",
    "collection": "the id of its STAC collection",
}
"""Placeholders, and what each becomes."""

PATHS = ("source", "folder", "path")
"""Placeholders that may become several names in folders."""


class UnfitSourceError(RefusedError):
    """A source whose words cannot be part of a path."""


def words_of(found: Found) -> dict[str, str]:
    """Return what the placeholders become for a source."""
    name, folder = name_of(found.uri), found.uri.rstrip("/").rpartition("/")[0]
    own = {
        "name": name,
        "stem": stem_of(name),
        "folder": folder,
        "parent": name_of(folder),
        "path": found.path,
    }
    return {"source": found.uri, **own, **found.words}


class Template:
    """A spec with placeholders.

    Parameters
    ----------
    path : str
        YAML file.
    how : dict
        What the command line says of its section `run`; None where it says nothing.

    Attributes
    ----------
    example : Spec
        Spec of a source that there is not, for what does not depend on the source.
    recipe : str
        Digest of all that decides the results and where they go.
    """

    def __init__(self, path: str, how: Mapping[str, Any]) -> None:
        self._how, self._folder = how, Path(path).parent
        self._text = read_yaml(path)
        if not isinstance(self._text.value, dict):
            spec_of_text(self._text, self._folder)
        science = {key: part for key, part in self._text.value.items() if key != "run"}
        self.recipe = digest(science)
        # Wrong keys and values are wrong for any source.
        stac = {"item": "i", "asset": "a", "collection": "c"}
        self.example = self.spec_for(Found("/folder/example.tif", "example", stac))

    def spec_for(self, found: Found) -> Spec:
        """Return the spec of one source.

        Raises
        ------
        SpecError
            For an unknown placeholder, and anything else that is wrong with the spec.
        UnfitSourceError
        """
        words = words_of(found)
        values = self._filled(self._text.value, words, ())
        source = values.get("source")
        if isinstance(source, dict) and not _placeholders(str(self._text.value["source"].get("uri", ""))):
            # What stands there is an example, for `plan` and `preview`.
            values["source"] = {**source, "uri": found.uri}
        elif source is None:
            values["source"] = {"uri": found.uri}
        spec = spec_of_text(replace(self._text, value=values), self._folder)
        return override_run(spec, **self._how)

    def _filled(self, value: Any, words: Mapping[str, str], at: Location) -> Any:
        if isinstance(value, dict):
            return {key: self._filled(one, words, (*at, key)) for key, one in value.items()}
        if isinstance(value, list):
            return [self._filled(one, words, (*at, i)) for i, one in enumerate(value)]
        return self._fill(value, words, at) if isinstance(value, str) else value

    def _fill(self, text: str, words: Mapping[str, str], at: Location) -> str:
        for name in _placeholders(text):
            if name not in words:
                where = f"{self._text.where(at)}: {dotted(at)}"
                raise SpecError(f"{where}: {no_such('placeholder', name, ABOUT)}{_only_stac(name)}")
            if name not in PATHS and not _is_name(words[name]):
                raise UnfitSourceError(
                    f"{{{name}}} would be {words[name]!r} for {shown(words['source'])}, which cannot be a name in a "
                    "path. Allowed: names that are not empty, not . or .., and without / and \\."
                )
        return text.format(**words) if "{" in text or "}" in text else text

    def written_for(self, found: Found) -> list[str]:
        """Return all that the run of one source writes, its main result first, without making its spec.

        Raises
        ------
        SpecError
        UnfitSourceError
        """
        words = words_of(found)
        return [absolute(self._fill(text, words, at), self._folder) for at, text in self.targets()]

    def targets(self) -> list[tuple[Location, str]]:
        """Return where all stands that is written, and its text: sink, outputs, the run's folder where it is said."""
        values = self._text.value
        outputs = values.get("outputs") or []
        found: list[tuple[Location, str]] = [(("sink", "uri"), values["sink"]["uri"])]
        found += [(("outputs", i, "uri"), one["uri"]) for i, one in enumerate(outputs)]
        workdir = (values.get("run") or {}).get("workdir")
        return found + ([(("run", "workdir"), workdir)] if workdir else [])

    def require_placeholders(self) -> None:
        """Refuse a spec that would write the results of all sources to one place.

        Raises
        ------
        SpecError
        """
        for at, text in self.targets():
            if not _placeholders(text):
                raise SpecError(
                    f"{self._text.where(at)}: {dotted(at)}: {text!r} is the same for every source, so each result "
                    "would take the place of the one before. Give it a placeholder, such as results/{stem}.ome.zarr. "
                    f"Allowed: {', '.join(f'{{{name}}}' for name in ABOUT)}."
                )

    def make_folders(self, spec: Spec) -> None:
        """Create the local folders of targets that placeholders name; the folder that they are in must be there."""
        for (_, text), target in zip(self.targets(), spec.targets, strict=False):
            path, fixed = local_path(target), text.partition("{")[0].rpartition("/")[0]
            if path is not None and (self._folder / fixed).is_dir():
                path.parent.mkdir(parents=True, exist_ok=True)


def require_one_source(spec: Spec) -> None:
    """Refuse a spec for many sources where it would be carried out for one.

    Raises
    ------
    SpecError
        For targets with placeholders, which would be taken for names.
    """
    for target in spec.targets:
        for name in _known(target):
            raise SpecError(
                f"{shown(target)} has the placeholder {{{name}}}, which is filled for each of many sources. Say which: "
                "`diffuse run SPEC --each PATTERN`, or give a target without it."
            )


def _known(text: str) -> list[str]:
    """Return the placeholders that there are; other braces are braces."""
    try:
        return [name for name in _placeholders(text) if name in ABOUT]
    except SpecError:
        return []


def _only_stac(name: str) -> str:
    return " It is known of STAC catalogues alone." if name in ABOUT else ""


def _is_name(text: str) -> bool:
    return text not in ("", ".", "..") and not set(text) & {"/", "\\", "\0"}


def _placeholders(text: str) -> list[str]:
    """Return the names in braces; `{{` and `}}` are braces.

    Raises
    ------
    SpecError
    """
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise SpecError(f"{text!r}: {error}. Allowed: {{stem}} and other names; {{{{ is a brace.") from None
    return [
        f"{name}{f'!{how}' if how else ''}{f':{form}' if form else ''}"
        for _, name, form, how in parts
        if name is not None
    ]


def colliding(targets: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str, str]]:
    """Yield target, first and second source of all that two sources would write.

    Parameters
    ----------
    targets : dict
        Source -> what it would write.
    """
    writer: dict[str, str] = {}
    for source, written in targets.items():
        for target in written:
            if writer.setdefault(target, source) != source:
                yield target, writer[target], source


def require_own_targets(pattern: str, targets: Mapping[str, Sequence[str]]) -> None:
    """Refuse sources that would write one target, and targets that would be found as sources.

    Raises
    ------
    SpecError
    """
    for target, first, second in colliding(targets):
        raise SpecError(
            f"{shown(first)} and {shown(second)} would both be written to {shown(target)}. Tell them apart by "
            "further placeholders in the spec, such as {parent} or {path}."
        )
    for source, written in targets.items():
        for target in written:
            if matches(pattern, target):
                raise SpecError(
                    f"The result of {shown(source)}, {shown(target)}, would itself be found by --each "
                    f"{shown(pattern)!r}. Choose another folder or ending for the results."
                )
