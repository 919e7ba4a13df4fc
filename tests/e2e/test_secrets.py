"""A node with known secrets works, fails and reads its files again at LOG_LEVEL=DEBUG, and what it said is read."""

from __future__ import annotations

import json
import os
import secrets
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from holon.client import Client
from holon.errors import Unauthenticated
from holon.security.tokens import hashed
from tests.e2e.cli_node import holon_forked
from tests.e2e.processes import Node, ended_with_test, until
from tests.integration.trace_collector import Collector, collecting

BLUEPRINT = """
from holon import Blueprint

job = Blueprint("job", api_endpoint="/jobs/job", api_version="v1")


@job.handler(is_start=True)
async def begin(initial_data, context, client, actions):
    if initial_data.get("break"):
        raise ValueError(repr(context) + repr(client))
    actions.dispatch_task("echo", {"seen": repr(context)}, {"success": "end"})


@job.handler(is_end=True)
async def end(context, client):
    return {"context": repr(context), "client": repr(client)}
"""


def audit_of(text: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [line["audit"] for line in lines if line["name"] == "holon.audit"]


@pytest.fixture
def known() -> dict[str, str]:
    """Every secret of the node, by what it is; and tokens that are nobody's, which it must not tell either."""
    names = ("shop", "old", "new", "operator", "workers", "stranger", "mistyped")
    return {name: f"{name}-{secrets.token_urlsafe(32)}" for name in names}


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with collecting() as opened:
        yield opened


async def test_no_secret_is_in_anything_that_a_node_says(
    tmp_path: Path, known: dict[str, str], collector: Collector
) -> None:
    blueprints = tmp_path / "blueprints"
    blueprints.mkdir()
    (blueprints / "job.py").write_text(BLUEPRINT)
    file = tmp_path / "clients.toml"
    file.touch(0o600)
    good = f'[shop]\ntokens = ["{known["shop"]}", "{known["old"]}"]\n[lab]\ntoken = "{hashed(known["new"])}"\n'
    file.write_text(good)
    settings = {
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "DEBUG",
        "JOB_MAX_RETRIES": 0,
        "CLIENTS_CONFIG_PATH": file,
        "CLIENT_TOKEN": known["operator"],
        "GLOBAL_WORKER_TOKEN": known["workers"],
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
    }
    node = Node(tmp_path, blueprints, **settings)
    node.api.headers["X-Client-Token"] = known["shop"]
    env = dict(node.process._env)
    worker = node.worker("worker-1", "echo_worker.py")
    said: list[str] = []

    async def ask(token: str, method: str, path: str, **more: Any) -> httpx.Response:
        reply = await node.api.request(method, path, headers={"X-Client-Token": token}, **more)
        said.append(f"{reply.headers} {reply.text}")
        return reply

    async with ended_with_test(node, worker):
        await node.start()
        await worker.start()
        for data in ({"n": 1}, {"break": True}):
            job_id = await node.create("/jobs/job", data)
            said += [json.dumps(await node.ended(job_id)), json.dumps(await node.history(job_id))]
        await ask(known["stranger"], "GET", "/api/v1/jobs")
        await ask(known["shop"], "GET", "/api/v1/jobs?fields=none")
        await ask(known["shop"], "POST", "/api/v1/admin/reload")
        url = f"grpcs://localhost:{node.client}"
        async with Client(url, known["shop"], node.ca) as shop:
            said.append(repr(await shop.create_job("job", {"n": 2})))
        async with Client(url, known["stranger"], node.ca) as stranger:
            with pytest.raises(Unauthenticated) as refused:
                await stranger.get_job("0-none")
        said.append(repr(refused.value) + refused.value.message)

        # A bad file is answered, and changes nothing: by a call, by a signal, by the command line.
        file.write_text(f'{good}[bad]\ntoken = "{known["mistyped"]} "\ntokne = "{known["mistyped"]}"\n')
        assert (await ask(known["operator"], "POST", "/api/v1/admin/reload")).status_code == 409
        env |= {"HOLON_URL": url, "HOLON_TOKEN": known["operator"], "HOLON_CA": node.ca}
        ran = holon_forked(tmp_path, "reload", "clients", env=env)
        assert (ran.code, "[bad] tokne" in ran.err) == (1, True)
        said += [ran.out, ran.err]
        checked = holon_forked(tmp_path, "check", env=env)
        assert (checked.code, "[bad] tokne" in checked.err) == (2, True)
        said += [checked.out, checked.err]
        os.kill(node.process.pid, signal.SIGHUP)
        signalled = {"act": "node_reloaded", "result": "CONFIG_INVALID", "via": "signal"}
        await until(lambda: signalled in audit_of(node.process.output.read_text()), "the signal was refused")
        assert (await ask(known["old"], "GET", "/api/v1/jobs")).status_code == 200

        # A good one is in force at once.
        file.write_text(good.replace(f', "{known["old"]}"', ""))
        ran = holon_forked(tmp_path, "reload", "--json", env=env)
        assert (ran.code, ran.json) == (0, {"reloaded": ["clients", "tls"]})
        assert (await ask(known["old"], "GET", "/api/v1/jobs")).status_code == 401
        assert (await ask(known["new"], "GET", "/api/v1/jobs")).status_code == 200
        os.kill(node.process.pid, signal.SIGHUP)
        await until(
            lambda: signalled | {"result": "ok"} in audit_of(node.process.output.read_text()), "the signal was obeyed"
        )
        said.append((await ask("", "GET", "/_public/metrics")).text)
        said.append((await ask("", "GET", "/_public/openapi.json")).text)
        assert await node.process.end(signal.SIGTERM) == 0
    said += [node.process.output.read_text(), worker.output.read_text()]
    said += [(tmp_path / "holon.db").read_bytes().decode("latin-1")]
    said.append(repr(collector.spans))
    key = (node.certs / "server.key").read_text().splitlines()[1]
    text = "\n".join(said)
    assert "job_completed" in text
    assert "holon.rxon.v1.JobService/CreateJob" in repr(collector.spans)
    for name, secret in {**known, "server key": key}.items():
        assert secret not in text, name
        # Digests of tokens are no help to find them, and still nobody's business.
        assert hashed(secret).removeprefix("sha256:") not in text, name
