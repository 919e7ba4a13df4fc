"""Compound holons under SIGKILL at each moment of a delegation, and with a link that is cut: nothing lost or twice."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from holon.client import Client
from tests.chaos.link import Link
from tests.conftest import Measured
from tests.e2e.dying import IN_PARENT, MOMENTS, PROGRAM
from tests.e2e.holons import a_family, children, holon_node
from tests.e2e.processes import Node, WorkLogs, until, work_log
from tests.redis_server import RedisServer

JOBS = 6


class Mortal(Node):
    """A node that dies once, at a moment that its settings name."""

    program = PROGRAM


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_node_that_is_killed_at_any_moment_of_a_delegation_loses_and_doubles_nothing(
    tmp_path: Path, moment: str
) -> None:
    # In the first half, so that there is more to come; the same each time.
    count = random.Random(moment).randint(1, JOBS // 2)
    dying: dict[str, Any] = {"DIE_AT": moment, "DIE_COUNT": count, "DIE_ONCE": tmp_path / "died"}
    below, above = ({}, dying) if moment in IN_PARENT else (dying, {})
    async with a_family(tmp_path, kind=Mortal, above=above, **below) as family:
        victim = family.parent if moment in IN_PARENT else family.child
        restarting = asyncio.create_task(victim.process.restarted())
        try:
            jobs = [
                await family.parent.create("/jobs/ask", {"skill": "work", "params": {"n": n, "seconds": 0.3}})
                for n in range(JOBS)
            ]
            ended = [await family.parent.ended(job) for job in jobs]
            # What is last is done once the jobs are over.
            await until(lambda: victim.process.starts == 2, "it has died and started again")
        finally:
            restarting.cancel()
        assert [job["result"] for job in ended] == [{"echo": n} for n in range(JOBS)]
        assert (family.work.begun, family.work.ended) == (JOBS, JOBS)


async def test_a_link_that_is_cut_for_a_while_lets_the_work_go_on_and_nobody_else_begin_it(tmp_path: Path) -> None:
    async with Link("child to parent", lambda: ports[0]) as link:
        ports: list[int | None] = [None]
        # A worker's lease would be over long before the link is back.
        short = {"HEARTBEAT_INTERVAL_SECONDS": 1, "WORKER_SILENCE_SECONDS": 3, "TASK_LEASE_SECONDS": 4}
        async with a_family(tmp_path, above=short, port=link.port) as family:
            ports[0] = family.parent.grpc
            job = await family.parent.create("/jobs/ask", {"skill": "work", "params": {"n": 1, "seconds": 7}})
            await until(lambda: family.work.begun == 1, "the leaf has begun")
            # Whoever tries to connect meanwhile waits, so that none comes late when it is back.
            link.freeze()
            link.cut()
            await until(lambda: family.work.ended == 1, "the leaf has ended")
            assert (await family.parent.job(job))["finished_at"] is None
            link.heal()
            assert (await family.parent.ended(job))["result"] == {"echo": 1}
            assert (family.work.begun, family.work.ended) == (1, 1)


async def test_a_cancel_at_the_root_passes_a_middle_level_that_is_restarted(tmp_path: Path, measured: Measured) -> None:
    loop = asyncio.get_running_loop()
    async with a_family(tmp_path) as family:
        root, middle = family.parent, family.child
        last = holon_node(tmp_path, "child-3", middle)
        leaf = last.worker("leaf", "echo_worker.py")
        work = WorkLogs(last.folder, "leaf")
        # The other level below has nobody who does it.
        await family.leaf.end()
        try:
            await last.start()
            await leaf.start()
            task = {"skill": "work", "params": {"n": 1, "seconds": 600}}
            job = await root.create("/jobs/ask", {"skill": "pass_on", "params": task})
            await until(lambda: work.begun == 1, "the leaf has begun")
            await middle.process.end()
            cancelled = loop.time()
            assert (await root.api.post(f"/api/v1/jobs/{job}/cancel")).status_code == 200
            assert (await root.ended(job))["status"] == "cancelled"
            assert work.stopped == 0
            await middle.start()
            opened = loop.time()
            await until(lambda: work.stopped == 1, "the cancel has come to the leaf")
            told = loop.time()
            measured(
                f"stopped {told - opened:.2f} s after the middle was back, {told - cancelled:.2f} s after the cancel"
            )
            await until(lambda: work.ended == 1, "the last level has cleaned up")
            # The task, and the clean-up.
            assert work.begun == 2
        finally:
            if leaf.alive:
                await leaf.end()
            await last.close()


async def test_what_another_holon_has_taken_over_meanwhile_is_stopped_when_the_link_is_back(tmp_path: Path) -> None:
    async with Link("child to parent", lambda: ports[0]) as link:
        ports: list[int | None] = [None]
        short = {
            "HEARTBEAT_INTERVAL_SECONDS": 1,
            "WORKER_SILENCE_SECONDS": 3,
            "TASK_LEASE_SECONDS": 4,
            "CHILD_LEASE": 4,
        }
        async with a_family(tmp_path, above=short, port=link.port) as family:
            ports[0] = family.parent.grpc
            task = {"skill": "work", "params": {"n": 1, "seconds": 12}}
            job = await family.parent.create("/jobs/ask", task)
            await until(lambda: family.work.begun == 1, "the first leaf has begun")
            sibling = holon_node(tmp_path, "child-2", family.parent)
            other = sibling.worker("leaf", "echo_worker.py")
            try:
                await sibling.start()
                await other.start()
                link.freeze()
                theirs = WorkLogs(sibling.folder, "leaf")
                await until(lambda: theirs.begun == 1, "the sibling has taken it over")
                link.heal()

                # Its clean-up is told by a task of its own; what it had begun never ends.
                await until(lambda: family.work.ended == 1, "the first has cleaned up")
                assert (await family.parent.ended(job))["result"] == {"echo": 1}
                assert (family.work.begun, family.work.ended) == (2, 1)
                assert (theirs.begun, theirs.ended) == (1, 1)
                assert set(await children(family.parent)) == {"child", "child-2"}
            finally:
                if other.alive:
                    await other.end()
                await sibling.close()


@pytest.mark.slow
@pytest.mark.own_store("two nodes of one holon need a Redis")
async def test_another_node_of_a_holon_links_when_the_one_that_did_is_gone_and_goes_on_with_all_of_it(
    tmp_path: Path,
) -> None:
    server = RedisServer(append_only=True)
    parent = holon_node(tmp_path, "parent")
    first, second = (
        holon_node(tmp_path / one, "child", parent, INSTANCE_ID=one, STORAGE_URI=server.uri()) for one in "ab"
    )
    leaf = second.worker("leaf", "echo_worker.py")
    work = WorkLogs(second.folder, "leaf")
    try:
        await parent.start()
        await first.start()

        async def linked() -> bool:
            return await children(parent) == ["child"]

        await until(linked, "the first node is linked")
        await second.start()
        await leaf.start()
        jobs = [await parent.create("/jobs/ask", {"skill": "work", "params": {"n": n, "seconds": 4}}) for n in range(5)]
        await until(lambda: work.begun == 5, "the leaf has begun all of it")
        await first.process.end()
        ended = [await parent.ended(job) for job in jobs]
        assert [job["result"] for job in ended] == [{"echo": n} for n in range(5)]
        assert (work.begun, work.ended) == (5, 5)
        assert "this node now has the parent link, epoch 2" in second.process.tail(100_000)
    finally:
        if leaf.alive:
            await leaf.end()
        for node in (first, second, parent):
            await node.close()
        server.close()


@pytest.mark.slow
@pytest.mark.own_store("two nodes of one holon need a Redis")
async def test_what_is_to_stay_with_a_child_stays_when_the_node_of_the_parent_that_had_its_link_is_killed(
    tmp_path: Path,
) -> None:
    server = RedisServer(append_only=True)
    short: dict[str, Any] = {
        "HEARTBEAT_INTERVAL_SECONDS": 1,
        "WORKER_SILENCE_SECONDS": 3,
        "TASK_LEASE_SECONDS": 4,
        "CHILD_LEASE": 4,
        "STORAGE_URI": server.uri(),
    }
    linked = holon_node(tmp_path / "a", "parent", INSTANCE_ID="a", **short)
    tls: dict[str, Any] = {
        "TLS_CERT_PATH": linked.certs / "server.pem",
        "TLS_KEY_PATH": linked.certs / "server.key",
        "TLS_CA_PATH": linked.ca,
    }
    other = holon_node(tmp_path / "b", "parent", INSTANCE_ID="b", **short, **tls)
    other.ca = linked.ca
    async with Link("child to the other node", lambda: ports[0]) as link:
        ports: list[int | None] = [None]
        urls = f"grpcs://localhost:{linked.grpc}", f"grpcs://localhost:{link.port}"
        child = holon_node(tmp_path, "child", linked, PARENT_URL=",".join(urls))
        sibling = holon_node(tmp_path, "child-2", linked, PARENT_URL=f"grpcs://localhost:{other.grpc}")
        leaves = [one.worker("leaf", "echo_worker.py") for one in (child, sibling)]
        ours, theirs = (WorkLogs(one.folder, "leaf") for one in (child, sibling))
        async with AsyncExitStack() as open_for_test:
            open_for_test.callback(server.close)
            for node in (linked, other, child, sibling):
                open_for_test.push_async_callback(node.close)
            for leaf in leaves:
                open_for_test.push_async_callback(leaf.end)
            for node in (linked, other, child):
                await node.start()
            await leaves[0].start()
            task = {"skill": "work", "params": {"n": 1, "seconds": 9}, "timeout": 200}
            jobs = [await other.create("/jobs/ask", {**task, "on_lost": on_lost}) for on_lost in ("wait", 150, None)]

            async def all_run() -> bool:
                async with Client(other.client_url, other.token, other.ca) as client:
                    trees = [[node async for node in client.tree(job)] for job in jobs]
                return all(any(node.status == "running" for node in tree if node.kind == "task") for tree in trees)

            await until(lambda: ours.begun == 3, "the leaf has begun all of it")
            await until(all_run, "that is stored")
            await sibling.start()
            await leaves[1].start()
            await linked.process.end()
            # That one is replaced says that the time of all of them is over.
            await until(lambda: theirs.begun == 1, "the sibling has what goes to others")
            ports[0] = other.grpc
            for job in jobs:
                assert (await other.ended(job))["result"] == {"echo": 1}
            assert theirs.begun == 1
            begun = Counter(line["task"] for line in work_log(child.folder, "leaf") if line["what"] == "begin")
            assert set(begun.values()) == {1}
