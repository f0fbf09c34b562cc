"""A source on a worn medium, to test retries with real reads that fail."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipelines.image.info import ImageInfo
from pipelines.image.source import SOURCES, Source
from tests.pipelines.azure_server import azure_server
from tests.pipelines.chaos import FIGURES, undisturbed
from tests.pipelines.object_server import object_server
from tests.plugin_examples import ROOT


class WornSource(Source):
    """A .npy file whose reads fail as often as a file beside it says, at the position that it names."""

    extensions = (".worn",)
    about = "for tests: reads fail"
    lock = threading.Lock()

    @classmethod
    def claims(cls, uri):
        return 100 if uri.endswith(".worn") else 0

    @classmethod
    def open(cls, spec):
        source = cls()
        source.path = Path(spec.uri)
        with source.path.open("rb") as file:
            source.pixels = np.load(file)
        shape = source.pixels.shape
        source.info = ImageInfo(shape, source.pixels.dtype, "yx", shape, identity="worn")
        return source

    def read(self, region):
        left = self.path.with_suffix(".failures")
        with self.lock:
            count, *position = (int(word) for word in left.read_text().split())
            if count and all(s.start <= p < s.stop for s, p in zip(region, position, strict=False)):
                left.write_text(" ".join(map(str, [count - 1, *position])))
                raise OSError("the medium is worn out")
        return self.pixels[region]


@pytest.fixture
def flaky_source(tmp_path):
    """Return a function that turns a .npy file into a source whose reads fail, and that can mend it."""
    if "worn" not in SOURCES:
        SOURCES.register("worn")(WornSource)
    path = tmp_path / "source.worn"

    def make(source, failures, at=()):
        shutil.copy(source, path)
        path.with_suffix(".failures").write_text(" ".join(map(str, [failures, *at])))
        return str(path)

    make.mend = lambda: path.with_suffix(".failures").write_text("0")
    return make


@pytest.fixture(scope="module")
def served():
    """Serve an S3 bucket behind a proxy for the tests of a file."""
    with object_server() as running:
        yield running


@pytest.fixture
def objects(served):
    """Return the S3 server, with a proxy that lets everything through."""
    served.proxy.clear()
    yield served
    served.proxy.clear()


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a container of Azure's sort for the tests of a file."""
    with azure_server(tmp_path_factory.mktemp("azure")) as address:
        yield address


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a copy of our packages that computes other bits."""
    folder = tmp_path_factory.mktemp("edited")
    for package in ("diffusion_ops", "pipelines"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    module = folder / "pipelines" / "kinds" / "evolve.py"
    text = module.read_text(encoding="utf-8")
    line = "        advance(block, self.legs)\n"
    assert text.count(line) == 1
    module.write_text(text.replace(line, f"{line}        block.storage[...] += 1\n"), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[None]:
    """Print at the end of a file how often each thing was done in it."""
    FIGURES.clear()
    with undisturbed(tmp_path_factory.mktemp("undisturbed")):
        yield
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(*(f"\n{count:6d} {what}" for what, count in sorted(FIGURES.items())), sep="")
