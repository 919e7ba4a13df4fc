"""Files of a job, as a handler uses them: how much memory they take, what they are, and what is refused."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx
import pytest

from holon.context import TaskFiles
from holon.errors import HolonError, IntegrityError, InvalidArgument, NotFound, PermissionDenied, TooLarge
from holon.task_files import Folder, copies
from holon.task_files import files as task_files
from tests.conftest import Measured
from tests.integration.task_files_site import JOB, MIB, PREFIX, files, s3
from tests.s3_server import BUCKET, S3Server

__all__ = ["files", "s3"]


# Memory ----------------------------------------------------------------------------------------------------------


async def most_memory(work: Any) -> int:
    """How many bytes more this process has had, while this ran, than before."""
    page, most = os.sysconf("SC_PAGE_SIZE"), 0

    def now() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * page

    before, running = now(), asyncio.ensure_future(work)
    while not running.done():
        most = max(most, now())
        await asyncio.wait([running], timeout=0.005)
    await running
    return most - before


async def test_g13_a_file_of_200_mib_goes_both_ways_in_constant_memory(
    s3: S3Server, files: TaskFiles, measured: Measured
) -> None:
    large, digest, piece = files.path("large"), hashlib.sha256(), os.urandom(MIB)
    with large.open("wb") as file:
        for number in range(200):
            mixed = number.to_bytes(4) + piece
            file.write(mixed)
            digest.update(mixed)

    async def streamed() -> AsyncIterator[bytes]:
        with large.open("rb") as file:
            while chunk := file.read(MIB):
                yield chunk

    async def there_and_back() -> None:
        await files.upload(large)
        await files.upload_stream("streamed", streamed())
        said = {"size": large.stat().st_size, "hash": digest.hexdigest()}
        for name in ("large", "streamed"):
            await files.download(name, "back", said)

    took = await most_memory(there_and_back())
    measured(f"{took / MIB:.0f} MiB more for a file of 200 MiB")
    assert took < 100 * MIB


async def test_files_are_read_written_and_hashed_by_threads(files: TaskFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    by: dict[str, set[int]] = {}

    def noted(of: Any, name: str) -> None:
        work = getattr(of, name)

        def noting(*arguments: Any) -> Any:
            by.setdefault(name, set()).add(threading.get_ident())
            return work(*arguments)

        monkeypatch.setattr(of, name, noting)

    for name in ("_keep", "_next", "_close"):
        noted(copies, name)
    for name in ("open", "begin", "finish", "files", "write", "remove"):
        noted(Folder, name)
    files.path("d/large").write_bytes(os.urandom(20 * MIB))
    await files.upload("d/large")
    await files.download("d/large", "back")
    await files.upload("d")
    await files.write_text("small", "x")
    await files.cleanup()
    assert sorted(by) == ["_close", "_keep", "_next", "begin", "files", "finish", "open", "remove", "write"]
    assert all(threading.get_ident() not in threads for threads in by.values())


@pytest.mark.parametrize("where", ["begin", "_keep", "_close", "finish", "drop"])
async def test_a_download_that_is_cancelled_twice_leaves_nothing_wherever_it_is(
    files: TaskFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    await files.write_text("a.txt", "new", upload=True)
    files.path("a.txt").write_text("before")
    reached, go_on = threading.Semaphore(0), threading.Event()
    of: Any = copies if where.startswith("_") else Folder
    work = getattr(of, where)

    def held(*arguments: Any) -> Any:
        reached.release()
        assert go_on.wait(60)
        return work(*arguments)

    monkeypatch.setattr(of, where, held)
    # Only what does not come gets as far as to be dropped.
    meta = {"hash": "0" * 64} if where == "drop" else None
    download = asyncio.create_task(files.download("a.txt", verify_meta=meta))
    assert await asyncio.to_thread(reached.acquire, timeout=60)
    for _ in range(2):
        download.cancel()
        # What is heard of it is over.
        for _ in range(10):
            await asyncio.sleep(0)
    go_on.set()
    # What was whole by then is here: who waits for it is cancelled where he waits next.
    whole = where in ("_close", "finish")
    with nullcontext() if whole else pytest.raises((asyncio.CancelledError, IntegrityError)):
        await download
    left = [name for _, _, names in os.walk(tmp_path) for name in names]
    assert (left, files.path("a.txt").read_text() in ("before", "new")) == (["a.txt"], True)


async def test_a_time_limit_on_a_download_is_still_one(files: TaskFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    await files.write_text("a.txt", "new")
    begin = Folder.begin
    limit = asyncio.timeout(None)
    loop = asyncio.get_running_loop()

    def slow(folder: Folder) -> Any:
        loop.call_soon_threadsafe(limit.reschedule, 0)
        return begin(folder)

    monkeypatch.setattr(Folder, "begin", slow)
    with pytest.raises(TimeoutError):
        async with limit:
            await files.download("a.txt")


# What they are -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said", [{"size": 3}, {"hash": "0" * 64}, {"hash": "sha256:" + "0" * 64}, {"hash": "another-tag"}, {"size": 0}]
)
async def test_another_file_than_was_said_is_refused_and_nothing_is_left_of_it(
    files: TaskFiles, tmp_path: Path, said: dict[str, Any]
) -> None:
    await files.write_text("a.txt", "four")
    files.path("b.txt").write_text("before")
    with pytest.raises(IntegrityError) as refused:
        await files.download("a.txt", "b.txt", verify_meta=said)
    assert refused.value.code == "INTEGRITY_MISMATCH"
    assert files.path("b.txt").read_text() == "before"
    assert [name for _, _, names in sorted(os.walk(tmp_path)) for name in sorted(names)] == ["a.txt", "b.txt"]


async def test_the_file_that_was_said_comes(files: TaskFiles) -> None:
    uri = await files.write_text("a.txt", "four")
    digest = hashlib.sha256(b"four").hexdigest()
    tag = hashlib.md5(b"four").hexdigest()
    for said in ({"size": 4}, {"hash": digest}, {"hash": f"SHA256:{digest.upper()}"}, {"size": 4, "hash": f'"{tag}"'}):
        assert (await files.download(uri, verify_meta=said)).read_text() == "four"
    assert (await files.download(uri, verify_meta={"size": None, "hash": None})).read_text() == "four"


@pytest.mark.parametrize(
    "said", [{"sise": 1}, {"size": "1"}, {"size": -1}, {"size": True}, {"hash": 5}, {"hash": ""}, []]
)
async def test_what_a_file_cannot_be_said_to_be_is_refused(files: TaskFiles, said: Any) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await files.download("a.txt", verify_meta=said)
    assert refused.value.code == "VERIFY_META_INVALID"


async def test_the_size_of_a_folder_is_not_said(files: TaskFiles) -> None:
    with pytest.raises(InvalidArgument, match="folder"):
        await files.download("a/", verify_meta={"size": 1})


async def test_what_is_only_here_is_read_from_here_and_else_the_bucket_is_right(s3: S3Server, files: TaskFiles) -> None:
    path = await files.write_json("mine.json", [1, "ä"], upload=False)
    assert (path, await files.read_json("mine.json")) == (str(files.path("mine.json")), [1, "ä"])
    assert not s3.keys(PREFIX)
    await files.write_json("mine.json", [2])
    async with httpx.AsyncClient(trust_env=False) as worker:
        url = await files.generate_presigned_url("mine.json", "PUT", 60)
        assert (await worker.put(url, content=b"[3]")).status_code == 200
        assert (await worker.get(await files.generate_presigned_url("mine.json"))).content == b"[3]"
    assert await files.read_json("mine.json") == [3]


async def test_what_is_no_text_no_json_or_too_large_is_told(files: TaskFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    files.path("bytes").write_bytes(b"\xff{")
    await files.upload("bytes")
    for read, code in ((files.read_text, "NOT_TEXT"), (files.read_json, "NOT_JSON")):
        with pytest.raises(InvalidArgument) as refused:
            await read("bytes")
        assert refused.value.code == code
    for bad in (object(), float("nan"), 2**70, {1: 2}, "\ud800"):
        with pytest.raises(InvalidArgument) as refused:
            await files.write_json("bad", bad)
        assert refused.value.code == "NOT_JSON"
    with pytest.raises(InvalidArgument):
        await files.write_text("bad", "\ud800")
    monkeypatch.setattr(copies, "MAX_VALUE_BYTES", 1)
    for call in (files.read_text("bytes"), files.write_text("new", "xx")):
        with pytest.raises(TooLarge):
            await call
    assert not files.path("new").exists()


# Where they are ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri", [f"s3://other/{PREFIX}a", f"s3://{BUCKET}/jobs/{JOB}0/a", f"s3://{BUCKET}/{PREFIX[:-1]}", "s3:///a", "s3://"]
)
async def test_files_of_other_jobs_and_buckets_are_refused(files: TaskFiles, s3: S3Server, uri: str) -> None:
    for call in (files.download, files.read_text, files.read_json, files.generate_presigned_url):
        with pytest.raises(PermissionDenied) as refused:
            await call(uri)
        assert refused.value.code == "FILE_FOREIGN"
    files.path("a").write_text("a")
    with pytest.raises(PermissionDenied):
        await files.upload("a", uri)


async def test_a_uri_of_the_job_itself_is_as_good_as_a_name(files: TaskFiles) -> None:
    uri = await files.upload_stream("deep/a", _bytes(b"abc"))
    assert uri == f"s3://{BUCKET}/{PREFIX}deep/a"
    assert await files.read_text(uri) == "abc"
    assert (await files.download(f"s3://{BUCKET}/{PREFIX}", "all/")).joinpath("deep/a").read_text() == "abc"
    with pytest.raises(InvalidArgument):
        await files.download(f"s3://{BUCKET}/{PREFIX}../other/a")
    with pytest.raises(InvalidArgument, match="is the folder of this job; use a path of a file in it"):
        await files.download("deep/a", str(files.path("deep").parent))


async def _bytes(*chunks: Any) -> AsyncIterator[Any]:
    for chunk in chunks:
        yield chunk


async def test_folders_go_both_ways_and_keep_their_shape(s3: S3Server, files: TaskFiles) -> None:
    for name in ("d/1", "d/e/2", "d/e/f/3", "other"):
        files.path(name).write_text(name)
    assert await files.upload(files.path("d"), "there/") == f"s3://{BUCKET}/{PREFIX}there/"
    assert s3.keys(PREFIX) == [f"{PREFIX}there/{name}" for name in ("1", "e/2", "e/f/3")]
    back = await files.download("there/", "back")
    assert sorted(str(one.relative_to(back)) for one in back.rglob("*") if one.is_file()) == ["1", "e/2", "e/f/3"]
    assert (await files.download("there/e/")).joinpath("f/3").read_text() == "d/e/f/3"
    with pytest.raises(NotFound):
        await files.download("nowhere/")
    with pytest.raises(InvalidArgument, match="is a file"):
        await files.upload("other", "there/")


async def test_a_link_is_not_followed_out_of_the_folder_nor_into_it(files: TaskFiles, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("secret")
    files.path("d/plain").write_text("plain")
    files.path("d/link").symlink_to(secret / "key")
    files.path("folder").symlink_to(secret)
    for call in (
        *(files.upload(name) for name in ("d", "d/link", "folder", "folder/key")),
        files.read_text("folder/key"),
        files.write_text("folder/key", "changed"),
    ):
        with pytest.raises(InvalidArgument, match="link"):
            await call
    for name in ("d/link", "folder", "folder/key"):
        with pytest.raises(InvalidArgument):
            files.path(name)
    await files.write_text("d/link", "in its place")
    await files.download("d/link")
    assert (secret / "key").read_text() == "secret"
    assert files.path("d/link").read_text() == "in its place"
    await files.cleanup()
    assert (secret / "key").read_text() == "secret"


async def test_what_comes_of_a_pipe_or_a_stream_of_no_bytes_is_refused(files: TaskFiles) -> None:
    os.mkfifo(files.path("pipe"))
    with pytest.raises(InvalidArgument):
        await files.upload("pipe")
    with pytest.raises(InvalidArgument, match="gave a str"):
        await files.upload_stream("s", _bytes("text"))
    with pytest.raises(NotFound):
        await files.upload("nothing")


async def test_a_stream_that_is_too_large_for_s3_is_given_up(
    s3: S3Server, files: TaskFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_files, "MAX_PARTS", 1)
    with pytest.raises(TooLarge, match="several files"):
        await files.upload_stream("s", _bytes(*[bytes(MIB)] * 9))
    assert not s3.keys(PREFIX)


async def test_too_many_files_at_once_are_refused(files: TaskFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("d/1", "d/2"):
        files.path(name).write_text(name)
    await files.upload("d")
    monkeypatch.setattr(task_files, "MAX_FILES", 1)
    monkeypatch.setattr("holon.task_files.folder.MAX_FILES", 1)
    for call in (files.upload("d"), files.download("d/")):
        with pytest.raises(TooLarge):
            await call


@pytest.mark.parametrize(("method", "expires"), [("POST", 60), ("get", 60), ("GET", 0), ("GET", 604_801), ("GET", 1.5)])
async def test_a_url_that_cannot_be_is_refused(files: TaskFiles, method: str, expires: Any) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await files.generate_presigned_url("a", method, expires)
    assert refused.value.code == "FILE_URL_INVALID"


async def test_a_full_disk_is_told_as_such(files: TaskFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    await files.write_text("a", "x")
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(HolonError, match="No space left") as refused:
        await files.download("a")
    assert refused.value.code == "FILES_LOCAL"


async def test_the_job_is_marked_before_its_first_file_and_not_for_reading(files: Any) -> None:
    files.path("a").write_text("a")
    with pytest.raises(NotFound):
        await files.download("b")
    assert files.marked == []
    await files.upload("a")
    await files.write_text("c", "c")
    await files.generate_presigned_url("d", "PUT")
    assert files.marked == [JOB]
