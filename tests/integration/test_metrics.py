"""What a node shows to Prometheus after traffic: the names that dashboards ask for, and what they mean."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from holon import Blueprint
from holon.context import ActionFactory
from holon.errors import StoreUnavailable
from holon.node import measuring
from holon.ports import Counts
from holon.rxon.v1 import worker_pb2
from holon.storage import MemoryStorage
from holon.testing import RunningNode, running_node
from holon.worker import TaskError
from tests.integration.cases.site import a_wire, fan_out, next_offer
from tests.integration.grpc_node import offering, result, update, updates
from tests.integration.holon_line import a_holon, passing
from tests.plaintext import PLAINTEXT

REPOSITORY = Path(__file__).parents[2]
Figures = dict[tuple[str, tuple[tuple[str, str], ...]], float]

NAMES = {
    "orchestrator_jobs_total",
    "orchestrator_jobs_failed_total",
    "orchestrator_job_duration_seconds",
    "orchestrator_task_queue_length",
    "orchestrator_active_workers",
    "orchestrator_jobs_timeouts_total",
    "orchestrator_tasks_ignored_total",
    "orchestrator_tasks_hot_dispatched_total",
    "orchestrator_ratelimit_blocked_total",
}

work = Blueprint("work", api_endpoint="/jobs/work", api_version="v1")


@work.handler(is_start=True)
async def begin(initial_data: dict[str, Any], actions: ActionFactory) -> None:
    if initial_data.get("break"):
        raise ValueError("broken")
    actions.dispatch_task(
        initial_data["skill"],
        {"id": initial_data.get("id", "")},
        {"success": "end"},
        dispatch_timeout_seconds=initial_data.get("dispatch_timeout"),
    )


@work.handler(is_end=True)
async def end() -> None:
    """It is over."""


@pytest.fixture(params=["memory", "sqlite"])
async def node(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RunningNode]:
    uri = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path / 'holon.db'}?synchronous=NORMAL"}[request.param]
    async with running_node(work, STORAGE_URI=uri, JOB_MAX_RETRIES=0) as running:
        yield running


async def text_of(node: RunningNode) -> str:
    async with httpx.AsyncClient(trust_env=False, verify=PLAINTEXT) as client:
        reply = await client.get(f"{node.url}/_public/metrics")
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return reply.text


async def figures_of(node: RunningNode) -> Figures:
    families = text_string_to_metric_families(await text_of(node))
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


async def scraped_until(node: RunningNode, name: str, **labels: str) -> Figures:
    """The figures, as soon as this one is there and not 0."""
    async with asyncio.timeout(30):
        while not (figures := await figures_of(node)).get((name, tuple(sorted(labels.items())))):
            pass
    return figures


def figure(figures: Figures, name: str, **labels: str) -> float:
    return figures[name, tuple(sorted(labels.items()))]


async def test_a17_after_some_traffic_the_names_are_there_and_the_jobs_are_counted(node: RunningNode) -> None:
    before = await figures_of(node)
    assert figure(before, "orchestrator_jobs_total", blueprint="work") == 0
    worker = node.new_worker("worker-1")
    worker.skill("echo")(lambda id: {"id": id})  # noqa: A006
    async with worker:
        await worker.ready()
        for _ in range(3):
            assert (await node.run("work", {"skill": "echo"})).status == "finished"
        after = await figures_of(node)
    text = await text_of(node)
    assert all(f"# TYPE {name} " in text for name in NAMES)
    assert figure(after, "orchestrator_jobs_total", blueprint="work") == 3
    assert figure(after, "orchestrator_jobs_failed_total", blueprint="work") == 0
    assert figure(after, "orchestrator_job_duration_seconds_count", blueprint="work") == 3
    assert 0 < figure(after, "orchestrator_job_duration_seconds_sum", blueprint="work") < 60
    assert figure(after, "orchestrator_active_workers") == 1
    assert figure(after, "orchestrator_task_queue_length") == 0
    assert figure(after, "holon_jobs_ended_total", blueprint="work", status="finished") == 3
    assert figure(after, "holon_task_results_total", verdict="success") == 3
    assert figure(after, "holon_task_offers_total") == 3
    assert figure(after, "holon_sessions_opened_total") == 1
    assert figure(after, "holon_stream_frames_received_total") >= 3
    assert figure(after, "holon_store_up") == 1


async def test_a_store_that_says_nothing_holds_up_no_figures_and_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counts, asked, answers = MemoryStorage.counts, 0, asyncio.Event()

    async def late(store: MemoryStorage) -> Counts:
        nonlocal asked
        asked += 1
        while not answers.is_set():
            # As of Redis: a cancel comes after the reply.
            with suppress(asyncio.CancelledError):
                await answers.wait()
        return await counts(store)

    monkeypatch.setattr(MemoryStorage, "counts", late)
    monkeypatch.setattr(measuring, "PATIENCE_S", 0.05)
    async with running_node(work, STORAGE_URI="memory://") as node:
        try:
            for _ in range(2):
                figures = await figures_of(node)
                assert figure(figures, "holon_store_up") == 0
                assert ("orchestrator_task_queue_length", ()) not in figures
            assert asked == 1
        finally:
            answers.set()
        await scraped_until(node, "holon_store_up")


async def test_a_node_that_stops_leaves_no_look_at_a_store_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_: MemoryStorage) -> Counts:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(MemoryStorage, "counts", never)
    monkeypatch.setattr(measuring, "PATIENCE_S", 0.05)
    async with running_node(work, STORAGE_URI="memory://") as node:
        assert figure(await figures_of(node), "holon_store_up") == 0
        assert "counts" in {task.get_name() for task in asyncio.all_tasks()}
    assert "counts" not in {task.get_name() for task in asyncio.all_tasks()}


async def test_a_look_that_cannot_be_ended_does_not_hold_up_the_end_of_its_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = asyncio.Event()

    async def never(_: MemoryStorage) -> Counts:
        while not answers.is_set():
            with suppress(asyncio.CancelledError):
                await answers.wait()
        raise StoreUnavailable("too late")

    monkeypatch.setattr(MemoryStorage, "counts", never)
    monkeypatch.setattr(measuring, "PATIENCE_S", 0.05)
    try:
        async with asyncio.timeout(30), running_node(work, STORAGE_URI="memory://") as node:
            await figures_of(node)
    finally:
        answers.set()


async def test_a_failed_job_is_counted_whatever_failed_it(node: RunningNode) -> None:
    worker = node.new_worker("worker-1")

    @worker.skill("fails")
    def fails() -> None:
        raise TaskError("PERMANENT_ERROR", "never")

    async with worker:
        assert (await node.run("work", {"skill": "fails"})).status == "quarantined"
        assert (await node.run("work", {"break": True})).status == "quarantined"
        figures = await figures_of(node)
    assert figure(figures, "orchestrator_jobs_failed_total", blueprint="work") == 2
    assert figure(figures, "holon_jobs_ended_total", blueprint="work", status="quarantined") == 2
    assert figure(figures, "holon_handler_failures_total", blueprint="work") == 1
    assert figure(figures, "holon_task_results_total", verdict="failure") == 1


async def test_what_waits_for_a_worker_is_counted_by_skill_and_its_timeout_by_blueprint(node: RunningNode) -> None:
    created = await node.client.create_job("work", {"skill": "nobody", "dispatch_timeout": 0.3})
    figures = await scraped_until(node, "orchestrator_task_queue_length")
    assert figure(figures, "holon_tasks_waiting", skill="nobody") == 1
    assert figure(figures, "holon_jobs", status="waiting_for_worker") == 1
    assert (await node.client.wait_for(created.job_id, timeout=30)).status == "failed"
    figures = await figures_of(node)
    assert figure(figures, "orchestrator_task_queue_length") == 0
    assert figure(figures, "orchestrator_jobs_timeouts_total", blueprint="work", type="dispatch") == 1
    assert figure(figures, "orchestrator_jobs_failed_total", blueprint="work") == 1


async def test_a_timeout_that_ends_the_other_branches_is_counted() -> None:
    tasks: list[dict[str, Any]] = [
        {"task_type": "nobody-does-it", "dispatch_timeout_seconds": 0.05},
        {"task_type": "nor-this"},
    ]
    async with running_node(fan_out(tasks, fail_fast=True)) as node:
        await node.run("fan_out", {})
        figures = await figures_of(node)
    assert figure(figures, "orchestrator_jobs_timeouts_total", blueprint="fan_out", type="dispatch") == 1


async def test_a_request_that_made_its_job_before_is_not_counted_again(node: RunningNode) -> None:
    first = await node.client.create_job("work", {"skill": "nobody"}, request_id="one")
    again = await node.client.create_job("work", {"skill": "nobody"}, request_id="one")
    assert first.job_id == again.job_id
    assert figure(await figures_of(node), "orchestrator_jobs_total", blueprint="work") == 1


async def test_no_label_holds_an_id(node: RunningNode) -> None:
    worker = node.new_worker("worker-unmistakable")
    worker.skill("echo")(lambda id: {"id": id})  # noqa: A006
    async with worker:
        job = await node.run("work", {"skill": "echo", "id": "param-unmistakable"})
        text = await text_of(node)
    assert job.id not in text
    assert "unmistakable" not in text
    assert node.config.INSTANCE_ID not in text


async def test_a_session_that_ends_says_why(node: RunningNode) -> None:
    worker = node.new_worker("worker-1")
    worker.skill("echo")(lambda id: {"id": id})  # noqa: A006
    async with worker:
        await worker.ready()
    figures = await scraped_until(node, "holon_sessions_ended_total", reason="LEFT")
    assert figure(figures, "orchestrator_active_workers") == 0


async def test_a_result_that_is_sent_again_counts_once(node: RunningNode) -> None:
    await node.client.create_job("work", {"skill": "echo"})
    async with a_wire(node, "worker-1", offering("echo")) as wire:
        offer = await wire.offer()
        for status in ("success", "failure", "success"):
            await wire.send(updates(result(offer, status=status)))
            assert (await wire.verdict()).verdict == worker_pb2.VERDICT_COMMITTED
        figures = await figures_of(node)
    counted = {labels: value for (name, labels), value in figures.items() if name == "holon_task_results_total"}
    assert counted == {(("verdict", "success"),): 1}


async def test_what_the_worker_door_does_not_apply_or_does_not_understand_is_counted_by_its_reason(
    node: RunningNode,
) -> None:
    stranger = worker_pb2.TaskOffer(task_id="0-unknown-1-0", lease_id="none")
    async with a_wire(node, "worker-1") as wire:
        await wire.send(updates(result(stranger)))
        await wire.expect("update_acks")
        await wire.send(updates(worker_pb2.TaskUpdate()))
        await wire.expect("session_error")
        figures = await figures_of(node)
    assert figure(figures, "orchestrator_tasks_ignored_total", reason="job_not_found") == 1
    assert figure(figures, "holon_task_results_total", verdict="superseded") == 1
    assert figure(figures, "holon_stream_refusals_total", reason="IDS_MISSING") == 1


async def test_what_workers_give_back_is_counted_by_its_reason_and_words_of_their_own_together(
    node: RunningNode,
) -> None:
    name = "holon_task_handbacks_total"
    assert figure(await figures_of(node), name, reason="STALE_OFFER") == 0
    await node.client.create_job("work", {"skill": "echo"})
    async with a_wire(node, "worker-1", offering("echo")) as wire:
        for reason in ("STALE_OFFER", "BUSY", "my-own-1", "my-own-2", ""):
            rejected = worker_pb2.TaskRejected(reason=reason, retry_at_once=True)
            await wire.send(updates(update(await next_offer(wire), rejected=rejected)))
        # What comes after it says that all of it was taken.
        await wire.send(updates(worker_pb2.TaskUpdate()))
        while (await wire.next())[0] != "session_error":
            pass
        figures = await figures_of(node)
    counted = {dict(labels)["reason"]: value for (one, labels), value in figures.items() if one == name and value}
    assert counted == {"STALE_OFFER": 1, "BUSY": 1, "other": 3}


async def test_a_task_that_a_child_gives_back_is_counted_by_its_reason_above_and_below(tmp_path: Path) -> None:
    async with (
        a_holon(tmp_path, "root", passing("top", "middle")) as root,
        a_holon(tmp_path, "middle", passing("middle", "nobodys"), above=root, ESCALATE_AFTER=0.2) as middle,
    ):
        assert figure(await figures_of(middle), "holon_uplink_rejections_total", reason="STALE_OFFER") == 0
        await root.client.create_job("top", {})
        await scraped_until(root, "holon_task_handbacks_total", reason="UNSERVABLE")
        figures = await scraped_until(middle, "holon_uplink_rejections_total", reason="UNSERVABLE")
        assert {name for name, _ in figures if name.startswith("holon_uplink_")} == {
            "holon_uplink_linked", "holon_uplink_jobs", "holon_uplink_rejections_total",
        }  # fmt: skip


async def test_a_worker_that_falls_silent_is_counted() -> None:
    async with (
        running_node(work, WORKER_SILENCE_SECONDS=0.3, HEARTBEAT_INTERVAL_SECONDS=0.1) as node,
        a_wire(node, "worker-1"),
    ):
        await scraped_until(node, "holon_sessions_ended_total", reason="SILENT")


async def test_the_store_shows_its_calls_transactions_and_history(node: RunningNode) -> None:
    await node.run("work", {"break": True})
    figures = await figures_of(node)
    assert figure(figures, "holon_store_call_seconds_count") >= 2
    assert figure(figures, "holon_store_transaction_seconds_count") >= 2
    assert figure(figures, "holon_store_group_calls_sum") >= 2
    assert figure(figures, "holon_store_read_seconds_count") >= 1
    assert figure(figures, "holon_history_events_total") >= 3
    assert figure(figures, "holon_store_failures_total") == 0
    assert figure(figures, "holon_store_queue_length") == 0
    assert [name for name, labels in figures if name == "holon_build_info" and dict(labels)["storage"]]


async def test_the_documentation_lists_every_figure_as_it_is(tmp_path: Path) -> None:
    store, history = (f"sqlite:///{tmp_path / name}" for name in ("holon.db", "history.db"))
    async with running_node(
        work,
        STORAGE_URI=store,
        HISTORY_DATABASE_URI=history,
        # Nobody is there, nor here.
        PARENT_URL="grpcs://127.0.0.1:1",
        S3_ENDPOINT_URL="http://127.0.0.1:1",
        S3_ACCESS_KEY="id",
        S3_SECRET_KEY="key",
        TASK_FILES_DIR=str(tmp_path / "files"),
    ) as node:
        text = await text_of(node)
    page = (REPOSITORY / "docs/observability.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `((?:orchestrator|holon)_\w+)` \| (\w+) \|", page, re.MULTILINE)
    shown = re.findall(r"^# TYPE ((?:orchestrator|holon)_\w+) (\w+)$", text, re.MULTILINE)
    assert sorted(listed) == sorted(shown)


async def test_two_nodes_of_one_process_do_not_mix() -> None:
    async with running_node(work) as one, running_node(work) as other:
        await one.client.create_job("work", {"skill": "nobody"})
        assert figure(await figures_of(one), "orchestrator_jobs_total", blueprint="work") == 1
        assert figure(await figures_of(other), "orchestrator_jobs_total", blueprint="work") == 0
