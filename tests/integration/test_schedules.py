"""Schedules in whole nodes: each slot's job once, whose it is, and what a file may say of a node's blueprints."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypedDict
from zoneinfo import ZoneInfo

import httpx
import pytest

from holon import Blueprint
from holon.client import Client, Job
from holon.context import ActionFactory, ClientConfig
from holon.domain.client import SCHEDULER
from holon.errors import ConfigError, FailedPrecondition, NotFound, PermissionDenied
from holon.testing import RunningNode, running_node
from tests.integration.cases.site import LOOK_S
from tests.redis_server import RedisServer

GUARD = 30.0
ALWAYS_DUE = '[s]\nblueprint = "nobodys"\ninterval_seconds = 86400\ncatch_up_seconds = 86400\n'
SHOP = "a-token-of-the-shop-a-token-of-the-shop"


class Data(TypedDict):
    """What a strict blueprint takes."""

    n: int


@dataclass
class Positive:
    """What a blueprint takes whose class looks at it."""

    n: int

    def __post_init__(self) -> None:
        if self.n < 0:
            raise ValueError("n is below 0")


def tick() -> Blueprint:
    """Ends with whom it was made for, and for when; clients cannot start it."""
    bp = Blueprint("tick")

    @bp.handler(is_start=True)
    async def start(client: ClientConfig, actions: ActionFactory) -> None:
        actions.go_to("over")

    @bp.handler(is_end=True)
    async def over(client: ClientConfig, initial_data: dict[str, Any]) -> object:
        return {"plan": client.plan, **client.params, **initial_data}

    return bp


def nobodys() -> Blueprint:
    """Waits for a worker that never comes."""
    bp = Blueprint("nobodys")

    @bp.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.dispatch_task("nobodys", {}, {"success": "over"})

    @bp.handler(is_end=True)
    async def over() -> None: ...

    return bp


async def scheduled(node: RunningNode) -> list[Job]:
    """The jobs of schedules, oldest first."""
    return [job async for job in node.client.list_jobs(owner=SCHEDULER)][::-1]


async def got(node: RunningNode, path: str, token: str) -> httpx.Response:
    """What the HTTP door answers."""
    async with httpx.AsyncClient() as client:
        return await client.get(f"{node.url}{path}", headers={"X-Client-Token": token})


async def names(node: RunningNode) -> list[str]:
    """The schedules that the node has."""
    text = (await got(node, "/_public/metrics", "")).text
    return re.findall(r'^holon_schedule_next_timestamp_seconds\{schedule="(.*)"\}', text, re.MULTILINE)


async def until(so: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what no client is told of."""
    async with asyncio.timeout(GUARD):
        while not await so():  # noqa: ASYNC110  another node's doing
            await asyncio.sleep(LOOK_S)


async def first(node: RunningNode) -> Job:
    """The first job of a schedule, once it is made."""

    async def made() -> bool:
        return bool(await scheduled(node))

    await until(made)
    [job] = await scheduled(node)
    return job


async def results(job: Job, node: RunningNode) -> dict[str, Any]:
    """What a job ended with."""
    ended = await node.client.wait_for(job.id, timeout=GUARD)
    assert ended.status == "finished"
    assert isinstance(ended.result, dict)
    return ended.result


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "schedules.toml"


@pytest.fixture
def uri(server: RedisServer) -> str:
    return server.uri(server.database())


def write(path: Path, text: str) -> None:
    path.touch(0o600)
    path.write_text(text)


async def test_g01_two_nodes_on_one_redis_make_each_slots_job_once(file: Path, uri: str) -> None:
    write(file, '[tick]\nblueprint = "tick"\ninterval_seconds = 1\ninput_data = {n = 1}\n')
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(
                running_node(tick(), INSTANCE_ID=name, STORAGE_URI=uri, SCHEDULES_CONFIG_PATH=str(file))
            )
            for name in ("a", "b")
        ]

        async def five() -> bool:
            return len(await scheduled(nodes[0])) >= 5

        await until(five)
        jobs = await scheduled(nodes[1])
        due = Counter([(await results(job, nodes[0]))["due_at"] for job in jobs])
        assert set(due.values()) == {1}
        figures = [await got(node, "/_public/metrics", "") for node in nodes]
        missed = [re.findall(r'slots_total{result="missed",schedule="tick"} (\d+)', one.text) for one in figures]
        # None is left out, but where both nodes stood still for so long that they say so.
        assert len(set(range(min(due), max(due) + 1)) - set(due)) <= sum(int(one) for (one,) in missed)


async def test_g02_a_time_of_day_is_one_of_the_nodes_zone(file: Path) -> None:
    zone = ZoneInfo("Asia/Kolkata")
    # What was due in the minute that has just begun is caught up, and what is due in the next waits for that.
    now = datetime.now(zone)
    write(
        file,
        f'[past]\nblueprint = "tick"\ndaily_at = "{now:%H:%M}"\n'
        f'[to_come]\nblueprint = "tick"\ndaily_at = "{now + timedelta(minutes=5):%H:%M}"\n',
    )
    async with running_node(tick(), TZ="Asia/Kolkata", SCHEDULES_CONFIG_PATH=str(file)) as node:
        job = await first(node)
        due = now.replace(second=0, microsecond=0)
        assert await results(job, node) == {
            "plan": "system",
            "source": "scheduler:past",
            "due_at": due.timestamp(),
        }


async def test_g04_a_job_that_no_worker_takes_in_time_fails(file: Path) -> None:
    write(file, '[s]\nblueprint = "nobodys"\ninterval_seconds = 86400\ndispatch_timeout = 1\ncatch_up_seconds = 86400')
    async with running_node(nobodys(), SCHEDULES_CONFIG_PATH=str(file)) as node:
        job = await first(node)
        ended = await node.client.wait_for(job.id, timeout=GUARD)
        assert ended.error is not None
        assert (ended.status, ended.error.code) == ("failed", "DISPATCH_TIMEOUT")


async def test_only_administrators_see_and_end_the_jobs_of_schedules(file: Path, tmp_path: Path) -> None:
    write(file, ALWAYS_DUE)
    clients = tmp_path / "clients.toml"
    write(clients, f'[shop]\ntoken = "{SHOP}"')
    async with running_node(
        nobodys(), SCHEDULES_CONFIG_PATH=str(file), CLIENTS_CONFIG_PATH=str(clients), STORAGE_URI="memory://"
    ) as node:
        job = await first(node)
        assert [one.id async for one in node.client.list_jobs()] == []
        async with Client(f"grpcs://localhost:{node.ports.client}", SHOP, node.folder / "ca.pem") as shop:
            with pytest.raises(PermissionDenied):
                await shop.list_page(owner=SCHEDULER)
            for call in (shop.get_job, shop.cancel_job, shop.history_page):
                with pytest.raises(NotFound):
                    await call(job.id)
            with pytest.raises(NotFound):
                await anext(aiter(shop.watch(job.id)))
        assert (await got(node, f"/api/v1/jobs/{job.id}", SHOP)).status_code == 404
        assert (await got(node, f"/api/v1/jobs/{job.id}", node.token)).json()["id"] == job.id
        page = await node.client.history_page(job.id)
        assert page.events[0].context_snapshot == {"blueprint": "nobodys", "source": "scheduler:s"}
        await node.client.cancel_job(job.id)
        ended = await node.client.wait_for(job.id, timeout=GUARD)
        assert ended.error is not None
        assert ended.error.message == "cancelled by client 'default'"


async def test_what_a_schedule_could_never_do_refuses_to_start_and_to_reload(file: Path) -> None:
    good = '[s]\nblueprint = "strict"\ndaily_at = "02:00"\ninput_data = {n = 1}\n'
    bad = good.replace("n = 1", "n = 'one'") + '[t]\nblueprint = "gone"\ninterval_seconds = 1\n'
    bad += '[u]\nblueprint = "positive"\ninterval_seconds = 1\ninput_data = {n = -1}\n'
    strict, positive = Blueprint("strict"), Blueprint("positive")

    @strict.handler(is_start=True, is_end=True)
    async def start(initial_data: Data) -> None: ...

    @positive.handler("start", is_start=True, is_end=True)
    async def begin(initial_data: Positive) -> None: ...

    write(file, bad)
    with pytest.raises(ConfigError) as refused:
        async with running_node(strict, positive, SCHEDULES_CONFIG_PATH=str(file)):
            pass
    assert [one.field for one in refused.value.details] == [
        f"{file} [s] input_data.n", f"{file} [t] blueprint", f"{file} [u] input_data",
    ]  # fmt: skip
    write(file, good)
    async with running_node(strict, positive, SCHEDULES_CONFIG_PATH=str(file)) as node:
        write(file, bad)
        with pytest.raises(FailedPrecondition) as bad_reload:
            await node.client.node.reload(["schedules"])
        assert (bad_reload.value.code, len(bad_reload.value.details)) == ("CONFIG_INVALID", 3)
        assert await names(node) == ["s"]
        write(file, good.replace("[s]", "[t]"))
        assert await node.client.node.reload(["schedules"]) == ("schedules",)
        assert await names(node) == ["t"]


async def test_an_administrator_hands_on_the_right_to_decide_what_the_job_of_a_schedule_asks(file: Path) -> None:
    asking = Blueprint("asking")

    @asking.handler(is_start=True)
    async def start(actions: ActionFactory) -> None:
        actions.await_human_approval("chat", "go on?", {"yes": "over"})

    @asking.handler(is_end=True)
    async def over() -> None: ...

    write(file, ALWAYS_DUE.replace("nobodys", "asking"))
    async with running_node(asking, SCHEDULES_CONFIG_PATH=str(file), STORAGE_URI="memory://") as node:
        job = await first(node)
        async with asyncio.timeout(GUARD):
            while (question := (await node.client.get_job(job.id)).approval) is None:
                pass
        body = {"decision": "yes", "approval_token": question.approval_token}
        async with httpx.AsyncClient() as nobody:
            reply = await nobody.post(f"{node.url}/_public/webhooks/approval/{job.id}", json=body)
        assert reply.status_code == 200, reply.text
        assert (await node.client.wait_for(job.id, timeout=GUARD)).status == "finished"
