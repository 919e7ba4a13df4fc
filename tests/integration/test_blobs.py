"""Files in S3: what the port promises, on two servers that were written by others."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from holon.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Unavailable
from holon.ports import PART_BYTES
from holon.storage.blobs import LISTED, S3Blobs
from tests.s3_server import SECRET_KEY, S3Server

MIB = 2**20


@pytest.fixture(scope="module", params=["nanio", "moto"])
def server(request: pytest.FixtureRequest) -> Iterator[S3Server]:
    started = S3Server(request.param)
    yield started
    started.close()


@pytest.fixture(scope="module")
def nanio() -> Iterator[S3Server]:
    started = S3Server()
    yield started
    started.close()


@pytest.fixture
async def blobs(server: S3Server) -> AsyncIterator[S3Blobs]:
    opened = S3Blobs(server.client())
    yield opened
    await opened.delete(await keys(opened, "x/"))


async def keys(blobs: S3Blobs, prefix: str) -> list[str]:
    return [blob.key async for page in blobs.list(prefix) for blob in page]


async def content(blobs: S3Blobs, key: str) -> bytes:
    async with blobs.get(key) as (blob, chunks):
        found = b"".join([chunk async for chunk in chunks])
    assert blob.key == key
    assert blob.size == len(found)
    return found


async def pieces(count: int, size: int = MIB) -> AsyncIterator[bytes]:
    for number in range(count):
        yield bytes([number % 256]) * size


@pytest.mark.parametrize("name", ["plain", "a b", "grüße", "a+b&c=d;e,f@g", "~#?*[x]'!", "..x"])
async def test_a_file_comes_back_as_it_was_stored_whatever_its_name(blobs: S3Blobs, name: str) -> None:
    tag = await blobs.put(f"x/{name}", name.encode())
    assert await content(blobs, f"x/{name}") == name.encode()
    (page,) = [page async for page in blobs.list("x/")]
    assert [(blob.key, blob.size, blob.tag) for blob in page] == [(f"x/{name}", len(name.encode()), tag)]
    assert await blobs.head(f"x/{name}") == page[0]
    assert [page async for page in blobs.list("x/", f"x/{name}")] in ([], [[]])
    await blobs.put(f"x/{name}", b"")
    assert await content(blobs, f"x/{name}") == b""


async def test_a_percent_sign_in_a_name_is_one(server: S3Server, blobs: S3Blobs) -> None:
    # Nanio takes the signature of such a name for another one's; with moto it is read as it should be.
    if server.checks_signatures:
        with pytest.raises(PermissionDenied):
            await blobs.put("x/a%20b", b"1")
    else:
        await blobs.put("x/a%20b", b"1")
        assert (await keys(blobs, "x/"), await content(blobs, "x/a%20b")) == (["x/a%20b"], b"1")


async def test_a_stream_is_stored_in_parts_or_not_at_all(blobs: S3Blobs) -> None:
    await blobs.put_stream("x/large", pieces(20), PART_BYTES)
    assert await content(blobs, "x/large") == b"".join([piece async for piece in pieces(20)])

    class Mine(Exception):
        pass

    async def breaks(error: Exception) -> AsyncIterator[bytes]:
        async for piece in pieces(18):
            yield piece
        raise error

    # What the store itself would raise for a file that is not there is the source's own here.
    for error in (Mine(), FileNotFoundError(2, "mine")):
        with pytest.raises(type(error)) as raised:
            await blobs.put_stream("x/broken", breaks(error), PART_BYTES)
        assert raised.value is error
    assert await keys(blobs, "x/") == ["x/large"]
    assert (blobs.metrics.calls.values["put", "given_up"], blobs.metrics.calls.values["put", "ok"]) == (2, 1)


async def test_an_empty_stream_is_an_empty_file(blobs: S3Blobs) -> None:
    await blobs.put_stream("x/empty", pieces(0), PART_BYTES)
    assert await content(blobs, "x/empty") == b""


async def test_more_files_than_a_page_has_are_listed_and_deleted(server: S3Server, blobs: S3Blobs) -> None:
    names = [f"x/{number:04}" for number in range(LISTED + 5)]
    if server.checks_signatures:
        for name in names:
            server.put(name)
    else:
        gate = S3Blobs(server.client(concurrency=20))
        await asyncio.gather(*(gate.put(name, b"") for name in names))
    await blobs.put("xy/other", b"")
    found = await keys(blobs, "x/")
    assert sorted(found) == names
    assert [blob.key async for page in blobs.list("x/", names[-3]) for blob in page] == names[-2:]
    await blobs.delete([*found, "x/never there"])
    assert await keys(blobs, "x/") == []
    assert await keys(blobs, "xy/") == ["xy/other"]


async def test_what_is_not_there_is_not_found(blobs: S3Blobs) -> None:
    with pytest.raises(NotFound) as refused:
        await content(blobs, "x/nothing")
    with pytest.raises(NotFound):
        await blobs.head("x/nothing")
    assert (refused.value.code, blobs.up) == ("FILE_NOT_FOUND", True)
    assert await keys(blobs, "x/nothing/") == []
    await blobs.delete(["x/nothing"])


async def test_a_bucket_that_is_not_there_is_told_at_every_call(server: S3Server) -> None:
    blobs = S3Blobs(server.client(bucket="elsewhere"))
    for call in (
        lambda: blobs.put("x/1", b""),
        lambda: content(blobs, "x/1"),
        lambda: keys(blobs, "x/"),
        lambda: blobs.delete(["x/1"]),
        lambda: blobs.put_stream("x/1", pieces(9), PART_BYTES),
    ):
        with pytest.raises(FailedPrecondition, match="elsewhere") as refused:
            await call()
        assert (refused.value.code, blobs.up) == ("FILES_NO_BUCKET", False)


async def test_a_signed_url_fetches_and_stores_without_a_key(blobs: S3Blobs) -> None:
    async with httpx.AsyncClient(trust_env=False) as anybody:
        put = await anybody.put(await blobs.sign("x/a b", "PUT", 60), content=b"theirs")
        got = await anybody.get(await blobs.sign("x/a b", "GET", 60))
    assert (put.status_code, got.content) == (200, b"theirs")
    assert await content(blobs, "x/a b") == b"theirs"


async def test_a_signed_url_is_for_one_file_and_one_method(nanio: S3Server) -> None:
    blobs = S3Blobs(nanio.client())
    url = await blobs.sign("x/mine", "GET", 60)
    assert SECRET_KEY not in url
    async with httpx.AsyncClient(trust_env=False) as anybody:
        assert (await anybody.put(url, content=b"theirs")).status_code == 403
        assert (await anybody.get(url.replace("x/mine", "x/other"))).status_code == 403


async def test_a_wrong_key_is_denied_and_nobody_reads_it_in_the_log(
    nanio: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    blobs = S3Blobs(nanio.client(secret="a-wrong-secret"))
    for call in (lambda: blobs.put("x/1", b""), lambda: content(blobs, "x/1"), lambda: keys(blobs, "x/")):
        with pytest.raises(PermissionDenied) as refused:
            await call()
        assert refused.value.code == "FILES_DENIED"
        assert str(nanio.port) not in refused.value.message
    assert "a-wrong-secret" not in caplog.text + repr(blobs) + repr(nanio.client())
    # Of one reason it is said once.
    assert len([one for one in caplog.records if one.name == "holon.storage.blobs" and one.levelname == "WARNING"]) <= 2


async def test_what_the_environment_says_of_s3_is_not_listened_to(
    nanio: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
        "AWS_ENDPOINT": "http://127.0.0.1:1",
        "AWS_SESSION_TOKEN": "theirs",
        "AWS_ACCESS_KEY_ID": "theirs",
        "AWS_SECRET_ACCESS_KEY": "theirs",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
        "AWS_BUCKET": "theirs",
        "AWS_REGION": "theirs",
        "AWS_S3_EXPRESS": "true",
        "AWS_SERVER_SIDE_ENCRYPTION": "aws:kms",
        "AWS_REQUEST_PAYER": "true",
    }.items():
        monkeypatch.setenv(name, value)
    blobs = S3Blobs(nanio.client())
    await blobs.put("x/env", b"mine")
    assert await content(blobs, "x/env") == b"mine"
    assert "theirs" not in await blobs.sign("x/env", "GET", 60)


async def test_one_that_does_not_answer_is_given_up_and_asked_again_later(caplog: pytest.LogCaptureFixture) -> None:
    # The system takes connections for it, and nobody reads them.
    silent = socket.create_server(("127.0.0.1", 0))
    port = silent.getsockname()[1]
    server = S3Server()
    try:
        settings = server.client()
        for endpoint in (f"http://127.0.0.1:{port}", "http://127.0.0.1:1"):
            blobs = S3Blobs(type(settings)(endpoint, "k", "s", "r", "bucket", 1), silence=0.2, retrying=0.1)
            with pytest.raises(Unavailable) as refused:
                await blobs.put("x/1", b"")
            assert (refused.value.code, blobs.up) == ("FILES_UNAVAILABLE", False)
        assert "TimedOut" in caplog.text
        assert "Connection refused" in caplog.text
        blobs = S3Blobs(settings, retrying=0.1)
        await blobs.put("x/1", b"1")
        await asyncio.to_thread(server.kill)
        with pytest.raises(Unavailable):
            await content(blobs, "x/1")
        await asyncio.to_thread(server.start)
        assert (await content(blobs, "x/1"), blobs.up) == (b"1", True)
    finally:
        silent.close()
        server.close()


async def test_calls_beyond_the_limit_wait_for_their_turn(nanio: S3Server) -> None:
    blobs = S3Blobs(nanio.client(concurrency=1))
    await blobs.put("x/turn", b"1")
    async with blobs.get("x/turn") as (_, chunks):
        other = asyncio.create_task(blobs.put("x/other", b""))
        done, _ = await asyncio.wait([other], timeout=0.05)
        assert not done
        assert [chunk async for chunk in chunks] == [b"1"]
    await other


async def test_what_is_cancelled_gives_its_place_back(nanio: S3Server) -> None:
    blobs = S3Blobs(nanio.client(concurrency=1))
    goes_on = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"1"
        goes_on.set()
        await asyncio.Event().wait()

    storing = asyncio.create_task(blobs.put_stream("x/slow", slow(), PART_BYTES))
    await goes_on.wait()
    storing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await storing
    await blobs.put("x/next", b"")
    assert blobs.metrics.calls.values.get(("put", "given_up")) is not None


async def test_every_error_is_one_of_ours(nanio: S3Server) -> None:
    blobs = S3Blobs(nanio.client())
    for key in ("x//y", "x/../y", "x/\x01"):
        for call in (blobs.put(key, b""), content(blobs, key)):
            with pytest.raises(InvalidArgument):
                await call
