"""Cases A18, A19 and G17: a node without clients, quotas, and files of clients that are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from holon.client import Client
from holon.errors import ConfigError, ResourceExhausted
from tests.integration.cases.site import Start, a_wire, http, one_task

TOKEN = "the-token-of-a-client-with-a-quota-of-two"


def clients_file(folder: Path, text: str) -> str:
    path = folder / "clients.toml"
    path.touch(0o600)
    path.write_text(text)
    return str(path)


async def test_a18_a_node_without_clients_has_no_route_for_them_and_its_workers_door_and_health(start: Start) -> None:
    alone: dict[str, Any] = {"ENABLE_CLIENT_API": False, "PARENT_URL": "grpcs://localhost:1"}
    async with start(one_task(), **alone) as node, http(node) as door:
        for method, path in (
            ("POST", "/api/v1/jobs/one_task"),
            ("GET", "/api/v1/jobs"),
            ("GET", "/api/v1/jobs/0-none"),
        ):
            reply = await door.request(method, path, json={})
            assert (reply.status_code, reply.json()["code"]) == (404, "ROUTE_NOT_FOUND")
        assert (await door.get("/_public/status")).json() == {"status": "ok"}
        assert node.ports.client is None
        async with a_wire(node, "w1") as wire:
            await wire.beat()


async def test_a19_the_third_creation_of_a_quota_of_two_is_refused_at_either_door(start: Start, tmp_path: Path) -> None:
    file = clients_file(tmp_path, f'[shop]\ntoken = "{TOKEN}"\nmonthly_attempts = 2\n')
    async with start(one_task(), CLIENTS_CONFIG_PATH=file) as node, http(node, **{"X-Client-Token": TOKEN}) as door:
        url = f"grpcs://localhost:{node.ports.client}"
        async with Client(url, TOKEN, node.folder / "ca.pem") as shop:
            assert (await door.post("/api/v1/jobs/one_task", json={})).status_code == 202
            await shop.create_job("one_task", {})
            reply = await door.post("/api/v1/jobs/one_task", json={})
            assert (reply.status_code, reply.json()["code"]) == (429, "QUOTA_EXCEEDED")
            with pytest.raises(ResourceExhausted) as caught:
                await shop.create_job("one_task", {})
            assert caught.value.code == "QUOTA_EXCEEDED"
            assert len((await door.get("/api/v1/jobs")).json()["jobs"]) == 2


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[shop", ""),
        ('[shop]\nplan = "gold"', "[shop] token"),
        (f'[shop]\ntoken = "{TOKEN}"\nmonthly_attempts = "two"', "[shop] monthly_attempts"),
    ],
)
async def test_g17_a_bad_clients_file_keeps_the_node_from_starting_and_says_why(
    start: Start, tmp_path: Path, text: str, where: str
) -> None:
    file = clients_file(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        async with start(one_task(), CLIENTS_CONFIG_PATH=file):
            pass
    assert [one.field for one in caught.value.details] == [f"{file} {where}".strip()]
