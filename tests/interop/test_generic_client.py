"""A client that was made for no node: it learns everything by reflection, over TLS with a token."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

from tests.e2e.processes import Node, ended_with_test


class Curl:
    """`buf curl` at a node's client door."""

    def __init__(self, buf: str, node: Node) -> None:
        token = f"authorization: Bearer {node.token}"
        self._command = (buf, "curl", "--protocol", "grpc", "--cacert", node.ca, "-H", token, "--reflect-header", token)
        self._url = f"https://localhost:{node.client}/holon.rxon.v1."

    async def __call__(self, method: str, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Make a call; the messages of its answer."""
        process = await asyncio.create_subprocess_exec(
            *self._command, "-d", json.dumps(request), self._url + method, stdout=-1, stderr=-1
        )
        out, errors = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0, errors.decode()
        decoder, text, answers = json.JSONDecoder(), out.decode().strip(), []
        while text:
            answer, end = decoder.raw_decode(text)
            answers.append(answer)
            text = text[end:].lstrip()
        return answers


async def test_a_generic_client_creates_cancels_and_watches_a_job(buf: str, tmp_path: Path, blueprints: Path) -> None:
    node = Node(tmp_path, blueprints, GRPC_REFLECTION=True)
    async with ended_with_test(node):
        await node.start()
        curl = Curl(buf, node)
        data = base64.b64encode(b'{"to": 3}').decode()
        create = {"blueprint_name": "counting", "initial_data": {"data": data}}
        (created,) = await curl("JobService/CreateJob", create)
        job = {"job_id": created["jobId"]}
        (shown,) = await curl("JobService/GetJob", job)
        # Its first step may be under way yet.
        assert shown["job"]["status"] in ("pending", "running", "waiting_for_worker")
        await curl("JobService/CancelJob", job)
        first, *happened, last = await curl("JobService/WatchJob", {**job, "after_sequence": "0"})
        assert "job_created" in [one["event"]["eventType"] for one in happened if "event" in one]
        assert (last["job"]["status"], last["job"]["terminal"]) == ("cancelled", True)
        assert first["job"]["id"] == created["jobId"]
        (listed,) = await curl("NodeService/ListBlueprints", {})
        assert [one["name"] for one in listed["blueprints"]] == ["counting"]
