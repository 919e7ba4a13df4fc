"""The container file: what it says, and its first stage carried out in a folder, as a builder does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docs/deploy/Dockerfile"


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage, in order, each with its argument on one line."""
    lines = [line for line in FILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    found: list[list[tuple[str, str]]] = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, argument = line.strip().partition(" ")
        if name == "FROM":
            found.append([])
        if name:
            found[-1].append((name, " ".join(argument.split())))
    return found


def variables(stage: list[tuple[str, str]]) -> dict[str, str]:
    """What a stage sets for its programs."""
    return dict(pair.split("=", 1) for name, argument in stage if name == "ENV" for pair in argument.split())


def admitted() -> set[str]:
    """What .dockerignore lets into a build."""
    return set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE))


def built(place: Path) -> Path:
    """Carry out the first stage with `place` for the root of its file system; the folder of the node's programs."""
    stage = stages()[0]
    [folder] = (place / argument.lstrip("/") for name, argument in stage if name == "WORKDIR")
    folder.mkdir(parents=True)
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    # Programs are not compiled ahead here: it takes longer than all the rest.
    env = {**kept, **variables(stage), "PATH": path, "PIP_COMPILE": "0", "PIP_NO_CACHE_DIR": "0", "PIP_QUIET": "1"}
    for name, argument in stage:
        if name == "COPY":
            *sources, target = argument.split()
            for source in sources:
                _copied(source, folder / target)
        elif name == "RUN":
            command = argument.replace("/opt/", f"{place}/opt/")
            ran = subprocess.run(
                command, shell=True, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False
            )
            assert ran.returncode == 0, f"{command}\n{ran.stdout}{ran.stderr}"
    return place / "opt/holon/bin"


def _copied(source: str, target: Path) -> None:
    assert admitted() & {source, *map(str, Path(source).parents)}, f".dockerignore keeps {source} out of the build"
    if (ROOT / source).is_dir():
        shutil.copytree(ROOT / source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / source, target)
