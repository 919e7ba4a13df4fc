"""The page for those who know another system: our examples on it run, and what it says of settings is so."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from holon.client import Client
from holon.config import Config
from holon.engine.loader import examine
from holon.testing import HANG_GUARD_S, RunningNode, running_node

PAGE = (Path(__file__).parents[2] / "docs" / "coming-from.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
BLUEPRINTS = [text for text in BLOCKS if "from holon import" in text]
WORKERS = [text for text in BLOCKS if "from holon.worker import" in text]
SAME = re.findall(r"`(\w+)`", PAGE.partition("Same name, same default: ")[2].partition("\n\n")[0])
# A row of a setting: its name, what it is there, and its default here.
ROW = re.compile(r"^\| `([A-Z0-9_]+)`[^|]*\| [^|]+ \| (?:`([^`]+)`|unset|the)[^|]* \| [^|]*\|$", re.MULTILINE)
# A row of settings that are none: their names, and what stands in their place.
GONE = re.compile(r"^\| (`[A-Z0-9_`, ]+`)[^|]*\| ([^|]+) \| [^|]*\|$", re.MULTILINE)
DIFFER, _, NONE = PAGE.partition("\n### Settings\n")[2].partition("These have none:")


def test_there_is_a_blueprint_and_a_worker_for_each_system() -> None:
    assert [len(BLUEPRINTS), len(WORKERS), len(BLOCKS)] == [3, 3, 9]


@asynccontextmanager
async def example(number: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningNode]:
    """A node with one of the page's blueprints, and its worker."""
    file = folder / "example.py"
    file.write_text(BLUEPRINTS[number], encoding="utf-8")
    report = examine([file])
    assert report.problems == ()
    ((_, blueprint),) = report.blueprints
    module: dict[str, Any] = {"__name__": "example"}
    exec(compile(WORKERS[number], "worker.py", "exec"), module)
    async with running_node(blueprint) as node:
        pair = node.certificate("worker")
        settings = {"NODE_URL": node.worker_url, "TLS_CA_PATH": node.folder / "ca.pem"}
        for name, value in {**settings, "TLS_CERT_PATH": pair.certificate, "TLS_KEY_PATH": pair.key}.items():
            monkeypatch.setenv(name, str(value))
        async with module["worker"]:
            yield node


async def asked(client: Client, job_id: str) -> None:
    """Wait until a job has requested a decision."""
    async for update in client.watch(job_id, after=0):
        if update.event is not None and update.event.event_type == "approval_requested":
            return
    raise AssertionError("it is over, and nobody was asked")


async def test_the_example_beside_celery_adds_up_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with example(0, tmp_path, monkeypatch) as node:
        job = await node.run("words", {"texts": ["one two three", "four five"]})
    assert (job.status, job.result) == ("finished", {"words": 5})


async def test_the_example_beside_temporal_waits_for_its_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with example(1, tmp_path, monkeypatch) as node:
        created = await node.client.create_job("order", {"item": "book"})
        await node.client.send_signal(created.job_id, "approve")
        job = await node.client.wait_for(created.job_id, timeout=HANG_GUARD_S)
    assert (job.status, job.result) == ("finished", {"payment": "paid for book"})


@pytest.mark.parametrize(("path", "needs_review"), [("a.avi", False), ("a.raw", True)])
async def test_the_example_beside_avtomatika_has_a_person_look_where_its_worker_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, needs_review: bool
) -> None:
    async with example(2, tmp_path, monkeypatch) as node:
        created = await node.client.create_job("video", {"path": path})
        if needs_review:
            await asked(node.client, created.job_id)
            await node.client.resolve_approval(created.job_id, "approved")
        job = await node.client.wait_for(created.job_id, timeout=HANG_GUARD_S)
    assert (job.status, job.result) == ("finished", {"output_path": f"{path}.mp4"})


def test_a_setting_of_the_same_name_and_default_is_there() -> None:
    config = Config({})
    assert len(SAME) > 25
    assert [name for name in SAME if not hasattr(config, name)] == []


def test_a_setting_of_another_default_has_the_one_that_the_page_says() -> None:
    config = Config({})
    rows = ROW.findall(DIFFER)
    assert len(rows) == DIFFER.count("\n| `")
    for name, default in rows:
        value = getattr(config, name)
        # The name of a node is made of that of its machine.
        assert name == "INSTANCE_ID" or default in (str(value), str(value).lower(), str(value).removesuffix(".0"))


def test_a_setting_that_is_said_to_be_none_is_none_and_what_stands_in_its_place_is_one() -> None:
    config = Config({})
    rows = GONE.findall(NONE)
    assert len(rows) == NONE.count("\n| `")
    names = [name for some, _ in rows for name in re.findall(r"\w+", some)]
    assert [name for name in names if hasattr(config, name)] == []
    assert [name for _, here in rows for name in re.findall(r"`([A-Z_]+)`", here) if not hasattr(config, name)] == []
