"""The command line: how `serve` begins and ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sqlite3
import ssl
from pathlib import Path

import httpx
import pytest

from holon.client import Client
from tests.e2e.cli_node import (
    ANY_PORTS,
    GUARD,
    Started,
    environment,
    holon,
    holon_forked,
    holon_here,
    project,
    serve,
    until,
)
from tests.plaintext import PLAINTEXT

pytestmark = pytest.mark.own_store("how a node begins and ends, on the default store or none")
TOKEN = "a-token-for-tests-of-the-command-line"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return project(tmp_path / "it")


def test_i10_a_node_that_is_told_to_end_drains_and_exits_with_zero(folder: Path, started: list[Started]) -> None:
    node, doors = serve(folder, env={"STORAGE_URI": "memory://", "CLIENT_TOKEN": TOKEN}, fresh=True)
    started.append(node)
    assert doors.keys() == {"http", "workers", "clients"}
    assert doors["clients"].startswith("grpc://127.0.0.1:")
    assert httpx.get(f"{doors['http']}/_public/status", trust_env=False, verify=PLAINTEXT).json() == {"status": "ok"}
    listed = holon_here(folder, "jobs", "list", "--json", env={"HOLON_URL": doors["clients"], "HOLON_TOKEN": TOKEN})
    assert listed.json == {"jobs": [], "next_page_token": ""}
    client = {"HOLON_URL": doors["clients"], "HOLON_TOKEN": TOKEN}
    secret = holon_here(folder, "webhooks", "secret", "--json", env=client).json["secret"]
    assert secret.startswith("whsec_")
    assert holon_here(folder, "webhooks", "secret", env=client).out.strip() == secret
    assert node.end(signal.SIGTERM) == 0
    assert "Traceback" not in node.log
    assert "`holon webhooks secret` shows it" in node.log
    assert TOKEN not in node.log
    assert secret.removeprefix("whsec_") not in node.log


def test_a_node_goes_on_though_nobody_reads_where_its_doors_are(folder: Path, started: list[Started]) -> None:
    node = Started(folder, "serve", *ANY_PORTS, env={"STORAGE_URI": "memory://", "CLIENT_TOKEN": TOKEN})
    started.append(node)
    node.stdout.close()
    until(lambda: "Broken pipe; the node goes on" in node.log, "it says that it cannot say it")
    assert node.end(signal.SIGTERM) == 0
    assert "Traceback" not in node.log


def busy(folder: Path, started: list[Started], blueprint: str, grace: int = 600) -> tuple[Started, dict[str, str]]:
    """A node with that time to drain, in the handler of a job of this blueprint, and where its doors are."""
    env = {"STORAGE_URI": "memory://", "CLIENT_TOKEN": TOKEN, "SHUTDOWN_GRACE_SECONDS": str(grace)}
    node, doors = serve(folder, "--blueprints", "blueprints", env=env)
    started.append(node)
    client = {"HOLON_URL": doors["clients"], "HOLON_TOKEN": TOKEN}
    assert holon_here(folder, "jobs", "create", blueprint, env=client).code == 0
    until((folder / f"{blueprint}-began").exists, "its handler runs")
    return node, doors


def test_a_second_signal_ends_a_node_that_drains_at_once(folder: Path, started: list[Started]) -> None:
    node, doors = busy(folder, started, "slow")
    node.process.send_signal(signal.SIGINT)
    status = f"{doors['http']}/_public/status"
    until(lambda: httpx.get(status, trust_env=False, verify=PLAINTEXT).status_code == 503, "it drains")
    assert node.process.returncode is None
    node.end(signal.SIGINT)
    assert "Traceback" not in node.log


def test_a_signal_to_a_node_that_an_operator_drains_leaves_it_the_time_it_has(
    folder: Path, started: list[Started]
) -> None:
    node, doors = busy(folder, started, "slow")

    async def drain() -> None:
        async with Client(doors["clients"], TOKEN) as operator:
            await operator.node.drain(reason="an upgrade")

    asyncio.run(drain())
    node.process.send_signal(signal.SIGTERM)
    (folder / "slow-may-end").touch()
    assert node.wait() == 0
    assert '"drained"' in node.log
    assert "not drained" not in node.log


@pytest.mark.parametrize("name", ["deaf", "threaded"])
def test_i10_a_second_signal_ends_a_node_whose_handler_does_not_end(
    folder: Path, started: list[Started], name: str
) -> None:
    node, _ = busy(folder, started, name)
    node.process.send_signal(signal.SIGTERM)
    until(lambda: "draining" in node.log, "it drains")
    node.process.send_signal(signal.SIGTERM)
    assert node.wait() == 1
    assert "and their work runs again later" in node.log


def test_i10_a_handler_that_takes_the_cancel_for_itself_does_not_hold_up_the_end(
    folder: Path, started: list[Started]
) -> None:
    node, _ = busy(folder, started, "swallows", grace=0)
    assert node.end(signal.SIGTERM) == 0


def _knocks(door: str) -> None:
    """Try a door that asks for a certificate without one."""
    host, port = door.removeprefix("grpcs://").split(":")
    stranger = ssl.create_default_context()
    stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
    stranger.set_alpn_protocols(["h2"])
    # It is closed after the client's own part of the handshake, in TLS 1.3.
    with (
        socket.create_connection((host, int(port)), GUARD) as line,
        contextlib.suppress(OSError),
        stranger.wrap_socket(line) as secured,
    ):
        while secured.read():
            pass


@pytest.mark.parametrize(("env", "told"), [({}, False), ({"GRPC_VERBOSITY": "INFO"}, True)])
def test_a_handshake_that_fails_breaks_no_log_of_json_and_is_told_to_who_asks_for_it(
    folder: Path, started: list[Started], env: dict[str, str], told: bool
) -> None:
    # What gRPC is to tell of, it decides when it is imported.
    settings = {"STORAGE_URI": "memory://", "LOG_FORMAT": "json", **env}
    node, doors = serve(folder, "--dev", env=settings, fresh=True)
    started.append(node)
    _knocks(doors["workers"])
    if told:
        until(lambda: "PEER_DID_NOT_RETURN_A_CERTIFICATE" in node.log, "gRPC tells of it")
    assert node.end(signal.SIGTERM) == 0
    foreign = [line for line in node.log.splitlines() if not line.startswith("{")]
    assert bool(foreign) == told, foreign


def test_a_node_with_https_takes_a_renewed_certificate_and_says_so(folder: Path, started: list[Started]) -> None:
    assert holon_here(folder, "certs", "dev").code == 0
    files = {"TLS_CERT_PATH": "certs/server.pem", "TLS_KEY_PATH": "certs/server.key", "TLS_CA_PATH": "certs/ca.pem"}
    node, doors = serve(folder, env={"STORAGE_URI": "memory://", "TLS_ENABLED": "true", **files})
    started.append(node)
    assert doors["http"].startswith("https://")
    trust = ssl.create_default_context(cafile=str(folder / "certs/ca.pem"))
    with httpx.Client(base_url=doors["http"], verify=trust, trust_env=False) as client:
        figures = client.get("/_public/metrics").text
        for door in ("worker", "client", "http"):
            assert f'holon_certificate_expiry_timestamp_seconds{{door="{door}"}}' in figures
        assert holon_here(folder, "certs", "dev", "--host", "node.example").code == 0
        node.process.send_signal(signal.SIGHUP)
        until(
            lambda: 'holon_reloads_total{result="done"}' in client.get("/_public/metrics").text,
            "it has the new certificate",
        )
    assert node.end(signal.SIGTERM) == 0
    assert "new TLS files are in use" in node.log


HANGS_UP = """
import os
import signal
import sys


class HangsUp:
    def find_spec(self, name, path=None, target=None):
        if name == "holon.node":
            os.kill(os.getpid(), signal.SIGHUP)


sys.meta_path.insert(0, HangsUp())
"""


def test_a_node_that_is_told_to_read_its_files_again_while_it_starts_goes_on(
    folder: Path, started: list[Started]
) -> None:
    (folder / "sitecustomize.py").write_text(HANGS_UP)
    path = os.pathsep.join((str(folder), environment()["PYTHONPATH"]))
    env = {"STORAGE_URI": "memory://", "CLIENT_TOKEN": TOKEN, "PYTHONPATH": path}
    node, doors = serve(folder, env=env, fresh=True)
    started.append(node)
    assert doors
    assert node.end(signal.SIGTERM) == 0


def test_every_wrong_setting_is_listed_at_once(tmp_path: Path) -> None:
    env = {"API_PORT": "http", "TLS_CERT_PATH": "nothing.pem", "GRPC_HOST": "0.0.0.0"}
    ran = holon(tmp_path, "serve", "--log-level", "LOUD", env=env)
    assert (ran.code, ran.out) == (2, "")
    for name in ("API_PORT", "TLS_CERT_PATH", "TLS_KEY_PATH", "LOG_LEVEL"):
        assert name in ran.err
    told = json.loads(holon_forked(tmp_path, "serve", "--json", env=env).err)
    assert told["code"] == "CONFIG_INVALID"
    assert {"API_PORT", "TLS_CERT_PATH"} <= {detail["field"] for detail in told["details"]}


def test_a_port_in_use_is_told_with_the_setting_to_change(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ran = holon_forked(
            tmp_path, "serve", *ANY_PORTS, "--api-port", str(taken.getsockname()[1]), env={"STORAGE_URI": "memory://"}
        )
    assert ran.code == 2
    assert "API_PORT" in ran.err
    assert "in use" in ran.err


@pytest.mark.parametrize(
    ("pragmas", "told"),
    [
        ("PRAGMA application_id = 0x484F4C4E; PRAGMA user_version = 9;", "an older version of Holon made it"),
        ("PRAGMA application_id = 0x686F6C6E; PRAGMA user_version = 2;", "a newer version of Holon made it (layout 2)"),
        ("PRAGMA application_id = 7;", "another program made it"),
    ],
    ids=["older", "newer", "another"],
)
def test_a_file_that_is_no_store_of_this_version_is_refused_and_stays(folder: Path, pragmas: str, told: str) -> None:
    file = folder / "old.db"
    with contextlib.closing(sqlite3.connect(file)) as db:
        db.executescript(f"CREATE TABLE jobs (id TEXT); PRAGMA journal_mode = WAL; {pragmas}")
    content = file.read_bytes()
    for command in (("serve", *ANY_PORTS), ("check",)):
        ran = holon_forked(folder, *command, env={"STORAGE_URI": f"sqlite:///{file}", "CLIENT_TOKEN": TOKEN})
        assert ran.code == 2
        assert f"{file} is no store of this version: {told}." in ran.err
        assert "start anew with an empty store, move the file away, or name another file in STORAGE_URI" in ran.err
    assert file.read_bytes() == content


def test_a_blueprint_that_is_not_sound_keeps_a_node_from_starting(folder: Path) -> None:
    (folder / "blueprints" / "bad.py").write_text("from holon import Blueprint\nbad = Blueprint('bad')\n")
    ran = holon_forked(folder, "serve", *ANY_PORTS, env={"STORAGE_URI": "memory://", "BLUEPRINTS_DIR": "blueprints"})
    assert ran.code == 2
    assert "bad.py" in ran.err
