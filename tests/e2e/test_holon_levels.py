"""Holons of three levels, in real processes: what goes down and what comes up, and how long it may take."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from holon.client import Client
from tests.e2e.holons import a_family, children, holon_node
from tests.e2e.processes import Node, until


async def says(node: Node, what: str) -> None:
    """Wait until a node says something in its log."""
    await until(lambda: what in node.process.tail(100_000), f"{node.process.name} says {what}")


async def holon_id(node: Node) -> str:
    async with Client(node.client_url, node.token, node.ca) as operator:
        return (await operator.node.info()).holon_id


async def test_work_errors_and_cancels_pass_three_levels_and_a_circle_is_refused(tmp_path: Path) -> None:
    async with a_family(tmp_path, above={"JOB_MAX_RETRIES": 3}, JOB_MAX_RETRIES=1) as family:
        root, middle = family.parent, family.child
        last = holon_node(tmp_path, "child-3", middle, JOB_MAX_RETRIES=1, RETRY_BACKOFF_MAX_SECONDS=1)
        leaf = last.worker("leaf", "echo_worker.py")
        # Only the last one has somebody who does it.
        await family.leaf.end()
        try:
            await last.start()
            await leaf.start()
            down = {"skill": "pass_on", "params": {"skill": "work", "params": {"n": 3}}}
            done = await root.ended(await root.create("/jobs/ask", down))
            assert (done["status"], done["result"]) == ("finished", {"echo": 3})

            wrong = await root.ended(await root.create("/jobs/ask", down | {"params": {"skill": "break_down"}}))
            assert (wrong["status"], wrong["error"]["code"]) == ("quarantined", "CHILD_QUARANTINED")
            causes = wrong["error"]["details"]["causes"]
            assert [(one["code"], one["name"]) for one in causes] == [
                ("CHILD_QUARANTINED", "pass_on"),
                ("PERMANENT_ERROR", "break_down"),
            ]
            assert len({one["holon_id"] for one in causes}) == 2

            slow = {"skill": "pass_on", "params": {"skill": "work", "params": {"n": 4, "seconds": 60}}}
            job = await root.create("/jobs/ask", slow)
            work = last.folder / "leaf.work"
            await until(lambda: work.read_bytes().count(b"begin") == 2, "the leaf has begun")
            assert (await root.api.post(f"/api/v1/jobs/{job}/cancel")).status_code == 200
            # The clean-up of the last one, whose first task never ended.
            await until(lambda: work.read_bytes().count(b"end") == 2, "the cancel has come to the leaf")
            assert work.read_bytes().count(b"begin") == 3

            # The last one knows who is above; the root cannot serve it.
            own, roots = await holon_id(last), await holon_id(root)
            circle = holon_node(tmp_path, "child-0", last, STORAGE_URI=f"sqlite:///{root.folder / 'holon.db'}")
            await root.process.end()
            await circle.start()
            try:
                await says(
                    circle, f"holon {roots} cannot serve holon {own}, because {roots} would be above and below itself"
                )
                assert await children(last) == ["leaf"]
            finally:
                await circle.close()
        finally:
            if leaf.alive:
                await leaf.end()
            await last.close()


@pytest.mark.slow
async def test_progress_goes_up_and_never_falls_and_time_that_is_over_stops_the_work(tmp_path: Path) -> None:
    async with a_family(tmp_path, above={"JOB_MAX_RETRIES": 0}) as family:
        job = await family.parent.create("/jobs/ask", {"skill": "steps", "params": {"first": 80, "second": 40}})
        async with Client(family.parent.client_url, family.parent.token, family.parent.ca) as client:
            updates = [update async for update in client.watch(job)]
            told = [update.progress.percent for update in updates if update.progress is not None]
            seen = [percent for percent in told if percent is not None]
        assert seen
        assert seen == sorted(seen)
        # What the child tells is 99 at most: it is done with its result, which may come with the job's end.
        assert all(percent <= 99 for percent in seen[:-1])
        over = updates[-1].job
        assert over is not None
        assert over.progress == 100

        # A limit of the parent's: the child stops first, cleans up, and says so.
        limited = {"skill": "work", "params": {"n": 1, "seconds": 60}, "timeout": 3}
        ended = await family.parent.ended(await family.parent.create("/jobs/ask", limited))
        assert ended["error"]["code"] in ("DEADLINE_EXCEEDED", "TIMEOUT_ERROR")
        await until(lambda: family.work.ended == 1, "it was stopped, and its clean-up is done")
        assert family.work.begun == 2


async def test_a_copy_of_a_holon_is_refused_and_another_holon_in_its_place_too(tmp_path: Path) -> None:
    async with a_family(tmp_path) as family:

        async def linked() -> bool:
            return await children(family.parent) == ["child"]

        await until(linked, "the child is linked")
        await family.child.process.end()
        copied = tmp_path / "copied.db"
        with (
            contextlib.closing(sqlite3.connect(family.child.folder / "holon.db")) as store,
            contextlib.closing(sqlite3.connect(copied)) as copy,
        ):
            store.backup(copy)
        await family.child.start()
        await until(linked, "the child is linked again")
        before = family.parent.process.tail(100_000).count("session")
        # At first it has the epoch that the child has; when it starts once more, a higher one.
        cases = (
            (copied, "UPLINK_STALE", "its store is a copy"),
            (copied, "HOLON_LINKED", "its store was copied"),
            (tmp_path / "new.db", "HOLON_CHANGED", "If its store was replaced on purpose"),
        )
        for number, (at, code, words) in enumerate(cases):
            again = holon_node(tmp_path / f"again-{number}", "child", family.parent, STORAGE_URI=f"sqlite:///{at}")
            await again.start()
            try:
                await says(family.parent, f"worker child is refused: {code}")
                await says(again, words)
            finally:
                await again.close()
        assert family.parent.process.tail(100_000).count("session") == before
        # With another certificate it is no other child either, also while that one is away.
        await family.child.process.end()
        other = holon_node(tmp_path / "other", "child-2", family.parent, STORAGE_URI=f"sqlite:///{copied}")
        await other.start()
        try:
            await says(family.parent, "worker child-2 is refused: HOLON_CHANGED")
            await says(other, "map the certificates of all to 'child'")
        finally:
            await other.close()
        await family.child.start()
        job = await family.parent.create("/jobs/ask", {"skill": "work", "params": {"n": 9}})
        assert (await family.parent.ended(job))["result"] == {"echo": 9}
