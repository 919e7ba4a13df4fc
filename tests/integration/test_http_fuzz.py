"""The HTTP door under random input: nothing is a fault of ours, every refusal has one shape, and others go on."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holon.domain import paths
from holon.security.clients import Clients, sole
from holon.transports.http.app import App
from holon.transports.http.hurry import Hurry
from holon.transports.http.inputs import OF_LIST, OF_WORKERS
from holon.transports.http.shapes import ALL_FIELDS, JOB_STATUSES
from tests.integration.http_node import AUTH, LIMIT, TOKEN, Node, running
from tests.integration.http_wire import Answer, exchange

T = TypeVar("T")
Header = tuple[bytes, bytes]

EXAMPLES = 2000
CREATE = "/api/v1/jobs/waiting"
HOST = (b"host", b"x")
TOKEN_OF_CLIENTS = (b"x-client-token", TOKEN.encode())
FUZZ = settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))


class Door:
    """A running node, its application, and a good client that asks for something now and then."""

    def __init__(self, runner: asyncio.Runner, node: Node) -> None:
        self._runner = runner
        self.node = node
        self.app = App(
            node.engine.jobs,
            node.engine.watching,
            node.engine.trees,
            node.engine.blueprints,
            node.overview,
            Clients(sole(TOKEN)),
            LIMIT,
        )
        self._turns = itertools.count(1)

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(what)

    async def ask(
        self,
        method: str,
        path: str,
        query: bytes = b"",
        headers: tuple[Header, ...] = (),
        body: tuple[bytes, ...] = (b"",),
    ) -> Answer:
        """One request, past the socket; its answer is no fault of ours, and has the shape of all."""
        pieces = [
            {"type": "http.request", "body": piece, "more_body": at < len(body)} for at, piece in enumerate(body, 1)
        ]
        sent: list[Any] = []

        async def receive() -> Any:
            return pieces.pop(0) if pieces else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        if any(body):
            headers = (*headers, (b"content-length", b"%d" % sum(map(len, body))))
        scope = {"method": method, "path": path, "query_string": query, "headers": headers, "http_version": "1.1"}
        hurry = Hurry()
        hurry.begin()
        await self.app({**scope, "state": {"hurry": hurry}}, receive, send)
        start, *rest = sent
        answer = Answer(
            start["status"],
            {name.decode(): value.decode() for name, value in start["headers"]},
            json.loads(b"".join(message["body"] for message in rest)),
        )
        assert answer.status < 500, answer
        assert answer.code is None or answer.code.isupper()
        return answer

    async def good(self) -> None:
        """Every so often somebody else creates a job, and looks at it."""
        if next(self._turns) % 100 == 0:
            job_id = await self.node.created(CREATE, {"n": 1})
            assert (await self.node.client.get(f"/api/v1/jobs/{job_id}", headers=AUTH)).status_code == 200


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    with asyncio.Runner() as runner:
        entered: AbstractAsyncContextManager[Node] = running()
        node = runner.run(_entering(entered))
        try:
            yield Door(runner, node)
        finally:
            runner.run(_leaving(entered))


async def _entering(what: AbstractAsyncContextManager[Node]) -> Node:
    return await what.__aenter__()


async def _leaving(what: AbstractAsyncContextManager[Node]) -> None:
    await what.__aexit__(None, None, None)


@pytest.fixture(autouse=True)
def _silent(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


# Bodies --------------------------------------------------------------------------------------------------------------

TEXT = st.text(max_size=8)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
BODY_FIELDS = (
    {"initial_data": st.dictionaries(TEXT, ANYTHING, max_size=4) | ANYTHING}
    | dict.fromkeys(("dispatch_timeout", "result_timeout"), st.floats(0.001, 1e6) | ANYTHING)
    | {"allowed_skills": st.lists(TEXT, max_size=3) | ANYTHING, "budget": st.integers(0, 100) | ANYTHING}
)
WELL_FORMED = st.builds(
    lambda value, ascii_only: json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass"),
    st.fixed_dictionaries({}, optional=BODY_FIELDS) | ANYTHING,
    st.booleans(),
)
PIECES = [
    b"{", b"}", b"[", b"]", b":", b",", b'"', b"\\", b" ", b"\n", b"\x00", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf",
    b'"initial_data"', b'"initial_dat\\u0061"', b'"dispatch_timeout"', b'{"initial_data":{', b"}}", b"null", b"true",
    b"NaN", b"-Infinity", b"1e999", b"-0", b"01", b"1.", b"9" * 19, b"9" * 20, b"18446744073709551615", b"9" * 5000,
    b'"\\ud800"', b'"\\u0000"', b'{"a":' * 70, b"[" * 70, b"]" * 70, b"//", b"'", b"x",
]  # fmt: skip
PIECED = st.lists(st.sampled_from(PIECES) | st.binary(max_size=4), max_size=14).map(b"".join)


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """A good body with a piece of something else in it, or without a piece."""
    body = draw(WELL_FORMED)
    start, end = sorted((draw(st.integers(0, len(body))), draw(st.integers(0, len(body)))))
    return body[:start] + draw(st.sampled_from(PIECES) | st.binary(max_size=3)) + body[end:]


@pytest.mark.slow
@given(body=WELL_FORMED | spoiled() | PIECED, cuts=st.lists(st.integers(0, 200), max_size=3))
@FUZZ
def test_a_body_is_taken_as_it_is_or_refused(door: Door, body: bytes, cuts: list[int]) -> None:
    edges = sorted({0, *(min(cut, len(body)) for cut in cuts), len(body)})
    pieces = tuple(body[start:end] for start, end in itertools.pairwise(edges)) or (body,)

    async def check() -> None:
        answer = await door.ask("POST", CREATE, headers=(HOST, TOKEN_OF_CLIENTS), body=pieces)
        if answer.status == 202:
            record = await door.node.engine.store.job(answer.body["job_id"])
            assert record is not None
            told = json.loads(body)
            assert told.keys() <= BODY_FIELDS.keys()
            assert json.dumps(record.job.initial_data, sort_keys=True) == json.dumps(
                told.get("initial_data") or {}, sort_keys=True
            )
        else:
            assert answer.status in (400, 413), answer
        await door.good()

    door.run(check())


# Queries, paths and methods ------------------------------------------------------------------------------------------

NAMES = st.sampled_from([*(parameter.name for parameter in (*OF_LIST, *OF_WORKERS)), "limit", "offset", "x"]) | TEXT
VALUES = (
    st.sampled_from([*JOB_STATUSES, *ALL_FIELDS, "", ",", "0", "1", "1000", "1001", "007", "-1", "1e3", "٣", "9" * 19])
    | st.integers(-2, 2**64).map(str)
    | TEXT
    | st.lists(st.sampled_from([*JOB_STATUSES, *ALL_FIELDS]), max_size=3).map(",".join)
)
PAIR = st.builds(lambda name, value, safe: f"{quote(name, safe)}={quote(value, safe)}".encode(), NAMES, VALUES, TEXT)
FINE = st.sampled_from(
    [
        b"limit=2", b"page_token=7", b"fields=id,status", b"fields=id", b"status=failed", b"blueprint=x",
        b"connected=true", b"skill=x",
    ]
)  # fmt: skip
QUERIES = st.lists(PAIR | FINE, max_size=4).map(b"&".join) | st.lists(FINE, max_size=2).map(b"&".join)
JOBS = "/api/v1/jobs"
PATHS = st.sampled_from(
    [
        JOBS, JOBS, f"{JOBS}/x", f"{JOBS}/x/history", f"{JOBS}/x/cancel", f"{JOBS}/x/signals", CREATE,
        "/_public/status", paths.BLUEPRINTS, f"{paths.BLUEPRINTS}/x/graph", paths.WORKERS, paths.CATALOG,
        paths.DASHBOARD,
    ]
)  # fmt: skip


@given(path=PATHS, query=QUERIES | st.binary(max_size=30))
@FUZZ
def test_a_query_is_understood_or_refused(door: Door, path: str, query: bytes) -> None:
    async def check() -> None:
        answer = await door.ask("GET", path, query, (HOST, TOKEN_OF_CLIENTS))
        assert answer.status in (200, 400, 404, 405), answer
        if answer.status == 200 and path == JOBS:
            assert answer.body.keys() == {"jobs", "next_page_token"}
            assert all(job.keys() <= set(ALL_FIELDS) for job in answer.body["jobs"])
        await door.good()

    door.run(check())


METHODS = st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "TRACE"]) | st.text(
    st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=8
)
STEPS = (
    st.sampled_from(
        [
            "api",
            "v1",
            "jobs",
            "waiting",
            "cancel",
            "signals",
            "history",
            "blueprints",
            "workers",
            "_public",
            "docs",
            "..",
            ".",
            "",
        ]
    )
    | TEXT
)


@given(method=METHODS, path=PATHS | st.lists(STEPS, max_size=6).map(lambda steps: "/" + "/".join(steps)) | TEXT)
@FUZZ
def test_a_method_of_a_path_is_served_or_refused(door: Door, method: str, path: str) -> None:
    async def check() -> None:
        answer = await door.ask(method, path, headers=(HOST, TOKEN_OF_CLIENTS))
        assert answer.status in (200, 400, 404, 405), answer
        assert (answer.status == 405) == ("allow" in answer.headers)
        await door.good()

    door.run(check())


# Headers -------------------------------------------------------------------------------------------------------------

HEADER_NAMES = [
    b"host", b"x-client-token", b"authorization", b"idempotency-key", b"traceparent", b"tracestate", b"content-type",
    b"content-encoding", b"expect", b"cookie", b"accept", b"x-forwarded-for", b"forwarded", b"te",
]  # fmt: skip
HEADER_VALUES = (
    st.binary(max_size=20).map(lambda value: bytes(byte for byte in value if byte not in b"\r\n\0"))
    | st.sampled_from([TOKEN.encode(), TOKEN.encode().upper(), b"a" * 128, b"a" * 129, b"00-" + b"1" * 32 + b"-1-01"])
    | st.sampled_from(
        [b"00-%b-%b-01" % (b"a" * 32, b"b" * 16), b"a=1,b=2", b"100-continue", b"gzip", b"application/xml"]
    )
)
HEADERS = st.lists(st.tuples(st.sampled_from(HEADER_NAMES) | st.just(b"x"), HEADER_VALUES), max_size=6).map(tuple)


@given(headers=HEADERS, good=st.sampled_from([(HOST, TOKEN_OF_CLIENTS)] * 4 + [(HOST,), (TOKEN_OF_CLIENTS,), ()]))
@FUZZ
def test_headers_let_in_only_who_presents_the_token_once(
    door: Door, headers: tuple[Header, ...], good: tuple[Header, ...]
) -> None:
    async def check() -> None:
        sent = (*good, *headers)
        answer = await door.ask("POST", CREATE, headers=sent, body=(b"{}",))
        tokens = [value for name, value in sent if name == b"x-client-token"]
        others = [name for name, _ in sent if name == b"authorization"]
        if [name for name, _ in sent].count(b"host") != 1:
            assert answer.code == "INVALID_ARGUMENT"
        elif tokens != [TOKEN.encode()] or others:
            assert answer.code == "TOKEN_INVALID"
        else:
            assert answer.status in (202, 400), answer
        await door.good()

    door.run(check())


# Bytes ---------------------------------------------------------------------------------------------------------------

# Stands for many bytes, so that failures can be read.
LONG = b"<long>"
LINES = [
    b"Host: x", b"Host:", b"Connection: close", b"Connection: keep-alive", b"Connection: Upgrade\r\nUpgrade: h2c",
    b"Content-Length: 2", b"Content-Length: 0", b"Content-Length: 2, 2", b"Content-Length: 99999999999999999999",
    b"Content-Length: +2", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding : chunked", b"Expect: 100-continue", b"X-Client-Token: " + TOKEN.encode(), b" folded", b": x",
    b"A: b", b"A:", b"A: " + LONG, b"A: \x01\xff", b"A\x00: b", b"Idempotency-Key: \xc3\xb6",
]  # fmt: skip
TARGETS = [
    b"/_public/status", CREATE.encode(), b"/api/v1/jobs", b"/api/v1/jobs?limit=1", b"*", b"http://y/_public/status",
    b"/%00%ff", b"/\xff", b"", b"//", b"/?" + LONG, b"x:1",
]  # fmt: skip
BODIES = [
    b"", b"{}", b"2\r\n{}\r\n0\r\n\r\n", b"2;x=y\r\n{}\r\n0\r\nT: x\r\n\r\n", b"2\r\n{}\r\n", b"-1\r\n",
    b"fffffffffffffffff\r\n", b"0\r\n",
]  # fmt: skip
WORDS = [b"GET", b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"get", b"PRI"]
VERSIONS = [b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9.9", b""]
REQUEST = st.builds(
    lambda word, target, version, lines, ending, body: (
        b"%b %b %b\r\n%b" % (word, target, version, b"".join(line + b"\r\n" for line in lines)) + ending + body
    ),
    st.sampled_from(WORDS),
    st.sampled_from(TARGETS),
    st.sampled_from(VERSIONS),
    st.lists(st.sampled_from(LINES), max_size=5).map(lambda lines: [b"Host: x", *lines]) | st.just([]),
    st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b""]),
    st.sampled_from(BODIES),
)
GOOD = b"GET /_public/status HTTP/1.1\r\nHost: x\r\n\r\n"
TLS = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
NOISE = st.binary(max_size=8) | st.sampled_from([b"\r\n", b"\x00", TLS, GOOD])
WIRE = st.lists(REQUEST | NOISE, min_size=1, max_size=4)


@given(pieces=WIRE, at_once=st.booleans())
@FUZZ
def test_bytes_get_no_answer_or_one_of_ours(door: Door, pieces: list[bytes], at_once: bool) -> None:
    async def check() -> None:
        sent = [piece.replace(LONG, b"a" * 70_000) for piece in pieces]
        for answer in await exchange(door.node.door.port, *([b"".join(sent)] if at_once else sent)):
            assert answer.status < 500, answer
            assert answer.headers["content-type"] == "application/json"
            assert answer.code is None or answer.code.isupper()
        await door.good()

    door.run(check())
