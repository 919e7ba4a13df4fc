"""The drill: everything that proves somebody is replaced while jobs go on, and no job, worker or client notices."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest

from holon.client import Client
from holon.config import Config
from holon.domain.blueprint import Blueprint
from holon.errors import FailedPrecondition, Unauthenticated
from holon.node import Node
from holon.node.settings import uplink_settings, worker_door_settings
from holon.rxon.v1 import token_pb2
from holon.security.certificates import issue_server, issue_worker
from holon.storage.memory import MemoryStorage
from holon.storage.sealing import key_id
from holon.storage.sealing.marks import KIND as MARKS
from holon.storage.sqlite import SqliteStorage
from holon.testing import WAITS
from holon.worker import Worker
from holon.worker.timing import Timing
from tests.attack.place import (
    GUARD,
    LOOPBACK,
    TOKENS,
    Place,
    a_place,
    a_running,
    bearer,
    exchanged,
    opened,
    outcome,
    said_hello,
    token,
)
from tests.integration.grpc_node import end_of
from tests.integration.tls_site import serial_of
from tests.integration.worker_certificates import certificate_of, revoke, root
from tests.log_watch import LogWatch

# How often workers move to another connection; else it is an hour until the last has shown its new certificate.
ROTATION_S = 0.4
# Between two looks, and between two jobs of a client: they are not to take the processor from all that is waited for.
PAUSE_S = 0.05
# How long a client asks the node to wait for a job's end.
WAIT_S = 20
CERTIFIED = ("w1", "w2")
BY_TOKEN = "reporter"
CHILD = "child"
ONCE_MORE = 2
CERTIFICATE = token_pb2.CertificateCredential()


class Load:
    """Clients at both doors that create jobs and see them finished, each with a new connection for every job."""

    def __init__(self, place: Place) -> None:
        self.done: Counter[str] = Counter()
        # A client that is cancelled while it connects leaves the connection behind.
        self.over = False
        self._place = place
        self._more = asyncio.Condition()

    async def grpc(self, name: str, skill: str = "t") -> None:
        """A client of the gRPC door, until the load is `over`."""
        while not self.over:
            async with self._place.client(name) as client:
                made = await client.create_job("relay", {"skill": skill, "n": self.done[name]})
                job = await client.wait_for(made.job_id, timeout=GUARD)
                await self._finished(name, job.status, job.result)

    async def http(self, name: str) -> None:
        """A client of the HTTP door, until the load is `over`."""
        while not self.over:
            async with self._place.http(name) as http:
                body = {"initial_data": {"skill": "t", "n": self.done[name]}}
                reply = await http.post("/api/v1/jobs/relay", json=body)
                assert reply.status_code == 202, reply.text
                job: dict[str, Any] = {"finished_at": None}
                while job["finished_at"] is None:
                    job = (await http.get(f"/api/v1/jobs/{reply.json()['job_id']}?wait={WAIT_S}")).json()
                await self._finished(name, job["status"], job["result"])

    async def _finished(self, name: str, status: str, result: Any) -> None:
        assert (status, result["got"]) == ("finished", self.done[name])
        self.done[name] += 1
        async with self._more:
            self._more.notify_all()
        await asyncio.sleep(PAUSE_S)

    async def goes_on(self) -> None:
        """Return once every client has seen some more jobs finished, the first of which began after this call."""
        least = {name: count + ONCE_MORE for name, count in self.done.items()}
        async with asyncio.timeout(GUARD), self._more:
            await self._more.wait_for(lambda: all(self.done[name] >= count for name, count in least.items()))


def a_worker(place: Place, worker_id: str, **options: Any) -> Worker:
    worker = place.sdk_worker(worker_id, max_concurrent=4, **options)

    @worker.skill("t")
    async def t(n: int) -> dict[str, int]:
        return {"got": n}

    return worker


def a_child(place: Place) -> Node:
    """A holon with a store of its own, which does `below` for the place."""
    below = Blueprint("below")

    @below.handler(is_start=True, is_end=True)
    async def got(initial_data: dict[str, Any]) -> dict[str, Any]:
        return {"got": initial_data["n"]}

    files = place.worker_files(CHILD)
    config = Config(
        {},
        **WAITS,
        API_PORT=0,
        GRPC_PORT=0,
        CLIENT_GRPC_PORT=0,
        ENABLE_CLIENT_API=False,
        PARENT_URL=f"grpcs://localhost:{place.ports.worker}",
        PARENT_TLS_CERT_PATH=str(files.certificate),
        PARENT_TLS_KEY_PATH=str(files.key),
        PARENT_TLS_CA_PATH=str(place.ca),
    )
    return Node(config, [below], MemoryStorage())


@asynccontextmanager
async def under_load(place: Place) -> AsyncIterator[tuple[Load, Client, AsyncExitStack, AsyncExitStack]]:
    """Workers by certificate, by short-lived token and by static token, a holon below, and clients.

    The two stacks hold the worker with the static token, and the holon.
    """
    load = Load(place)
    async with AsyncExitStack() as workers, place.client("boss") as boss:
        by_token, child = [await workers.enter_async_context(AsyncExitStack()) for _ in range(2)]
        await child.enter_async_context(a_running(a_child(place)))
        for worker_id in CERTIFIED:
            worker = await workers.enter_async_context(a_worker(place, worker_id, sts=worker_id == "w2"))
            await worker.ready()
        await by_token.enter_async_context(a_worker(place, BY_TOKEN, token=place.tokens[BY_TOKEN]))
        async with asyncio.TaskGroup() as loops:
            load.done.update(shop=0, lab=0, boss=0)
            loops.create_task(load.grpc("shop"))
            loops.create_task(load.http("lab"))
            loops.create_task(load.grpc("boss", "below"))
            await load.goes_on()
            yield load, boss, by_token, child
            await load.goes_on()
            load.over = True


async def moved(boss: Client, *worker_ids: str) -> None:
    """Return once the workers use what they have been given by now."""
    async with asyncio.timeout(GUARD):
        # One that connects just now may have read before what it shows.
        for _ in range(2):
            since = earliest = time.time()
            while earliest <= since:
                await asyncio.sleep(PAUSE_S)
                earliest = min(await connected(boss, *worker_ids))


async def connected(boss: Client, *worker_ids: str) -> list[float]:
    """Since when each worker is."""
    workers = {one.worker_id: one.connected_at or 0.0 async for one in boss.node.list_workers()}
    return [workers.get(one, 0.0) for one in worker_ids]


async def refused(boss: Client, load: Load, path: Path, target: str, *bad: bytes) -> None:
    """A file that is bad, empty, or half of what it was, is refused, and changes nothing."""
    good = path.read_bytes()  # noqa: ASYNC240
    for content in (b"", good[: len(good) // 2], b"\x00\xff", *bad):
        path.write_bytes(content)  # noqa: ASYNC240
        with pytest.raises(FailedPrecondition) as caught:
            await boss.node.reload([target])
        assert caught.value.code == "CONFIG_INVALID"
    await load.goes_on()
    path.write_bytes(good)  # noqa: ASYNC240
    await boss.node.reload([target])


async def serial_at(place: Place, port: int) -> str:
    trust = place.trust()
    _, writer = await asyncio.open_connection(LOOPBACK, port, ssl=trust, server_hostname="localhost")
    try:
        return serial_of(writer)
    finally:
        writer.close()


def key_of(access_token: str) -> str:
    """Which key has signed it."""
    return str(jwt.get_unverified_header(access_token)["kid"])


def audit(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(one.getMessage()) for one in caplog.records if one.name == "holon.audit"]


def refusals(caplog: pytest.LogCaptureFixture) -> Counter[str]:
    """Of calls, by their codes."""
    return Counter(line["result"] for line in audit(caplog) if line["act"] == "call_refused")


def encryption_key() -> str:
    return b64encode(secrets.token_bytes(32)).decode()


@pytest.mark.slow
async def test_everything_that_proves_somebody_is_replaced_under_load_and_nothing_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "holon.audit")
    monkeypatch.setattr(
        "holon.node.doors.worker_door_settings",
        lambda config: replace(worker_door_settings(config), rotation=ROTATION_S),
    )
    monkeypatch.setattr(
        "holon.node.parts.uplink_settings",
        lambda config: replace(uplink_settings(config), timing=Timing(reconnect_refused=ROTATION_S)),
    )
    keys = tmp_path / "keys"
    keys.touch(0o600)
    keys.write_text(encryption_key())
    async with (
        a_place(tmp_path, SqliteStorage(tmp_path / "store.db"), (CHILD,), ENCRYPTION_KEY_FILE=str(keys)) as place,
        under_load(place) as (load, boss, by_token, child),
    ):
        old = place.authority
        new = root(tmp_path / "new authority")

        # The authority: both are trusted for a while.
        await refused(boss, load, place.authorities, "tls")
        revoke(tmp_path / "lists/new.pem", new)
        for path in (place.ca, place.authorities):
            path.write_bytes(old.files.certificate.read_bytes() + new.files.certificate.read_bytes())
        await boss.node.reload(["tls"])
        await load.goes_on()

        # The server's certificate, by the new one.
        await refused(boss, load, tmp_path / "server.pem", "tls", place.worker_files("w9").certificate.read_bytes())
        await refused(boss, load, tmp_path / "server.key", "tls")
        server = issue_server(new, tmp_path, days=2)
        await boss.node.reload(["tls"])
        serial = f"{certificate_of(server).serial_number:x}"
        assert await serial_at(place, place.ports.http) == serial
        assert await serial_at(place, place.ports.client or 0) == serial
        await load.goes_on()

        # The certificates of workers and of the holon below; then nothing hangs on the old authority any more.
        for worker_id in (*CERTIFIED, CHILD):
            issue_worker(new, tmp_path, worker_id, days=2)
        await moved(boss, *CERTIFIED, CHILD)
        (tmp_path / "lists/ours.pem").unlink()
        for path in (place.ca, place.authorities):
            path.write_bytes(new.files.certificate.read_bytes())
        place.authority = new
        await boss.node.reload(["tls"])
        await moved(boss, *CERTIFIED, CHILD)
        await load.goes_on()

        # Another holon in the place of the one below: a new store, say, after a theft of the old one.
        await child.aclose()
        with LogWatch("HOLON_CHANGED", "holon.audit") as watch:
            await child.enter_async_context(a_running(a_child(place)))
            async with asyncio.timeout(GUARD):
                await watch.seen.wait()
        await boss.node.accept_holon(CHILD)
        await moved(boss, CHILD)
        await load.goes_on()

        # The key that signs access tokens: what the old one has signed is good still, until it is revoked.
        channel = await place.certified("w3")
        before = await exchanged(channel, certificate=CERTIFICATE)
        waiting = await boss.node.rotate_signing_key()
        given = await exchanged(channel, certificate=CERTIFICATE)
        assert key_of(given.access_token) == key_of(before.access_token) != waiting.key_id
        await load.goes_on()
        newest = await boss.node.rotate_signing_key(revoke=True)
        given = await exchanged(channel, refresh_token=given.refresh_token)
        assert key_of(given.access_token) == newest.key_id
        await (await said_hello(channel, metadata=bearer(given.access_token))).expect("welcome")
        assert (await end_of(opened(channel, bearer(before.access_token))))[1] == "TOKEN_INVALID"
        await moved(boss, *CERTIFIED)
        await load.goes_on()

        # The secret of refresh tokens.
        await boss.node.rotate_refresh_secret()
        given = await exchanged(channel, refresh_token=given.refresh_token)
        await boss.node.rotate_refresh_secret(revoke=True)
        late_one = token_pb2.ExchangeTokenRequest(request_id="late", refresh_token=given.refresh_token)
        assert (await outcome(channel, f"{TOKENS}ExchangeToken", late_one))[1] == "TOKEN_INVALID"
        await load.goes_on()

        # The key that the store is encrypted with.
        first, second = keys.read_text().strip(), encryption_key()
        await refused(boss, load, keys, "keys", second.encode())
        for text in (f"{first}\n{second}", f"{second}\n{first}"):
            keys.write_text(text)
            await boss.node.reload(["keys"])
            await load.goes_on()
        marks = {mark.key: mark.expires_at for mark in await place.storage.documents(MARKS)}
        assert marks[key_id(b64decode(second))] is None

        # The token of a client.
        file, gone = tmp_path / "clients.toml", place.tokens["shop"]
        await refused(boss, load, file, "clients", b"[shop]\n", b'[shop]\ntoken = "short"\n')
        text, coming = file.read_text(), token("shop")
        file.write_text(text.replace(f'token = "{gone}"', f'tokens = ["{gone}", "{coming}"]'))
        await boss.node.reload(["clients"])
        place.tokens["shop"] = coming
        await load.goes_on()
        place.write_clients()
        await boss.node.reload(["clients"])
        async with place.client(gone) as late:
            with pytest.raises(Unauthenticated):
                await late.get_job("0-none")
        await load.goes_on()

        # The token of a worker.
        file, gone = tmp_path / "workers.toml", place.tokens[BY_TOKEN]
        await refused(boss, load, file, "workers", b'[reporter]\ntoken = "short"\n')
        place.tokens[BY_TOKEN] = token(BY_TOKEN)
        place.write_workers(f'[{BY_TOKEN}]\ntokens = ["{gone}", "{place.tokens[BY_TOKEN]}"]\n')
        await boss.node.reload(["workers"])
        await by_token.aclose()
        await by_token.enter_async_context(a_worker(place, BY_TOKEN, token=place.tokens[BY_TOKEN]))
        await moved(boss, BY_TOKEN)
        place.write_workers()
        await boss.node.reload(["workers"])
        assert (await end_of(opened(await place.uncertified(), bearer(gone))))[1] == "TOKEN_INVALID"
        await load.goes_on()

    acts = Counter(line["act"] for line in audit(caplog))
    assert (acts["client_tokens_revoked"], acts["tokens_rotated"]) == (1, 4)
    # Those of the test itself with what is gone; and nobody was shut out but who had what the revoked key signed.
    told = refusals(caplog)
    assert told.pop("HOLON_CHANGED") >= 1
    # w2 or another may have shown such a token once more.
    assert told.pop("TOKEN_INVALID") >= 4
    assert not told
    out = {(line["who"], line["result"]) for line in audit(caplog) if line["act"] == "worker_shut_out"}
    assert out <= {("w2", "TOKEN_INVALID"), ("w3", "TOKEN_INVALID")}
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    # The holon that was not accepted yet, and files.
    assert {record.name for record in errors} == {"holon.engine.reloading", "holon.worker"}
