"""What handlers do with `files`: a folder that goes with their task, and files that come and go by URLs."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import ssl
import tempfile
import threading
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from holon.rxon.v1 import worker_pb2
from holon.security import certificates
from holon.worker import BlockingFiles, Files, TaskError, transfer
from holon.worker.files import TaskFolder
from tests.file_server import GUARD, FileServer, Handler, answering, dropping, serving
from tests.unit.worker_runner.bench import Bench, Make

CONTENT = bytes(range(256)) * 4_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(transfer, "FIRST_WAIT_S", 0.001)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as it:
        it.files["/in/table.csv"] = CONTENT
        yield it


class Gone:
    """Tells when folders of tasks have been deleted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._removed = threading.Semaphore(0)
        remove = TaskFolder.remove

        def removing(folder: TaskFolder) -> None:
            remove(folder)
            self._removed.release()

        monkeypatch.setattr(TaskFolder, "remove", removing)

    async def wait(self) -> None:
        assert await asyncio.to_thread(self._removed.acquire, timeout=GUARD)


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch) -> Gone:
    return Gone(monkeypatch)


def left_in(folder: Path) -> list[Path]:
    return [*folder.iterdir()]


def outcome(result: worker_pb2.TaskResult) -> tuple[str, str]:
    return result.error.code, result.error.message


async def fetched(bench: Make, url: object, **wanted: Any) -> worker_pb2.TaskResult:
    """What a task comes to that fetches a file, and answers with where it is and how large."""

    async def work(files: Files) -> dict[str, Any]:
        path = await files.download(url, **wanted)  # type: ignore[arg-type]
        return {"name": str(path.relative_to(files.folder)), "size": path.stat().st_size}

    return await bench(work).result("work")


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_file_comes_from_one_url_and_goes_to_another_and_the_folder_goes_with_the_task(
    bench: Make, server: FileServer, tmp_path: Path, gone: Gone, is_async: bool
) -> None:
    def work(files: BlockingFiles, source: str, target: str) -> Any:
        path = files.download(source, size=len(CONTENT), sha256=SHA256.upper())
        assert path == files.folder / "table.csv"
        assert path.read_bytes() == CONTENT
        (files.folder / "sub").mkdir()
        (files.folder / "sub/out.bin").write_bytes(path.read_bytes() * 2)
        assert files.upload("table.csv", target) == files.upload(path, target)
        return files.upload("sub/out.bin", target)

    async def work_async(files: Files, source: str, target: str) -> Any:
        path = await files.download(source, size=len(CONTENT), sha256=SHA256.upper())
        assert path == files.folder / "table.csv"
        (files.folder / "out.bin").write_bytes(await asyncio.to_thread(path.read_bytes) * 2)
        return await files.upload("out.bin", target)

    work_async.__name__ = "work"
    urls = {"source": server.url("/in/table.csv"), "target": server.url("/out.bin")}
    result = await bench(work_async if is_async else work).result("work", urls)
    twice = CONTENT * 2
    assert orjson.loads(result.data.data) == {"size": len(twice), "sha256": hashlib.sha256(twice).hexdigest()}, result
    assert server.files["/out.bin"] == twice
    await gone.wait()
    assert left_in(tmp_path) == []


async def test_a_task_that_has_no_files_makes_no_folder(bench: Make, server: FileServer, tmp_path: Path) -> None:
    seen: list[Path] = []

    async def work(files: Files, params: dict[str, Any]) -> None:
        seen.extend(left_in(tmp_path))

    assert (await bench(work).result("work")).status == "success"
    assert seen == left_in(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "name", "called"),
    [
        ("/a/gr%C3%BC%C3%9Fe.txt", None, "grüße.txt"),
        ("/a/", None, "file"),
        ("/a/..%2F..%2Fx", None, "file"),
        ("/a/%00", None, "file"),
        ("/a/b", "pages/1.png", "pages/1.png"),
    ],
)
async def test_a_file_is_called_as_is_said_or_as_its_url_ends_and_never_leads_out_of_the_folder(
    bench: Make, server: FileServer, path: str, name: str | None, called: str
) -> None:
    server.files[path] = b"x"
    result = await fetched(bench, server.url(path), name=name)
    assert orjson.loads(result.data.data) == {"name": called, "size": 1}


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a//b", ""])
async def test_a_name_that_leads_elsewhere_is_refused(bench: Make, server: FileServer, name: str) -> None:
    code, message = outcome(await fetched(bench, server.url("/in/table.csv"), name=name))
    assert (code, "is not a valid file name" in message) == ("INVALID_INPUT_ERROR", True)
    assert server.asked == []


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"size": len(CONTENT) + 1}, "should have"),
        ({"size": 0}, "should have|over 0 bytes"),
        ({"sha256": "0" * 64}, "its SHA-256 is"),
    ],
)
@pytest.mark.parametrize("has_length", [True, False])
async def test_another_file_than_it_should_be_fails_the_task_and_nothing_of_it_is_left(
    bench: Make, server: FileServer, gone: Gone, wanted: dict[str, Any], says: str, has_length: bool
) -> None:
    left: list[str] = []

    async def work(files: Files) -> None:
        (files.folder / "table.csv").write_text("before")
        if not has_length:
            server.odd = [answering_without_length]
        try:
            await files.download(server.url("/in/table.csv"), **wanted)
        finally:
            left.extend(path.name for path in files.folder.parent.rglob("*") if path.is_file() and path.name != "lock")
            left.append((files.folder / "table.csv").read_text())

    code, message = outcome(await bench(work).result("work"))
    assert (code, re.search(says, message) is not None) == ("INTEGRITY_MISMATCH_ERROR", True), message
    assert left == ["table.csv", "before"]


@pytest.mark.parametrize("odd", [dropping, answering(503), answering(429), answering(200, CONTENT[:10], len(CONTENT))])
async def test_what_fails_is_tried_again(bench: Make, server: FileServer, odd: Any) -> None:
    server.odd = [odd] * transfer.RETRIES
    result = await fetched(bench, server.url("/in/table.csv"), size=len(CONTENT), sha256=SHA256)
    assert result.status == "success", result
    assert len(server.asked) == transfer.RETRIES + 1


async def test_what_fails_too_often_fails_the_task_for_another_try(bench: Make, server: FileServer) -> None:
    server.odd = [answering(500)] * 100
    code, message = outcome(await fetched(bench, server.url("/in/table.csv")))
    assert (code, "the answer was 500" in message) == ("TRANSIENT_ERROR", True)
    assert len(server.asked) == transfer.RETRIES + 1


async def test_a_silent_server_is_not_waited_for_for_ever(
    bench: Make, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "SILENCE_S", 0.01)
    server.odd = [server.hang] * 100
    code, message = outcome(await fetched(bench, server.url("/in/table.csv")))
    assert (code, "TimeoutError" in message) == ("TRANSIENT_ERROR", True), message


async def test_a_url_that_is_not_good_any_more_is_asked_once_and_its_signature_told_to_nobody(
    bench: Make, server: FileServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def sent(files: Files) -> None:
        # It is answered long before it was all sent.
        (files.folder / "x").touch()
        os.truncate(files.folder / "x", 20_000_000)
        await files.upload("x", server.url("/out"))

    denied = answering(403, b"<Error><Code>AccessDenied</Code></Error>")
    server.odd = [denied, denied]
    for result in (await fetched(bench, server.url("/in/table.csv")), await bench(sent).result("sent")):
        code, message = outcome(result)
        assert (code, "403 (AccessDenied)" in message) == ("INVALID_INPUT_ERROR", True)
        assert "secret" not in message
    assert outcome(await fetched(bench, server.url("/none")))[0] == "INVALID_INPUT_ERROR"
    server.odd = [dropping] * 100
    assert "secret" not in str(await fetched(bench, server.url("/in/table.csv")))
    assert len(server.asked) == 3 + transfer.RETRIES + 1
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/secret", "file:///etc/passwd", "/in/secret", "https:///secret", "http://u:secret@host/", 1,
        "http://[secret", "http://host:0/secret", "http://host:secret/", "http://host/a secret", "http://host/sécret",
        "http://host/\nsecret", "http://host..secret/", f"http://{'secret' * 11}/",
    ],
)  # fmt: skip
async def test_what_is_no_url_of_a_file_fails_the_job_at_once(bench: Make, url: object) -> None:
    code, message = outcome(await fetched(bench, url))
    assert (code, "secret" in message) == ("INVALID_INPUT_ERROR", False), message


async def test_a_url_may_lead_on_to_another_but_to_none_of_another_scheme(bench: Make, server: FileServer) -> None:
    def leading(to: str) -> Any:
        return answering(302, b"elsewhere", Location=to)

    server.odd = [leading(server.url("/in/table.csv"))]
    assert (await fetched(bench, server.url("/from"))).status == "success"
    for to in ("ftp://127.0.0.1/secret", "file:///etc/passwd?secret", "gopher://x/secret"):
        server.odd = [leading(to)]
        code, message = outcome(await fetched(bench, server.url("/from")))
        assert code == "INVALID_INPUT_ERROR"
        assert "/etc" not in message or "secret" not in message
    for to in ("http://[::1", "http://a..b/secret", f"http://{'a' * 64}/"):
        server.odd = [leading(to)]
        code, message = outcome(await fetched(bench, server.url("/from")))
        assert (code, "secret" in message) == ("INVALID_INPUT_ERROR", False), message
    server.odd = [leading(server.url("/from"))] * 100
    assert outcome(await fetched(bench, server.url("/from")))[0] == "INVALID_INPUT_ERROR"


async def test_a_file_is_not_sent_on_to_where_its_url_leads(bench: Make, server: FileServer) -> None:
    async def work(files: Files) -> None:
        (files.folder / "x").write_bytes(CONTENT)
        await files.upload("x", server.url("/out"))

    server.odd = [answering(307, Location=server.url("/elsewhere"))]
    assert outcome(await bench(work).result("work"))[0] == "INVALID_INPUT_ERROR"
    assert "/elsewhere" not in server.files


async def test_an_empty_file_is_sent_and_one_that_is_not_here_is_refused(bench: Make, server: FileServer) -> None:
    async def work(files: Files) -> Any:
        (files.folder / "x").touch()
        sent = await files.upload("x", server.url("/out"))
        for wrong in ("none", "."):
            with pytest.raises(TaskError) as refused:
                await files.upload(wrong, server.url("/none"))
            assert refused.value.code in ("PERMANENT_ERROR", "TRANSIENT_ERROR")
        return sent

    result = await bench(work).result("work")
    assert orjson.loads(result.data.data)["size"] == 0, result
    assert server.files == {"/in/table.csv": CONTENT, "/out": b""}


def dripping(handler: Handler) -> None:
    """Send a byte now and then, so that it is never silent, for as long as somebody reads."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(10**9))
    handler.end_headers()
    while not handler.server.over.wait(0.01):
        handler.wfile.write(b"x")
        handler.wfile.flush()


async def test_a_server_that_only_drips_is_not_read_from_for_ever(
    bench: Make, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "LONGEST_S", 0.1)
    server.odd = [dripping]
    code, message = outcome(await fetched(bench, server.url("/in/table.csv")))
    assert (code, "it took over 0.1 s" in message) == ("TRANSIENT_ERROR", True), message


def answering_without_length(handler: Handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(CONTENT)
    handler.close_connection = True


async def reached(server: FileServer) -> None:
    assert await asyncio.to_thread(server.reached.acquire, timeout=GUARD)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("sends", [False, True])
async def test_a_cancel_stops_a_transfer_at_once_and_nothing_is_left(
    bench: Make, server: FileServer, tmp_path: Path, gone: Gone, is_async: bool, sends: bool
) -> None:
    def work(files: BlockingFiles) -> None:
        try:
            if sends:
                (files.folder / "x").write_bytes(CONTENT)
                files.upload("x", server.url("/out"))
            else:
                files.download(server.url("/in/table.csv"))
        finally:
            # A thread that goes on after that begins nothing else.
            files.download(server.url("/in/another.csv"))

    async def work_async(files: Files) -> None:
        if sends:
            (files.folder / "x").write_bytes(CONTENT)
            await files.upload("x", server.url("/out"))
        else:
            await files.download(server.url("/in/table.csv"))

    work_async.__name__ = "work"
    server.odd = [server.hang]
    made: Bench = bench(work_async if is_async else work)
    lease = made.offer("work")
    await reached(server)
    made.runner.stopped(lease, "CANCELLED", GUARD)
    final = await made.updates.final()
    assert final.result.status == "cancelled"
    await gone.wait()
    assert left_in(tmp_path) == []
    assert len(server.asked) == 1


@pytest.fixture
def secured(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    folder = tmp_path_factory.mktemp("tls")
    pair = certificates.issue_server(certificates.open_authority(folder), folder, days=1)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pair.certificate, pair.key)
    trusting = ssl.create_default_context(cafile=folder / "ca.pem")
    monkeypatch.setattr(transfer, "_context", lambda: trusting)
    with serving(tls) as it:
        it.files["/in/table.csv"] = CONTENT
        yield it


async def test_over_tls_it_is_the_same_and_nothing_leads_out_of_it(
    bench: Make, server: FileServer, secured: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(files: Files, source: str, target: str) -> Any:
        return await files.upload(await files.download(source), target)

    urls = {"source": secured.url("/in/table.csv"), "target": secured.url("/out")}
    result = await bench(work).result("work", urls)
    assert (result.status, secured.files["/out"] == CONTENT) == ("success", True), result
    secured.odd = [answering(302, Location=server.url("/in/table.csv"))]
    assert outcome(await fetched(bench, secured.url("/from")))[0] == "INVALID_INPUT_ERROR"
    # And stops as soon.
    secured.odd = [secured.hang]
    made = bench(work)
    lease = made.offer("work", urls)
    for _ in range(4):
        await reached(secured)
    made.runner.stopped(lease, "CANCELLED", GUARD)
    assert (await made.updates.final()).result.status == "cancelled"
    monkeypatch.setattr(transfer, "_context", ssl.create_default_context)
    code, message = outcome(await fetched(bench, secured.url("/in/table.csv")))
    assert (code, "certificate" in message) == ("TRANSIENT_ERROR", True), message


async def test_one_of_several_may_be_given_up_and_the_others_go_on(bench: Make, server: FileServer) -> None:
    async def work(files: Files) -> Any:
        server.odd = [server.hang]
        slow = asyncio.create_task(files.download(server.url("/in/table.csv"), "slow"))
        await reached(server)
        slow.cancel()
        url = server.url("/in/table.csv")
        many = await asyncio.gather(*(files.download(url, f"{number}") for number in range(20)))
        return {"slow": slow.cancelled(), "sizes": {path.stat().st_size for path in many}}

    result = await bench(work).result("work")
    assert orjson.loads(result.data.data) == {"slow": True, "sizes": [len(CONTENT)]}


async def test_what_a_handler_leaves_behind_fetches_nothing_once_its_task_is_over(
    bench: Make, server: FileServer, tmp_path: Path, gone: Gone
) -> None:
    kept: list[Files] = []
    left: list[Awaitable[Any]] = []

    async def work(files: Files) -> None:
        kept.append(files)
        server.odd = [server.hang]
        left.append(asyncio.create_task(files.download(server.url("/in/table.csv"))))
        await reached(server)

    assert (await bench(work).result("work")).status == "success"
    with pytest.raises(TaskError, match="stopped"):
        await left[0]
    await gone.wait()
    with pytest.raises(TaskError, match="has ended"):
        await kept[0].download(server.url("/in/table.csv"))
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(("size", "sha256"), [(-1, None), (True, None), ("3", None), (None, "abc"), (None, 5)])
async def test_what_no_file_can_be_is_refused(bench: Make, server: FileServer, size: Any, sha256: Any) -> None:
    code, _ = outcome(await fetched(bench, server.url("/in/table.csv"), size=size, sha256=sha256))
    assert (code, server.asked) == ("INVALID_INPUT_ERROR", [])
