"""What a node writes about one job, for a machine that reads its log."""

from __future__ import annotations

import json
import signal
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.e2e.processes import Node, ended_with_test

BLUEPRINT = """
from holon import Blueprint

job = Blueprint("job", api_endpoint="/jobs/job", api_version="v1")


@job.handler(is_start=True)
async def begin(initial_data, actions):
    if initial_data.get("break"):
        raise ValueError("no luck")
    actions.dispatch_task("echo", initial_data, {"success": "end"})


@job.handler(is_end=True)
async def end():
    pass
"""


def lines_of(node: Node) -> list[dict[str, Any]]:
    return [json.loads(line) for line in node.process.output.read_text().splitlines() if line.startswith("{")]


async def test_g20_the_log_is_json_lines_with_the_zones_offset_and_the_ids_of_a_job_as_fields(
    tmp_path: Path, store: str
) -> None:
    blueprints = tmp_path / "blueprints"
    blueprints.mkdir()
    (blueprints / "job.py").write_text(BLUEPRINT)
    settings = {"LOG_FORMAT": "json", "LOG_LEVEL": "DEBUG", "TZ": "Europe/Moscow", "JOB_MAX_RETRIES": 0}
    node = Node(tmp_path, blueprints, **settings, STORAGE_URI=store)
    worker = node.worker("worker-1", "echo_worker.py")
    async with ended_with_test(node, worker):
        await node.start()
        await worker.start()
        good = await node.create("/jobs/job", {"n": 1})
        bad = await node.create("/jobs/job", {"break": True})
        assert (await node.ended(good))["status"] == "finished"
        assert (await node.ended(bad))["status"] == "quarantined"
        assert await node.process.end(signal.SIGTERM) == 0
    lines = lines_of(node)
    assert {datetime.fromisoformat(line["asctime"]).utcoffset() for line in lines} == {timedelta(hours=3)}
    assert all({"levelname", "name", "message"} <= line.keys() for line in lines)
    # What libraries say of their own doings is no news of the node's.
    assert {line["name"].partition(".")[0] for line in lines} == {"holon"}
    of_good = [line for line in lines if line.get("job_id") == good]
    assert [line["levelname"] for line in of_good] == ["DEBUG"] * 4
    of_task = [line for line in of_good if "task_id" in line]
    assert [line["message"].split(" ", 2)[2] for line in of_task] == [
        "is offered to worker worker-1, attempt 1",
        "of worker worker-1 ended: success",
    ]
    assert {line["task_id"] for line in of_task} == {f"{good}-0-0"}
    assert {line["worker_id"] for line in of_task} == {"worker-1"}
    assert len({line["lease_id"] for line in of_task}) == 1
    of_bad = [line for line in lines if line.get("job_id") == bad and line["levelname"] == "WARNING"]
    why = f'ValueError: no luck ({blueprints}/job.py:10: raise ValueError("no luck"))'
    assert [line["message"].partition(bad)[2] for line in of_bad] == [
        f": handler of state begin failed: {why}",
        f" of job is quarantined: HANDLER_ERROR: handler of state 'begin' failed after 1 attempts: {why}",
    ]
    assert "ValueError" in of_bad[0]["exception"]
    of_worker = [line for line in lines if line.get("worker_id") == "worker-1" and "session_id" in line]
    assert [line["levelname"] for line in of_worker] == ["INFO", "INFO"]
