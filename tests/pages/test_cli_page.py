"""docs/cli.md tells the truth: each command line on it is one that `holon` understands."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
from typer.main import get_command

from holon.cli.app import app
from tests.pages.source import REPOSITORY

PAGE = (REPOSITORY / "docs/cli.md").read_text(encoding="utf-8")
BLOCKS = "".join(re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
LINES = [line for line in BLOCKS.splitlines() if line.startswith("holon ")]


def words_of(line: str) -> list[str]:
    """The words behind `holon`; a pipe and a comment end them, and what is optional is there."""
    words = shlex.split(line.replace("[", "").replace("]", ""), comments=True)[1:]
    return words[: words.index("|")] if "|" in words else words


@pytest.mark.parametrize("line", LINES)
def test_a_command_line_can_be_run(line: str) -> None:
    command: Any = get_command(app)
    words = words_of(line)
    while hasattr(command, "commands"):
        name, *words = words
        command = command.commands[name]
    # It raises for an argument that the command does not take, or lacks.
    command.make_context(command.name, words)


def test_there_are_lines_of_every_group() -> None:
    groups = {words_of(line)[0] for line in LINES}
    assert groups >= {"serve", "worker", "jobs", "workers", "blueprints", "tokens", "keys", "webhooks", "reload"}
