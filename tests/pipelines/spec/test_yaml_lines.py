"""Values and lines of YAML, and refusals that name the line."""

from pathlib import Path

import pytest

from pipelines.spec import yaml_lines
from pipelines.spec.yaml_lines import MOST_BYTES, BadYamlError, parse_yaml, read_yaml

TEXT = """\
source: {uri: a.tif}
steps:
  - operator: heat
    time: 1e-3

  - {operator: heat,
     time: 4}
"""


def test_keys_and_items_have_lines():
    text = parse_yaml(TEXT, "a.yaml")
    assert text.value["steps"][0]["time"] == 0.001
    assert text.where(("source", "uri")) == "a.yaml, line 1"
    assert text.where(("steps", 0)) == "a.yaml, line 3"
    assert text.where(("steps", 0, "time")) == "a.yaml, line 4"
    assert text.where(("steps", 1, "time")) == "a.yaml, line 7"


def test_what_is_not_there_has_the_line_of_what_it_is_missing_from():
    text = parse_yaml(TEXT, "a.yaml")
    assert text.where(("steps", 0, "operator", "deeper")) == "a.yaml, line 3"
    assert text.where(("sink",)) == "a.yaml"


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)
"""A billion values in ten lines."""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "line 2: the key 'a' is given twice"),
        ("a: [1\nb: 2\n", "line 2: this is not valid YAML"),
        ("a:\n\tb: 1\n", "line 2: this is not valid YAML"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
        ("a: !!python/object:os.system 1\n", "line 1: this is not valid YAML"),
        ("a: \x00\n", "not valid YAML"),
        ("[" * 20_000 + "]" * 20_000, "nested more than the 64 levels"),
        ("a: " + "{a: " * 20_000, "nested more than the 64 levels"),
        ("a: &a\n  b: *a\n", "contains itself"),
        ("&a [*a]", "contains itself"),
        ("a: &a {<<: *a}\n", "contains itself"),
        (LAUGHS, "aliases unfold to more than the 50,000 values"),
    ],
)
def test_bad_text_is_refused_with_its_line(text, message):
    with pytest.raises(BadYamlError, match=message):
        parse_yaml(text, "a.yaml")


def test_a_text_of_many_values_is_refused(monkeypatch):
    monkeypatch.setattr(yaml_lines, "MOST_VALUES", 100)
    with pytest.raises(BadYamlError, match="more than the 100 values"):
        parse_yaml("a: [" + "1," * 101 + "]", "a.yaml")


def test_anchors_and_merged_keys_are_unfolded():
    text = parse_yaml("a: &a {b: 1}\nc: *a\nd: {<<: *a, e: 2}\n", "a.yaml")
    assert text.value == {"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1, "e": 2}}


def test_files_that_cannot_be_read_are_refused(tmp_path: Path):
    (tmp_path / "binary.yaml").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(BadYamlError, match="There is no file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(BadYamlError, match="is a folder"):
        read_yaml(tmp_path)
    (tmp_path / "large.yaml").write_bytes(b"#" * (MOST_BYTES + 1))
    with pytest.raises(BadYamlError, match="too large for a spec"):
        read_yaml(tmp_path / "large.yaml")
    with pytest.raises(BadYamlError, match="is no path"):
        read_yaml("a\0b.yaml")
    with pytest.raises(BadYamlError, match="cannot be read: File name too long"):
        read_yaml(tmp_path / ("a" * 5000))
    with pytest.raises(BadYamlError, match="not text"):
        read_yaml(tmp_path / "binary.yaml")
