"""Clients without a node, and clients that are closed."""

from __future__ import annotations

import asyncio
import math
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from holon.client import Client
from holon.client.streams import MOST_BESIDE_CALLS
from holon.clock import SystemClock
from holon.errors import (
    ConfigError,
    FailedPrecondition,
    Unimplemented,
    Unreachable,
)
from holon.security.certificates import issue_server, open_authority
from holon.security.tls import TlsPaths
from holon.security.tls_files import TlsFiles
from holon.testing import running_node
from tests.integration.client_doors import client_door, door
from tests.integration.http_node import GUARD, TOKEN, running


@pytest.mark.parametrize("url", ["grpc://localhost:1", "grpcs://localhost:1", "grpcs://127.0.0.1:1", "grpcs://[::1]:1"])
async def test_nobody_there_is_unreachable_and_named(url: str) -> None:
    async with Client(url, TOKEN) as client:
        with pytest.raises(Unreachable, match=re.escape(url)) as caught:
            await client.get_job("x")
    # gRPC tells of one address of a name, and of a node there it may be another that was not trusted.
    assert ("another address of this host" in caught.value.message) == url.startswith("grpcs://localhost")


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:7701", "http://127.0.0.1:7701", "grpc://", "grpc://127.0.0.1:x", "grpcs://h:1/path", "grpc://h"],
)
async def test_what_is_no_safe_address_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(ConfigError):
        async with Client(url, TOKEN):
            pass


async def test_an_authority_that_cannot_be_read_or_a_token_no_header_carries_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.pem cannot be read: .*HOLON_CA"):
        async with Client("grpcs://localhost", TOKEN, tmp_path / "nothing.pem"):
            pass
    (tmp_path / "junk.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match=r"the CA file .*junk\.pem has no readable certificate \(PEM\)"):
        async with Client("grpcs://localhost", TOKEN, tmp_path / "junk.pem"):
            pass
    with pytest.raises(ConfigError, match="token"):
        Client("grpcs://localhost", "two\nlines")


async def test_over_tls_the_node_must_be_of_the_given_authority(tmp_path: Path) -> None:
    authority, other = open_authority(tmp_path), open_authority(tmp_path / "other")
    pair = issue_server(authority, tmp_path)
    ca = authority.files.certificate
    tls = TlsFiles(TlsPaths(str(pair.certificate), str(pair.key), str(ca)), SystemClock())
    async with (
        running() as node,
        client_door(node.engine, tls, TOKEN) as opened,
    ):
        # Of a name, gRPC tells of one address alone.
        url = f"grpcs://127.0.0.1:{opened.port}"
        async with Client(url, TOKEN, ca) as client:
            assert [job async for job in client.list_jobs()] == []
        for authorities in (other.files.certificate, None):
            async with Client(url, TOKEN, authorities) as client:
                with pytest.raises(Unreachable, match=r"is not trusted; check the CA \(HOLON_CA\)$"):
                    await client.get_job("x")


PORT = "clients use CLIENT_GRPC_PORT, by default 7701"


async def test_a_client_that_comes_to_another_port_of_a_node_is_told_which_is_its_own() -> None:
    async with running_node() as node:
        ca = node.folder / "ca.pem"
        for url, said in (
            (
                f"grpcs://127.0.0.1:{node.ports.worker}",
                f"the worker port (GRPC_PORT) closes connections without a client certificate; {PORT}$",
            ),
            (f"grpcs://127.0.0.1:{node.ports.http}", f"does not speak TLS; {PORT}"),
            (f"grpc://127.0.0.1:{node.ports.http}", f"an HTTP server listens there, .*API_PORT; {PORT}$"),
            (f"grpc://127.0.0.1:{node.ports.client}", "with TLS the address begins with grpcs://$"),
        ):
            async with Client(url, node.token, ca) as client:
                with pytest.raises(Unreachable, match=said.replace("(GRPC_PORT)", r"\(GRPC_PORT\)")):
                    await client.get_job("x")


@pytest.mark.parametrize("served", [True, False])
async def test_where_workers_have_tokens_their_port_itself_tells_clients_so(served: bool) -> None:
    settings: dict[str, Any] = dict.fromkeys(("TLS_CERT_PATH", "TLS_KEY_PATH", "TLS_CA_PATH"), "")
    if not served:
        settings |= {"ENABLE_CLIENT_API": False, "PARENT_URL": "grpc://127.0.0.1:1", "PARENT_WORKER_ID": "w"}
    async with running_node(**settings) as node, Client(f"grpc://localhost:{node.ports.worker}", "t") as client:
        for call in (client.get_job("x"), client.node.info(), client.wait_for("x")):
            with pytest.raises(Unimplemented) as caught:
                await call
            assert caught.value.code == "WRONG_PORT"
            said = "this port is for workers (GRPC_PORT); clients use CLIENT_GRPC_PORT"
            assert caught.value.message.startswith(said if served else "this node serves no clients")


async def test_the_authority_is_read_once_for_all_the_connections_of_a_client(tmp_path: Path) -> None:
    authority = open_authority(tmp_path)
    pair = issue_server(authority, tmp_path)
    ca = authority.files.certificate
    tls = TlsFiles(TlsPaths(str(pair.certificate), str(pair.key), str(ca)), SystemClock())
    watches = MOST_BESIDE_CALLS + 1
    async with (
        running() as node,
        client_door(node.engine, tls, TOKEN) as opened,
        Client(f"grpcs://localhost:{opened.port}", TOKEN, ca) as client,
    ):
        job_id = (await client.create_job("waiting")).job_id
        ca.unlink()
        under_way = asyncio.Semaphore(0)
        async with asyncio.timeout(GUARD), asyncio.TaskGroup() as group:
            for _ in range(watches):
                group.create_task(client.wait_for(job_id, seen=lambda _: under_way.release()))
            for _ in range(watches):
                await under_way.acquire()
            assert "channels=2" in repr(client._streams)
            await client.cancel_job(job_id)


def test_the_client_imports_nothing_of_a_node() -> None:
    program = "import sys, holon.client; print(*sorted(sys.modules))"
    loaded = set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )
    heavy = {"config", "security", "telemetry", "engine", "storage", "worker", "node"}
    assert not loaded & {f"holon.{room}" for room in heavy}
    # Rules for both sides: what a history's fingerprint is, what a task is, with what it may use and wants of workers,
    # what JSON can hold, and the words of refusals.
    of_domain = {name.split(".")[2] for name in loaded if name.startswith("holon.domain.")}
    for_both = {"costs", "digest", "events", "json_words", "plain", "policy", "task", "texts", "value"}
    assert of_domain <= for_both | {"event_types", "fleet", "load", "resources", "signals", "strategies", "wants"}
    assert not loaded & {"cryptography", "jsonschema_rs", "msgpack", "uvicorn", "typer", "rich", "google.rpc"}


async def test_a_client_that_is_closed_ends_what_is_under_way_as_a_failure_and_not_as_a_cancel() -> None:
    async with door() as url:
        client, begun = Client(url, TOKEN, timeout=GUARD), asyncio.Event()
        async with client:
            job_id = (await client.create_job("waiting")).job_id
            wait = asyncio.create_task(client.wait_for(job_id, seen=lambda _: begun.set()))
            await begun.wait()
        with pytest.raises(Unreachable, match="was closed before"):
            await wait
        for call in (client.get_job(job_id), client.wait_for(job_id), client.node.info()):
            with pytest.raises(FailedPrecondition, match="is not open"):
                await call
        async with client:
            assert (await client.get_job(job_id)).id == job_id


async def test_a_client_that_was_never_entered_says_so() -> None:
    client = Client("grpc://127.0.0.1:7701")
    with pytest.raises(FailedPrecondition, match="use it within `async with`"):
        await client.get_job("x")
    with pytest.raises(FailedPrecondition, match="use it within `async with`"):
        await client.wait_for("x")
    with pytest.raises(FailedPrecondition, match="use it within `async with`"):
        await client.node.info()
    assert not hasattr(client, "nodes")


async def test_a_call_without_an_answer_fails_when_its_client_is_closed_and_is_cancelled_with_its_task() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        for cancels in (False, True):
            async with Client(f"grpc://127.0.0.1:{deaf.getsockname()[1]}", timeout=GUARD) as client:
                call = asyncio.create_task(client.get_job("x"))
                # It is made in its first turn.
                await asyncio.sleep(0)
                if cancels:
                    call.cancel()
            with pytest.raises(asyncio.CancelledError if cancels else Unreachable):
                await call


@pytest.mark.parametrize("timeout", [0, -1, math.nan, math.inf])
def test_a_call_has_a_time_that_ends(timeout: float) -> None:
    with pytest.raises(ConfigError, match="timeout is"):
        Client("grpc://127.0.0.1:7701", timeout=timeout)
