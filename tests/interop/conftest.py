"""Programs in other languages: each is built once a run; where that cannot be, the run says so, and fails in CI."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop import toolchains

_NOT_BUILT = pytest.StashKey[dict[str, str]]()


def built(request: pytest.FixtureRequest, folders: pytest.TempPathFactory, build: Callable[[Path], Path]) -> Path:
    """What `build` makes; without its toolchain the test is skipped, or in CI fails."""
    try:
        return build(folders.mktemp(build.__name__))
    except toolchains.Missing as missing:
        request.config.stash.setdefault(_NOT_BUILT, {})[build.__name__] = str(missing)
        said = f"{build.__name__}: {missing}; scripts/test --system installs it"
        if os.environ.get("CI"):
            pytest.fail(said)
        pytest.skip(said)


@pytest.fixture(scope="session")
def node_examples(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the examples in Node.js, ready to run."""
    return built(request, tmp_path_factory, toolchains.node_examples)


@pytest.fixture(scope="session")
def go_client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client in Go, built."""
    return built(request, tmp_path_factory, toolchains.go_client)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    absent = config.stash.get(_NOT_BUILT, {})
    if absent:
        terminalreporter.section("NOT CHECKED: programs in other languages", yellow=True, bold=True)
        for name, why in absent.items():
            terminalreporter.write_line(f"{name}: {why}; scripts/test --system installs it (Debian, as root)")
