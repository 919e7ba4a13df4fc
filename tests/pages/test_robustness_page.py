"""docs/robustness.md tells the truth: the limits in its tables are those of the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from holon.config import Config
from holon.config.settings import table
from holon.core import costs, leases, touches
from holon.domain import attempts, fanning, fleet, resources, webhook
from holon.domain.file_names import MAX_PART_BYTES
from holon.domain.holarchy import MAX_BELOW, MAX_DEPTH
from holon.engine import (
    catalogs,
    client_files,
    contracts,
    end_messages,
    job_files,
    paging,
    planning,
    schedules_file,
    schema_work,
    watching,
    webhooks,
)
from holon.ports import MAX_DOCUMENT_BYTES, MAX_DOCUMENTS, MAX_PAGE_BYTES, MAX_PARTS, PART_BYTES, StoreSettings
from holon.storage import blobs, waiting, windows
from holon.storage.history import columns
from holon.task_files import copies, folder, together
from holon.task_files import files as task_files
from holon.task_files import names as file_names
from holon.telemetry import behind, log
from holon.transports.grpc import caller, clerk, client_door, hello, job_service, outgoing, requests
from holon.transports.grpc.settings import WorkerDoorSettings
from holon.transports.http import connection, door
from holon.transports.http.webhooks import delivery, names
from holon.uplink import books, fitting, parent
from holon.wire import arrivals, stream

PAGE = (Path(__file__).parents[2] / "docs/robustness.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ")]
KIB, MIB = 1024, 1024 * 1024
SILENCE = door.HttpSettings().silence
STREAM = WorkerDoorSettings()
BOUNDS = STREAM.bounds


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("connections, with TLS handshakes", f"{door.HttpSettings().connections:,}"),
        ("a TLS handshake", f"{door.HttpSettings().handshake:g} s"),
        ("path and headers", f"{connection.MAX_HEAD // KIB} KiB, and {connection.MAX_HEADERS} headers"),
        (
            "time to receive a body",
            f"{connection.BODY_SILENCES * SILENCE:g} s, and 1 s for each {connection.BODY_BYTES_PER_S // KIB} KiB",
        ),
        ("chunk framing and trailers of a body", f"{connection.MAX_FRAMING // KIB} KiB, and "),
        ("pipelined requests", f"{connection.MAX_PIPELINE} at most"),
        ("time to receive path and headers", f"{SILENCE:g} s"),
        ("reading of an answer", f"{connection.LEAST_TAKEN // KIB} KiB in {SILENCE:g} s"),
        ("metadata", f"{BOUNDS.metadata_bytes // KIB} KiB"),
        ("connections, with handshakes", f"{BOUNDS.connections:,} of each port"),
        ("a handshake", f"{BOUNDS.handshake:g} s"),
        ("a connection without calls", f"{BOUNDS.idle:g} s"),
        ("a peer that acknowledges nothing", f"{BOUNDS.ping + BOUNDS.pong:g} s"),
        ("age of a connection", f"{BOUNDS.age / 3600:g} h"),
        ("calls that go on after that", f"{BOUNDS.age_grace / 3600:g} h"),
        (
            "calls of one connection",
            f"{client_door.MAX_STREAMS}; at the worker port the node serves {caller.MOST_CALLS} at a time",
        ),
        (
            "requests of one client or worker that have arrived in part, `Hello` included",
            f"{arrivals.MOST}; {arrivals.MOST_WAITING:,} more wait, unread. While",
        ),
        ("time to receive a request of a known client or worker, except `Hello`", f"{requests.KNOWN_S:g} s"),
        ("bodies of one client that arrive in parts", f"{arrivals.MOST}; {arrivals.MOST_WAITING:,} more wait"),
        (
            "age of a session",
            f"{STREAM.rotation * 0.9 / 60:.0f} to {STREAM.rotation / 60:g} min, and {STREAM.moving / 60:g} min",
        ),
        ("a page of jobs", f"{MAX_PAGE_BYTES // MIB} MiB"),
        ("a page of workers, of skills or of blueprints", f"{paging.MAX_PAGE:,}, and {MAX_PAGE_BYTES // MIB} MiB"),
        ("a batch of jobs", f"{job_service.MAX_BATCH}"),
        ("watchers of jobs, with calls that `?wait=`", f"{watching.MAX_WATCHERS:,}"),
        ("refused messages", f"{outgoing.MAX_REFUSALS}"),
        ("results that wait for the store", f"{clerk.MAX_RESULTS:,} and {clerk.MAX_BYTES // MIB} MiB"),
        ("updates in a message", f"{stream.BATCH_ITEMS} and {stream.BATCH_BYTES // MIB} MiB"),
        ("credits; leases that a worker holds or resumes", f"{fleet.MAX_CREDITS:,}"),
        (
            "offerings; of one skill; machines; labels",
            f"{hello.MAX_OFFERINGS:,}, {hello.MAX_OF_ONE_SKILL}, {hello.MAX_PROFILES}, {hello.MAX_LABELS}",
        ),
        (
            "loaded skills, and items in its caches",
            f"{fleet.MAX_LOADED:,} each, of {fleet.MAX_NAME} and {fleet.MAX_CACHED} characters",
        ),
        ("a machine, with its numbers written out", f"{fleet.MAX_MACHINE_BYTES // KIB} KiB"),
        (
            "description of an offering; its statuses",
            f"{fleet.MAX_DESCRIPTION:,} characters; {fleet.MAX_STATUSES} of {fleet.MAX_STATUS} characters",
        ),
        ("a schema", f"{contracts.MAX_SCHEMA_BYTES // KIB} KiB, {schema_work.MAX_EXPANDED:,} parts"),
        ("patterns", f"{contracts.MAX_PATTERNS} of a schema, {catalogs.MAX_PATTERNS} of a catalog"),
        ("checking a value", f"{contracts.MAX_TO_CHECK:,} steps"),
        ("checking a task against all contracts of its skill", f"{contracts.MAX_TO_CHECK:,} steps, together"),
        ("listing all violations", f"{contracts.MAX_TO_FIND_ALL:,} steps, {contracts.MAX_VIOLATIONS}"),
        ("finding the first violation", f"{contracts.MAX_TO_FIND_ONE:,} steps"),
        (
            "jobs, or lines of a worker, that a list skips in one read",
            f"{columns.LOOK_AT:,}",
        ),
        ("events that wait for a job", f"{StoreSettings('n').max_inbox:,}"),
        ("attempts of a task that the store remembers", f"{leases.MOST_ATTEMPTS:,}"),
        ("attempts of a task without a result in a job's history", f"{attempts.MOST_TOLD:,}"),
        ("quick returns of a task to a worker that rejected it", f"{touches.MOST_AT_ONCE}"),
        ("lost attempts of a job whose price stays reserved until they report", f"{costs.MOST_UNREPORTED}"),
        (
            "hardware that a task requires; devices of it",
            f"{resources.MAX_REQUIREMENT_BYTES // KIB} KiB; {resources.MAX_REQUIRED}",
        ),
        ("branches of a fan-out; child jobs among them", f"{fanning.MAX_BRANCHES:,}; {fanning.MAX_PARTS:,}"),
        (
            "params of all branches; the skills and the hardware that they name",
            f"{planning.MAX_FAN_OUT_BYTES // MIB} MiB of each",
        ),
        ("schedules", f"{schedules_file.MOST_SCHEDULES:,}"),
        (
            "delay with which a starting node still creates the job of a schedule",
            f"{schedules_file.CATCH_UP_S:.0f} s; at most {schedules_file.LONGEST_CATCH_UP_S // 86_400} days",
        ),
        ("results of all branches", f"{StoreSettings('n').max_fan_in_bytes // MIB} MiB"),
        ("a document that nodes share, for example about workers", f"{MAX_DOCUMENT_BYTES // KIB} KiB"),
        ("documents of one kind", f"{MAX_DOCUMENTS:,}"),
        ("callers that rate limits count, with SQLite and in memory", f"{windows.MAX_KEYS:,}"),
        ("calls that wait for the store", f"{waiting.MAX_WAITING:,}; {waiting.MAX_WAITING_TO_CREATE:,}"),
        ("calls of S3 at a time", "with up to 32 MiB"),
        (
            "connecting to S3; waiting for its next bytes; one file",
            f"{blobs.CONNECT_S} s; {blobs.SILENCE_S} s; a day | | tried again {blobs.RETRIES} times",
        ),
        ("a file that a handler reads or writes as a value", f"{copies.MAX_VALUE_BYTES // MIB} MiB"),
        ("a file that a client uploads", f"{client_files.MAX_FILE_BYTES // 2**30} GiB"),
        ("a file that a handler writes as a stream", f"{MAX_PARTS * PART_BYTES // 2**30} GiB"),
        ("files of a folder that is sent or fetched", f"{folder.MAX_FILES:,}, {together.AT_ONCE} at a time"),
        ("a name; each part of it", f"{file_names.MAX_KEY_BYTES:,} bytes as a key; {MAX_PART_BYTES}"),
        ("life of a signed URL", f"{task_files.MAX_EXPIRES_S // 86_400} days"),
        ("file calls of one run of a handler in history", f"{task_files.MAX_TOLD}"),
        ("ended jobs whose files wait for deletion", f"{job_files.WAITING:,}"),
        ("a message, and an exception", f"{log.MOST_CHARACTERS:,} characters each"),
        (
            "webhooks in flight: in all, of a client, at a host",
            "; of events ".join(
                f"{room.in_all}, {room.of_client}, {room.at_host}" for room in (webhooks.FOR_ENDS, webhooks.FOR_EVENTS)
            ),
        ),
        ("one try of a webhook; bytes read of the answer", f"10 s; {delivery.MAX_ANSWER_BYTES // KIB} KiB"),
        ("names of receivers that are resolved at a time", f"{names.MOST}"),
        ("message of a webhook", f"{end_messages.MAX_MESSAGE_BYTES // KIB} KiB"),
        ("a `webhook_url`", f"{webhook.MAX_URL:,} characters"),
        ("lines that wait for a slow reader of the log", f"{behind.MOST_LINES:,}"),
        ("tasks that a parent withdrew and that the child remembers", f"{books.MAX_REMEMBERED:,}, for a day"),
        ("holons above a child; holons below it that it reports", f"{MAX_DEPTH}; {MAX_BELOW:,}"),
        ("reports upwards when the holons below change", f"once in {parent.INTRODUCE_EVERY_S:g} s"),
        ("machines of workers that a child reports", f"{fitting.MAX_PROFILES}"),
        (
            "offered blueprints; offered skills and machines of workers",
            f"1,000 and {fitting.MAX_OWN_BYTES // MIB} MiB; {fitting.MAX_BYTES_OF_WORKERS // MIB} MiB; of all, ",
        ),
    ],
)
def test_a_limit_is_what_the_page_says(what: str, said: str) -> None:
    assert any(row.startswith(f"| {what} | ") and said in row for row in ROWS)


def test_a_child_tells_no_more_than_its_parent_takes() -> None:
    assert (fitting.MAX_OFFERINGS, fitting.MAX_PROFILES) == (hello.MAX_OFFERINGS, hello.MAX_PROFILES)
    assert fitting.MAX_OWN_BYTES + fitting.MAX_BYTES_OF_WORKERS < Config({}).GRPC_MESSAGE_MAX_BYTES


def test_the_settings_that_the_page_names_have_the_defaults_that_it_gives() -> None:
    settings = table()
    named = [(row, name) for row in ROWS for name in settings if f"| `{name}` |" in row]
    assert len(named) > 8
    for row, name in named:
        default = Config({}).job_retention if name == "JOB_RETENTION" else settings[name].default
        size = int(default) if isinstance(default, int | float) else 0
        said = {f"{size:,} ", f"{size // MIB} MiB", f"{size} s", f"{size // 86_400} days"}
        assert any(text in row for text in said), (name, row)
