"""Whole nodes with keys: nothing secret is at rest, keys change under load, what does not open stops nothing else."""

from __future__ import annotations

import asyncio
import logging
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from holon.clock import SystemClock
from holon.errors import ConfigError, FailedPrecondition
from holon.ports import Document, place_of
from holon.stores.sealing import Seal, key_id
from holon.stores.sealing.seal import MARK
from holon.testing import RunningNode
from tests.integration.sealed_places import GUARD, KINDS, NEW, OLD, SECRET, Place, hand, late_hand, node_at, text, work
from tests.redis_server import RedisServer
from tests.store_file import documents, flipped, put, rows


@pytest.fixture(params=["sqlite", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path, server: RedisServer) -> Place:
    return Place(request.param, tmp_path, server)


@pytest.fixture
def file(tmp_path: Path, server: RedisServer) -> Place:
    return Place("sqlite", tmp_path, server)


@pytest.mark.parametrize("key", ["", text(OLD)], ids=["plain", "sealed"])
async def test_what_jobs_carry_is_at_rest_only_where_there_is_no_key(place: Place, key: str) -> None:
    async with node_at(place, ENCRYPTION_KEY=key) as node:
        found = await work(node, place)
        # At the door its owner is shown it all the same.
        async for job in node.client.list_jobs(blueprint="working"):
            assert (await node.client.get_job(job.id, data=True)).initial_data == {"it": SECRET["data"]}
    assert found == (set() if key else set(KINDS))


@pytest.mark.parametrize("key", ["", text(OLD)], ids=["plain", "sealed"])
async def test_so_it_is_in_a_database_of_history(file: Place, key: str) -> None:
    history = file.folder / "history.db"
    settings = {"HISTORY_DATABASE_URI": f"sqlite:///{history}", "ENCRYPTION_KEY": key}
    async with node_at(file, **settings) as node:
        await work(node, file)
    with closing(sqlite3.connect(history)) as db:
        told = db.execute("SELECT details, sealed FROM history WHERE type = 'task_finished'").fetchall()
        jobs = db.execute("SELECT result, message, sealed FROM jobs").fetchall()
    assert len(told) == 2
    assert len(jobs) == 3
    assert {(details is None, sealed is not None) for details, sealed in told} == {(bool(key), bool(key))}
    assert (SECRET["answer"] in str(jobs)) is not bool(key)
    assert (SECRET["error"] in str(told)) is not bool(key)


async def test_what_makes_tokens_is_sealed_and_without_a_key_the_log_says_that_it_is_not(
    file: Place, caplog: pytest.LogCaptureFixture
) -> None:
    found = []
    for settings in ({}, {"ENCRYPTION_KEY": text(OLD)}):
        caplog.clear()
        file.file.unlink(missing_ok=True)
        async with node_at(file, **settings) as node:
            # Whoever opens a session with a token has been given it.
            async with late_hand(node, sts=True):
                await node.run("waiting", {})
            stored = [(one.kind, one.value) for one in documents(file.file)]
        sealed = {kind: value[:1] == MARK for kind, value in stored if kind in ("signing_keys", "token_families")}
        found.append((sealed, caplog.text.count("are stored unencrypted")))
    assert found == [
        ({"signing_keys": False, "token_families": False}, 1),
        ({"signing_keys": True, "token_families": True}, 0),
    ]


async def test_what_makes_tokens_follows_the_key_and_what_lasts_has_it_kept_as_long(file: Place) -> None:
    lasts = 20 * 86_400
    before = SystemClock().now_ms()
    stored: dict[tuple[str, str], Document] = {}
    settings: dict[str, str | float]
    for keys in ((OLD,), (NEW, OLD)):
        settings = {"ENCRYPTION_KEY_FILE": file.write(*keys), "REFRESH_TOKEN_SECONDS": lasts}
        # Whoever opens a session with a token has been given it: the keys that sign were read.
        async with node_at(file, **settings) as node, late_hand(node, sts=True):
            await node.run("waiting", {})
        stored = {(one.kind, one.key): one for one in documents(file.file)}
    assert Seal((NEW,)).open(*place_of("signing_keys", "ring"), stored["signing_keys", "ring"].value)
    assert (stored["encryption_keys", key_id(OLD)].expires_at or 0) >= before + (lasts + 86_400) * 1000


async def test_a_store_of_before_there_was_a_key_goes_on_with_one_and_not_without_it_any_more(place: Place) -> None:
    async with node_at(place) as node:
        waiting = await node.client.create_job("waiting", {"it": SECRET["data"]})
    async with node_at(place, ENCRYPTION_KEY=text(OLD)) as node, late_hand(node):
        assert (await node.client.wait_for(waiting.job_id, timeout=GUARD)).result["it"] == SECRET["data"]
    for settings in ({}, {"ENCRYPTION_KEY": text(NEW)}):
        with pytest.raises(ConfigError, match=f"ENCRYPTION_KEY_FILE: .*{key_id(OLD)}"):
            async with node_at(place, **settings):
                raise AssertionError("it has started")
    async with node_at(place, ENCRYPTION_KEY=text(OLD)) as node:
        assert (await node.client.get_job(waiting.job_id)).result["it"] == SECRET["data"]


async def test_keys_change_while_jobs_run_and_none_of_them_fails(place: Place) -> None:
    # Each job has a task fail for good.
    settings: dict[str, str | float] = {"ENCRYPTION_KEY_FILE": place.write(OLD), "REPUTATION_MIN_THRESHOLD": 0.0}
    async with node_at(place, **settings) as node, hand(node):
        first = await node.run("working", {})
        assert bytes.fromhex(key_id(NEW)) not in await place.content()
        enough = asyncio.Event()
        load = [asyncio.create_task(_jobs(node, enough)) for _ in range(4)]
        place.write(NEW, OLD)
        assert "keys" in await node.client.node.reload()
        while bytes.fromhex(key_id(NEW)) not in await place.content():
            await node.run("working", {})
        last = await node.run("working", {})
        enough.set()
        jobs = [first, last, *(job for some in await asyncio.gather(*load) for job in some)]
        assert {job.status for job in jobs} == {"finished"}
        assert (await node.client.get_job(first.id)).result == {"answer": SECRET["answer"]}

        place.write(NEW)
        with pytest.raises(FailedPrecondition, match=key_id(OLD)) as refused:
            await node.client.node.reload(["keys"])
        assert refused.value.code == "CONFIG_INVALID"
        assert (await node.client.get_job(first.id)).result == {"answer": SECRET["answer"]}
    with pytest.raises(ConfigError, match=key_id(OLD)):
        async with node_at(place, ENCRYPTION_KEY_FILE=str(place.keys)):
            raise AssertionError("it has started")


async def _jobs(node: RunningNode, enough: asyncio.Event) -> list[Any]:
    jobs = []
    while not enough.is_set():
        jobs.append(await node.run("working", {}))
    return jobs


async def broken(node: RunningNode, path: str, where: str, data: dict[str, str] | None = None, key: str = "") -> bool:
    """Whether a call over HTTP is answered with the error of something that does not open, and it says where."""
    headers = {"X-Client-Token": node.token} | ({"Idempotency-Key": key} if key else {})
    async with httpx.AsyncClient(base_url=node.url, headers=headers) as http:
        answer = await (http.get(path) if data is None else http.post(path, json={"initial_data": data}))
        paths = (await http.get("/_public/openapi.json")).json()["paths"]
    operation = paths[re.sub("0-[0-9a-f]{32}", "{job_id}", path)]["get" if data is None else "post"]
    assert f"`{answer.json()['code']}`" in operation["responses"]["503"]["description"]
    return (answer.status_code, answer.json()["code"]) == (503, "SEAL_BROKEN") and where in answer.json()["error"]


async def test_what_was_changed_or_moved_in_the_file_stops_only_its_job_which_is_not_lost(
    file: Place, caplog: pytest.LogCaptureFixture
) -> None:
    async with node_at(file, ENCRYPTION_KEY=text(OLD)) as node:
        changed, moved, sound = [
            (await node.client.create_job("waiting", {"it": name}, request_id=name)).job_id for name in ("1", "2", "3")
        ]
    before = {job_id: value for (job_id, _), value in rows(file.file, "state").items()}
    put(file.file, {(changed, "state"): flipped(before[changed]), (moved, "state"): before[sound]})

    with caplog.at_level(logging.ERROR):
        async with node_at(file, ENCRYPTION_KEY=text(OLD)) as node, late_hand(node):
            assert (await node.client.wait_for(sound, timeout=GUARD)).result["it"] == "3"
            for number, job_id in (("1", changed), ("2", moved)):
                assert await broken(node, f"/api/v1/jobs/{job_id}", f"row:{job_id}:state")
                assert await broken(node, "/api/v1/jobs/waiting", job_id, {"it": number}, key=number)
            assert [job.id async for job in node.client.list_jobs()] == [sound]
            assert (await node.run("waiting", {"it": "4"})).result["it"] == "4"
    assert f"row:{changed}:state" in caplog.text
    assert f"row:{moved}:state" in caplog.text

    put(file.file, {(job_id, "state"): before[job_id] for job_id in (changed, moved)})
    async with node_at(file, ENCRYPTION_KEY=text(OLD)) as node, late_hand(node):
        ended = [await node.client.wait_for(job_id, timeout=GUARD) for job_id in (changed, moved)]
    assert [job.result["it"] for job in ended] == ["1", "2"]
