"""The drill: everything that proves somebody is replaced while jobs go on, and no job, worker or client notices."""

from __future__ import annotations

import asyncio
import logging
from base64 import b64decode
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from holon.errors import Unauthenticated
from holon.node.settings import uplink_settings, worker_door_settings
from holon.rxon.v1 import token_pb2
from holon.security.certificates import issue_server, issue_worker
from holon.storage.sqlite import SqliteStorage
from holon.stores.sealing import key_id
from holon.stores.sealing.marks import KIND as MARKS
from holon.worker.timing import Timing
from tests.attack.place import (
    GUARD,
    TOKENS,
    a_place,
    a_running,
    bearer,
    exchanged,
    opened,
    outcome,
    said_hello,
    token,
)
from tests.attack.rotation import (
    BY_TOKEN,
    CERTIFIED,
    CHILD,
    ROTATION_S,
    a_child,
    a_worker,
    audit,
    encryption_key,
    key_of,
    moved,
    refusals,
    refused,
    serial_at,
    under_load,
)
from tests.integration.grpc_node import end_of
from tests.integration.worker_certificates import certificate_of, revoke, root
from tests.log_watch import LogWatch

CERTIFICATE = token_pb2.CertificateCredential()


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
