"""The command line: tokens, their hashed form, and the clients' file that holds it."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from holon.security.tokens import hashed
from tests.e2e.cli_node import COMMAND, GUARD, environment, holon_here


def test_a_new_token_is_random_and_has_its_hashed_form(tmp_path: Path) -> None:
    ran = holon_here(tmp_path, "tokens", "new", "--json")
    assert ran.code == 0
    assert ran.json["hash"] == hashed(ran.json["token"])
    assert len(ran.json["token"]) > 40
    again = holon_here(tmp_path, "tokens", "new")
    assert again.code == 0
    words = dict(line.split() for line in again.out.splitlines())
    assert words["hash"] == hashed(words["token"])
    assert words["token"] != ran.json["token"]


def test_a_token_is_hashed_from_standard_input_and_not_shown(tmp_path: Path) -> None:
    token = "t" * 32
    for line in (token, f"{token}\n", f"{token}\r\n"):
        ran = holon_here(tmp_path, "tokens", "hash", stdin=line)
        assert (ran.code, ran.out, ran.err) == (0, f"{hashed(token)}\n", "")
    assert holon_here(tmp_path, "tokens", "hash", "--json", stdin=token).json == {"hash": hashed(token)}


@pytest.mark.parametrize("end", ["enter", "interrupt"])
def test_a_token_is_typed_in_unseen_and_may_be_thought_better_of(tmp_path: Path, end: str) -> None:
    screen, terminal = pty.openpty()
    # In a session of its own, so that it has no other terminal to ask at.
    asking = subprocess.Popen(
        [*COMMAND, "tokens", "hash"],
        cwd=tmp_path,
        env=environment(),
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
        start_new_session=True,
    )
    os.close(terminal)
    try:
        shown = ""
        while "Token: " not in shown:
            shown += os.read(screen, 4096).decode()
        if end == "enter":
            os.write(screen, b"t" * 32 + b"\n")
        else:
            asking.send_signal(signal.SIGINT)
        out, _ = asking.communicate(timeout=GUARD)
        wanted = (0, f"{hashed('t' * 32)}\n") if end == "enter" else (130, "")
        assert (asking.returncode, out) == wanted
        with suppress(OSError):
            shown += os.read(screen, 4096).decode()
        assert shown.strip() == "Token:"
    finally:
        asking.kill()
        asking.wait()
        os.close(screen)


def test_a_token_that_could_be_found_by_trying_or_is_none_is_not_hashed(tmp_path: Path) -> None:
    for wrong in ("hunter2", "", "spaced out " * 4, f"{'t' * 40}\nmore\n", "ö" * 40):
        ran = holon_here(tmp_path, "tokens", "hash", stdin=wrong)
        assert (ran.code, ran.out) == (2, "")
        assert wrong.strip() == "" or wrong.strip() not in ran.err


def test_what_is_longer_than_any_header_is_no_token(tmp_path: Path) -> None:
    longest = "t" * 4096
    assert holon_here(tmp_path, "tokens", "hash", stdin=f"{longest}\r\n").out == f"{hashed(longest)}\n"
    ran = holon_here(tmp_path, "tokens", "hash", stdin=f"{longest}t\n")
    assert (ran.code, ran.out) == (2, "")
    assert "at most 4096 characters" in ran.err


def test_check_tells_what_is_wrong_with_the_clients_file_beside_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "clients.toml"
    file.touch(0o600)
    file.write_text('[shop]\nplan = "gold"\n')
    ran = holon_here(tmp_path, "check", "--json", env={"CLIENTS_CONFIG_PATH": str(file), "API_PORT": "-1"})
    assert ran.code == 2
    assert [one["field"] for one in ran.json["problems"]] == ["API_PORT", f"{file} [shop] token"]


def test_a_node_with_a_bad_clients_file_does_not_start(tmp_path: Path) -> None:
    env = {"CLIENTS_CONFIG_PATH": str(tmp_path / "none.toml"), "STORAGE_URI": "memory://"}
    ran = holon_here(tmp_path, "serve", env=env)
    assert ran.code == 2
    assert "CLIENTS_CONFIG_PATH" in ran.err
    assert "none.toml" in ran.err
