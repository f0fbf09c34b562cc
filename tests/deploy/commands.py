"""The commands of `diffuse` that recipes give, and whether they can be given."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import typer

from pipelines.cli.command import app

DEPLOY = Path(__file__).parents[2] / "deploy"


def commands_in(text: str) -> list[list[str]]:
    """Return the words after `diffuse` of all commands in a text of shell or of units, up to a redirection."""
    found = re.findall(r"(?:^|[\s/\"(=])diffuse ((?:run|watch|warm|apply|demo)\b[^\n>`]*)", text)
    # What a shell fills in is a number for all that the program can tell.
    return [_words(re.sub(r"\$\{\w+(:-\w+)?\}", "1", one)) for one in found]


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command, comments=True)
    except ValueError:  # the quotation mark after it is that of a text which holds the command
        return shlex.split(command.rstrip().rstrip('"'), comments=True)


def require_valid(words: Sequence[str]) -> None:
    """Parse the words of a command as the program does, without carrying it out."""
    verb, *rest = words
    command = typer.main.get_group(app).commands[verb]
    command.make_context(verb, list(rest), resilient_parsing=False)
