"""The wheel: it holds the product and nothing else, and runs where there is no checkout."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

import holon
from tests.deploy import image
from tests.e2e.cli_node import ANY_PORTS, GUARD, ROOT
from tests.e2e.test_readme import PAGES, examples

pytestmark = pytest.mark.own_store("the wheel as it is installed, with its defaults")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel")))
    return Path(built)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment outside of the checkout, made as an image's is."""
    return image.built(tmp_path_factory.mktemp("image"))


def environment(programs: Path) -> dict[str, str]:
    """The environment of a user who has activated his own, and has set nothing else."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "200"}


def done(folder: Path, *command: str | Path, env: dict[str, str] | None = None) -> str:
    """Run a command that must succeed to its end; what it prints."""
    ran = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@contextmanager
def running(folder: Path, programs: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`holon` with arguments with which it goes on until it is told to end, which it must do well."""
    log = folder / f"{arguments[0]}.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [programs / "holon", *arguments],
            cwd=folder,
            env=environment(programs),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        with process:
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(GUARD) == 0, log.read_text()
    finally:
        process.kill()
    assert "Traceback" not in log.read_text()


def test_the_wheel_holds_exactly_what_is_in_holon_with_the_doors_and_the_protos(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    about = {name for name in names if name.startswith(f"holon_node-{holon.__version__}.dist-info/")}
    files = {
        str(path.relative_to(ROOT))
        for folder, pattern in (("holon", "*"), ("holon/transports", "*"), ("holon/proto", "*.proto"))
        for path in (ROOT / folder).rglob(pattern)
        if path.is_file() and path.suffix != ".pyc"
    }
    assert names - about == files
    assert {
        "holon/py.typed",
        "holon/rxon/v1/worker_pb2.pyi",
        "holon/transports/grpc/server.py",
        "holon/proto/holon/rxon/v1/worker.proto",
    } <= files
    ours = {name for name in files if not name.startswith("holon/cli/template/")}
    assert not [name for name in ours if Path(name).name.startswith("test_") or name.endswith((".db", ".pem", ".key"))]


def test_a_wheel_of_the_source_distribution_is_the_same(wheel: Path, tmp_path: Path) -> None:
    (built,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path))
    with tarfile.open(built) as archive:
        archive.extractall(tmp_path, filter="data")
    (again,) = WheelBuilder(built.removesuffix(".tar.gz")).build(directory=str(tmp_path))
    assert Path(again).read_bytes() == wheel.read_bytes()


def test_what_it_installs_is_holon_alone_and_hands_out_the_protos(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", symlinks=True)
    programs = tmp_path / "env/bin"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", programs / "python")
    done(tmp_path, *pip, "install", "--quiet", "--no-index", "--no-deps", "--no-compile", wheel)
    (packages,) = (tmp_path / "env").glob("lib/*/site-packages")
    assert {path.name for path in packages.iterdir()} == {"holon", f"holon_node-{holon.__version__}.dist-info"}
    # What it needs is that of the tests, without the checkout.
    (packages / "needs.pth").write_text(sysconfig.get_path("purelib"))
    env = environment(programs)
    assert done(tmp_path, programs / "holon", "--version", env=env) == f"holon {holon.__version__}\n"
    where = "import holon.node, holon.transports.http as door; print(holon.node.__file__, door.__file__)"
    files = done(tmp_path, programs / "python", "-c", where, env=env).split()
    assert [file for file in files if not Path(file).is_relative_to(packages)] == []
    done(tmp_path, programs / "holon", "proto", "export", "out", env=env)
    exported = {path.relative_to(tmp_path / "out"): path for path in (tmp_path / "out").rglob("*.*")}
    assert {str(name): path.read_bytes() for name, path in exported.items()} == {
        str(path.relative_to(ROOT / "proto")): path.read_bytes() for path in (ROOT / "proto").rglob("*.proto")
    }


@pytest.mark.slow
def test_what_is_installed_is_the_wheel_with_what_it_runs_on_and_nothing_else(installed: Path, tmp_path: Path) -> None:
    env = environment(installed)
    assert done(tmp_path, installed / "holon", "--version", env=env).split()[-1] == holon.__version__
    where = done(tmp_path, installed / "python", "-c", "import holon; print(holon.__file__)", env=env)
    assert where.startswith(str(installed.parent))
    libraries = {path.name.partition("-")[0] for path in installed.parent.glob("lib/*/site-packages/*.dist-info")}
    assert libraries >= {"holon_node", "grpcio", "asyncpg"}
    assert not libraries & {"pip", "hatchling", "pytest"}


@pytest.mark.slow
def test_the_quick_start_runs_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    blueprint, worker = examples("README.md", PAGES["README.md"], "python")[:2]
    (tmp_path / "blueprints").mkdir()
    (tmp_path / "blueprints" / "greet.py").write_text(blueprint, encoding="utf-8")
    (tmp_path / "greeter.py").write_text(worker, encoding="utf-8")
    with running(tmp_path, installed, "serve", "--dev", "--json", *ANY_PORTS) as node:
        assert node.stdout is not None
        said = node.stdout.readline()
        assert said, (tmp_path / "serve.log").read_text()
        assert json.loads(said)["clients"].startswith("grpcs://")
        with running(tmp_path, installed, "worker", "run", "greeter:worker"):
            create = ("jobs", "create", "greet", "--data", '{"name": "Ada"}', "--wait", "--json")
            job = json.loads(done(tmp_path, installed / "holon", *create, env=environment(installed)))
            assert (job["status"], job["result"]) == ("finished", {"text": "Hello, Ada!"})
