"""The command line: a node for development, and where its doors are."""

from __future__ import annotations

import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx
import pytest

from holon.security.certificates import describe
from tests.e2e.cli_node import (
    ANY_PORTS,
    GUARD,
    Started,
    holon_forked,
    holon_here,
    project,
    serve,
    until,
)
from tests.plaintext import PLAINTEXT
from tests.strangers import owned_by_another

pytestmark = pytest.mark.own_store("how a node begins and ends, on the default store or none")
TOKEN = "a-token-for-tests-of-the-command-line"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    # A name that JSON writes as it is, and TOML does not.
    return project(tmp_path / "i\x7ft")


def test_a_development_node_makes_what_it_needs_and_keeps_it(folder: Path, started: list[Started]) -> None:
    node, doors = serve(folder, "--dev")
    started.append(node)
    file = folder / ".holon/dev.toml"
    first = tomllib.loads(file.read_text())
    assert doors["clients"] == first["HOLON_URL"]
    assert doors["http"] == first["HOLON_HTTP_URL"]
    assert first["HOLON_URL"].startswith("grpcs://127.0.0.1:")
    assert doors["workers"] == first["worker"]["NODE_URL"]
    assert len(first["HOLON_TOKEN"]) >= 32
    assert first["WEBHOOK_SECRET"].startswith("whsec_")
    assert first["WEBHOOK_SECRET"] not in node.log
    for path in (file, folder / "certs/ca.key", folder / "certs/server.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for made in (folder / ".holon", folder / "certs"):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert first["HOLON_TOKEN"] not in node.log
    assert node.end() == 0

    certificates = [(folder / "certs" / name).read_bytes() for name in ("ca.pem", "server.pem")]
    node, _ = serve(folder, "--dev")
    started.append(node)
    again = tomllib.loads(file.read_text())
    for secret in ("HOLON_TOKEN", "WEBHOOK_SECRET"):
        assert again[secret] == first[secret]
    assert [(folder / "certs" / name).read_bytes() for name in ("ca.pem", "server.pem")] == certificates


@pytest.mark.parametrize(
    ("options", "env", "is_json"),
    [((), {}, False), ((), {"LOG_FORMAT": ""}, False), (("--log-format", "json"), {}, True)],
)
def test_a_development_node_logs_text_unless_it_is_told_otherwise(
    folder: Path, started: list[Started], options: tuple[str, ...], env: dict[str, str], is_json: bool
) -> None:
    node, _ = serve(folder, "--dev", *options, env={"STORAGE_URI": "memory://", **env})
    started.append(node)
    assert node.end() == 0
    assert all(line.startswith("{") == is_json for line in node.log.splitlines() if line)


# Asks a door by reflection what it serves, as a generic client does, and prints the names or why not.
ASKING = """
import sys
import grpc
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

target, token, ca = sys.argv[1:]
credentials = grpc.ssl_channel_credentials(open(ca, "rb").read())
with grpc.secure_channel(target, credentials) as channel:
    ask = channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        ServerReflectionRequest.SerializeToString, ServerReflectionResponse.FromString,
    )
    metadata = [("authorization", f"Bearer {token}")]
    try:
        (told,) = ask(iter([ServerReflectionRequest(list_services="")]), metadata=metadata)
        print(*(one.name for one in told.list_services_response.service))
    except grpc.RpcError as error:
        print(error.code().name)
"""


@pytest.mark.parametrize(
    ("env", "says"), [({}, "holon.rxon.v1.JobService"), ({"GRPC_REFLECTION": "false"}, "UNIMPLEMENTED")]
)
def test_a_development_node_tells_what_it_serves_unless_it_is_told_otherwise(
    folder: Path, started: list[Started], env: dict[str, str], says: str
) -> None:
    node, doors = serve(folder, "--dev", env={"STORAGE_URI": "memory://", **env})
    started.append(node)
    dev = tomllib.loads((folder / ".holon/dev.toml").read_text())
    target = doors["clients"].removeprefix("grpcs://")
    command = [sys.executable, "-c", ASKING, target, dev["HOLON_TOKEN"], dev["HOLON_CA"]]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=GUARD).stdout
    assert says in told.split()


def test_a_node_says_where_each_of_its_doors_is(folder: Path, started: list[Started]) -> None:
    env = {
        "STORAGE_URI": "memory://",
        "WORKER_AUTH_MODE": "mixed",
        "WORKER_TOKEN_PORT": "0",
        "GLOBAL_WORKER_TOKEN": TOKEN,
        "ADMIN_SOCKET": "admin.sock",
    }
    node, doors = serve(folder, "--dev", env=env)
    started.append(node)
    assert set(doors) == {"http", "workers", "clients", "worker_tokens", "operators", "dev"}
    assert doors["worker_tokens"].startswith("grpcs://127.0.0.1:")
    assert (doors["operators"], doors["dev"]) == ("unix:admin.sock", ".holon/dev.toml")


def test_a_server_certificate_of_another_authority_is_made_anew(folder: Path) -> None:
    holon_here(folder, "certs", "dev")
    for name in ("ca.pem", "ca.key"):
        (folder / "certs" / name).unlink()
    before = describe(folder / "certs/server.pem")[0]
    holon_here(folder, "certs", "dev")
    after = describe(folder / "certs/server.pem")[0]
    assert after.serial != before.serial
    assert after.issuer == describe(folder / "certs/ca.pem")[0].subject


def test_a_development_node_is_for_its_own_machine_only(folder: Path) -> None:
    ran = holon_forked(folder, "serve", "--dev", env={"API_HOST": "0.0.0.0", "API_BEHIND_PROXY": "true"})
    assert ran.code == 2
    assert "API_HOST" in ran.err
    assert not (folder / ".holon").exists()


def test_a_development_node_in_a_folder_whose_name_no_file_can_hold_is_refused_before_it_starts(tmp_path: Path) -> None:
    folder = tmp_path / "caf\udce9"
    folder.mkdir()
    ran = holon_forked(folder, "serve", "--dev", *ANY_PORTS)
    assert (ran.code, ran.out) == (2, "")
    assert "the path of this folder is not UTF-8" in ran.err
    assert not list(folder.iterdir())


def dev_file(folder: Path, text: str) -> Path:
    """The file of a development node."""
    file = folder.resolve() / ".holon/dev.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o600)
    return file


def test_a_file_that_another_user_may_have_planted_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project(tmp_path / "it")
    file = dev_file(folder, f'HOLON_URL = "grpcs://127.0.0.1:1"\nHOLON_TOKEN = "{"t" * 32}"\n')

    def refused(*command: str) -> str:
        ran = holon_here(folder, *command, env={"STORAGE_URI": "memory://"})
        assert (ran.code, ran.out) == (2, "")
        assert not (folder / "certs").exists()
        return ran.err

    for command in (("jobs", "list"), ("serve", "--dev", *ANY_PORTS)):
        for path, mode, says in (
            (file, 0o644, "dev.toml is open to other users of this machine; chmod 600 .holon/dev.toml"),
            (file.parent, 0o777, f"chmod o-w {file.parent}"),
            (file.parent, 0o1777, f"every user of this machine can create files in {file.parent}"),
        ):
            before = path.stat().st_mode
            path.chmod(mode)
            assert says in refused(*command)
            path.chmod(before)
        for path in (file, file.parent):
            with monkeypatch.context() as patched:
                owned_by_another(patched, path)
                assert f"{path} belongs to another user of this machine" in refused(*command)
    file.unlink()
    file.symlink_to(dev_file(folder / "elsewhere", ""))
    assert ".holon/dev.toml is a link" in refused("jobs", "list")


def test_no_token_of_a_development_node_is_short(folder: Path) -> None:
    ran = holon_forked(folder, "serve", "--dev", *ANY_PORTS, env={"CLIENT_TOKEN": "t" * 31})
    assert (ran.code, "CLIENT_TOKEN is shorter than 32 characters" in ran.err) == (2, True)
    assert not (folder / ".holon").exists()
    dev_file(folder, f'HOLON_URL = "grpcs://127.0.0.1:1"\nHOLON_TOKEN = "{"t" * 31}"\n')
    for command in (("jobs", "list"), ("serve", "--dev", *ANY_PORTS)):
        ran = holon_forked(folder, *command)
        assert (ran.code, ran.out) == (2, "")
        assert ".holon/dev.toml: HOLON_TOKEN is shorter than 32 characters; remove it" in ran.err


@pytest.mark.parametrize("text", ['HOLON_URL = "192.0.2.1"', '[worker]\nNODE_URL = "grpcs://192.0.2.1:7701"'])
def test_the_file_of_a_development_node_leads_to_no_other_machine(folder: Path, text: str) -> None:
    dev_file(folder, text)
    for command in (("jobs", "list"), ("worker", "run", "my_worker:worker")):
        ran = holon_forked(folder, *command, env={"HOLON_TOKEN": TOKEN, "WORKER_TOKEN": TOKEN})
        assert (ran.code, ran.out) == (2, "")
        assert ".holon/dev.toml names a node on another machine" in ran.err


# Blueprints that are edited ------------------------------------------------------------------------------------------

EDITED = """
import asyncio
from pathlib import Path

from holon import Blueprint

edited = Blueprint("NAME", api_endpoint="/NAME")


@edited.handler(is_start=True, is_end=True)
async def only(actions) -> dict:
    with Path("ran").open("a") as file:
        file.write("x")
    WAIT
    return {"version": VERSION}
"""


def edit(folder: Path, version: int, name: str = "edited", wait: str = "pass") -> None:
    text = EDITED.replace("NAME", name).replace("VERSION", str(version)).replace("WAIT", wait)
    (folder / f"blueprints/{name}.py").write_text(text)


def version_of(folder: Path, name: str = "edited") -> int:
    job = holon_here(folder, "jobs", "create", name, "--wait", "--json").json
    return int(job["result"]["version"])


def test_blueprints_of_a_development_node_are_loaded_again_by_themselves_when_they_are_edited(
    folder: Path, started: list[Started]
) -> None:
    edit(folder, 1)
    node, doors = serve(folder, "--dev", env={"STORAGE_URI": "memory://"})
    started.append(node)
    assert version_of(folder) == 1
    # Of the same size, and written in the same second or not.
    edit(folder, 2)
    until(lambda: "reloaded: blueprints" in node.log, "the edit is seen")
    assert version_of(folder) == 2

    (folder / "blueprints/edited.py").write_text("edited = 1\n\nnothing(\n")
    until(lambda: "nothing was reloaded" in node.log, "the fault is seen")
    assert "error: blueprints/edited.py: line 3: SyntaxError: '(' was never closed" in node.log
    assert version_of(folder) == 2

    edit(folder, 3)
    edit(folder, 4, "another")
    until(lambda: "another" in holon_here(folder, "blueprints", "list").out, "the new file is seen")
    assert (version_of(folder), version_of(folder, "another")) == (3, 4)
    headers = {"X-Client-Token": tomllib.loads((folder / ".holon/dev.toml").read_text())["HOLON_TOKEN"]}
    with httpx.Client(base_url=doors["http"], headers=headers, trust_env=False, verify=PLAINTEXT) as http:
        assert http.post("/api/another", json={}).status_code == 202
        assert "/api/another" in http.get("/_public/openapi.json").json()["paths"]
        (folder / "blueprints/another.py").unlink()
        until(lambda: "another" not in holon_here(folder, "blueprints", "list").out, "it is gone")
        assert http.post("/api/another", json={}).json()["code"] == "ROUTE_NOT_FOUND"
        assert "/api/another" not in http.get("/_public/openapi.json").json()["paths"]


def test_nothing_that_was_learned_of_a_handler_holds_for_the_one_in_its_place(
    folder: Path, started: list[Started]
) -> None:
    edit(folder, 1)
    node, _ = serve(folder, "--dev", env={"STORAGE_URI": "memory://"})
    started.append(node)
    # From now on it is known to await nothing.
    assert [version_of(folder) for _ in range(2)] == [1, 1]
    edit(folder, 2, wait="await asyncio.sleep(0)")
    ran = holon_here(folder, "reload", "blueprints", "--json")
    assert ran.json == {"reloaded": ["blueprints"]}
    (folder / "ran").unlink()
    assert version_of(folder) == 2
    assert (folder / "ran").read_text() == "x"


def test_a_fault_in_a_blueprint_is_told_to_whoever_asks_for_a_reload_and_all_else_is_read_without_it(
    folder: Path, started: list[Started]
) -> None:
    node, _ = serve(folder, "--dev", env={"STORAGE_URI": "memory://"})
    started.append(node)
    (folder / "blueprints/bad.py").write_text("from holon import Blueprint\n\nbad = Blueprint('bad', nothing=1)\n")
    ran = holon_here(folder, "reload", "blueprints")
    assert (ran.code, "blueprints/bad.py: line 3: TypeError" in ran.err) == (1, True)
    ran = holon_here(folder, "reload", "--json")
    assert (ran.code, ran.json) == (0, {"reloaded": ["tls"]})


def test_statuses_of_an_edited_blueprint_are_compared_with_those_of_skills(
    folder: Path, started: list[Started]
) -> None:
    node, _ = serve(folder, "--dev", env={"STORAGE_URI": "memory://"})
    started.append(node)
    started.append(Started(folder, "worker", "run", "my_worker:worker"))
    until(lambda: "poison" in holon_here(folder, "workers", "catalog").out, "the worker is there")
    edit(folder, 1, wait='actions.dispatch_task("poison", {}, {"success": "only", "needs_reviw": "only"})')
    assert holon_here(folder, "reload", "blueprints").code == 0
    told = "no connected worker with skill 'poison' declares (did you mean 'needs_review'?)"
    until(lambda: told in node.log, "the node has logged it")


def test_other_nodes_go_on_with_the_blueprints_of_their_start(folder: Path, started: list[Started]) -> None:
    node, doors = serve(folder, "--blueprints", "blueprints", env={"STORAGE_URI": "memory://", "CLIENT_TOKEN": TOKEN})
    started.append(node)
    ran = holon_here(folder, "reload", "blueprints", env={"HOLON_URL": doors["clients"], "HOLON_TOKEN": TOKEN})
    assert (ran.code, "no file for blueprints; see BLUEPRINTS_DIR and `holon serve --dev`" in ran.err) == (1, True)
