"""The site builds without a network or a warning, has a page for every operator, and its links lead somewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import filelock
import pytest
import ruamel.yaml
from pywt import data

from diffusion_ops.evolution.operator import OPERATORS
from pipelines.spec.spec import make_spec

ROOT = Path(__file__).parents[1]
OURS = {name: cls for name, cls in OPERATORS.items() if cls.__module__.startswith("diffusion_ops.")}
each_operator = pytest.mark.parametrize("name", OURS)
pytestmark = pytest.mark.documents


@dataclass(frozen=True)
class Site:
    """A site as it was built, and the sources that it was built of."""

    sources: Path
    html: Path

    def source(self, name: str) -> str:
        return (self.sources / f"{name}.md").read_text(encoding="utf-8")

    def page(self, name: str) -> str:
        return (self.html / f"{name}.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Build the site, once where several processes share the tests."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "site"
    with filelock.FileLock(f"{folder}.lock"):
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            build(folder)
            (folder / "complete").touch()
    return Site(folder / "notebooks", folder / "html")


def build(folder: Path) -> None:
    """Build the site from a copy, so that nothing is written into the clone."""
    folder.mkdir()
    unwanted = shutil.ignore_patterns("operators", "api", ".ipynb_checkpoints")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=unwanted)
    # What its pages include and link.
    shutil.copy(ROOT / "CHANGELOG.md", folder)
    shutil.copytree(ROOT / "deploy", folder / "deploy")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--nitpicky", "--quiet"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        **dict.fromkeys(("http_proxy", "https_proxy"), "http://[::1]:9"),
    }
    done = subprocess.run(
        [*command, "notebooks", "html"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@dataclass
class Links(HTMLParser):
    """What a page links, loads, and can be linked by."""

    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    places: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attributes}
        self.places.add(known.get("id", ""))
        if tag == "a" and "href" in known:
            self.links.append(known["href"])
        if "src" in known:
            self.loaded.append(known["src"])
        if tag == "link" and known.get("rel") in ("stylesheet", "preload", "icon"):
            self.loaded.append(known["href"])


@pytest.fixture(scope="module")
def links(site: Site) -> dict[Path, Links]:
    """Return the links of every page."""
    found = {}
    for path in sorted(site.html.rglob("*.html")):
        found[path] = Links()
        found[path].feed(path.read_text(encoding="utf-8"))
    return found


@each_operator
def test_operator_has_its_page_and_picture(site: Site, name: str) -> None:
    page = site.page(f"operators/{name}")
    text = re.sub(r"<[^>]+>", "", page)
    assert f"_images/{name}.png" in page
    assert (site.html / "_images" / f"{name}.png").is_file()
    assert f"diffusion_ops.{OURS[name].__name__}" in text
    assert f'href="{name}.html"' in site.page("operators/index")


@each_operator
def test_operator_page_says_all_of_its_parameters(site: Site, name: str) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)$", site.source(f"operators/{name}"), re.MULTILINE))
    parameters = OURS[name].parameters()
    assert set(rows) == set(parameters)
    for parameter, row in rows.items():
        assert f"*Allowed:* {parameters[parameter].range}" in row
        assert "*Unit:* " in row or parameters[parameter].unit in ("", "1")
        for word in parameters[parameter].aliases:
            assert f"`{word}`" in row


@each_operator
def test_examples_of_operator_page_run(site: Site, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a small part of the image, so that it takes no minutes."""
    page = site.source(f"operators/{name}")
    whole = data.camera()
    monkeypatch.setattr(data, "camera", lambda: whole[100:132, 200:232])
    (python,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(python, f"{name}.md", "exec"), names)
    assert names["result"].shape[-2:] == (32, 32)
    (step,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    spec = ruamel.yaml.YAML(typ="safe").load(step)
    made = make_spec({"source": {"uri": "a.tif"}, "sink": {"uri": "b.zarr"}, **spec})
    assert made.steps[0].operator == name


def targets(page: Path, found: Links) -> Iterator[tuple[str, Path, str]]:
    """Yield what a page links of the site: as it stands, the file, the place in it."""
    for link in found.links:
        parts = urlsplit(link)
        if not parts.scheme and not parts.netloc:
            path = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            yield link, path, unquote(parts.fragment)


def test_links_lead_somewhere(links: dict[Path, Links]) -> None:
    dead = [
        f"{page.name}: {link}"
        for page, found in links.items()
        for link, file, place in targets(page, found)
        if not file.is_file() or (place and file in links and place not in links[file].places)
    ]
    assert len(links) > len(OURS)
    assert not dead


def test_nothing_is_loaded_from_elsewhere(site: Site, links: dict[Path, Links]) -> None:
    foreign = {one for found in links.values() for one in found.loaded if urlsplit(one).netloc}
    styles = (path.read_text(encoding="utf-8") for path in site.html.rglob("*.css"))
    foreign |= {
        url for style in styles for url in re.findall(r"(?:@import|url\()\s*['\"]?(\w*:?//[^'\")]+)", style)
    }
    assert not foreign


def test_formulas_are_drawn_by_the_browser(site: Site) -> None:
    assert "<math " in site.page("slide")
    assert "MathJax" not in site.page("slide")
