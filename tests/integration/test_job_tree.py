"""What a parent sees of its children's work: whole nodes below each other, over mTLS."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from holon import Blueprint
from holon.client import Client, TreeNode
from holon.context import ActionFactory
from holon.testing import RunningNode
from holon.worker import TaskError
from tests.chaos.link import Link
from tests.integration.holon_line import a_holon, passing, spreading, tree_of, until
from tests.integration.middle_store import stores_of
from tests.store_file import documents, put, rows


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

            at_work = [
                ("job", "top", "waiting_for_worker"),
                ("task", "middle", "running"),
                ("job", "middle", "waiting_for_worker"),
                ("task", "last", "running"),
                ("job", "last", "waiting_for_worker"),
                ("task", "work", "running"),
            ]

            async def accepted() -> bool:
                return shape(await tree_of(root.client, job)) == at_work

            await until(accepted, "the leaf has said that it works")
            nodes = await tree_of(root.client, job)
            assert shape(nodes) == at_work
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
            # How far they are may be told meanwhile.
            assert [(one.node_id, one.parent_node_id) for one in paged] == [
                (one.node_id, one.parent_node_id) for one in nodes
            ]

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


def failing(name: str, skill: str, times: int) -> Blueprint:
    """Its first jobs, so many of them, fail once the skill is done, in a way that a parent tries again."""
    made, left = Blueprint(name), iter([True] * times)

    @made.handler("start", is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_task(skill, {}, {"success": "broken" if next(left, False) else "end"})

    @made.handler("broken", is_end=True, outcome="failed", retry=True)
    async def broken() -> dict[str, str]:
        return {"why": "on purpose"}

    @made.handler("end", is_end=True)
    async def end() -> None: ...

    return made


async def test_a_tree_shows_each_generation_of_a_task_with_its_job_also_when_the_child_is_off(tmp_path: Path) -> None:
    def below(nodes: list[TreeNode]) -> list[tuple[str, str, str, int, str]]:
        """Each node with what it hangs on."""
        named = {node.node_id: f"{node.name} {node.generation}" for node in nodes}
        return [
            (node.kind, node.name, node.status, node.generation, named.get(node.parent_node_id, "")) for node in nodes
        ]

    def of_job(status: str, generation: int) -> list[tuple[str, str, str, int, str]]:
        return [("job", "middle", status, 0, f"middle {generation}"), ("task", "work", "success", 1, "middle 0")]

    gate = Gate()
    gate.open.set()
    async with a_holon(tmp_path, "root", passing("top", "middle"), JOB_MAX_RETRIES=3) as root:
        async with a_holon(tmp_path, "middle", failing("middle", "work", 2), above=root) as middle:
            worker = middle.new_worker("leaf")
            worker.skill("work")(gate.work(asyncio.get_running_loop()))
            async with worker:
                job = (await root.client.create_job("top", {})).job_id
                await ended(root, job)
            nodes = await tree_of(root.client, job)
            task = ("task", "middle", "success", 3, "top 0")
            first, second = (("task", "middle", "failure", generation, "middle 3") for generation in (1, 2))
            assert below(nodes) == [
                ("job", "top", "finished", 0, ""), task,
                first, *of_job("failed", 1),
                second, *of_job("failed", 2),
                *of_job("finished", 3),
            ]  # fmt: skip
            assert len({node.job_id for node in nodes if node.kind == "job"}) == 4
            earlier = [node for node in nodes if node.generation in (1, 2) and node.name == "middle"]
            assert {node.task_id for node in earlier} == {nodes[1].task_id}
            assert [node.error.code for node in earlier if node.error is not None] == ["CHILD_FAILED"] * 2
            assert earlier[0].finished_at == earlier[1].created_at
            # Pages of one node, or of a few, are the same tree.
            for size in (1, 2, 4):
                assert await tree_of(root.client, job, page_size=size) == nodes
            assert below(await tree_of(root.client, job, max_depth=1)) == [*below(nodes)[:2], first, second]

        async def is_off() -> bool:
            return all(
                node.offline for node in await tree_of(root.client, job) if node.name == "middle" and node.kind == "job"
            )

        await until(is_off, "the child is off")
        offline = await tree_of(root.client, job)
        assert below(offline) == [
            ("job", "top", "finished", 0, ""), task,
            first, of_job("failed", 1)[0],
            second, of_job("failed", 2)[0],
            of_job("finished", 3)[0],
        ]  # fmt: skip
        of_middle = [node.job_id for node in nodes if (node.kind, node.name) == ("job", "middle")]
        assert [node.job_id for node in offline if node.offline] == of_middle


@pytest.mark.parametrize("waits", [True, False])
async def test_a_tree_shows_what_failed_at_a_worker_while_the_task_waits_for_another_try_and_once_it_is_done(
    tmp_path: Path, waits: bool
) -> None:
    pause: dict[str, Any] = {"RETRY_BACKOFF_MIN_SECONDS": 86_400, "RETRY_BACKOFF_MAX_SECONDS": 86_400} if waits else {}
    async with a_holon(tmp_path, "root", passing("top", "work"), JOB_MAX_RETRIES=3, **pause) as root:
        worker, tries = root.new_worker("leaf"), iter([True])

        @worker.skill("work", price=2)
        async def work() -> dict[str, int]:
            if next(tries, False):
                raise TaskError("TRANSIENT_ERROR", "the tide")
            return {"n": 1}

        async with worker:
            job = (await root.client.create_job("top", {})).job_id

            async def failed_once() -> bool:
                return len(await tree_of(root.client, job)) == 3

            await until(failed_once, "it has failed")
            if not waits:
                await ended(root, job)
            _, task, earlier = await tree_of(root.client, job)
            status = "waiting_for_retry" if waits else "success"
            assert (task.status, task.generation, task.attempt, task.cost) == (
                status,
                2,
                1 if waits else 2,
                2 if waits else 4,
            )
            assert (earlier.status, earlier.generation, earlier.attempt, earlier.cost) == ("failure", 1, 1, 2)
            assert (earlier.parent_node_id, earlier.task_id, earlier.worker_id) == (task.node_id, task.task_id, "leaf")
            assert earlier.error is not None
            assert earlier.error.message == "the tide"


@pytest.fixture(params=["sqlite", "moved", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Where the child has its jobs, and their history."""
    yield from stores_of(request.param, tmp_path)


async def test_p3_the_tree_outlives_the_child_and_its_digest_verifies_later_against_the_childs_own_history(
    tmp_path: Path, store: dict[str, Any]
) -> None:
    admin = tmp_path / "admin.sock"
    below = passing("middle", "work", first="fail")
    pure: dict[str, Any] = {"ENABLE_CLIENT_API": False, "ADMIN_SOCKET": str(admin), **store}
    async with a_holon(tmp_path, "root", passing("top", "middle")) as root:
        async with a_holon(tmp_path, "middle", below, above=root, **pure) as middle:
            worker = middle.new_worker("leaf")
            worker.skill("work", price=5)(lambda: {"n": 1})

            @worker.skill("fail")
            def fail() -> dict[str, Any]:
                raise TaskError("PERMANENT_ERROR", "on purpose")

            async with worker:
                job = (await root.client.create_job("top", {"n": 1})).job_id
                await ended(root, job)
                live = await tree_of(root.client, job, digests=True)
        assert [node.offline for node in live] == [False] * 5
        assert [(node.name, node.cost) for node in live] == [
            ("top", 5),
            ("middle", 5),
            ("middle", 5),
            ("fail", None),
            ("work", 5),
        ]
    # The child is off, for good or not; and the parent has begun anew.
    async with a_holon(tmp_path, "root", passing("top", "middle")) as root:
        nodes = await tree_of(root.client, job, digests=True)
        assert shape(nodes) == [
            ("job", "top", "finished"),
            ("task", "middle", "success"),
            ("job", "middle", "finished"),
        ]
        told = nodes[2]
        assert (told.offline, told.reported, told.holon_id) == (True, True, live[2].holon_id)
        assert told.summary is not None
        assert [told.cost, told.summary.cost, nodes[1].cost] == [5] * 3
        assert (told.as_of or 0) >= (told.finished_at or 0) > 0
        assert told.digest is not None
        assert told.digest == live[2].digest
        assert told.summary is not None
        assert told.summary.task_counts == {"success": 1, "failure": 1}
        assert [(one.code, one.name, one.holon_id) for one in told.summary.errors] == [
            ("PERMANENT_ERROR", "fail", told.holon_id)
        ]
        assert [one.state for one in told.summary.states] == ["start", "second", "end"]
        # The parent's own fingerprint covers what it was told.
        assert nodes[0].digest is not None
        assert [one.sha256 for one in nodes[0].digest.children] == [told.digest.sha256]

        async def own() -> str:
            async with a_holon(tmp_path, "middle", below, above=root, **pure), Client(f"unix:{admin}", "") as operator:
                assert told.digest is not None
                # Its own operator sees the tree too, with the names that are not told above.
                assert [one.worker_id for one in await tree_of(operator, told.job_id)] == ["", "leaf", "leaf"]
                return (await operator.fingerprint(told.job_id, told.digest.event_count)).sha256

        assert await own() == told.digest.sha256
        if len(pure) == 3 and pure["STORAGE_URI"].startswith("sqlite"):
            # Whoever rewrites what was told of is found out.
            lines = rows(tmp_path / "middle.db", "lines.*")
            put(
                tmp_path / "middle.db",
                {key: value.replace(b"on purpose", b"by chance_") for key, value in lines.items()},
            )
            assert await own() != told.digest.sha256


async def test_a_child_that_goes_while_it_works_is_shown_as_of_then_and_goes_on_where_it_was(tmp_path: Path) -> None:
    below = passing("middle", "work")
    async with a_holon(tmp_path, "root", passing("top", "middle")) as root:
        async with a_holon(tmp_path, "middle", below, above=root):
            job = (await root.client.create_job("top", {"n": 1})).job_id
            await until(lambda: summaries(tmp_path / "root.db") == 1, "the child has told of its job")
        *_, told = await tree_of(root.client, job)
        assert (told.kind, told.status, told.current_state, told.offline) == (
            "job", "waiting_for_worker", "second", True,
        )  # fmt: skip
        assert told.summary is not None
        assert told.summary.task_counts == {"open": 1}
        assert [(one.state, one.left_at is None) for one in told.summary.states] == [("start", False), ("second", True)]

        async with a_holon(tmp_path, "middle", below, above=root) as middle:
            worker = middle.new_worker("leaf")
            worker.skill("work")(lambda: {"n": 1})
            async with worker:
                await ended(root, job)
                assert not any(node.offline for node in await tree_of(root.client, job))


@pytest.mark.parametrize("cut", [False, True], ids=["linked", "cut off"])
async def test_how_a_cancelled_task_ended_in_a_child_is_shown_when_the_child_is_off(
    tmp_path: Path, *, cut: bool
) -> None:
    gate, ports = Gate(), [0]
    async with (
        a_holon(tmp_path, "root", passing("top", "middle")) as root,
        Link("middle to root", lambda: ports[0] or None) as link,
    ):
        ports[0] = root.ports.worker
        url = {"PARENT_URL": f"grpcs://localhost:{link.port}"}
        async with a_holon(tmp_path, "middle", passing("middle", "work"), above=root, **url) as middle:
            worker = middle.new_worker("leaf")
            worker.skill("work")(gate.work(asyncio.get_running_loop()))
            async with worker:
                job = (await root.client.create_job("top", {"n": 1})).job_id
                await gate.begun.wait()
                if cut:
                    # It has told of the job while that ran.
                    await until(lambda: summaries(tmp_path / "root.db") == 1, "the child has told of its job")
                    ports[0] = 0
                    link.cut()
                await root.client.cancel_job(job)
                ports[0] = root.ports.worker

                async def told() -> bool:
                    lines = [line async for line in root.client.history(job)]
                    return "result_superseded" in {line.event_type for line in lines}

                await until(told, "the child has told how the task ended")
        *_, below = await tree_of(root.client, job, digests=True)
        assert (below.kind, below.name, below.status, below.offline) == ("job", "middle", "cancelled", True)
        assert below.summary is not None
        assert below.summary.task_counts == {"cancelled": 1}


async def test_nothing_is_shown_below_a_task_that_a_child_that_is_linked_has_given_back(tmp_path: Path) -> None:
    async with (
        a_holon(tmp_path, "root", passing("top", "middle")) as root,
        a_holon(tmp_path, "middle", passing("middle", "nobodys"), above=root, ESCALATE_AFTER=2),
    ):
        job = (await root.client.create_job("top", {"n": 1})).job_id
        await until(lambda: summaries(tmp_path / "root.db") == 1, "the child has told of its job")

        async def given_back() -> bool:
            return ("task", "middle", "queued") in shape(await tree_of(root.client, job))

        await until(given_back, "the child has given the task back")
        assert shape(await tree_of(root.client, job)) == [
            ("job", "top", "waiting_for_worker"), ("task", "middle", "queued"),
        ]  # fmt: skip


def summaries(file: Path) -> int:
    """Of how many tasks below a holon knows what was told."""
    return len(documents(file, "summaries"))


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
