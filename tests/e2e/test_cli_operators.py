"""The command line for those who watch jobs and look after workers and blueprints."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.cli_node import COMMAND, GUARD, ROOT, Dev, Started, development_node, environment, holon, until
from tests.plaintext import PLAINTEXT
from tests.stores import NewStore


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory, new_store: NewStore) -> Iterator[Dev]:
    folder = tmp_path_factory.mktemp("dev")
    with development_node(folder, new_store(folder)) as dev:
        until(lambda: dev("workers", "list", "--json").json["workers"], "the worker is connected")
        yield dev


def created(dev: Dev, blueprint: str, data: str = "{}") -> str:
    return str(dev("jobs", "create", blueprint, "-d", data, "--json").json["job_id"])


def told_by(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


# Watching --------------------------------------------------------------------------------------------------------


def test_a_watched_job_is_told_in_plain_lines_where_there_is_no_terminal(dev: Dev) -> None:
    job_id = created(dev, "double", '{"n": 21}')
    ran = dev("jobs", "watch", job_id, "--after", "0")
    assert (ran.code, ran.err) == (0, "")
    assert "#1 job_created" in ran.out
    assert "task_finished" in ran.out
    assert "by w-cli" in ran.out
    assert '{"twice":42}' in ran.out.splitlines()[-1]
    assert "\x1b" not in ran.out


def test_a_watch_begins_with_where_the_job_stands_where_there_is_no_terminal(dev: Dev) -> None:
    job_id = created(dev, "waiting")
    until(lambda: dev("jobs", "get", job_id, "--json").json["progress_message"], "the node has said why it waits")
    watching = Started(dev.folder, "jobs", "watch", job_id, "--timeout", "20")
    try:
        assert watching.line().startswith("waiting_for_worker start waiting: no worker")
        dev("jobs", "cancel", job_id)
        assert watching.wait() == 12
    finally:
        watching.kill()


def test_a_watch_says_how_each_attempt_ended(dev: Dev) -> None:
    lines = dev("jobs", "watch", created(dev, "poison"), "--after", "0").out.splitlines()
    (failed,) = (line for line in lines if " task_failed " in line)
    assert failed.endswith(r" PERMANENT_ERROR: not \x1b[31mred poison #0-0")
    assert "task_finished" not in "".join(lines)


def test_a_watched_job_is_told_in_lines_of_json_for_programs(dev: Dev) -> None:
    job_id = created(dev, "double", '{"n": 1}')
    ran = dev("jobs", "watch", job_id, "--after", "0", "--json")
    assert (ran.code, ran.err) == (0, "")
    told = told_by(ran.out)
    assert told[0]["sequence"] == 0
    assert told[0]["job"]["id"] == job_id
    events = [one["event"] for one in told if "event" in one]
    assert events == dev("jobs", "history", job_id, "--json").json["events"]
    assert told[-1]["job"] == dev("jobs", "get", job_id, "--json").json


def test_a_watch_goes_on_after_a_sequence(dev: Dev) -> None:
    job_id = dev("jobs", "create", "double", "-d", '{"n": 1}', "--wait", "--json").json["id"]
    events = dev("jobs", "history", job_id, "--json").json["events"]
    told = told_by(dev("jobs", "watch", job_id, "--after", str(len(events) - 2), "--json").out)
    assert [one["event"]["sequence"] for one in told if "event" in one] == [len(events) - 1, len(events)]


def test_how_a_job_ended_is_the_exit_code_of_watching_it(dev: Dev) -> None:
    assert dev("jobs", "watch", created(dev, "failing")).code == 10
    assert dev("jobs", "watch", created(dev, "poison"), "--json").code == 11
    waiting = created(dev, "waiting")
    waited = dev("jobs", "watch", waiting, "--timeout", "0.2")
    assert waited.code == 13
    assert waited.err.startswith(
        f"holon: job {waiting} has not ended yet, and goes on: waiting_for_worker in start; waiting: no worker "
    )
    assert "offers skill 'nobody-has-this'" in waited.err
    assert "nobody-has-this" in dev("jobs", "watch", waiting, "--timeout", "0.2", "--json").out
    watching = Started(dev.folder, "jobs", "watch", waiting, "--json")
    try:
        assert json.loads(watching.line())["job"]["status"] == "waiting_for_worker"
        dev("jobs", "cancel", waiting)
        assert watching.wait() == 12
    finally:
        watching.kill()


def test_what_cannot_be_watched_is_told(dev: Dev) -> None:
    assert dev("jobs", "watch", "none").code == 4
    assert dev("jobs", "watch", created(dev, "waiting"), "--after", "99").code == 2
    for seconds in ("-1", "0", "nan"):
        ran = dev("jobs", "watch", created(dev, "waiting"), "--timeout", seconds)
        assert (ran.code, ran.err) == (2, f"holon: --timeout is {seconds}; it must be a number of seconds above 0\n")
    assert dev("jobs", "watch", "x", HOLON_URL="grpc://127.0.0.1:1").code == 3
    assert dev("jobs", "watch", "x", HOLON_TOKEN="wrong").code == 5


def test_on_a_terminal_a_watch_shows_a_bar_and_leaves_the_job_as_it_ended(dev: Dev) -> None:
    job_id = created(dev, "waiting")
    screen, terminal = pty.openpty()
    watching = subprocess.Popen(
        [*COMMAND, "jobs", "watch", job_id],
        cwd=dev.folder,
        env=environment({"TERM": "xterm"}),
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
    )
    os.close(terminal)
    try:
        shown = ""
        while "waiting_for_worker start" not in shown:
            shown += os.read(screen, 4096).decode()
        assert "\x1b[" in shown
        dev("jobs", "cancel", job_id)
        out, _ = watching.communicate(timeout=GUARD)
        assert watching.returncode == 12
        assert "cancelled" in out
        assert "\x1b" not in out
    finally:
        watching.kill()
        watching.wait()
        os.close(screen)


def test_on_a_terminal_without_a_bar_a_watch_tells_plain_lines(dev: Dev) -> None:
    screen, terminal = pty.openpty()
    watching = subprocess.Popen(
        [*COMMAND, "jobs", "watch", created(dev, "waiting"), "--timeout", "10"],
        cwd=dev.folder,
        env=environment({"TERM": "dumb"}),
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
    )
    os.close(terminal)
    try:
        assert watching.stdout is not None
        assert watching.stdout.readline().startswith("waiting_for_worker start")
    finally:
        watching.kill()
        watching.communicate()
        os.close(screen)


# Lists -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [20, 80])
def test_what_a_row_is_known_by_is_whole_on_a_narrow_terminal(dev: Dev, columns: int) -> None:
    job_id = created(dev, "failing")
    row = on_a_terminal(dev, columns, "jobs", "list", "--limit", "1").split("─")[-1].split()
    assert dev("jobs", "get", row[0], "--json").json["id"] == job_id
    assert "w-cli" in on_a_terminal(dev, columns, "workers", "list").split()


@pytest.mark.parametrize("command", ["jobs list", "jobs history JOB", "workers list", "blueprints list"])
def test_the_rows_of_a_table_fit_80_columns(dev: Dev, command: str) -> None:
    job_id = created(dev, "waiting")
    done = dev("jobs", "create", "double", "-d", '{"n": 1}', "--wait", "--json").json["id"]
    until(lambda: dev("jobs", "get", job_id, "--json").json["status"] == "waiting_for_worker", "it waits")
    # A row whose cells were folded takes more lines than the same row in a file.
    arguments = [done if one == "JOB" else one for one in command.split()]
    lines = on_a_terminal(dev, 80, *arguments).splitlines()
    assert max(map(len, map(escapes_gone, lines))) <= 80
    assert len(lines) == len(dev(*arguments).out.splitlines())


def escapes_gone(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


def test_a_job_is_named_by_the_beginning_of_its_id(dev: Dev) -> None:
    job_id = created(dev, "asking")
    until(lambda: dev("jobs", "get", job_id, "--json").json["approval"], "it asks")
    short = job_id[:24]
    assert dev("jobs", "get", short, "--json").json["id"] == job_id
    assert dev("jobs", "history", short, "--json").json["events"][0]["event_type"] == "job_created"
    assert dev("jobs", "tree", short, "--json").json["nodes"][0]["job_id"] == job_id
    assert dev("jobs", "list", "--part-of", short, "--json").json["jobs"] == []
    assert f"job {job_id}: its history does NOT match the digest" in dev("jobs", "verify", short, f"1:{'0' * 64}").out
    assert f"job {job_id} has not ended yet" in dev("jobs", "watch", short, "--timeout", "0.1").err
    assert dev("jobs", "approve", short, "no").out == f"{job_id}: decided no\n"
    assert dev("jobs", "watch", short).code == 0
    order = created(dev, "order")
    assert dev("jobs", "signal", order[:24], "paid").out == f"{order}: sent paid\n"
    assert dev("jobs", "cancel", order[:24]).out == f"cancellation of {order} requested\n"


def test_a_beginning_of_several_ids_is_refused_and_lists_them(dev: Dev) -> None:
    jobs = [created(dev, "failing"), created(dev, "failing")]
    # The first ten characters are the time to about a minute.
    while jobs[-1][:10] != jobs[-2][:10]:
        jobs.append(created(dev, "failing"))
    alike = jobs[-1][:10]
    ran = dev("jobs", "get", alike, "--json")
    told = json.loads(ran.err)
    assert (ran.code, told["code"]) == (2, "JOB_ID_AMBIGUOUS")
    listed = re.findall(r"0-[0-9a-f]{32}", told["error"])
    assert [one for one in listed if not one.startswith(alike)] == []
    # Other tests have created jobs in the same minute; no more than ten are named.
    assert len(listed) == 10 if told["error"].endswith(", and more") else set(jobs[-2:]) <= set(listed)
    assert dev("jobs", "get", jobs[0][:7]).err == (
        f"holon: id_prefix is '{jobs[0][:7]}'; give at least the first 10 characters of a job id\n"
    )
    missing = dev("jobs", "get", f"{jobs[0][:30]}{'f' if jobs[0][30] != 'f' else '0'}")
    assert (missing.code, "no job of yours has an id that begins with" in missing.err) == (4, True)


def on_a_terminal(dev: Dev, columns: int, *arguments: str) -> str:
    """What a command shows on a terminal that is so wide."""
    screen, terminal = pty.openpty()
    env = environment({"TERM": "xterm", "COLUMNS": str(columns)})
    ran = subprocess.Popen([*COMMAND, *arguments], cwd=dev.folder, env=env, stdout=terminal)
    os.close(terminal)
    shown = b""
    # A terminal that nobody has open any more ends by an error.
    with suppress(OSError):
        while piece := os.read(screen, 4096):
            shown += piece
    os.close(screen)
    assert ran.wait(GUARD) == 0
    return shown.decode()


@pytest.mark.parametrize(
    ("command", "path"),
    [
        (("jobs", "list"), "jobs"),
        (("blueprints", "list"), "blueprints"),
        (("workers", "list"), "workers"),
        (("workers", "catalog"), "workers/catalog"),
    ],
)
def test_a_list_has_the_json_of_the_http_door(dev: Dev, command: tuple[str, ...], path: str) -> None:
    headers = {"X-Client-Token": dev.file["HOLON_TOKEN"]}
    url = f"{dev.doors['http']}/api/v1/{path}"
    shown = dev(*command, "--json").json
    over_http = httpx.get(url, headers=headers, trust_env=False, verify=PLAINTEXT).json()
    for worker in (*shown.get("workers", ()), *over_http.get("workers", ())):
        # It may be heard of between the two.
        del worker["last_seen_at"]
    assert shown == over_http


def on_the_page() -> dict[str, set[str]]:
    """The names that docs/cli.md says the JSON of a command has, by command."""
    page = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    section = page.split("## What `--json` prints")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`holon .*?) \| (.*) \|$", section, re.MULTILINE)
    names = {commands: set(re.findall(r"`(\w+)`", said)) for commands, said in rows}
    return {command: said for commands, said in names.items() for command in re.findall(r"`holon (.*?)`", commands)}


def names_in(shown: dict[str, Any]) -> set[str]:
    """The names of an object, and those of what it lists."""
    below = [one for value in shown.values() for one in (value if isinstance(value, list) else [value])]
    return set(shown) | {name for one in below if isinstance(one, dict) for name in one}


# What there must be before they print anything: a database of history, a holon that is known, no WEBHOOK_SECRET.
NEEDS_MORE = {"workers history", "uplink accept", "webhooks secret"}


def test_what_signs_webhooks_of_a_development_node_is_in_its_file(dev: Dev) -> None:
    refused = dev("webhooks", "secret")
    assert (refused.code, ".holon/dev.toml" in refused.err) == (1, True)
    assert dev.file["WEBHOOK_SECRET"].startswith("whsec_")


@pytest.mark.parametrize("command", sorted(set(on_the_page()) - NEEDS_MORE))
def test_what_a_command_prints_as_json_has_the_names_on_the_page(dev: Dev, command: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nosuch")
    blueprint = {"jobs approve": "asking", "jobs signal": "order"}.get(command, "failing")
    job_id = created(dev, blueprint)
    if command == "jobs approve":
        until(lambda: dev("jobs", "get", job_id, "--json").json["approval"], "it asks")
    arguments = {
        "jobs create": ["failing"],
        "jobs approve": [job_id, "no"],
        "jobs signal": [job_id, "paid"],
        "jobs verify": [job_id, f"1:{'0' * 64}"],
        "workers drain": ["w-cli", "--undo"],
        "blueprints graph": ["failing"],
        "blueprints check": [str(tmp_path)],
        "tokens rotate": ["signing-key"],
        "certs dev": ["--dir", str(tmp_path)],
        "certs issue": ["w9"],
        "init": [str(tmp_path / "project")],
        "proto export": [str(tmp_path)],
    }
    schedules = tmp_path / "schedules.toml"
    schedules.write_text('[s]\nblueprint = "failing"\ninterval_seconds = 60\n')
    wrong = {"API_PORT": "none", "SCHEDULES_CONFIG_PATH": str(schedules)}
    shown = dev(*command.split(), *arguments.get(command, []), "--json", stdin="t" * 32, **wrong).json
    if command == "workers drain":
        shown["worker"] = None
    elif command == "check":
        shown["settings"] = None
    elif command == "blueprints check":
        whole = dev("blueprints", "check", "blueprints", "--json").json
        shown["blueprints"] = whole["blueprints"]
    assert names_in(shown) == on_the_page()[command]


# Workers ---------------------------------------------------------------------------------------------------------


def test_workers_are_listed_with_what_they_offer(dev: Dev) -> None:
    [worker] = dev("workers", "list", "--json").json["workers"]
    assert (worker["worker_id"], worker["skills"]) == ("w-cli", ["double", "poison"])
    assert worker["connected_at"] > 1_700_000_000
    text = dev("workers", "list").out
    assert "w-cli" in text
    assert "double, poison" in text
    assert dev("workers", "list", "--skill", "nothing", "--json").json["workers"] == []


def test_workers_are_listed_with_their_reputations_by_skill_and_why(dev: Dev) -> None:
    created(dev, "poison")
    until(lambda: dev("workers", "list", "--json").json["workers"][0]["reputations"], "its failure counts")
    [worker] = dev("workers", "list", "--json").json["workers"]
    [reputation] = worker["reputations"]
    assert (reputation["skill"], reputation["excluded"]) == ("poison", False)
    assert [reason["code"] for reason in reputation["reasons"]] == ["PERMANENT_ERROR"]
    assert re.search(r" poison 0\.\d{3} \(\d+ PERMANENT_ERROR, last [\w ]*\d\d:", dev("workers", "list", "--wide").out)


def test_the_catalog_lists_skills_with_their_contracts(dev: Dev) -> None:
    skills = dev("workers", "catalog", "--json").json["skills"]
    assert [(one["name"], one["provider_count"]) for one in skills] == [("double", 1), ("poison", 1)]
    assert skills[0]["input_schema"]["required"] == ["n"]
    # Whoever reads it by lines, as grep does, has all of a skill in one.
    double, poison = dev("workers", "catalog").out.splitlines()[-3:-1]
    # The failures of one skill do not lower the other.
    assert double.rstrip().split(maxsplit=3) == ["double", "1", "1.000", "two lines, " + "and long" * 100]
    assert poison.split()[:2] == ["poison", "1"]


def test_a_worker_is_drained_and_that_is_taken_back(dev: Dev) -> None:
    assert "w-cli gets no more tasks" in dev("workers", "drain", "w-cli", "--reason", "a test").out
    waited = dev("jobs", "create", "double", "-d", '{"n": 3}', "--wait", "--wait-timeout", "0.3", "--json")
    assert waited.code == 13
    job_id = waited.json["job_id"]
    assert "draining" in dev("workers", "list").out
    taken_back = dev("workers", "drain", "w-cli", "--undo", "--json")
    assert taken_back.json["worker"]["draining"] is False
    assert dev("jobs", "watch", job_id, "--json").code == 0
    assert dev("workers", "drain", "nobody").code == 4


# Blueprints ------------------------------------------------------------------------------------------------------


def test_the_blueprints_of_a_node_are_listed(dev: Dev) -> None:
    found = {one["name"]: one["api_endpoint"] for one in dev("blueprints", "list", "--json").json["blueprints"]}
    assert found["double"] == "/api/v1/jobs/double"
    assert found["failing"] == "/api/failing"
    assert "/api/v1/jobs/double" in dev("blueprints", "list").out


def test_a_blueprint_is_printed_as_a_graph(dev: Dev) -> None:
    dot = dev("blueprints", "graph", "double").out
    assert dot.startswith('digraph "double" {\n')
    assert '"start" -> "end" [label="success"];' in dot
    graph = dev("blueprints", "graph", "double", "--json").json["graph"]
    assert graph["dot"] == dot
    assert graph["edges"] == [{"source": "start", "target": "end", "label": "success"}]
    assert dev("blueprints", "graph", "nothing").code == 4


# The shell -------------------------------------------------------------------------------------------------------


def test_the_shell_can_complete_commands(dev: Dev) -> None:
    shown = holon(
        dev.folder,
        "--show-completion",
        "bash",
        env={"SHELL": "/bin/bash", "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
    )
    assert shown.code == 0
    assert "complete" in shown.out
    assert "holon" in shown.out
    asked = {"_HOLON_COMPLETE": "complete_bash", "COMP_WORDS": "holon workers ", "COMP_CWORD": "2"}
    assert set(holon(dev.folder, env=asked).out.split()) >= {"list", "catalog", "drain"}


def test_what_tokens_are_made_with_is_rotated_by_command(dev: Dev) -> None:
    ran = dev("tokens", "rotate", "signing-key", "--json")
    assert (ran.code, set(ran.json)) == (0, {"key_id", "in_force_at"})
    assert ran.json["key_id"]
    ran = dev("tokens", "rotate", "refresh-secret", "--revoke")
    assert ran.code == 0
    assert "are refused" in ran.out
    assert dev("tokens", "rotate", "everything").code == 2


def test_a_child_without_a_name_is_not_the_parent(dev: Dev) -> None:
    ran = dev("uplink", "accept", "")
    assert (ran.code, ran.out) == (2, "")
    assert "WORKER is empty" in ran.err
    assert [dev("uplink", "accept", *one).code for one in ((), ("nobody",))] == [4, 4]
