"""Acceptance: files of jobs (G11, G13), and what becomes of them when their job is over."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from hashlib import md5, sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from holon import Blueprint
from holon.context import ActionFactory, TaskFiles
from holon.engine import job_files
from holon.errors import BlueprintError
from holon.testing import RunningNode
from holon.worker import Files, Sent
from tests.integration.cases.site import GUARD, LOOK_S, Start, create, ended, history, http, one_task, seen, waits
from tests.s3_server import BUCKET, S3Server

HASH = sha256(b'{"n":1}').hexdigest()


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.close()


async def until(so: Callable[[], object]) -> None:
    """Wait for what is done after a job has ended, and told to nobody."""
    async with asyncio.timeout(GUARD):
        while not so():  # noqa: ASYNC110  it is another program's files
            await asyncio.sleep(LOOK_S)


def local(folder: Path) -> list[str]:
    """The jobs that have local files."""
    return sorted(one.name for holon in folder.iterdir() for one in holon.iterdir())


def flow(start: Callable[..., Any], name: str = "files", *, failing: bool = False) -> Blueprint:
    """Starts with this handler, and ends."""
    bp = Blueprint(name, api_endpoint=f"/jobs/{name}", api_version="v1")
    bp.handler("start", is_start=True)(start)

    @bp.handler(is_end=True, outcome="failed" if failing else "finished")
    async def end(state_history: dict[str, Any]) -> Any:
        return state_history

    return bp


async def run(node: RunningNode, name: str = "files") -> Any:
    job = await ended(node, await create(node, name, {}))
    assert job.status == "finished", job.error
    return job


async def test_g11_text_json_files_and_folders_are_kept_under_the_prefix_of_their_job(
    start: Start, s3: S3Server, tmp_path: Path
) -> None:
    async def work(task_files: TaskFiles, state_history: dict[str, Any], actions: ActionFactory) -> None:
        state_history["uri"] = await task_files.write_json("out/results.json", {"n": 1})
        await task_files.write_text("out/note.txt", "grüße")
        task_files.path("pages/1.bin").write_bytes(b"one")
        task_files.path("pages/deep/2.bin").write_bytes(b"two")
        state_history["folder"] = await task_files.upload(task_files.path("pages"))
        back = await task_files.download(state_history["folder"], "back")
        state_history["back"] = [(back / "1.bin").read_text(), (back / "deep/2.bin").read_text()]
        copy = await task_files.download(state_history["uri"], "copy.json", verify_meta={"size": 7, "hash": HASH})
        state_history["copy"] = copy.read_text()
        state_history["read"] = [
            await task_files.read_json("out/results.json"),
            await task_files.read_text("out/note.txt"),
        ]
        actions.go_to("end")

    folder = tmp_path / "files"
    async with start(flow(work), **s3.settings, S3_AUTO_CLEANUP=False, TASK_FILES_DIR=str(folder)) as node:
        job = await run(node)
        prefix = f"jobs/{job.id}/"
        assert job.result == {
            "uri": f"s3://{BUCKET}/{prefix}out/results.json",
            "folder": f"s3://{BUCKET}/{prefix}pages/",
            "back": ["one", "two"],
            "copy": '{"n":1}',
            "read": [{"n": 1}, "grüße"],
        }
        names = ["out/note.txt", "out/results.json", "pages/1.bin", "pages/deep/2.bin"]
        assert s3.keys(prefix) == [prefix + name for name in names]
        told = [event.context_snapshot for event in await history(node, job.id, "s3_operation")]
        # What S3 says of what is stored in one part, and what was asked for.
        whole = {"uri": job.result["uri"], "size": 7, "etag": md5(b'{"n":1}', usedforsecurity=False).hexdigest()}
        assert told[0] == {"operation": "upload", **whole}
        assert told[4:6] == [{"operation": "download", **whole, "sha256": HASH}, {"operation": "read", **whole}]
        assert told[2] == {"operation": "upload", "uri": job.result["folder"].rstrip("/"), "files": 2, "size": 6}
        assert [one["operation"] for one in told] == ["upload"] * 3 + ["download"] * 2 + ["read"] * 2
        await until(lambda: not local(folder))


# When a job is over ---------------------------------------------------------------------------------------------


async def keeps(task_files: TaskFiles, initial_data: dict[str, Any], actions: ActionFactory) -> None:
    """Has a file here and in the bucket, and goes on as it is told."""
    await task_files.write_text("kept.txt", "kept")
    if initial_data.get("raises"):
        raise RuntimeError("no luck")
    if skill := initial_data.get("skill"):
        actions.dispatch_task(skill, {}, {"success": "end"})
    else:
        actions.go_to("end")


@pytest.mark.parametrize(
    ("status", "data"),
    [("finished", {}), ("failed", {}), ("quarantined", {"raises": True}), ("cancelled", {"skill": "nobody"})],
)
async def test_whatever_end_a_job_comes_to_its_files_go_and_those_of_others_stay(
    start: Start, s3: S3Server, tmp_path: Path, status: str, data: dict[str, Any]
) -> None:
    folder, bp = tmp_path / "files", flow(keeps, failing=status == "failed")
    async with start(bp, **s3.settings, JOB_MAX_RETRIES=1, TASK_FILES_DIR=str(folder)) as node:
        lives = await create(node, "files", {"skill": "nobody"})
        await waits(node, lives)
        job_id = await create(node, "files", data)
        if status == "cancelled":
            await waits(node, job_id)
            assert job_id in local(folder)
            assert s3.keys(f"jobs/{job_id}/") == [f"jobs/{job_id}/kept.txt"]
            await node.client.cancel_job(job_id)
        job = await ended(node, job_id)
        assert job.status == status
        await until(lambda: local(folder) == [lives] and not [key for key in s3.everything() if job_id in key])
        assert s3.keys(f"jobs/{lives}/") == [f"jobs/{lives}/kept.txt"]


async def test_files_that_are_kept_stay_in_the_bucket_and_not_here(start: Start, s3: S3Server, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    settings = {**s3.settings, "S3_AUTO_CLEANUP": "false", "TASK_FILES_DIR": str(folder)}
    async with start(flow(keeps), **settings) as node:
        job = await run(node)
        await until(lambda: not local(folder))
        assert s3.keys(f"jobs/{job.id}/") == [f"jobs/{job.id}/kept.txt"]


async def test_a_job_without_files_costs_no_call_of_s3(start: Start, s3: S3Server, tmp_path: Path) -> None:
    async with start(one_task(), **s3.settings, TASK_FILES_DIR=str(tmp_path / "files")) as node:
        worker = node.new_worker("w1")
        worker.skill("t")(_nothing)
        async with worker, http(node) as client:
            for _ in range(3):
                await ended(node, await create(node, "one_task", {}))
            shown = (await client.get("/_public/metrics")).text
        assert "holon_files_up 1" in shown
        # What is looked for at the start, and nothing for any job.
        assert re.findall(r"^holon_files_calls_total.*", shown, re.MULTILINE) == [
            'holon_files_calls_total{call="list",result="ok"} 1.0'
        ]


async def _nothing() -> dict[str, Any]:
    return {}


# What may go wrong ----------------------------------------------------------------------------------------------


async def test_a_node_runs_without_its_s3_and_its_jobs_go_on_once_it_is_there(start: Start, tmp_path: Path) -> None:
    s3 = S3Server()
    try:
        s3.kill()
        bp = flow(keeps)
        async with start(
            bp, one_task(), **s3.settings, JOB_MAX_RETRIES=1000, TASK_FILES_DIR=str(tmp_path / "files")
        ) as node:
            job_id = await create(node, "files", {})
            job = await seen(node, job_id, lambda job: job.status == "waiting_for_retry")
            failed = await history(node, job_id, "state_failed")
            assert "cannot be used just now" in failed[0].context_snapshot["error"]
            assert str(s3.port) not in str(job)
            async with http(node) as client:
                assert (await client.get("/_public/status")).status_code == 200
                assert "holon_files_up 0" in (await client.get("/_public/metrics")).text
            await asyncio.to_thread(s3.start)
            assert (await ended(node, job_id)).status == "finished"
            await until(lambda: not [key for key in s3.everything() if job_id in key])
    finally:
        s3.close()


async def test_files_that_could_not_be_deleted_at_the_end_of_their_job_are_later(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_files, "EVERY_S", 0.05)
    s3, folder = S3Server(), tmp_path / "files"

    async def ends_alone(task_files: TaskFiles, actions: ActionFactory) -> None:
        await task_files.write_text("kept.txt", "kept")
        await asyncio.to_thread(s3.kill)
        actions.go_to("end")

    try:
        async with start(flow(ends_alone), **s3.settings, TASK_FILES_DIR=str(folder)) as node:
            job = await run(node)
            await asyncio.to_thread(s3.start)
            await until(lambda: not [key for key in s3.everything() if job.id in key] and not local(folder))
    finally:
        s3.close()


async def test_a_handler_that_needs_files_does_not_start_on_a_node_that_has_none(start: Start) -> None:
    async def inside(context: Any) -> None:
        await context.task_files.write_text("x", "y")
        context.actions.go_to("end")

    for handler in (keeps, inside):
        with pytest.raises(BlueprintError, match=r"'files'.* 'start' .*S3_ENDPOINT_URL, S3_ACCESS_KEY") as refused:
            async with start(flow(handler)):
                pass
        assert refused.value.code == "TASK_FILES_OFF"


async def test_a_handler_that_can_do_without_files_keeps_its_default(start: Start) -> None:
    async def work(state_history: dict[str, Any], actions: ActionFactory, task_files: Any = "none") -> None:
        state_history["files"] = task_files
        actions.go_to("end")

    async with start(flow(work)) as node:
        assert (await run(node)).result == {"files": "none"}


async def test_g13_a_clients_file_goes_by_signed_urls_to_a_worker_and_what_that_makes_to_job_and_client(
    start: Start, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What speaks to this machine goes through no proxy.
    monkeypatch.setenv("no_proxy", "*")
    bp = Blueprint("files", api_endpoint="/jobs/files", api_version="v1")

    @bp.handler(is_start=True)
    async def begin(task_files: TaskFiles, actions: ActionFactory) -> None:
        urls = {
            "source": await task_files.generate_presigned_url("in/photo.png"),
            "target": await task_files.generate_presigned_url("out/photo.txt", "PUT"),
        }
        actions.dispatch_task("describe", urls, {"success": "check"})

    @bp.handler
    async def check(task_files: TaskFiles, size: int, sha256: str, actions: ActionFactory) -> None:
        await task_files.download("out/photo.txt", verify_meta={"size": size, "hash": sha256})
        actions.go_to("end")

    @bp.handler(is_end=True)
    async def end() -> None: ...

    large = bytes(range(256)) * 40_000

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(large), 1_000_000):
            yield large[at : at + 1_000_000]

    settings = {**s3.settings, "S3_AUTO_CLEANUP": "false", "TASK_FILES_DIR": str(tmp_path / "files")}
    async with start(bp, **settings) as node, http(node) as client, httpx.AsyncClient(trust_env=False) as anybody:
        worker = node.new_worker("w1")

        @worker.skill
        async def describe(source: str, target: str, files: Files) -> Sent:
            photo = await files.download(source, size=len(large))
            (files.folder / "photo.txt").write_text(f"{photo.name}: {photo.stat().st_size}")
            return await files.upload("photo.txt", target)

        job_id = await create(node, "files", {})
        at = f"/api/v1/jobs/{job_id}/files"
        stored = await client.put(f"{at}/content/in/photo.png", content=pieces())
        assert stored.json()["s3_uri"] == f"s3://{BUCKET}/jobs/{job_id}/in/photo.png"
        allowed = (await client.get(f"{at}/upload", params={"filename": "in/note", "expires_in": 60})).json()
        assert (await anybody.request(allowed["method"], allowed["url"], content=b"1234")).status_code == 200
        async with worker:
            assert (await ended(node, job_id)).status == "finished"
        listed = (await client.get(at)).json()["files"]
        assert [(one["name"], one["size"]) for one in listed] == [
            ("in/note", 4), ("in/photo.png", len(large)), ("out/photo.txt", 19)
        ]  # fmt: skip
        led = await client.get(f"{at}/download/out/photo.txt")
        assert (await anybody.get(led.headers["location"])).text == f"photo.png: {len(large)}"
