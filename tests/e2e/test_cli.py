"""The command line beside a development node: what it prints, and the codes that it exits with."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.cli_node import COMMAND, GUARD, Dev, Started, development_node, environment, holon, until
from tests.plaintext import PLAINTEXT
from tests.stores import NewStore

MISTYPED = """
from holon import Blueprint

bp = Blueprint("mistyped")


@bp.handler(is_start=True)
async def start(actions):
    actions.dispatch_task("poison", {}, {"success": "end", "needs_reviw": "end"})


@bp.handler(is_end=True)
async def end(actions):
    actions.dispatch_task("unseen", {}, {"success": "end", "anything": "end"})
    actions.dispatch_task("double", {}, {"success": "end", "anything": "end"})
"""


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory, new_store: NewStore) -> Iterator[Dev]:
    folder = tmp_path_factory.mktemp("dev")
    with development_node(folder, new_store(folder)) as dev:
        yield dev


def test_a_job_is_created_done_by_the_worker_and_shown(dev: Dev) -> None:
    done = dev("jobs", "create", "double", "--data", '{"n": 21}', "--wait", "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json["result"] == {"twice": 42}
    shown = dev("jobs", "get", done.json["id"], "--json")
    assert shown.json == done.json
    headers = {"X-Client-Token": dev.file["HOLON_TOKEN"]}
    reply = httpx.get(
        f"{dev.doors['http']}/api/v1/jobs/{done.json['id']}", headers=headers, trust_env=False, verify=PLAINTEXT
    )
    assert shown.json == reply.json()
    text = dev("jobs", "get", done.json["id"]).out
    assert '{"twice":42}' in text
    assert "finished" in text


def test_the_history_names_the_worker_that_its_certificate_names(dev: Dev) -> None:
    job = dev("jobs", "create", "double", "-d", '{"n": 1}', "--wait", "--json").json
    events = dev("jobs", "history", job["id"], "--json").json["events"]
    assert [event["event_type"] for event in events][:1] == ["job_created"]
    assert {event["worker_id"] for event in events if event["worker_id"]} == {"w-cli"}
    assert "job_completed" in dev("jobs", "history", job["id"]).out


def test_a_history_says_how_each_attempt_ended_and_of_which_task_it_was(dev: Dev) -> None:
    job_id = dev("jobs", "create", "both", "--wait", "--json").json["id"]
    lines = dev("jobs", "history", job_id).out.splitlines()
    (dispatched,) = (line for line in lines if "task_dispatched" in line)
    assert dispatched.rstrip().endswith("2 branches")
    ended = {line.split()[2]: line.split()[4:] for line in lines if " task_f" in line}
    assert {kind: " ".join(words) for kind, words in ended.items()} == {
        "task_finished": "success double #0-0 by w-cli",
        "task_failed": r"PERMANENT_ERROR: not \x1b[31mred poison #0-1 by w-cli",
    }
    (completed,) = (line for line in lines if "job_completed" in line)
    assert completed.rstrip().endswith(" finished")


def test_what_a_job_asks_is_shown_and_decided_once(dev: Dev) -> None:
    job_id = dev("jobs", "create", "asking").out.strip()
    until(lambda: dev("jobs", "get", job_id, "--json").json["status"] == "waiting_for_human", "it asks")
    headers = {"X-Client-Token": dev.file["HOLON_TOKEN"]}
    reply = httpx.get(f"{dev.doors['http']}/api/v1/jobs/{job_id}", headers=headers, trust_env=False, verify=PLAINTEXT)
    assert dev("jobs", "get", job_id, "--json").json == reply.json()
    shown = dev("jobs", "get", job_id).out
    for line in ("approval   Publish?", "decisions  yes, no", "integration  chat"):
        assert re.search(line.replace("?", r"\?").replace("  ", " +"), shown), shown
    listed = dev("jobs", "list", "--status", "waiting_for_human", "--json").json["jobs"]
    assert [(one["id"], one["approval"]["message"]) for one in listed] == [(job_id, "Publish?")]

    wrong = dev("jobs", "approve", job_id, "maybe")
    assert (wrong.code, "use yes or no" in wrong.err) == (2, True)
    done = dev("jobs", "approve", job_id, "yes", "--data", '{"note": 1}', "--comment", "fine", "--json")
    assert (done.code, done.json) == (0, {"status": "approval_received", "job_id": job_id})
    again = dev("jobs", "approve", job_id, "no")
    assert (again.code, "job" in again.err) == (1, True)
    assert dev("jobs", "approve", "0-none", "yes").code == 4
    until(lambda: dev("jobs", "get", job_id, "--json").json["status"] == "finished", "it goes on")
    assert dev("jobs", "get", job_id, "--json").json["result"] == {"note": 1}
    lines = dev("jobs", "history", job_id).out
    assert re.search(r"approval_requested .* Publish\? until 20", lines), lines
    assert re.search(r"approval_resolved .* yes by .default. \(fine\)", lines), lines
    assert re.search(r"timer_started .* until 20", lines), lines


def test_what_a_quarantined_job_carries_is_shown_where_it_is_asked_for(dev: Dev) -> None:
    job_id = dev("jobs", "create", "poison", "-d", '{"why": "not \\u001b[31mred"}', "--wait", "--json").json["id"]
    plain, shown = dev("jobs", "get", job_id, "--json").json, dev("jobs", "get", job_id, "--data", "--json").json
    carried = {"initial_data": {"why": "not \x1b[31mred"}, "state_history": {}}
    assert (shown["status"], shown) == ("quarantined", plain | carried)
    headers, query = {"X-Client-Token": dev.file["HOLON_TOKEN"]}, {"fields": ",".join(shown)}
    path = f"{dev.doors['http']}/api/v1/jobs/{job_id}"
    reply = httpx.get(path, params=query, headers=headers, trust_env=False, verify=PLAINTEXT)
    assert shown == reply.json()
    assert "initial data" not in dev("jobs", "get", job_id).out
    lines = dev("jobs", "get", job_id, "--data").out.splitlines()
    assert lines[-2:] == [r'initial data   {"why":"not \u001b[31mred"}', "state history  {}"]


def test_the_signals_that_a_job_waits_for_are_shown_and_each_is_sent_once(dev: Dev) -> None:
    job_id = dev("jobs", "create", "order").out.strip()
    until(lambda: dev("jobs", "get", job_id, "--json").json["status"] == "waiting_for_signal", "it waits")
    sent = dev("jobs", "signal", job_id, "sent", "--data", '{"by": "post"}', "--request-id", "r1")
    assert (sent.code, sent.out) == (0, f"{job_id}: sent sent\n")
    until(lambda: dev("jobs", "get", job_id, "--json").json["kept_signals"], "it keeps that")
    assert dev("jobs", "signal", job_id, "sent", "--request-id", "r1").code == 0
    headers = {"X-Client-Token": dev.file["HOLON_TOKEN"]}
    reply = httpx.get(f"{dev.doors['http']}/api/v1/jobs/{job_id}", headers=headers, trust_env=False, verify=PLAINTEXT)
    assert dev("jobs", "get", job_id, "--json").json == reply.json()
    shown = dev("jobs", "get", job_id).out
    for line in ("signals +paid, refused", "expires +20", "kept signals +1"):
        assert re.search(line, shown), shown

    for arguments, code, why in (
        ([job_id, "paid", "--data", "[1]"], 2, "must be a JSON object"),
        ([job_id, "paid", "--data", "{"], 2, "--data"),
        ([job_id, ""], 2, "use 1 to 128 characters"),
        ([job_id, "paid", "--request-id", "r1"], 1, "was used for another signal"),
        ([job_id, "paid", "--request-id", ""], 2, "request_id is empty"),
        ([job_id, "timeout"], 2, "which is reserved; use another name"),
        ([job_id, "paid", "--to", "0-none"], 1, "no job below with this id"),
        (["0-none", "paid"], 4, "Job not found"),
    ):
        wrong = dev("jobs", "signal", *arguments)
        assert (wrong.code, why in wrong.err) == (code, True), (arguments, wrong)
    done = dev("jobs", "signal", job_id, "paid", "--data", "-", "--json", stdin='{"amount": 7}')
    assert (done.code, done.json) == (0, {"status": "signal_received", "job_id": job_id})
    until(lambda: dev("jobs", "get", job_id, "--json").json["status"] == "finished", "it goes on")
    assert dev("jobs", "get", job_id, "--json").json["result"] == {"by": "post", "amount": 7}
    assert "has ended" in dev("jobs", "signal", job_id, "paid").err
    lines = dev("jobs", "history", job_id).out
    for line in (r"signal_awaited .* paid, refused until 20", r"signal_received .* sent kept by 'default'"):
        assert re.search(line, lines), lines
    assert re.search(r"signal_received .* paid by 'default'", lines), lines
    assert re.search(r"signal_taken .* sent", lines), lines


def test_a_long_error_is_one_line_of_a_history_and_whole_in_its_json(dev: Dev) -> None:
    why = "first\nsecond " + "x" * 500
    job_id = dev("jobs", "create", "poison", "-d", json.dumps({"why": why}), "--wait", "--json").json["id"]
    (line,) = (line for line in dev("jobs", "history", job_id).out.splitlines() if "task_failed" in line)
    assert " PERMANENT_ERROR: first second xxx" in line
    assert line.rstrip().endswith("x… poison #0-0 by w-cli")
    events = dev("jobs", "history", job_id, "--json").json["events"]
    assert [one["context_snapshot"]["error"] for one in events if one["event_type"] == "task_finished"] == [why]


def test_a_tree_has_the_json_of_the_http_door_whole_or_in_part(dev: Dev) -> None:
    job_id = dev("jobs", "create", "both", "--wait", "--json").json["id"]

    def over_http(**query: str) -> object:
        headers = {"X-Client-Token": dev.file["HOLON_TOKEN"]}
        path = f"{dev.doors['http']}/api/v1/jobs/{job_id}/tree"
        return httpx.get(path, params=query, headers=headers, trust_env=False, verify=PLAINTEXT).json()

    whole = dev("jobs", "tree", job_id, "--json").json
    assert (len(whole["nodes"]), whole) == (3, over_http())
    part = dev("jobs", "tree", job_id, "--limit", "1", "--json").json
    assert part["nodes"] == whole["nodes"][:1]
    rest = {"nodes": whole["nodes"][1:], "next_page_token": ""}
    assert over_http(page_token=part["next_page_token"]) == rest


def test_a_created_job_is_named_alone_on_its_line(dev: Dev) -> None:
    made = dev("jobs", "create", "waiting")
    assert made.code == 0
    (job_id,) = made.out.split()
    assert dev("jobs", "get", job_id, "--json").json["status"] == "waiting_for_worker"
    made = dev("jobs", "create", "waiting", "--json")
    assert made.json.keys() == {"status", "job_id"}


def test_data_comes_from_a_file_or_from_standard_input(dev: Dev) -> None:
    (dev.folder / "data.json").write_text('{"n": 4}')
    assert dev("jobs", "create", "double", "-d", "@data.json", "--wait", "--json").json["result"] == {"twice": 8}
    assert dev("jobs", "create", "double", "-d", "-", "--wait", "--json", stdin='{"n": 5}').json["result"] == {
        "twice": 10
    }


@pytest.mark.parametrize(
    "command",
    [("get", os.fsdecode(b"\xff")), ("watch", "x", "--after", str(2**70)), ("list", "--created-after", "0001-01-01")],
)
def test_an_argument_that_cannot_be_sent_is_wrong_input(dev: Dev, command: tuple[str, ...]) -> None:
    refused = dev("jobs", *command, TZ="Europe/Moscow")
    assert refused.code == 2
    assert refused.err.startswith("holon: ")
    assert len(refused.err.splitlines()) == 1


def test_one_request_id_makes_one_job(dev: Dev) -> None:
    first, again = (dev("jobs", "create", "waiting", "--request-id", "order-7") for _ in range(2))
    assert first.out == again.out


def test_a_request_id_that_is_empty_is_refused_and_makes_no_job(dev: Dev) -> None:
    before = dev.jobs("limit=1")
    ran = dev("jobs", "create", "waiting", "--request-id", "")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "holon: request_id is empty; give it a value, or leave it out\n"
    assert dev.jobs("limit=1") == before


def test_how_a_job_ended_is_the_exit_code_of_waiting_for_it(dev: Dev) -> None:
    failed = dev("jobs", "create", "failing", "--wait")
    assert failed.code == 10
    assert "ENDED_FAILED" in failed.out
    quarantined = dev("jobs", "create", "poison", "--wait")
    assert quarantined.code == 11
    assert r"not \x1b[31mred" in quarantined.out
    waited = dev("jobs", "create", "waiting", "--wait", "--wait-timeout", "0.1")
    assert waited.code == 13
    assert "goes on" in waited.err
    asked = dev("jobs", "create", "waiting", "--wait", "--wait-timeout", "0.1", "--json")
    assert (asked.code, json.loads(asked.err)["code"]) == (13, "WAIT_TIMED_OUT")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--wait", "--wait-timeout", "-1"), "--wait-timeout is -1; it must be a number of seconds above 0"),
        (("--wait", "--wait-timeout", "0"), "--wait-timeout is 0;"),
        (("--wait", "--wait-timeout", "nan"), "--wait-timeout is nan;"),
        (("--wait-timeout", "5"), "--wait-timeout needs --wait"),
    ],
)
def test_a_wait_that_is_none_is_refused_before_a_job_is_created(dev: Dev, options: tuple[str, ...], says: str) -> None:
    before = len(dev.jobs("limit=1000"))
    ran = dev("jobs", "create", "failing", *options)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err
    assert len(dev.jobs("limit=1000")) == before


def test_a_job_uses_the_skills_that_it_is_allowed(dev: Dev) -> None:
    allowed = dev("jobs", "create", "double", "-d", '{"n": 1}', "--allow", "other", "--allow", "double", "--wait")
    assert allowed.code == 0
    denied = dev("jobs", "create", "double", "-d", '{"n": 1}', "--allow", "other", "--wait")
    assert denied.code == 10
    assert "POLICY_DENIED" in denied.out


def test_a_job_is_given_a_budget_and_a_wrong_one_is_refused(dev: Dev) -> None:
    denied = dev("jobs", "create", "waiting", "--budget", "0", "--json")
    assert denied.code == 0
    shown = dev("jobs", "get", denied.json["job_id"], "--json").json
    assert (shown["cost"], shown["budget"]) == (None, 0)
    wrong = dev("jobs", "create", "double", "-d", '{"n": 1}', "--budget", "-1")
    assert wrong.code != 0
    assert "budget is -1; give a whole number" in wrong.err


def test_a_cancel_ends_a_job_and_who_waits_for_it_is_told(dev: Dev) -> None:
    waiting = Started(dev.folder, "jobs", "create", "waiting", "--wait", "--request-id", "to-cancel")
    try:
        job_id = dev("jobs", "create", "waiting", "--request-id", "to-cancel").out.strip()
        cancelled = dev("jobs", "cancel", job_id, "--reason", "no paper", "--json")
        assert cancelled.json == {"status": "cancellation_request_accepted"}
        assert waiting.wait() == 12
        assert "CANCELLED: cancelled by client 'default': no paper" in dev("jobs", "get", job_id).out
        assert dev("jobs", "cancel", job_id).code == 1
    finally:
        waiting.kill()


def test_jobs_are_listed_in_pages_and_by_status(dev: Dev) -> None:
    for _ in range(2):
        dev("jobs", "create", "failing", "--wait")
    page = dev("jobs", "list", "--status", "failed", "--blueprint", "failing", "--limit", "1", "--json").json
    assert [job["status"] for job in page["jobs"]] == ["failed"]
    assert "result" not in page["jobs"][0]
    token = page["next_page_token"]
    following = dev("jobs", "list", "--status", "failed", "--limit", "1", "--page-token", token, "--json").json
    assert following["jobs"][0]["id"] != page["jobs"][0]["id"]
    assert dev("jobs", "list", "--part-of", page["jobs"][0]["id"], "--json").json["jobs"] == []
    text = dev("jobs", "list", "--limit", "1").out
    assert "BLUEPRINT" in text
    assert "more: --page-token" in text


def test_blueprints_are_compared_with_the_statuses_that_skills_of_the_named_node_declare(dev: Dev) -> None:
    mistyped = dev.folder / "mistyped.py"
    mistyped.write_text(MISTYPED)
    ran = dev("blueprints", "check", "mistyped.py")
    assert (ran.code, ran.err) == (0, "")
    *problems, known, counts = ran.out.splitlines()
    said = (
        "dispatch_task has a transition for the status 'needs_reviw', which no connected worker with skill "
        "'poison' declares (did you mean 'needs_review'?); they declare needs_review. The task waits "
        "until a worker declares it"
    )
    (problem,) = problems
    assert problem.startswith("warning: mistyped.py: blueprint mistyped: state 'start' (")
    assert problem.endswith(f"mistyped.py:9): {said}")
    assert known == "compared with the statuses of the skills of connected workers: double, poison"
    assert counts == "blueprints: 1, errors: 0, warnings: 1"
    found = dev("blueprints", "check", "mistyped.py", "--json").json
    assert (len(found["problems"]), found["known_skills"]) == (1, ["double", "poison"])
    alone = dev("blueprints", "check", "mistyped.py", HOLON_URL="grpc://127.0.0.1:1")
    assert (alone.code, alone.out) == (0, "blueprints: 1, errors: 0, warnings: 0\n")
    assert alone.err.startswith("holon: transitions are not compared with the statuses of workers: ")


@pytest.mark.parametrize(
    ("arguments", "env", "code", "says"),
    [
        (("jobs", "get", "none"), {}, 4, "Job not found"),
        (("jobs", "create", "nothing"), {}, 4, "nothing"),
        (("jobs", "create", "duoble"), {}, 4, "accepts jobs from clients (did you mean 'double'?)"),
        (("jobs", "list", "--status", "finish"), {}, 2, "is not a status (did you mean 'finished'?)"),
        (("blueprints", "graph", "duoble"), {}, 4, "did you mean 'double'?"),
        (("jobs", "list"), {"HOLON_TOKEN": "wrong"}, 5, "Invalid token; HOLON_TOKEN must be the token of a client"),
        (("jobs", "list"), {"HOLON_URL": "grpc://127.0.0.1:1"}, 3, "grpc://127.0.0.1:1"),
        (("jobs", "list"), {"HOLON_URL": "127.0.0.1"}, 2, "grpcs://"),
        (("jobs", "list", "--status", "done"), {}, 2, "done"),
        (("jobs", "create", "double", "--data", "{"), {}, 2, "--data is not valid JSON"),
        (("jobs", "create", "double", "--data", ""), {}, 2, "--data is empty"),
        (("jobs", "create", "double", "--data", '{"n": 18446744073709551616}'), {}, 2, "does not fit into 64 bits"),
        (("jobs", "create", "double", "--data", '{"n": -9223372036854775809}'), {}, 2, "does not fit into 64 bits"),
        (("jobs", "create", "double", "--data", "[]"), {}, 2, "initial_data"),
        (("jobs", "create", "double", "--data", "null"), {}, 2, "initial_data is null"),
        (("jobs", "create", "double", "--data", "@"), {}, 2, "--data has no file name"),
        (("jobs", "list"), {"HOLON_URL": "unix:"}, 2, "'unix:' is not the address of a socket"),
        (("jobs", "list"), {"HOLON_URL": "", "ADMIN_SOCKET": "a" * 120}, 2, "its path has over 100 bytes"),
        (("jobs", "create", "double", "--data", "@missing.json"), {}, 2, "missing.json cannot be read"),
        (("jobs", "create", "double", "--dispatch-timeout", "-1"), {}, 2, "dispatch_timeout"),
        (("jobs", "list", "--limit", "0"), {}, 2, "--limit"),
        (("jobs", "ls"), {}, 2, "ls"),
    ],
)
def test_what_went_wrong_is_told_and_is_the_exit_code(
    dev: Dev, arguments: tuple[str, ...], env: dict[str, str], code: int, says: str
) -> None:
    ran = dev(*arguments, **env)
    assert (ran.code, ran.out) == (code, "")
    assert says in ran.err
    assert "Traceback" not in ran.err


def test_a_narrow_output_gets_what_it_lacks_as_escapes(dev: Dev) -> None:
    narrow = {"PYTHONIOENCODING": "latin-1"}
    ran = holon(dev.folder, "jobs", "create", "poison", "-d", '{"why": "\u65e5"}', "--wait", env=narrow)
    assert (ran.code, ran.err) == (11, "")
    assert "\\u65e5" in ran.out
    job_id = dev("jobs", "list", "--limit", "1", "--json").json["jobs"][0]["id"]
    ran = holon(dev.folder, "jobs", "tree", job_id, env=narrow)
    assert (ran.code, ran.err) == (0, "")
    assert "\n\\u2514\\u2500 task poison" in ran.out


def test_an_error_is_json_where_that_is_asked_for(dev: Dev) -> None:
    told = json.loads(dev("jobs", "get", "none", "--json").err)
    assert told == {"error": "Job not found: 'none'", "code": "JOB_NOT_FOUND", "details": []}


def test_the_token_of_the_development_node_is_sent_to_no_other(dev: Dev) -> None:
    ran = dev("jobs", "list", HOLON_URL=dev.file["HOLON_URL"], HOLON_CA=dev.file["HOLON_CA"])
    assert ran.code == 5
    assert "no client token in the metadata" in ran.err
    assert "set HOLON_TOKEN" in ran.err


def test_a_command_that_is_interrupted_says_so(dev: Dev) -> None:
    before = len(dev.jobs("limit=1000"))
    waiting = Started(dev.folder, "jobs", "create", "waiting", "--wait")
    try:
        until(lambda: len(dev.jobs("limit=1000")) > before, "it waits")
        assert waiting.end(signal.SIGINT) == 130
    finally:
        waiting.kill()


@pytest.mark.parametrize("json_wanted", [False, True])
def test_a_wait_that_is_cut_short_says_which_job_was_created(dev: Dev, json_wanted: bool) -> None:
    ours, its = pty.openpty()
    command = [*COMMAND, "jobs", "create", "waiting", "--wait", *(["--json"] if json_wanted else [])]
    process = subprocess.Popen(
        command, cwd=dev.folder, env=environment({"TERM": "xterm"}), stdout=subprocess.PIPE, stderr=its, text=True
    )
    os.close(its)
    try:
        shown = ""
        while not (found := re.search(r"0-[0-9a-f]{32}", shown)):
            shown += os.read(ours, 4096).decode()
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=GUARD)
        assert process.returncode == 130
        if json_wanted:
            assert json.loads(out) == {"status": "accepted", "job_id": found.group()}
        else:
            while f"job {found.group()} was created" not in shown:
                shown += os.read(ours, 4096).decode()
    finally:
        process.kill()
        process.communicate()
        os.close(ours)
