"""How a node ends where something else runs it: its probes and health check, asked as the deployment files say."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from holon.testing import running_node
from tests.deploy import image, kubernetes
from tests.e2e.processes import Node, ended_with_test, until, work_log

BLUEPRINTS = Path(__file__).parents[1] / "e2e/blueprints"
PROBES = {name: probe for name, probe in kubernetes.container("sqlite.yaml").items() if name.endswith("Probe")}


async def probed(node: Node, name: str) -> int:
    """What a probe of the kubelet is answered."""
    return (await node.api.get(PROBES[name]["httpGet"]["path"], headers={"X-Client-Token": ""})).status_code


async def healthy(http: int, **settings: str) -> bool:
    """Whether the health check of the image says so."""
    [check] = (argument for name, argument in image.stages()[-1] if name == "HEALTHCHECK")
    program, *arguments = json.loads(check.partition("CMD ")[2])
    assert program == "python"
    env = {**os.environ, "API_PORT": str(http), **settings}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=env, stderr=asyncio.subprocess.DEVNULL
    )
    return await process.wait() == 0


async def test_the_health_check_asks_the_http_door_where_it_is_and_over_tls_where_it_speaks_that() -> None:
    for settings in ({"API_HOST": "127.0.0.2"}, {"TLS_ENABLED": "true"}, {"API_HOST": "127.0.0.2", "TLS_ENABLED": "1"}):
        async with running_node(storage=None, clock=None, **settings) as node:
            assert await healthy(node.ports.http, **settings)


async def test_i10_a_node_that_its_keeper_ends_is_not_sent_to_any_more_lives_on_and_loses_nothing(
    tmp_path: Path,
) -> None:
    node = Node(tmp_path, BLUEPRINTS, SHUTDOWN_GRACE_SECONDS=30)
    worker = node.worker("w1", "echo_worker.py")
    async with ended_with_test(node, worker):
        assert not await healthy(node.http)
        await node.start()
        await worker.start()
        assert {name: await probed(node, name) for name in PROBES} == dict.fromkeys(PROBES, 200)
        assert await healthy(node.http)
        job_id = await node.create("/jobs/echo", {"n": 1, "seconds": 3})
        await until(lambda: work_log(tmp_path, "w1"), "the worker has begun")

        os.kill(node.process.pid, signal.SIGTERM)

        async def unready() -> bool:
            return await probed(node, "readinessProbe") == 503

        await until(unready, "the node drains")
        assert await probed(node, "livenessProbe") == 200
        refused = await node.api.post("/api/v1/jobs/echo", json={"initial_data": {}})
        assert (refused.status_code, refused.json()["code"]) == (503, "DRAINING")
        assert not await healthy(node.http)
        assert await node.process.wait() == 0
        assert ": drained\n" in node.process.tail()

        await node.start()
        assert (await node.ended(job_id))["result"] == {"echo": 1}
        assert [line["what"] for line in work_log(tmp_path, "w1")] == ["begin", "end"]
