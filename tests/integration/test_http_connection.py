"""The HTTP door: what comes over its sockets that is no request, or not in time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from holon.transports.http import connection
from holon.transports.http.connection import MAX_FRAMING, MAX_HEAD, MAX_HEADERS, MAX_PIPELINE
from holon.transports.http.door import HttpSettings
from tests.integration.http_node import AUTH, GUARD, LIMIT, TOKEN, Node, running
from tests.integration.http_wire import Answer, answers, exchange

GOOD = b"GET /_public/status HTTP/1.1\r\nHost: x\r\n\r\n"
POST = f"POST /api/v1/jobs/waiting HTTP/1.1\r\nHost: x\r\nX-Client-Token: {TOKEN}\r\n".encode()


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with running() as it:
        yield it


async def codes(node: Node, *sent: bytes) -> list[str | None]:
    """The codes of the answers to what was sent; None for one that is no refusal."""
    return [answer.code for answer in await exchange(node.door.port, *sent)]


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\xc3\xb6 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n folded: yes\r\n\r\n",
        b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: 1, 2\r\n\r\n",
        POST + b"Content-Length: 99999999999999999999\r\n\r\n",
        POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        POST + b"Content-Length: +2\r\n\r\n{}",
        POST + b"Content-Length: 0x2\r\n\r\n{}",
        POST + b"Transfer-Encoding: gzip\r\n\r\n{}",
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding : chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n2\n{}\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc: d\r\n\r\n",
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nnine\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused_in_the_shape_of_all_errors(node: Node, sent: bytes) -> None:
    (answer,) = await exchange(node.door.port, sent)
    assert (answer.status, answer.code) == (400, "MALFORMED_REQUEST")
    assert answer.headers["connection"] == "close"
    assert answer.headers["content-type"] == "application/json"
    assert (await node.client.get("/_public/status")).status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /_public/status HTTP/1.1\r\n\r\n",
        b"GET /_public/status HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
        b"GET /_public/status HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET /_public/status HTTP/2.0\r\nHost: x\r\n\r\n",
        POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ],
)
async def test_what_another_server_on_the_way_may_read_otherwise_is_refused(node: Node, sent: bytes) -> None:
    (answer,) = await exchange(node.door.port, sent)
    assert (answer.status, answer.code) == (400, "INVALID_ARGUMENT")
    assert (await node.client.get("/api/v1/jobs", headers=AUTH)).json()["jobs"] == []


async def test_nothing_is_read_behind_a_request_that_ends_the_connection(node: Node) -> None:
    last = GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    for first in (last, b"GET /_public/status HTTP/1.0\r\n\r\n"):
        assert await codes(node, first + POST + b"Content-Length: 2\r\n\r\n{}") == [None]
    too_large = POST + b"Content-Length: %d\r\n\r\n" % (LIMIT + 1)
    assert await codes(node, too_large + POST + b"Content-Length: 2\r\n\r\n{}") == ["PAYLOAD_TOO_LARGE"]
    assert (await node.client.get("/api/v1/jobs", headers=AUTH)).json()["jobs"] == []


async def test_what_comes_behind_a_body_is_no_header(node: Node) -> None:
    bare = POST.partition(b"X-Client-Token")[0]
    token = f"X-Client-Token: {TOKEN}\r\n".encode()
    chunked = b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n%s\r\n"
    assert await codes(node, bare + chunked % token) == ["TOKEN_INVALID"]
    assert await codes(node, POST + chunked % token) == [None]


@pytest.mark.parametrize("around", [b"2\r\n{}\r\n0\r\na: ", b"2;a=", b"2\r\n{}\r\n0\r\n"])
async def test_what_is_around_a_body_is_bounded(node: Node, around: bytes) -> None:
    """Trailers and what goes with chunks, however it comes."""
    more = b"b: c\r\n" * 3_000 if around.endswith(b"\n") else b"b" * 16_000
    # What one read brings with the head is not counted.
    pieces = [more] * ((MAX_FRAMING + 2**20) // len(more))
    head = POST + b"Transfer-Encoding: chunked\r\n\r\n" + around
    assert await codes(node, head, *pieces) == ["MALFORMED_REQUEST"]
    text = json.dumps({"initial_data": {"a": "b" * 30_000}}).encode()
    small = b"".join(b"1\r\n%c\r\n" % byte for byte in text)
    whole = POST + b"Transfer-Encoding: chunked\r\n\r\n", small[:1000], small[1000:], b"0\r\n\r\n"
    assert await codes(node, *whole) == [None]


async def test_a_request_has_so_many_headers_and_no_more(node: Node) -> None:
    for more, expected in ((MAX_HEADERS - 1, None), (MAX_HEADERS, "HEAD_TOO_LARGE")):
        assert await codes(node, GOOD[:-2] + b"a: b\r\n" * more + b"\r\n") == [expected]
    assert await codes(node, GOOD + GOOD[:-2] + b"a: b\r\n" * MAX_HEADERS + b"\r\n") == [None]


async def test_so_many_requests_behind_each_other_are_answered_and_no_more(node: Node) -> None:
    # The first does not wait.
    assert await codes(node, GOOD * (MAX_PIPELINE + 1)) == [None] * (MAX_PIPELINE + 1)
    assert await codes(node, GOOD * (MAX_PIPELINE + 50)) == [None] * (MAX_PIPELINE + 1)


async def test_whole_requests_are_answered_before_the_garbage_behind_them_ends_the_connection(node: Node) -> None:
    assert await codes(node, GOOD + GOOD + b"garbage\r\n\r\n") == [None, None]
    assert await codes(node, GOOD + POST + b"Transfer-Encoding: chunked\r\n\r\nx\r\n") == [None, "MALFORMED_REQUEST"]


async def test_a_body_that_breaks_off_makes_no_job(node: Node) -> None:
    assert await codes(node, POST + b"Transfer-Encoding: chunked\r\n\r\n", b"2\r\n{}\r\nx") == ["MALFORMED_REQUEST"]
    assert await codes(node, POST + b"Content-Length: 9\r\n\r\n", b"{}") == []
    assert (await node.client.get("/api/v1/jobs", headers=AUTH)).json()["jobs"] == []


async def test_who_half_closes_gets_the_answer(node: Node) -> None:
    """And so does who asks for several things first."""
    replies = await exchange(node.door.port, POST + b"Content-Length: 2\r\n\r\n{}" + GOOD)
    assert [reply.status for reply in replies] == [202, 200]


@pytest.mark.parametrize("head", [b"GET /" + b"a" * MAX_HEAD, b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * MAX_HEAD])
async def test_a_head_that_is_too_large_is_refused_whether_it_ends_or_not(node: Node, head: bytes) -> None:
    for rest in (b"", b" HTTP/1.1\r\nHost: x\r\n\r\n"):
        for pieces in ([head + rest], [head, rest]):
            (answer,) = await exchange(node.door.port, *pieces)
            assert (answer.status, answer.code) == (431, "HEAD_TOO_LARGE")
            assert str(MAX_HEAD) in answer.body["error"]


async def test_a_long_body_behind_a_short_head_is_no_large_head(node: Node) -> None:
    text = json.dumps({"initial_data": {"a": "b" * (MAX_HEAD + 1)}}).encode()
    (answer,) = await exchange(node.door.port, POST + b"Content-Length: %d\r\n\r\n" % len(text) + text)
    assert answer.status == 202


async def test_what_breaks_off_behind_a_whole_request_does_not_cost_its_answer(node: Node) -> None:
    for rest in (POST + b"Content-Length: 9\r\n\r\n{", POST, b"GET /" + b"a" * MAX_HEAD):
        assert (await codes(node, GOOD + rest))[:1] == [None]


@pytest.mark.parametrize("method", [b"get", b"BREW", b"GETS", b"\x16\x03\x01"])
async def test_what_begins_with_no_method_is_told_so(node: Node, method: bytes) -> None:
    (answer,) = await exchange(node.door.port, method + b" /_public/status HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (answer.status, answer.code) == (400, "MALFORMED_REQUEST")
    assert answer.body["error"].startswith("the request does not begin with a method of HTTP/1.1, such as GET")


async def test_a_slash_that_is_encoded_parts_no_path(node: Node) -> None:
    for path, code in ((b"/_public%2fstatus", "ROUTE_NOT_FOUND"), (b"/%2F_public/status", "ROUTE_NOT_FOUND"),
                       (b"/_public/%73tatus?a=%2f", None)):  # fmt: skip
        assert await codes(node, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n") == [code]
    jobs = b"GET /api/v1%2fjobs HTTP/1.1\r\nHost: x\r\nX-Client-Token: " + TOKEN.encode() + b"\r\n\r\n"
    assert await codes(node, jobs) == ["ROUTE_NOT_FOUND"]


async def test_another_protocol_is_not_spoken_and_its_request_answered_as_it_is(node: Node) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: %s\r\n"
    for protocol in (b"websocket", b"h2c"):
        asked = b"GET /_public/status HTTP/1.1\r\nHost: x\r\n" + upgrade % protocol + b"\r\n"
        (answer,) = await exchange(node.door.port, asked + b"\x00\x01")
        assert (answer.status, answer.headers["connection"]) == (200, "close")
    (refused,) = await exchange(node.door.port, POST + upgrade % b"h2c" + b"Content-Length: 2\r\n\r\n{}")
    assert (refused.status, refused.code) == (400, "MALFORMED_REQUEST")
    assert "without Upgrade" in refused.body["error"]


async def slow(*sent: bytes) -> list[Answer]:
    """The answers of a door of little patience to who sends this and then waits."""
    async with running(HttpSettings(port=0, max_body=LIMIT, silence=0.3)) as node:
        reader, writer = await asyncio.open_connection("127.0.0.1", node.door.port)
        try:
            for part in sent:
                writer.write(part)
                await writer.drain()
            return answers(await asyncio.wait_for(reader.read(), GUARD))
        finally:
            writer.close()


@pytest.mark.parametrize("sent", [b"GET /_public/sta", GOOD[:-2], POST + b"Content-Length: 9\r\n\r\n{"])
async def test_a_request_that_does_not_come_in_is_given_up(sent: bytes) -> None:
    (answer,) = await slow(sent)
    assert (answer.status, answer.code) == (408, "REQUEST_TIMEOUT")


@pytest.mark.parametrize(("version", "first"), [(b"HTTP/1.1", 100), (b"HTTP/1.0", 408)])
async def test_nobody_who_speaks_http_1_0_is_told_to_go_on_before_the_answer(version: bytes, first: int) -> None:
    head = POST.replace(b"HTTP/1.1", version) + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    async with running(HttpSettings(port=0, max_body=LIMIT, silence=0.3)) as node:
        reader, writer = await asyncio.open_connection("127.0.0.1", node.door.port)
        writer.write(head)
        assert (await asyncio.wait_for(reader.readline(), GUARD)).startswith(b"HTTP/1.1 %d " % first)
        writer.close()


async def test_a_second_request_that_does_not_come_in_is_given_up_after_the_answer_to_the_first() -> None:
    assert [answer.status for answer in await slow(GOOD + GOOD[:-2])] == [200, 408]


@pytest.mark.parametrize("sent", [b"", b"\r\n"])
async def test_a_connection_on_which_nothing_comes_is_closed_without_a_word(sent: bytes) -> None:
    assert await slow(sent) == []


async def test_blank_lines_after_an_answer_keep_no_connection_open() -> None:
    async with running(HttpSettings(port=0, silence=0.3)) as node:
        reader, writer = await asyncio.open_connection("127.0.0.1", node.door.port)
        writer.write(GOOD)
        assert b'"ok"' in await asyncio.wait_for(reader.readuntil(b"}"), GUARD)
        writer.write(b"\r\n")
        assert await asyncio.wait_for(reader.read(), GUARD) == b""
        writer.close()


async def test_a_body_may_take_its_time_while_it_comes() -> None:
    async with running(HttpSettings(port=0, max_body=LIMIT, silence=0.2)) as node:
        reader, writer = await asyncio.open_connection("127.0.0.1", node.door.port)
        writer.write(POST + b"Content-Length: 9\r\n\r\n")
        for byte in json.dumps({"a": {}}).encode():
            writer.write(bytes([byte]))
            await asyncio.sleep(0.04)
        assert b" 400 " in await asyncio.wait_for(reader.readline(), GUARD)
        writer.close()


async def test_a_body_may_not_take_its_time_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BODY_SILENCES", 0.02)
    async with running(HttpSettings(port=0, max_body=LIMIT, silence=GUARD)) as node:
        reader, writer = await asyncio.open_connection("127.0.0.1", node.door.port)
        writer.write(POST + b"Content-Length: 90000\r\n\r\n")
        answering = asyncio.ensure_future(reader.readline())
        async with asyncio.timeout(GUARD):
            while not answering.done():
                writer.write(b"x")
                await asyncio.sleep(0.01)
        assert b" 408 " in answering.result()
        writer.close()


async def test_a_large_body_has_more_time_the_more_of_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BODY_SILENCES", 0)
    monkeypatch.setattr(connection, "BODY_BYTES_PER_S", 1000 / GUARD)
    async with running(HttpSettings(port=0, max_body=LIMIT, silence=GUARD)) as node:
        reader, writer = await asyncio.open_connection("127.0.0.1", node.door.port)
        writer.write(POST + b"Content-Length: 3000\r\n\r\n")
        for _ in range(3):
            writer.write(b" " * 1000)
            await writer.drain()
            await asyncio.sleep(0.01)
        assert b" 400 " in await asyncio.wait_for(reader.readline(), GUARD)
        writer.close()
