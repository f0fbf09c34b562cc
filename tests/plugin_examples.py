"""Plug-ins to extend the packages with: the operators of the guide on the site, and a format."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]

GRAYMAP = '''
"""Portable graymaps (.pgm): a header in words, then bytes."""

from pathlib import Path

import numpy as np

from pipelines.image.identity import file_identity
from pipelines.image.info import ImageInfo
from pipelines.image.levels import reordered
from pipelines.store.publish import finished_file
from pipelines.image.sink import SINKS, Level, Sink
from pipelines.image.source import SOURCES, Source
from pipelines.image.levels import create_level
from pipelines.store.arrays import choose_chunks, open_array


@SOURCES.register("graymap")
class GraymapSource(Source):
    """One plane of bytes."""

    extensions = (".pgm",)
    about = "portable graymap"

    def __init__(self, spec):
        self._path = Path(spec.uri)
        _, width, height, _ = self._path.read_bytes().split(maxsplit=4)[:4]
        self._shape = int(height), int(width)
        identity = file_identity(spec)
        self.info = ImageInfo(self._shape, np.dtype("uint8"), "yx", self._shape, identity=identity)

    @classmethod
    def claims(cls, uri):
        path = Path(uri)
        return 10 if path.is_file() and path.read_bytes()[:2] == b"P5" else 0

    @classmethod
    def open(cls, spec):
        return cls(spec)

    def read(self, region):
        cells = self._shape[0] * self._shape[1]
        return np.frombuffer(self._path.read_bytes()[-cells:], np.uint8).reshape(self._shape)[region]


@SINKS.register("graymap")
class GraymapSink(Sink):
    """One plane of bytes."""

    extensions = (".pgm",)
    about = "portable graymap"

    def levels(self, info):
        layout = choose_chunks("yx", (info.size("y"), info.size("x")), self.spec.chunk)
        return (Level("pixels", reordered(info, "yx").replace(chunks=layout.unit), layout.chunks, (1, 1)),)

    def create(self, root, info, levels):
        create_level(root, levels[0], self.spec.compression)

    def finish(self, root, info, levels, target, memory):
        pixels = np.asarray(open_array(root, "pixels")[...])
        with finished_file(target) as part:
            header = f"P5 {pixels.shape[1]} {pixels.shape[0]} 255\\n".encode()
            Path(part).write_bytes(header + pixels.tobytes())
'''


def guide_blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a guide of the site."""
    text = (ROOT / "notebooks" / "guides" / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def guide_operator(name: str) -> str:
    """Return the file of an operator of the guide."""
    (operator,) = (
        block for block in guide_blocks("new_operator", "python") if f'@register("{name}")' in block
    )
    return operator


def save_graymap(path: Path) -> None:
    """Write an image that the format reads: 61 rows of 47 columns."""
    pixels = (np.random.default_rng(0).random((61, 47)) * 200).astype(np.uint8)
    path.write_bytes(b"P5 47 61 255\n" + pixels.tobytes())


def python(folder: Path, *arguments: str, code: int = 0, path: tuple[Path, ...] = ()) -> str:
    """Return what Python prints in a folder, with the packages there or on another path."""
    places = os.pathsep.join(map(str, path or (folder,)))
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": places},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return done.stdout + (done.stderr if code else "")


SEVERAL = """
import json, sys
from pipelines.cli.command import app
for words in json.loads(sys.argv[1]):
    try:
        app(words)
    except SystemExit as ended:
        assert not ended.code, f"{words}: {ended.code}"
    print(end="\\f", flush=True)
"""


def diffuse_each(folder: Path, *commands: str, path: tuple[Path, ...] = ()) -> list[str]:
    """Return what each of several commands prints that all end well, in one process, which starts but once."""
    words = json.dumps([command.split() for command in commands])
    return python(folder, "-c", SEVERAL, words, path=path).split("\f")[:-1]


def diffuse(folder: Path, *arguments: str, code: int = 0, path: tuple[Path, ...] = ()) -> str:
    """Return what the command prints in a folder."""
    return python(folder, "-m", "pipelines.cli.command", *arguments, code=code, path=path)
