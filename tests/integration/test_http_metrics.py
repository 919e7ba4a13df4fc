"""The HTTP door: what the node measures is shown as it says it, to anybody who reaches the port."""

from __future__ import annotations

from tests.integration.http_node import running

TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"


async def test_metrics_are_public_and_of_the_type_that_the_node_says() -> None:
    async def metrics() -> tuple[bytes, str]:
        return b"orchestrator_jobs_total 1\n", TEXT_FORMAT

    async with running(metrics=metrics) as node:
        reply = await node.client.get("/_public/metrics")
        assert (reply.status_code, reply.headers["content-type"]) == (200, TEXT_FORMAT)
        assert reply.text == "orchestrator_jobs_total 1\n"
        assert (await node.client.post("/_public/metrics")).headers["allow"] == "GET, HEAD"


async def test_a_node_that_measures_nothing_has_no_such_route() -> None:
    async with running() as node:
        assert (await node.client.get("/_public/metrics")).status_code == 404
