"""The file of clients is read again while the node runs: what counts at once, and what changes nothing."""

from __future__ import annotations

import logging
import re
from contextlib import aclosing
from pathlib import Path

import pytest

from holon.errors import FailedPrecondition, HolonError, InvalidArgument, Unauthenticated
from holon.testing import running_node
from tests.audit_lines import audit
from tests.integration.access.place import BOSS, FILE, GUARD, LAB, SHOP, Place, a_place, blueprints, to_the_end


async def test_a_reload_brings_new_tokens_and_takes_old_ones_and_removed_clients_at_once(place: Place) -> None:
    new = "a-new-token-of-the-shop-a-new-token-of-the-shop"
    async with place.client(LAB) as lab, place.client(SHOP) as shop, place.client(BOSS) as boss:
        job_id = (await lab.create_job("waiting", {})).job_id
        async with aclosing(lab.watch(job_id)) as watching:
            await anext(watching)
            text = FILE.replace(SHOP, new).replace(f'[lab]\ntoken = "{LAB}"', "")
            place.file.write_text(text)
            assert await boss.node.reload(["clients"]) == ("clients",)
            with pytest.raises(Unauthenticated) as caught:
                await to_the_end(watching)
            assert caught.value.code == "TOKEN_INVALID"
        for gone in (shop, lab):
            with pytest.raises(Unauthenticated):
                await gone.get_job(job_id)
    assert (await place.ask(SHOP, "GET", "/api/v1/jobs")).status_code == 401
    assert (await place.ask(new, "GET", "/api/v1/jobs")).status_code == 200
    assert (await place.ask(BOSS, "GET", "/api/v1/jobs")).status_code == 200


async def test_a_watch_goes_on_when_only_what_is_said_of_its_client_changes(place: Place) -> None:
    async with place.client(SHOP) as shop:
        job_id = (await shop.create_job("waiting", {})).job_id
        async with aclosing(shop.watch(job_id)) as watching:
            await anext(watching)
            place.file.write_text(FILE.replace("gold", "silver"))
            reply = await place.ask(BOSS, "POST", "/api/v1/admin/reload", json={"targets": ["clients"]})
            assert reply.json() == {"status": "reloaded", "reloaded": ["clients"]}
            await shop.cancel_job(job_id)
            last = (await to_the_end(watching))[-1]
        assert last.job is not None
        assert last.job.status == "cancelled"
        made = await shop.create_job("asking", {})
        assert (await shop.wait_for(made.job_id, timeout=GUARD)).result["plan"] == "silver"


async def test_a_bad_file_changes_nothing_and_is_answered_at_both_doors(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "holon.audit")
    place.file.write_text(FILE.replace(f'token = "{LAB}"', 'plan = ""'))
    where = f"{place.file} [lab]"
    reply = await place.ask(BOSS, "POST", "/api/v1/admin/reload")
    assert (reply.status_code, reply.json()["code"]) == (409, "CONFIG_INVALID")
    assert [one["field"] for one in reply.json()["details"]] == [f"{where} token", f"{where} plan"]
    async with place.client(BOSS) as boss:
        with pytest.raises(FailedPrecondition) as caught:
            await boss.node.reload()
        assert (caught.value.code, len(caught.value.details)) == ("CONFIG_INVALID", 2)
        with pytest.raises(FailedPrecondition, match="WORKERS_CONFIG_PATH"):
            await boss.node.reload(["workers"])
        with pytest.raises(InvalidArgument, match="'nothing'"):
            await boss.node.reload(["nothing"])
    assert (await place.ask(LAB, "GET", "/api/v1/jobs")).status_code == 200
    figures = (await place.http.get("/_public/metrics")).text
    refusals = re.search(r'^holon_reloads_total\{result="refused"\} (\d+)', figures, re.MULTILINE)
    assert refusals is not None
    # The node may have looked at the file by itself.
    assert int(refusals[1]) >= 2
    asked = [one for one in audit(caplog, "node_reloaded") if one["via"] != "file"]
    told = [(one["via"], one["who"], one["result"], one.get("on")) for one in asked]
    assert told == [
        ("http", "boss", "CONFIG_INVALID", None),
        ("grpc", "boss", "CONFIG_INVALID", None),
        ("grpc", "boss", "NOT_CONFIGURED", "workers"),
        ("grpc", "boss", "INVALID_ARGUMENT", "nothing"),
    ]


@pytest.mark.parametrize("body", [b"[]", b'{"targets": "clients"}', b'{"targets": [1]}', b'{"all": true}', b"{"])
async def test_a_reload_that_cannot_be_read_is_refused(place: Place, body: bytes) -> None:
    reply = await place.ask(BOSS, "POST", "/api/v1/admin/reload", content=body)
    assert reply.status_code == 400


async def test_workers_cannot_be_reloaded_where_the_node_reads_no_file_of_them(place: Place) -> None:
    reply = await place.ask(BOSS, "POST", "/api/v1/admin/reload-workers")
    assert (reply.status_code, reply.json()["code"]) == (409, "NOT_CONFIGURED")


async def test_a03_a_node_without_a_file_has_one_token_the_operators() -> None:
    async with running_node(*blueprints()) as node:
        assert await node.client.node.reload() == ("tls",)
        assert (await node.run("asking", {})).result["name"] == "default"


async def test_g17_a_bad_file_keeps_the_node_from_starting(tmp_path: Path) -> None:
    with pytest.raises(HolonError) as caught:
        async with a_place(tmp_path, text="[shop]\nmonthly_attempts = 'many'"):
            pass
    assert [one.field.rpartition("] ")[2] for one in caught.value.details] == ["token", "monthly_attempts"]
