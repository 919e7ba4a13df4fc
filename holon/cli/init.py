"""The command line: `holon init` makes a project."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from holon.cli.output import Json, safe, show_json
from holon.errors import FailedPrecondition

# Files of the project, and their names in the package if those differ.
_FILES = {
    "README.md": "README.md",
    ".gitignore": "gitignore",
    "pyproject.toml": "pyproject.toml",
    "blueprints/greet.py": "blueprints/greet.py",
    "greeter.py": "greeter.py",
    "tests/test_greet.py": "tests/test_greet.py",
}


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the project; made if it does not exist.")] = (
        Path()
    ),
    as_json: Json = False,
) -> None:
    """Make a project: a blueprint, a worker, and a test for both.

    If one of its files exists, nothing is written, and the command lists the files that are in the way.
    """
    existing = [name for name in _FILES if os.path.lexists(folder / name)]
    if existing:
        raise FailedPrecondition(
            f"{folder.absolute()} already has {', '.join(existing)}; nothing was written. Name another folder, or move "
            "these files"
        )
    template = Path(__file__).with_name("template")
    for name, source in _FILES.items():
        _write(folder / name, (template / source).read_bytes())
    written = [str(folder / name) for name in _FILES]
    if as_json:
        show_json({"files": written})
        return
    for path in written:
        print(safe(path))
    if folder != Path():
        print(f"\nGo there first:\n  cd {safe(shlex.quote(str(folder)))}")
    print("\nRun the node and the worker, each in a terminal of its own, then create a job:")
    print("  holon serve --dev\n  holon worker run greeter:worker")
    print("""  holon jobs create greet --data '{"name": "Ada"}' --wait""")


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(content)
    except OSError as error:
        raise FailedPrecondition(f"{path} cannot be written: {error.strerror}; name another folder") from error
