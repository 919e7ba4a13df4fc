"""The oldest gRPC and protobuf that `pyproject.toml` allows: the protocol's tests pass with them too.

The newest are what every other test runs with, for the locks pin them; `scripts/check --matrix` goes further.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "scripts/requirements/floor.txt").read_text(encoding="utf-8")
WIRE = (
    "googleapis-common-protos",
    "grpcio",
    "grpcio-health-checking",
    "grpcio-reflection",
    "grpcio-status",
    "protobuf",
)
TESTS = (
    "tests/interop/test_growth.py",
    "tests/interop/test_minimal_worker.py",
    "tests/unit/test_worker_stream.py",
    "tests/integration/test_worker_door.py",
    "tests/integration/test_client_door.py",
    "tests/e2e/test_readme.py::test_the_quick_start_does_what_it_says",
)


def test_the_floor_is_the_oldest_that_the_project_allows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", LOCK, re.MULTILINE))
    for requirement in map(Requirement, project["dependencies"]):
        (bound,) = [one for one in requirement.specifier if one.operator != "!="]
        assert (bound.operator, Version(bound.version)) == (">=", Version(pinned[requirement.name])), requirement


@pytest.fixture
def oldest(tmp_path: Path) -> Path:
    """A Python with the oldest gRPC and protobuf; all else it finds in the environment of this one."""
    # The pip of this one installs into it: to make another takes as long as all the rest.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "venv"], cwd=tmp_path, check=True)
    python = tmp_path / "venv/bin/python"
    entries = [entry for entry in re.split(r"^(?=\S)", LOCK, flags=re.MULTILINE) if entry.startswith(tuple(WIRE))]
    (tmp_path / "wire.txt").write_text("".join(entries), encoding="utf-8")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python))
    install = ("install", "--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", "wire.txt")
    done = subprocess.run(
        [*pip, *install],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (home,) = (tmp_path / "venv/lib").glob("python3.*/site-packages")
    (home / "beside.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python


@pytest.mark.slow
def test_the_protocol_works_with_the_oldest_grpc_and_protobuf(oldest: Path) -> None:
    ask = "import google.protobuf, grpc; print(grpc.__version__, google.protobuf.__version__)"
    versions = subprocess.run([oldest, "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    assert versions == ["1.67.1", "5.29.6"]
    done = subprocess.run(
        [oldest, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
