"""A node whose process may open few files: strangers at its doors leave it those that it needs itself."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.cli_node import ANY_PORTS, GUARD, environment, project
from tests.plaintext import PLAINTEXT

pytestmark = pytest.mark.own_store("what files a process has open, on the default store")
TOKEN = "a-token-for-tests-of-open-files"
LIMIT = 240
SERVE = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT}, {LIMIT}))
from holon.cli import main
main()
"""
ASKED = b"GET /_public/status HTTP/1.1\r\nHost: here\r\n\r\n"
# How a connection begins: its first words, and an empty frame of settings. No token has been asked for by then.
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The process of a node, and where its doors are."""
    command = (sys.executable, "-c", SERVE, "serve", *ANY_PORTS, "--json", "--blueprints", "blueprints")
    folder, env = project(tmp_path / "it"), environment({"CLIENT_TOKEN": TOKEN})
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            yield process.pid, json.loads(process.stdout.readline())
        finally:
            process.kill()


def test_i8_strangers_who_take_all_connections_leave_the_node_files_for_itself(
    node: tuple[int, dict[str, str]],
) -> None:
    pid, doors = node
    held: list[socket.socket] = []
    try:
        with httpx.Client(base_url=doors["http"], trust_env=False, verify=PLAINTEXT) as client:
            assert client.get("/_public/status").status_code == 200
            for door, words in (("workers", HELLO), ("clients", HELLO), ("http", ASKED)):
                while _let_in(doors[door], words, held):
                    assert len(held) < LIMIT
            assert len(held) > LIMIT / 2
            assert len([*Path(f"/proc/{pid}/fd").iterdir()]) <= LIMIT - LIMIT // 6
            # Who was here first is served as ever.
            headers = {"X-Client-Token": TOKEN}
            made = client.post("/api/v1/jobs/waiting", json={"initial_data": {}}, headers=headers)
            assert made.status_code == 202, made.text
    finally:
        for one in held:
            one.close()


def _let_in(url: str, words: bytes, held: list[socket.socket]) -> bool:
    """Connect to a door, and stay; whether it answers as one that takes the connection does."""
    host, port = url.split("://")[1].split(":")
    one = socket.create_connection((host, int(port)), GUARD)
    held.append(one)
    try:
        one.sendall(words)
        answer = one.recv(9)
    except OSError:
        return False
    return answer.startswith(b"HTTP/1.1 ") and one.recv(3) == b"200" if words == ASKED else bool(answer)
