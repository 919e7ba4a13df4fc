"""The command line where streams are closed or narrow, names are no text, and the folder is gone: told in a line."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.e2e.cli_node import COMMAND, GUARD, environment

NOBODY = {"HOLON_URL": "grpcs://127.0.0.1:1"}


def run(
    folder: Path, *arguments: str | bytes, env: Mapping[str, str | bytes] = {}, shell: str = 'exec "$@"'
) -> tuple[int, str, str]:
    """Run a command by a line of the shell; its exit code and what it printed, which is UTF-8."""
    command = [os.fsencode(one) for one in ("sh", "-c", shell, "sh", *COMMAND, *arguments)]
    given = {os.fsencode(name): os.fsencode(value) for name, value in {**environment(), **env}.items()}
    done = subprocess.run(command, cwd=folder, env=given, capture_output=True, timeout=GUARD, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def refused(ran: tuple[int, str, str]) -> str:
    """What a command says that ends for want of what it needs, as JSON."""
    code, out, told = ran
    assert (code, out) == (2, "")
    return str(json.loads(told)["error"])


def test_a_standard_input_that_is_closed_is_an_empty_one(tmp_path: Path) -> None:
    closed = 'exec "$@" <&-'
    ran = run(tmp_path, "jobs", "create", "x", "--data", "-", "--json", env=NOBODY, shell=closed)
    assert refused(ran) == "standard input is empty; give a JSON value"
    assert refused(run(tmp_path, "tokens", "hash", "--json", shell=closed)).startswith("the token is shorter than 32")


def test_a_standard_input_that_is_no_text_is_no_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"\xff" * 40)
    strict = {"PYTHONIOENCODING": "utf-8:strict"}
    ran = run(tmp_path, "tokens", "hash", "--json", env=strict, shell='exec "$@" <token')
    assert refused(ran).startswith("a token is one line of visible ASCII characters")


def test_of_a_standard_input_without_an_end_no_more_is_read_than_a_token_may_have(tmp_path: Path) -> None:
    ran = run(tmp_path, "tokens", "hash", "--json", shell='ulimit -v 4000000; exec "$@" </dev/zero')
    assert refused(ran) == "a token has at most 4096 characters, and this is longer; check which file it comes from"


def test_a_name_that_is_no_text_is_told_as_json_too(tmp_path: Path) -> None:
    ran = run(tmp_path, "jobs", "create", "x", "--json", "-d", b"@\xff.json", env=NOBODY)
    named = r"the argument @\xff.json is not UTF-8; write it in UTF-8, or rename the file"
    assert refused(ran) == named
    (tmp_path / os.fsdecode(b"\xff.json")).write_text("{}")
    assert refused(run(tmp_path, "jobs", "create", "x", "--json", "-d", b"@\xff.json", env=NOBODY)) == named
    ran = run(tmp_path, "jobs", "list", "--json", env={**NOBODY, "HOLON_CA": b"/\xff"})
    assert refused(ran).startswith(r"the CA file /\udcff cannot be read: No such file or directory; use the file of ")
    code, out, _ = run(tmp_path, "check", "--json", env={"AUDIT_LOG_PATH": b"\xff \xe2\x94\x94.log"})
    assert (code, json.loads(out)["settings"]["AUDIT_LOG_PATH"]) == (0, r"\udcff └.log")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1:strict", "utf-8:strict"])
def test_what_the_encoding_of_the_output_lacks_is_escaped_and_json_says_the_same(tmp_path: Path, encoding: str) -> None:
    path = "日 └ 😀.log"
    env = {"AUDIT_LOG_PATH": path, "PYTHONIOENCODING": encoding}
    code, out, _ = run(tmp_path, "check", "--json", env=env)
    assert (code, json.loads(out)["settings"]["AUDIT_LOG_PATH"]) == (0, path)
    code, out, _ = run(tmp_path, "check", env=env)
    shown = path if encoding.startswith("utf-8") else r"\u65e5 \u2514 \ud83d\ude00.log"
    assert (code, shown in out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (("worker", "run", "my_worker:worker"), {}),
        (("jobs", "list"), {"ADMIN_SOCKET": "admin.sock"}),
        (("check",), {}),
        (("serve",), {"CLIENT_TOKEN": "x" * 32}),
    ],
)
def test_a_folder_that_is_gone_is_told(tmp_path: Path, arguments: tuple[str, ...], env: dict[str, str]) -> None:
    ran = run(tmp_path, *arguments, "--json", env=env, shell='mkdir gone && cd gone && rmdir ../gone && exec "$@"')
    assert refused(ran).startswith("the current folder was deleted")
