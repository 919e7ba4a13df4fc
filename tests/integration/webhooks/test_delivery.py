"""What a receiver gets, and how its answers are understood."""

from __future__ import annotations

import asyncio
import hmac
from base64 import b64encode
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from holon.ports import Answer, Heard
from tests.integration.webhooks.sending import OLD_SECRET, SECRET, sending
from tests.receiver import OK, Told, receiving, status

BODY = b'{"event":"job_finished"}'


async def test_what_is_sent_is_signed_as_standard_webhooks_has_it_by_each_secret() -> None:
    async with receiving() as it, sending(secrets=(SECRET, OLD_SECRET), clock=lambda: 1_700_000_000_999) as delivery:
        assert await delivery.send(it.url, "end_0-a", BODY) == Answer(Heard.TOLD)
        (told,) = it.told
    assert told.line == "POST /ended?key=secret-of-the-path HTTP/1.1"
    assert told.body == BODY
    assert told.headers["host"] == f"127.0.0.1:{it.port}"
    assert (told.headers["content-type"], told.headers["user-agent"]) == ("application/json", "holon/9.9")
    assert (told.headers["webhook-id"], told.headers["webhook-timestamp"]) == ("end_0-a", "1700000000")
    text = b"end_0-a.1700000000." + BODY
    wanted = [b64encode(hmac.digest(secret, text, "sha256")).decode() for secret in (SECRET, OLD_SECRET)]
    assert told.headers["webhook-signature"] == " ".join(f"v1,{one}" for one in wanted)


async def test_what_stands_behind_a_semicolon_arrives() -> None:
    async with receiving() as it, sending() as delivery:
        await delivery.send(f"http://localhost:{it.port}/a;b=1/c;d?e=f;g#".rstrip("#"), "end_0-a", BODY)
        assert it.told[0].line == "POST /a;b=1/c;d?e=f;g HTTP/1.1"
        await delivery.send(f"http://localhost:{it.port}?e=f", "end_0-a", BODY)
        assert it.told[1].line == "POST /?e=f HTTP/1.1"


@pytest.mark.parametrize("number", [200, 201, 202, 204, 299])
async def test_any_2xx_is_a_success(number: int) -> None:
    async with receiving() as it, sending() as delivery:
        it.answers.append(status(number))
        assert (await delivery.send(it.url, "end_0-a", BODY)).heard is Heard.TOLD


@pytest.mark.parametrize(
    ("number", "heard"),
    [(301, Heard.REFUSED), (304, Heard.REFUSED), (400, Heard.REFUSED), (410, Heard.GONE), (500, Heard.REFUSED)],
)
async def test_any_other_status_is_none(number: int, heard: Heard) -> None:
    async with receiving() as it, sending() as delivery:
        it.answers.append(status(number))
        assert await delivery.send(it.url, "end_0-a", BODY) == Answer(
            heard, f"the receiver answered with status {number}"
        )


async def test_a_redirect_is_not_followed() -> None:
    async with receiving() as other, receiving() as it, sending() as delivery:
        it.answers.append(status(307, f"Location: {other.url}"))
        assert (await delivery.send(it.url, "end_0-a", BODY)).heard is Heard.REFUSED
        assert not other.told


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("5", 5_000),
        ("0", 0),
        ("9" * 30, 999_999_999_000),
        (format_datetime(datetime.fromtimestamp(1_700_000_060, UTC), usegmt=True), 60_000),
        (format_datetime(datetime.fromtimestamp(1_600_000_000, UTC), usegmt=True), 0),
        ("soon", None),
        ("Mon, 01 Jan 2026 00:00:00 +99999999999999999999", None),
        ("-5", None),
        ("5.5", None),
        ("", None),
    ],
)
async def test_retry_after_is_understood_as_seconds_or_a_time(said: str, wanted: int | None) -> None:
    async with receiving() as it, sending(clock=lambda: 1_700_000_000_000) as delivery:
        it.answers.append(status(503, f"Retry-After: {said}"))
        assert (await delivery.send(it.url, "end_0-a", BODY)).again_after == wanted


async def test_who_does_not_answer_in_time_is_late_and_its_connection_is_not_used_again() -> None:
    async def silent(told: Told) -> bytes | None:
        return None if len(it.told) == 1 else OK

    async with receiving(answering=silent) as it, sending(timeout=0.2) as delivery:
        late = await delivery.send(it.url, "end_0-a", BODY)
        assert late == Answer(Heard.LATE, "the receiver did not answer within 0.2 s")
    async with sending() as delivery:
        assert (await delivery.send("http://127.0.0.1:1/", "end_0-a", BODY)).heard is Heard.UNREACHED


async def test_an_answer_that_never_ends_was_an_answer() -> None:
    async def endless(told: Told) -> bytes:
        return b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n" + b"x" * 1_000_000

    async with receiving(answering=endless) as it, sending() as delivery:
        for _ in range(2):
            async with asyncio.timeout(10):
                assert (await delivery.send(it.url, "end_0-a", BODY)).heard is Heard.TOLD
        assert it.connections == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 1_000_000 + b"\r\n\r\n",
        b"HTTP/1.1 999999 x\r\n\r\n",
    ],
    ids=["nonsense", "a large head", "a status that is none"],
)
async def test_what_is_no_answer_is_none(answer: bytes) -> None:
    async with receiving() as it, sending() as delivery:
        it.answers.append(answer)
        assert (await delivery.send(it.url, "end_0-a", BODY)).heard is Heard.UNREACHED
        assert (await delivery.send(it.url, "end_0-a", BODY)).heard is Heard.TOLD


async def test_a_connection_is_used_again_and_one_that_was_closed_meanwhile_is_not() -> None:
    async with sending() as delivery:
        async with receiving() as it:
            for _ in range(3):
                await delivery.send(it.url, "end_0-a", BODY)
            assert it.connections == 1
        async with receiving(port=it.port) as it:
            assert (await delivery.send(it.url, "end_0-a", BODY)).heard is Heard.TOLD
            assert it.connections == 1


async def test_what_is_given_up_in_the_middle_leaves_nothing_behind() -> None:
    async def silent(told: Told) -> bytes | None:
        return None

    async with receiving(answering=silent) as it, sending() as delivery:
        sent = [asyncio.create_task(delivery.send(it.url, "end_0-a", BODY)) for _ in range(5)]
        await it.has(5)
        for one in sent:
            one.cancel()
        assert {type(one) for one in await asyncio.gather(*sent, return_exceptions=True)} == {asyncio.CancelledError}
        assert not delivery._pool.connections
