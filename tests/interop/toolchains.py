"""Toolchains that are not Python's: what the examples in other languages are built with, and what is missing here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs/examples"
OPENAPI = Path(__file__).parent / "openapi"
PAGE = ROOT / "docs/foreign-clients.md"
OPENAPI_LOCK = ROOT / "scripts/requirements/openapi.txt"
# Debian installs the sources of Go's packages here.
GO_SOURCES = Path("/usr/share/gocode")
# What makes a program smaller and faster makes its build slower.
_QUICK_GO = {"GOFLAGS": "'-gcflags=all=-N -l' '-ldflags=-s -w'", "CGO_ENABLED": "0"}
# Of each generator, where its code goes.
GENERATED = {
    "csharp": "csharp",
    "go": "go/src/example.org/you/gen",
    "go-grpc": "go/src/example.org/you/gen",
    "java": "java",
    "php": "php",
    "ruby": "ruby",
}
GO_TOOLS = ("go", "protoc", "protoc-gen-go", "protoc-gen-go-grpc")


class Missing(Exception):
    """Expected: a toolchain is not installed; `scripts/test --system` installs it where it may."""


def node_examples(folder: Path) -> Path:
    """Copy the examples in Node.js, with the protos where they look for them, and install what they need.

    Arguments:
        folder: an empty one.

    Returns:
        The folder with `worker.js` and `client.js`.

    Raises:
        Missing: there is no node or npm, or an older one.
    """
    _require("node", "npm")
    _require_version((20, 0), "node", "--version")
    shutil.copytree(ROOT / "proto", folder / "proto")
    examples = folder / "docs/examples/node"
    shutil.copytree(EXAMPLES / "node", examples, ignore=shutil.ignore_patterns("node_modules"))
    _install(examples)
    return examples


def openapi_node(folder: Path) -> Path:
    """Install the generators of clients in TypeScript, and their compiler.

    Arguments:
        folder: an empty one.

    Returns:
        The folder with `node_modules`.

    Raises:
        Missing: there is no node or npm, or an older one.
    """
    _require("node", "npm")
    _require_version((20, 19), "node", "--version")
    for name in ("package.json", "package-lock.json", "tsconfig.json"):
        shutil.copy(OPENAPI / name, folder)
    _install(folder)
    return folder


def openapi_python(folder: Path) -> Path:
    """Make an environment with the generator of clients in Python.

    Arguments:
        folder: an empty one.

    Returns:
        The environment.
    """
    _run(sys.executable, "-m", "venv", str(folder), cwd=folder)
    install = (
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--quiet",
        "--no-compile",
        "--only-binary",
        ":all:",
    )
    _run(str(folder / "bin/python"), *install, "--require-hashes", "-r", str(OPENAPI_LOCK), cwd=folder)
    return folder


def go_examples(folder: Path) -> Path:
    """Generate code from the protos and build the examples in Go, as the page says.

    Arguments:
        folder: an empty one.

    Returns:
        The folder with the programs `worker` and `client`.

    Raises:
        Missing: there is no go or an older one, no protoc or generator for Go, or none of the sources of gRPC.
    """
    _require(*GO_TOOLS)
    _require_go_sources()
    for name in ("proto", "docs"):
        (folder / name).symlink_to(ROOT / name)
    build = next(block for block in blocks("sh") if "go build" in block)
    _run("bash", "-euc", build, cwd=folder, env=_QUICK_GO)
    return folder / "build"


def generated(folder: Path) -> Path:
    """Generate code from the protos in several languages, with no option but where it goes.

    Arguments:
        folder: an empty one.

    Returns:
        The folder, with one for each language. That of Go is the source folder of a module, and the code is below it.

    Raises:
        Missing: there is no protoc, or no generator for Go.
    """
    _require("protoc", "protoc-gen-go", "protoc-gen-go-grpc")
    outputs = []
    for name, place in GENERATED.items():
        (folder / place).mkdir(parents=True, exist_ok=True)
        outputs.append(f"--{name}_out={folder / place}")
    protos = sorted(str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto").rglob("*.proto"))
    _run("protoc", "-I", str(ROOT / "proto"), *outputs, *protos, cwd=folder)
    return folder


def build_go(path: Path, package: str) -> None:
    """Build a package of Go below `path`/src, with Debian's packages.

    Raises:
        Missing: there is no go or an older one, or none of the sources of gRPC.
    """
    _require("go")
    _require_go_sources()
    env = {"GO111MODULE": "off", "GOPATH": f"{path}:{GO_SOURCES}"}
    _run("go", "build", "-o", str(path / "program"), package, cwd=path, env=_QUICK_GO | env)


def blocks(language: str) -> list[str]:
    """The examples in one language on the page about these programs."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def _install(folder: Path) -> None:
    _run("npm", "ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund", cwd=folder)


def _require(*tools: str) -> None:
    absent = [tool for tool in tools if not shutil.which(tool)]
    if absent:
        raise Missing(f"not installed: {', '.join(absent)}")


def _require_version(least: tuple[int, int], *command: str) -> None:
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+)\.(\d+)", said)
    if not found or (int(found[1]), int(found[2])) < least:
        raise Missing(f"{command[0]} is older than {least[0]}.{least[1]}: {said.strip()}")


def _require_go_sources() -> None:
    _require_version((1, 24), "go", "version")
    if not (GO_SOURCES / "src/google.golang.org/grpc").is_dir():
        raise Missing(f"the sources of gRPC for Go are not in {GO_SOURCES}")


def _run(*command: str, cwd: Path, env: Mapping[str, str] = {}) -> None:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
