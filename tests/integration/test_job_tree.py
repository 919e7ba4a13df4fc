"""What a parent sees of its children's work: whole nodes below each other, over mTLS."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

from holon.client import Client, TreeNode
from holon.testing import RunningNode
from tests.integration.holon_line import a_holon, passing, spreading, tree_of, until


class Gate:
    """A skill that tells when it has begun, and waits to be let go."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.open = asyncio.Event()

    def work(self, loop: asyncio.AbstractEventLoop) -> Any:
        async def work(params: dict[str, Any]) -> dict[str, Any]:
            loop.call_soon_threadsafe(self.begun.set)
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.open.wait(), loop))
            return params

        return work


async def ended(node: RunningNode, job_id: str) -> None:
    assert (await node.client.wait_for(job_id, timeout=60)).status == "finished"


def shape(nodes: list[TreeNode]) -> list[tuple[str, str, str]]:
    return [(node.kind, node.name, node.status) for node in nodes]


async def test_a_tree_shows_three_levels_while_they_work_and_when_they_have(tmp_path: Path) -> None:
    gate = Gate()
    async with (
        a_holon(tmp_path, "root", passing("top", "middle")) as root,
        a_holon(tmp_path, "middle", passing("middle", "last"), above=root, DISCLOSE="full") as middle,
        a_holon(tmp_path, "last", passing("last", "work"), above=middle) as last,
    ):
        worker = last.new_worker("leaf")
        worker.skill("work")(gate.work(asyncio.get_running_loop()))
        async with worker:
            job = (await root.client.create_job("top", {"n": 1})).job_id
            await gate.begun.wait()

            async def accepted() -> bool:
                return "offered" not in {node.status for node in await tree_of(root.client, job)}

            await until(accepted, "the leaf has said that it works")
            nodes = await tree_of(root.client, job)
            assert shape(nodes) == [
                ("job", "top", "waiting_for_worker"),
                ("task", "middle", "running"),
                ("job", "middle", "waiting_for_worker"),
                ("task", "last", "running"),
                ("job", "last", "waiting_for_worker"),
                ("task", "work", "running"),
            ]
            # Each hangs on the one above; who says it is told, and where it is.
            assert [node.parent_node_id for node in nodes] == ["", *(node.node_id for node in nodes[:-1])]
            assert [node.reported for node in nodes] == [False, False, True, True, True, True]
            ids = [(await one.client.node.info()).holon_id for one in (root, middle, last)]
            assert [node.holon_id for node in nodes] == [ids[0], ids[0], ids[1], ids[1], ids[2], ids[2]]
            assert not any(node.offline for node in nodes)
            # The middle discloses names, and the last one does not.
            assert [node.worker_id for node in nodes] == ["", "child", "", "child", "", ""]
            assert shape(await tree_of(root.client, job, max_depth=3)) == shape(nodes)[:4]
            paged = await tree_of(root.client, job, page_size=1)
            assert paged == nodes

            gate.open.set()
            await ended(root, job)
            assert [status for *_, status in shape(await tree_of(root.client, job))] == ["finished", "success"] * 3

            async with httpx.AsyncClient(base_url=root.url, headers={"X-Client-Token": root.token}) as api:
                answer = await api.get(f"/api/v1/jobs/{job}/tree", params={"digests": "true", "page_size": 5})
                page = answer.json()
                assert [node["kind"] for node in page["nodes"]] == ["job", "task"] * 2 + ["job"]
                assert page["nodes"][2]["digest"]["children"][0]["holon_id"] == ids[2]
                rest = {"digests": "true", "page_token": page["next_page_token"]}
                (left,) = (await api.get(f"/api/v1/jobs/{job}/tree", params=rest)).json()["nodes"]
                assert (left["name"], left["parent_node_id"]) == ("work", page["nodes"][4]["node_id"])


async def test_p3_the_tree_outlives_the_child_and_its_digest_verifies_later_against_the_childs_own_history(
    tmp_path: Path,
) -> None:
    gate = Gate()
    admin = tmp_path / "admin.sock"
    pure: dict[str, Any] = {"ENABLE_CLIENT_API": False, "ADMIN_SOCKET": str(admin)}
    async with a_holon(tmp_path, "root", passing("top", "middle")) as root:
        async with a_holon(tmp_path, "middle", passing("middle", "work", first="fail"), above=root, **pure) as middle:
            worker = middle.new_worker("leaf")
            worker.skill("work")(gate.work(asyncio.get_running_loop()))

            @worker.skill("fail")
            def fail() -> dict[str, Any]:
                raise LookupError("a secret of the params")

            async with worker:
                job = (await root.client.create_job("top", {"n": 1})).job_id
                await gate.begun.wait()

                gate.open.set()
                await ended(root, job)
                live = await tree_of(root.client, job, digests=True)
        # The child is off, for good or not.
        nodes = await tree_of(root.client, job, digests=True)
        assert shape(nodes) == [
            ("job", "top", "finished"),
            ("task", "middle", "success"),
            ("job", "middle", "finished"),
        ]
        below = nodes[2]
        assert below.offline
        assert below.as_of is not None
        assert below.as_of >= (below.finished_at or 0) > 0
        assert below.digest == live[2].digest
        assert below.summary is not None
        assert below.summary.task_counts == {"success": 1, "failure": 1}
        assert [(one.code, one.name) for one in below.summary.errors] == [("TRANSIENT_ERROR", "fail")]
        assert [one.state for one in below.summary.states] == ["start", "second", "end"]
        # The parent's own fingerprint covers what it was told.
        assert nodes[0].digest is not None
        assert below.digest is not None
        assert [one.sha256 for one in nodes[0].digest.children] == [below.digest.sha256]

        file = tmp_path / "middle.db"
        for rewritten in (False, True):
            if rewritten:
                with sqlite3.connect(file) as database:
                    database.execute(
                        "UPDATE history SET events = CAST(replace(CAST(events AS TEXT), 'leaf', 'leap') AS BLOB)"
                    )
            async with (
                a_holon(tmp_path, "middle", passing("middle", "work", first="fail"), above=root, **pure),
                Client(f"unix:{admin}", "") as operator,
            ):
                own = await operator.fingerprint(below.job_id, below.digest.event_count)
                assert (own.sha256 == below.digest.sha256) is not rewritten


@pytest.mark.parametrize("disclose", ["none", "summary"])
async def test_what_a_child_does_not_disclose_is_not_seen(tmp_path: Path, disclose: str) -> None:
    async with a_holon(tmp_path, "root", passing("top", "middle")) as root:
        async with a_holon(tmp_path, "middle", passing("middle", "work"), above=root, DISCLOSE=disclose) as middle:
            worker = middle.new_worker("leaf-of-the-child")
            worker.skill("work")(lambda: {"result": "kept"})
            async with worker:
                job = (await root.client.create_job("top", {"secret": "params"})).job_id
                await ended(root, job)
                nodes = await tree_of(root.client, job, digests=True)
                shown = repr(nodes)
                assert len(nodes) == (2 if disclose == "none" else 4)
                assert "leaf-of-the-child" not in shown
                assert "params" not in shown
        assert len(await tree_of(root.client, job)) == (2 if disclose == "none" else 3)


async def test_a_wide_tree_comes_in_pages_each_node_once(tmp_path: Path) -> None:
    async with (
        a_holon(tmp_path, "root", spreading("top", "middle")) as root,
        a_holon(tmp_path, "middle", spreading("middle", "work"), above=root) as middle,
    ):
        worker = middle.new_worker("leaf", max_concurrent=20)
        worker.skill("work")(lambda: {"n": 1})
        async with worker:
            job = (await root.client.create_job("top", {"branches": 3})).job_id
            assert (await root.client.wait_for(job, timeout=60)).status == "finished"
            whole = await tree_of(root.client, job)
            assert len({node.node_id for node in whole}) == len(whole)
            for size in (1, 2, 3, 5, 7):
                assert await tree_of(root.client, job, page_size=size) == whole
