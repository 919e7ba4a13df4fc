"""What attackers write into a log, and what a node tells them or its log of what is secret."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from holon.rxon.v1 import token_pb2, types_pb2, worker_pb2
from holon.telemetry.log import JsonLines, TextLines
from tests.attack.place import CODE, JOBS, TOKENS, Place, bearer, exchanged, opened, outcome, said_hello
from tests.audit_lines import audit
from tests.integration.grpc_node import end_of, offering, result, updates
from tests.integration.worker_certificates import revoke

pytestmark = pytest.mark.asyncio(loop_scope="module")

FORGED = "x\r\n2026-01-01T00:00:00.000+00:00 ERROR   holon: forged\x1b[2J\u2028\x00"
UTC = ZoneInfo("UTC")


@pytest.fixture
def logs() -> Iterator[tuple[io.StringIO, io.StringIO]]:
    """All that a node at LOG_LEVEL=DEBUG would write, as text and as JSON."""
    text, lines = io.StringIO(), io.StringIO()
    handlers = [logging.StreamHandler(text), logging.StreamHandler(lines)]
    handlers[0].setFormatter(TextLines(UTC))
    handlers[1].setFormatter(JsonLines(UTC))
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.DEBUG)
    for handler in handlers:
        root.addHandler(handler)
    try:
        yield text, lines
    finally:
        root.setLevel(before)
        for handler in handlers:
            root.removeHandler(handler)


async def test_no_stranger_writes_a_line_of_the_log(place: Place, logs: tuple[io.StringIO, io.StringIO]) -> None:
    quoted = "%0d%0a2026-01-01%20ERROR%20forged%1b[2J"
    async with place.http("shop") as http, place.client("shop") as shop:
        await http.get(f"/api/v1/jobs/{quoted}")
        await http.get(f"/{quoted}")
        await http.get("/api/v1/jobs", headers={"x-client-token": "a" * 40})
        await http.post("/api/v1/jobs/relay", json={FORGED: 1}, headers={"traceparent": "00-x-y-z"})
        made = await shop.create_job("relay", {"skill": "log", "note": FORGED})
        sdk = worker_pb2.SdkInfo(name=FORGED, version=FORGED, runtime=FORGED)
        worker = await place.worker(
            "log", offering("log", description=FORGED), instance_id=FORGED, labels={"label": FORGED}, sdk=sdk
        )
        offer = await worker.offer()
        error = types_pb2.TaskError(code=FORGED, message=FORGED)
        await worker.send(updates(result(offer, status="failure", error=error)))
        await worker.verdict()
        await worker.send(worker_pb2.SessionRequest(drain=worker_pb2.Drain(reason=FORGED)))
        await worker.close()
        await shop.cancel_job(made.job_id)
    await end_of(
        await said_hello(await place.uncertified(), worker_id=FORGED, metadata=bearer(place.tokens["reporter"]))
    )
    channel = await place.channel(place.client_port)
    await outcome(channel, f"{JOBS}{quoted}", metadata=(("x-client-token", "wrong"), ("traceparent", "00-x")))
    text, lines = (one.getvalue().split("\n")[:-1] for one in logs)
    assert len(text) > 10
    for line in text:
        assert line.isprintable(), line
        # A record, or a line of an exception, which stands apart.
        assert line[:4].isdigit() or line.startswith("    "), line
        assert not line.startswith("2026-01-01"), line
    for line in lines:
        assert json.loads(line)["name"]
        assert line.isprintable()


async def test_no_token_of_the_token_service_is_in_the_log_the_store_or_the_audit(
    place: Place, logs: tuple[io.StringIO, io.StringIO]
) -> None:
    channel = await place.certified("w1")
    first = await exchanged(channel, certificate=token_pb2.CertificateCredential())
    second = await exchanged(channel, refresh_token=first.refresh_token)
    wire = await said_hello(channel, metadata=bearer(second.access_token))
    await wire.expect("welcome")
    await wire.send(
        worker_pb2.SessionRequest(reauthenticate=worker_pb2.Reauthenticate(access_token=second.access_token[:-4]))
    )
    refused = await wire.refused()
    thief = await place.certified("w2")
    request = token_pb2.ExchangeTokenRequest(request_id="r", refresh_token=second.refresh_token)
    assert (await outcome(thief, f"{TOKENS}ExchangeToken", request))[0] is CODE.PERMISSION_DENIED
    await outcome(channel, f"{TOKENS}RevokeToken", token_pb2.RevokeTokenRequest(refresh_token=second.refresh_token))
    assert await end_of(wire) == (CODE.PERMISSION_DENIED, "REVOKED")
    mac = [given.refresh_token.split(".")[2] for given in (first, second)]
    signatures = [given.access_token.split(".")[2] for given in (first, second)]
    told = [one.getvalue() for one in logs]
    for kind in ("token_families", "ended_tokens"):
        told += [repr(document.value) for document in await place.storage.documents(kind)]
    told.append(str(refused))
    for secret in (*mac, *signatures, *place.tokens.values()):
        assert not [text for text in told if secret in text]


async def test_who_is_not_let_in_at_the_worker_door_is_in_the_audit_log(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "holon.audit")
    session = "/holon.rxon.v1.WorkerService/Session"
    channel = await place.certified("w7")
    await end_of(await said_hello(channel, worker_id="w8"))
    await end_of(opened(await place.uncertified(), bearer("no-such-token")))
    first = await exchanged(channel, certificate=token_pb2.CertificateCredential())
    await exchanged(channel, refresh_token=first.refresh_token)
    again = token_pb2.ExchangeTokenRequest(request_id="again", refresh_token=first.refresh_token)
    await outcome(channel, f"{TOKENS}ExchangeToken", again)
    files = place.worker_files("w9")
    wire = await place.worker(files)
    revoke(place.folder / "lists/ours.pem", place.authority, files)
    assert await end_of(wire) == (CODE.PERMISSION_DENIED, "REVOKED")
    told = [(one.get("who"), one["via"], one["on"], one["result"]) for one in audit(caplog, "call_refused")]
    assert told == [
        ("w7", "worker", session, "WORKER_ID_MISMATCH"),
        (None, "worker", session, "TOKEN_INVALID"),
        ("w7", "worker", f"{TOKENS}ExchangeToken", "TOKEN_REUSED"),
    ]
    (out,) = audit(caplog, "worker_shut_out")
    assert out.pop("peer").startswith("ipv4:127.0.0.1:")
    assert out == {"act": "worker_shut_out", "who": "w9", "via": "worker", "on": "w9", "result": "REVOKED"}


async def test_a_refusal_tells_a_stranger_nothing_of_who_there_is(place: Place) -> None:
    """A wrong token is answered alike whatever it resembles, and names nobody."""
    channel = await place.channel(place.client_port)
    real = place.tokens["shop"]
    told = set()
    for text in (real[:-1], real + "x", real.swapcase(), "shop", "x" * 40, place.tokens["reporter"]):
        async with place.http() as http:
            reply = await http.get("/api/v1/jobs", headers={"x-client-token": text})
        call: Any = channel.unary_unary(f"{JOBS}ListJobs")(b"", metadata=(("x-client-token", text),))
        told.add((reply.status_code, reply.text, await call.code(), await call.details()))
    assert len(told) == 1
    assert "shop" not in repr(told)
