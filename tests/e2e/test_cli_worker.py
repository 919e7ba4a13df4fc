"""The command line: how `worker run` begins and ends."""

from __future__ import annotations

import json
import resource
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.e2e.cli_node import (
    COMMAND,
    GUARD,
    Ran,
    Started,
    environment,
    holon,
    holon_forked,
    holon_here,
    project,
    serve,
    until,
)

pytestmark = pytest.mark.own_store("how a node begins and ends, on the default store or none")

SHOWS = """
import os
from pathlib import Path

from cryptography.x509 import load_pem_x509_certificate

from holon.worker import Worker


class Shows(Worker):
    def run(self):
        file = os.environ.get("TLS_CERT_PATH")
        subject = load_pem_x509_certificate(Path(file).read_bytes()).subject if file else ()
        print(*(name.value for name in subject) if subject else ("no certificate",))


"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return project(tmp_path / "it")


def test_a_worker_that_is_told_to_end_drains_and_exits_with_zero(folder: Path, started: list[Started]) -> None:
    node, _ = serve(folder, "--dev", env={"STORAGE_URI": "memory://"})
    started.append(node)
    worker = Started(folder, "worker", "run", "my_worker:worker", fresh=True)
    started.append(worker)
    until(lambda: "session" in worker.log, "it is welcomed")
    job = holon_here(folder, "jobs", "create", "double", "-d", '{"n": 3}', "--wait", "--json").json
    assert job["result"] == {"twice": 6}
    assert worker.end() == 0
    assert "Traceback" not in worker.log


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("my_worker", "MODULE:WORKER"),
        ("my_worker.py:worker", "no module 'my_worker.py'"),
        ("./my_worker:worker", "MODULE:WORKER"),
        ("missing:worker", "no module 'missing'"),
        ("my_worker:wrong", "there is my_worker:worker"),
        ("my_worker:TaskError", "is not a Worker"),
        ("my_worker:worker", "NODE_URL"),
        ("my_worker:worker", "where `holon serve --dev` runs"),
    ],
)
def test_a_worker_that_cannot_start_says_what_to_write(folder: Path, target: str, says: str) -> None:
    ran = holon_forked(folder, "worker", "run", target)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err
    assert "Traceback" not in ran.err


def test_a_worker_needs_no_folder_to_write_in_but_for_a_development_node(folder: Path) -> None:
    def run(env: Mapping[str, str]) -> str:
        command = [*COMMAND, "worker", "run", "my_worker:worker"]
        pipe = subprocess.PIPE
        ran = subprocess.run(
            command, env=environment(env), cwd=folder, stderr=pipe, text=True, preexec_fn=no_room, timeout=GUARD
        )
        assert ran.returncode == 2
        assert "Traceback" not in ran.stderr
        return ran.stderr

    assert "is not encrypted" in run({"NODE_URL": "grpc://elsewhere.example:7700"})
    beside_a_node(folder, "")
    assert "set TMPDIR" in run({})


@pytest.mark.parametrize(
    ("made_with", "options", "shows"),
    [
        ("worker_id='mine'", (), "mine"),
        ("worker_id='mine'", ("--id", "mine"), "mine"),
        ("", ("--id", "other"), "other"),
        ("'grpcs://127.0.0.1:2'", (), "no certificate"),
    ],
)
def test_a_worker_of_a_development_node_has_a_certificate_for_the_id_that_it_is_made_with(
    folder: Path, made_with: str, options: tuple[str, ...], shows: str
) -> None:
    beside_a_node(folder, made_with)
    assert holon_forked(folder, "worker", "run", "own_worker:worker", *options) == Ran(0, f"{shows}\n", "")


def test_an_id_that_a_worker_does_not_take_is_refused(folder: Path) -> None:
    beside_a_node(folder, "worker_id='mine'")
    ran = holon_forked(folder, "worker", "run", "own_worker:worker", "--id", "other")
    assert (ran.code, ran.out) == (2, "")
    assert "own_worker:worker sets the id 'mine' in its code; leave --id out" in ran.err


def beside_a_node(folder: Path, made_with: str) -> None:
    """The file of a development node, and a worker that only says for whom it has a certificate."""
    assert holon_here(folder, "certs", "dev").code == 0
    (folder / ".holon").mkdir()
    told = 'HOLON_CA = "certs/ca.pem"\n[worker]\nNODE_URL = "grpcs://127.0.0.1:1"\nCERTS_DIR = "certs"\n'
    (folder / ".holon/dev.toml").write_text(told)
    (folder / ".holon/dev.toml").chmod(0o600)
    (folder / "own_worker.py").write_text(SHOWS + f"worker = Shows({made_with})\n")


def no_room() -> None:
    """Let no file take anything, as where all that there is can only be read."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import os\nimport nosuch\n", "line 2: ModuleNotFoundError: No module named 'nosuch'"),
        ("def (", "line 1: SyntaxError"),
        ("raise SystemExit(0)", "line 1: SystemExit: 0"),
    ],
)
def test_what_a_workers_module_raises_is_told_with_its_line(folder: Path, text: str, says: str) -> None:
    (folder / "broken_worker.py").write_text(text)
    ran = holon_forked(folder, "worker", "run", "broken_worker:worker", "--json")
    told = json.loads(ran.err)
    assert (ran.code, told["code"]) == (2, "CONFIG_INVALID")
    assert f"broken_worker.py cannot be imported: {says}" in told["error"]


def test_a_package_that_cannot_be_imported_is_told_of_for_its_modules(folder: Path) -> None:
    (folder / "broken").mkdir()
    (folder / "broken" / "__init__.py").write_text("1 / 0")
    ran = holon(folder, "worker", "run", "broken.inside:worker")
    assert (ran.code, ran.out) == (2, "")
    assert "broken.inside cannot be imported: ZeroDivisionError" in ran.err
    assert "Traceback" not in ran.err
