"""Programs in other languages: each is built once a run; where that cannot be, the run says so, and fails in CI."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tests.interop import toolchains


@pytest.fixture(scope="session")
def buf() -> str:
    """The program that comes with the development dependencies."""
    found = shutil.which("buf", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert found, "buf is missing: install the development dependencies (buf-bin)"
    return found


@dataclass(frozen=True)
class Programs:
    """The examples, ready to run."""

    node: Path
    go: Path

    def command(self, language: str, program: str) -> list[str]:
        """What runs the `worker` or the `client` of a language."""
        return [str(self.go / program)] if language == "go" else ["node", str(self.node / f"{program}.js")]


def built(folders: pytest.TempPathFactory, build: Callable[[Path], Path]) -> Path:
    """What `build` makes, once for a run's processes; without its toolchain the test is skipped, or in CI fails."""
    place = folders.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent
    done = place / f"{build.__name__}.done"
    try:
        with (place / f"{build.__name__}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                # One that failed leaves its folder.
                done.write_text(str(build(Path(mkdtemp(prefix=f"{build.__name__}-", dir=place)))))
            return Path(done.read_text())
    except toolchains.Missing as missing:
        said = f"{build.__name__}: {missing}; scripts/test --system installs it (Debian, as root)"
        if os.environ.get("CI"):
            pytest.fail(said)
        pytest.skip(said)


@pytest.fixture(scope="session")
def node_examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the examples in Node.js, ready to run."""
    return built(tmp_path_factory, toolchains.node_examples)


@pytest.fixture(scope="session")
def go_examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the examples in Go, built."""
    return built(tmp_path_factory, toolchains.go_examples)


@pytest.fixture(scope="session")
def generated_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what generators of several languages make of the protos."""
    return built(tmp_path_factory, toolchains.generated)


@pytest.fixture(scope="session")
def openapi_node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the generators of clients in TypeScript."""
    return built(tmp_path_factory, toolchains.openapi_node)


@pytest.fixture(scope="session")
def openapi_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment of the generator of clients in Python."""
    return built(tmp_path_factory, toolchains.openapi_python)


@pytest.fixture(scope="session")
def programs(node_examples: Path, go_examples: Path) -> Programs:
    """All of them."""
    return Programs(node_examples, go_examples)


@pytest.fixture
def blueprints(tmp_path: Path) -> Path:
    """A folder with the blueprint `counting`, as the page about programs in other languages has it."""
    folder = tmp_path / "blueprints"
    folder.mkdir()
    (folder / "counting.py").write_text(toolchains.blocks("python")[0], encoding="utf-8")
    return folder
