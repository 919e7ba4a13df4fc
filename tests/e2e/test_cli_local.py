"""The command line: what needs no node."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from typer.main import get_command

from holon import __version__
from holon.cli.app import app
from tests.e2e.cli_node import environment, holon, holon_forked, holon_here, project
from tests.integration.worker_certificates import weak_authority

# A path that no system can look at.
UNSEEN = "x" * 300


def told_at_the_end(folder: Path, expression: str) -> str:
    """What an expression is at the end of `holon --version`."""
    program = f"""
import atexit, gc, sys
atexit.register(lambda: print({expression}))
sys.argv[1:] = ["--version"]
from holon.cli import main
main()
"""
    out = subprocess.run(
        [sys.executable, "-c", program], env=environment(), cwd=folder, capture_output=True, text=True, check=True
    ).stdout
    version, told = out.splitlines()
    assert version == f"holon {__version__}"
    return told


def test_the_version_is_told_without_loading_a_node(tmp_path: Path) -> None:
    modules = told_at_the_end(tmp_path, "*sorted(sys.modules)")
    heavy = {"grpc", "starlette", "uvicorn", "cryptography", "rich", "jsonschema_rs", "holon.config", "holon.client"}
    assert not set(modules.split()) & heavy


def test_a_command_ends_without_a_look_for_garbage_through_all_that_it_had(tmp_path: Path) -> None:
    assert int(told_at_the_end(tmp_path, "len(gc.get_objects())")) < 1_000


def test_every_command_is_in_the_help(tmp_path: Path) -> None:
    ran = holon_here(tmp_path, "--help")
    assert ran.code == 0
    for command in ("serve", "worker", "jobs", "blueprints", "certs", "check"):
        assert command in ran.out
    assert holon_here(tmp_path).code == 2


def test_the_help_of_every_command_fills_its_lines() -> None:
    def helps(command: Any) -> Iterator[str]:
        yield command.help or ""
        for one in getattr(command, "commands", {}).values():
            yield from helps(one)

    # A line that ends within a paragraph ends there on the screen, too.
    paragraphs = [one.strip() for text in helps(get_command(app)) for one in text.split("\n\n")]
    assert len(paragraphs) > 30
    assert [one for one in paragraphs if "\n" in one] == []


@pytest.mark.parametrize("command", ["certs show", "reload", "uplink accept"])
def test_what_may_be_left_out_is_in_one_pair_of_brackets(tmp_path: Path, command: str) -> None:
    (usage,) = [line for line in holon_here(tmp_path, *command.split(), "--help").out.splitlines() if "Usage" in line]
    assert "[[" not in usage


@pytest.mark.parametrize("command", ["keys new", "keys new --json", "check", "--help"])
def test_output_that_there_is_no_room_for_is_told_in_a_line(tmp_path: Path, command: str) -> None:
    def without_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    program = "from holon.cli import main; main()"
    with (tmp_path / "out").open("w") as out:
        ran = subprocess.run(
            [sys.executable, "-c", program, *command.split()],
            env=environment(),
            cwd=tmp_path,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=without_room,
            timeout=60,
        )
    assert ran.returncode == 1
    (line,) = ran.stderr.splitlines()
    message = json.loads(line)["error"] if "--json" in command else line.removeprefix("holon: ")
    assert message.startswith("the output cannot be written: File too large")


def test_a_command_whose_output_is_closed_does_what_it_does(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from holon.cli import main; main()", "certs", "dev"]
    shell = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *command]
    assert subprocess.run(shell, env=environment(), cwd=tmp_path, timeout=60).returncode == 0
    assert (tmp_path / "certs/server.pem").is_file()


def test_what_became_of_a_command_is_its_exit_code_where_nobody_can_be_told(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from holon.cli import main; main()", "certs", "show", "none.pem"]
    for options in ((), ("--json",)):
        shell = ["sh", "-c", 'exec "$@" 2>/dev/full', "sh", *command, *options]
        assert subprocess.run(shell, env=environment(), cwd=tmp_path, timeout=60).returncode == 2


def test_a_shell_whose_file_cannot_be_written_is_told_of(tmp_path: Path) -> None:
    (tmp_path / ".bashrc").mkdir()
    env = {"HOME": str(tmp_path), "SHELL": "/bin/bash", "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    ran = holon(tmp_path, "--install-completion", "bash", env=env)
    assert (ran.code, ran.out, ran.err) == (1, "", f"holon: {tmp_path}/.bashrc: Is a directory\n")


def test_an_interrupt_before_a_command_begins_ends_it_without_a_word(tmp_path: Path) -> None:
    program = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, *_):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
from holon.cli import main
main()
"""
    command = [sys.executable, "-c", program, "certs", "show"]
    ran = subprocess.run(command, env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "")


def test_no_node_is_named_in_an_empty_folder(tmp_path: Path) -> None:
    ran = holon_here(tmp_path, "jobs", "list")
    assert ran.code == 2
    assert "HOLON_URL" in ran.err
    assert "holon serve --dev" in ran.err


# Settings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["grpcs://ann:s3cr3t@host", "ann:s3cr3t@host", "grpcs://host?token=s3cr3t", "s3cr3t@h"])
def test_an_address_that_is_none_is_told_of_without_what_is_secret_in_it(tmp_path: Path, url: str) -> None:
    project(tmp_path / "it")
    for command, name in ((("jobs", "list"), "HOLON_URL"), (("worker", "run", "my_worker:worker"), "NODE_URL")):
        ran = holon_forked(tmp_path / "it", *command, env={name: url})
        assert (ran.code, ran.out) == (2, "")
        assert "(hidden)" in ran.err
        assert "write grpcs://host:77" in ran.err
        assert "s3cr3t" not in ran.err


def test_a_file_of_a_development_node_that_cannot_be_read_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / ".holon/dev.toml").mkdir(parents=True)
    ran = holon_here(tmp_path, "jobs", "list")
    assert (ran.code, ran.out) == (2, "")
    assert (
        ran.err == "holon: .holon/dev.toml cannot be read: Is a directory; or set HOLON_URL, or NODE_URL for a worker\n"
    )


def test_an_authority_that_is_none_is_a_usage_error_and_not_a_node_that_is_away(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    ran = holon_here(tmp_path, "jobs", "list", env={"HOLON_URL": "grpcs://127.0.0.1:1", "HOLON_CA": "ca.pem"})
    assert ran.code == 2
    assert ran.err.startswith("holon: the CA file ca.pem has no readable certificate (PEM); use the file of the auth")
    assert "(HOLON_CA for commands)" in ran.err


def test_check_shows_the_settings_with_the_secrets_hidden(tmp_path: Path) -> None:
    env = {"CLIENT_TOKEN": "swordfish", "API_PORT": "9080"}
    ran = holon_here(tmp_path, "check", "--json", env=env)
    assert ran.code == 0
    assert ran.json["problems"] == []
    assert (ran.json["settings"]["API_PORT"], ran.json["settings"]["CLIENT_TOKEN"]) == (9080, "(hidden)")
    text = holon_here(tmp_path, "check", env=env)
    assert "swordfish" not in text.out + text.err
    assert "API_BEHIND_PROXY" in text.out


def test_check_lists_what_is_wrong(tmp_path: Path) -> None:
    env = {"API_PORT": "http", "STORAGE_URI": "mysql://x"}
    ran = holon_here(tmp_path, "check", env=env)
    assert ran.code == 2
    assert "API_PORT" in ran.err
    assert "STORAGE_URI" in ran.err
    problems = holon_here(tmp_path, "check", "--json", env=env).json["problems"]
    assert {problem["field"] for problem in problems} == {"API_PORT", "STORAGE_URI"}


def test_check_and_a_start_refuse_a_holon_whose_table_does_not_say_what_proves_it(tmp_path: Path) -> None:
    (tmp_path / "workers.toml").write_text('[child-1]\nkind = "holon"\n["child-2*"]\nkind = "holon"\ncn = "x"\n')
    env = {"WORKERS_CONFIG_PATH": "workers.toml", "CLIENT_TOKEN": "x" * 32}
    ran = holon_here(tmp_path, "check", env=env)
    assert ran.code == 2
    wrong = "workers.toml [child-1]: is a holon without credentials; add cn, spiffe, or token"
    assert wrong in ran.err
    assert "child-2" not in ran.err
    started = holon_forked(tmp_path, "serve", env=env)
    assert (started.code, wrong in started.err) == (2, True)


def test_check_refuses_an_authority_with_a_weak_key(tmp_path: Path) -> None:
    assert holon_here(tmp_path, "certs", "dev").code == 0
    files = {"CA": "ca.pem", "CERT": "server.pem", "KEY": "server.key"}
    env = {f"TLS_{kind}_PATH": f"certs/{name}" for kind, name in files.items()} | {"TLS_ENABLED": "true"}
    assert holon_here(tmp_path, "check", env=env).code == 0
    with (tmp_path / "certs" / "ca.pem").open("ab") as authorities:
        authorities.write(weak_authority()[0].public_bytes(Encoding.PEM))
    (problem,) = holon_here(tmp_path, "check", "--json", env=env).json["problems"]
    assert problem["field"] == "TLS_CA_PATH"
    assert "certs/ca.pem: CN=weak has an RSA key of 1024 bits" in problem["reason"]


RUNS = """
from holon import Blueprint
bp = Blueprint("runs")
@bp.handler(is_start=True, is_end=True)
async def start(actions): actions.run_blueprint("gone")
"""


def test_check_finds_the_blueprints_that_a_start_refuses(tmp_path: Path) -> None:
    env = {"BLUEPRINTS_DIR": "flows"}
    (tmp_path / "flows").mkdir()
    assert holon_here(tmp_path, "check", env=env).code == 0
    (tmp_path / "flows" / "a.py").write_text("print('no blueprint, which is a warning')\n")
    assert holon_here(tmp_path, "check", env=env).code == 0
    (tmp_path / "flows" / "bad.py").write_text("from holon import Blueprint\nbad = Blueprint('bad')\n")
    (tmp_path / "flows" / "worse.py").write_text("def\n")
    (tmp_path / "flows" / "runs.py").write_text(RUNS)
    ran = holon_here(tmp_path, "check", env=env)
    assert ran.code == 2
    assert "the blueprints in BLUEPRINTS_DIR have 3 errors; correct them and start again:" in ran.err
    for line in ("bad.py: blueprint bad: ", "runs.py: blueprint runs: ", "worse.py: line 1: SyntaxError"):
        assert f"\n  flows/{line}" in ran.err
    assert holon_forked(tmp_path, "serve", env=env | {"CLIENT_TOKEN": "x" * 32}).code == 2
    (tmp_path / "flows" / "a.py").unlink()
    problems = holon_here(tmp_path, "check", "--json", env=env | {"API_PORT": "http"}).json["problems"]
    assert [problem["field"] for problem in problems] == ["API_PORT", *["BLUEPRINTS_DIR"] * 3]
    # The latter cannot even be looked at.
    for folder in ("none", UNSEEN):
        missing = holon_here(tmp_path, "check", "--json", env={"BLUEPRINTS_DIR": folder}).json["problems"]
        assert [problem["field"] for problem in missing] == ["BLUEPRINTS_DIR"]


# Blueprints ----------------------------------------------------------------------------------------------------------


def test_sound_blueprints_are_counted(tmp_path: Path) -> None:
    folder = project(tmp_path / "it")
    ran = holon_here(folder, "blueprints", "check", "blueprints")
    assert ran.code == 0
    assert ran.out.splitlines()[-1] == "blueprints: 11, errors: 0, warnings: 0"
    found = holon_here(folder, "blueprints", "check", "blueprints/flows.py", "--json").json["blueprints"]
    assert {"name": "failing", "path": "/api/failing", "states": ["only"], "file": "blueprints/flows.py"} in found
    assert holon_here(folder, "blueprints", "check", env={"BLUEPRINTS_DIR": "blueprints"}).code == 0
    assert holon_here(folder, "blueprints", "check").out == ran.out
    elsewhere = holon_here(folder, "blueprints", "check", env={"BLUEPRINTS_DIR": "gone"})
    assert (elsewhere.code, "gone" in elsewhere.err) == (2, True)


def test_the_faults_of_blueprints_are_listed_with_their_files(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("from holon import Blueprint\nbad = Blueprint('bad')\n")
    (tmp_path / "worse.py").write_text("def\n")
    ran = holon_here(tmp_path, "blueprints", "check", ".")
    assert ran.code == 1
    assert "bad.py: blueprint bad" in ran.out
    assert "worse.py" in ran.out
    problems = holon_here(tmp_path, "blueprints", "check", ".", "--json").json["problems"]
    assert {problem["severity"] for problem in problems} == {"error"}


@pytest.mark.parametrize("arguments", [("missing.py",), (), ("",), (UNSEEN,)])
def test_blueprints_that_are_not_there_are_a_usage_error(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert holon_here(tmp_path, "blueprints", "check", *arguments).code == 2


def test_a_folder_without_a_name_is_not_the_one_that_the_node_runs_in(tmp_path: Path) -> None:
    (tmp_path / "ran.py").write_text("open('ran', 'w')\n")
    ran = holon_here(tmp_path, "serve", "--blueprints", "", "--storage", "memory://", "--json")
    assert (ran.code, json.loads(ran.err)["error"]) == (2, "--blueprints is empty; give a folder, or leave it out")
    assert not (tmp_path / "ran").exists()


# Certificates --------------------------------------------------------------------------------------------------------


def test_certificates_are_made_issued_and_shown(tmp_path: Path) -> None:
    made = holon_here(tmp_path, "certs", "dev", "--host", "node.example", "--json").json
    assert made == {
        "TLS_CA_PATH": "certs/ca.pem",
        "TLS_CERT_PATH": "certs/server.pem",
        "TLS_KEY_PATH": "certs/server.key",
    }
    issued = holon_here(tmp_path, "certs", "issue", "gpu-01")
    assert "TLS_CERT_PATH=certs/worker-gpu-01.pem" in issued.out.splitlines()
    (server,) = holon_here(tmp_path, "certs", "show", "certs/server.pem", "--json").json["certificates"]
    assert "DNS:node.example" in server["names"]
    shown = holon_here(tmp_path, "certs", "show", "certs/worker-gpu-01.pem")
    assert "CN=gpu-01" in shown.out
    assert "clientAuth" in shown.out


def test_a_certificate_of_the_wrong_use_is_found_before_the_start(tmp_path: Path) -> None:
    holon_here(tmp_path, "certs", "dev")
    files = {"TLS_CERT_PATH": "certs/server.pem", "TLS_KEY_PATH": "certs/server.key", "TLS_CA_PATH": "certs/ca.pem"}
    assert holon_here(tmp_path, "check", env=files).code == 0
    wrong = holon_here(tmp_path, "check", "--json", env=files | {"TLS_CA_PATH": "certs/server.pem"})
    assert wrong.code == 2
    assert [problem["field"] for problem in wrong.json["problems"]] == ["TLS_CA_PATH"]


def test_files_that_the_parent_would_not_take_are_found_before_the_start(tmp_path: Path) -> None:
    holon_here(tmp_path, "certs", "dev")
    holon_here(tmp_path, "certs", "issue", "child-1")
    holon_here(tmp_path, "certs", "issue", "child-2")
    env = {
        "PARENT_URL": "grpcs://127.0.0.1:7700",
        "PARENT_TLS_CERT_PATH": "certs/worker-child-1.pem",
        "PARENT_TLS_KEY_PATH": "certs/worker-child-1.key",
        "PARENT_TLS_CA_PATH": "certs/ca.pem",
    }
    assert holon_here(tmp_path, "check", env=env).code == 0
    swapped = env | {"PARENT_TLS_KEY_PATH": "certs/worker-child-2.key"}
    for ran in (holon_here(tmp_path, "check", env=swapped), holon_forked(tmp_path, "serve", env=swapped)):
        assert ran.code == 2
        assert "PARENT_TLS_KEY_PATH: certs/worker-child-2.key is not the key of the certificate in" in ran.err


def test_certificates_that_end_soon_are_shown_as_such(tmp_path: Path) -> None:
    holon_here(tmp_path, "certs", "dev")
    holon_here(tmp_path, "certs", "issue", "gpu-01", "--days", "5")
    every = holon_here(tmp_path, "certs", "show")
    assert every.out.count("\nsubject") == 3
    (soon,) = [line for line in every.out.splitlines() if "RENEW" in line]
    assert soon.startswith("valid until")
    assert "in 5 days" in soon
    served = {"TLS_CERT_PATH": "certs/server.pem", "TLS_CA_PATH": "certs/ca.pem"}
    named = holon_here(tmp_path, "certs", "show", "--json", env=served).json["certificates"]
    assert [(one["file"], one["days_left"] > 395) for one in named] == [(path, True) for path in served.values()]
    assert "there is no certificate in elsewhere" in holon_here(tmp_path, "certs", "show", "--dir", "elsewhere").err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("issue", "two words"), "two words"),
        (("issue", "x", "--days", "0"), "--days"),
        (("show", "missing.pem"), "missing.pem cannot be read"),
        (("dev", "--host", "no host"), "no host"),
        (("dev", "--dir", UNSEEN), f"{UNSEEN} cannot be read"),
        (("issue", "x", "--dir", UNSEEN), f"{UNSEEN} cannot be read"),
        (("show", "--dir", UNSEEN), UNSEEN),
    ],
)
def test_a_wrong_certificate_command_is_a_usage_error(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    holon_here(tmp_path, "certs", "dev")
    ran = holon_here(tmp_path, "certs", *arguments)
    assert ran.code == 2
    assert says in ran.err


def test_a_certificate_is_issued_by_an_authority_that_is_there_and_by_no_new_one(tmp_path: Path) -> None:
    holon_here(tmp_path, "certs", "dev")
    ran = holon_here(tmp_path, "certs", "issue", "gpu-01", "--dir", "cert")
    assert ran.code == 2
    assert "cert has no authority; run `holon certs dev` first, or name the folder with --dir" in ran.err
    assert not (tmp_path / "cert").exists()


def test_an_error_is_told_as_json_by_commands_without_a_node_too(tmp_path: Path) -> None:
    told = json.loads(holon_here(tmp_path, "certs", "show", "missing.pem", "--json").err)
    assert told["code"] == "CONFIG_INVALID"
