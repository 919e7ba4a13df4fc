"""What clients and the operator do is told in the audit log."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from holon.client import Client
from holon.errors import HolonError, NotFound
from tests.audit_lines import audit
from tests.integration.access.place import BOSS, FILE, GUARD, LAB, SHOP, Place, a_place


async def test_cancels_refusals_and_changed_clients_are_told_in_the_audit_log(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "holon.audit")
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    job_id = await place.create(SHOP)
    await place.http.post(
        f"/api/v1/jobs/{job_id}/cancel", headers={"x-client-token": SHOP, "traceparent": trace}, json={}
    )
    async with place.client(LAB) as lab, place.client("no-such-token") as stranger:
        for client in (lab, stranger):
            with pytest.raises(HolonError):
                await client.cancel_job(job_id)
    assert (await place.ask("wrong", "GET", f"/api/v1/jobs/{job_id}")).status_code == 401
    by_shop, by_lab = audit(caplog, "job_cancelled")
    assert by_shop.pop("peer").startswith("127.0.0.1:")
    assert by_shop == {
        "act": "job_cancelled",
        "result": "ok",
        "who": "shop",
        "via": "http",
        "on": job_id,
        "trace": trace,
    }
    assert (by_lab["who"], by_lab["result"], by_lab["via"]) == ("lab", "JOB_NOT_FOUND", "grpc")
    refused = [(one["via"], one["on"], "who" in one) for one in audit(caplog, "call_refused")]
    assert refused == [
        ("grpc", "/holon.rxon.v1.JobService/CancelJob", False),
        ("http", f"GET /api/v1/jobs/{job_id}", False),
    ]
    figures = (await place.http.get("/_public/metrics")).text
    assert 'holon_calls_refused_total{door="grpc",reason="TOKEN_INVALID"} 1.0' in figures
    assert 'holon_calls_refused_total{door="http",reason="TOKEN_INVALID"} 1.0' in figures
    place.file.write_text(FILE.replace("[lab]", "[inn]"))
    await place.ask(BOSS, "POST", "/api/v1/admin/reload")
    changed = [audit(caplog, act)[0] for act in ("client_added", "client_removed")]
    assert [(one["act"], one["on"]) for one in changed] == [("client_added", "inn"), ("client_removed", "lab")]
    # As who asked, or as an edit, if the node has seen it by itself.
    assert {(one["via"], one.get("who")) for one in changed} <= {("http", "boss"), ("file", None)}


async def test_what_the_operator_does_at_the_node_itself_is_told_as_the_operators(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "holon.audit")
    socket = tmp_path / "admin"
    async with a_place(tmp_path, ADMIN_SOCKET=str(socket)) as place, place.client(place.node.token) as default:
        made = await default.create_job("waiting", {})
        async with Client(f"unix:{socket}") as operator:
            await operator.cancel_job(made.job_id)
            await operator.node.reload(["clients"])
            with pytest.raises(NotFound):
                await operator.node.accept_holon("w1")
            await operator.node.rotate_signing_key(revoke=True)
    [rotated] = audit(caplog, "tokens_rotated")
    assert (rotated["who"], rotated["via"], rotated["on"], rotated["revoked"]) == (
        "operator", "admin", "signing-key", True
    )  # fmt: skip
    acts = ("job_cancelled", "node_reloaded", "holon_accepted")
    told = [
        {name: line[name] for name in ("who", "via", "on", "result")} for act in acts for line in audit(caplog, act)
    ]
    assert told == [
        {"who": "operator", "via": "admin", "on": on, "result": result}
        for on, result in ((made.job_id, "ok"), ("clients", "ok"), ("w1", "HOLON_UNKNOWN"))
    ]


async def test_an_edit_of_the_tls_files_is_counted_and_in_the_audit_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "holon.audit")
    async with a_place(tmp_path) as place:
        (place.node.folder / "ca.pem").chmod(0o666)
        async with asyncio.timeout(GUARD):
            while not audit(caplog, "node_reloaded"):  # noqa: ASYNC110  an edit is seen by looking
                await asyncio.sleep(0.05)
        figures = (await place.http.get("/_public/metrics")).text
    assert 'holon_reloads_total{result="refused"} 1.0' in figures
    assert audit(caplog, "node_reloaded") == [
        {"act": "node_reloaded", "result": "CONFIG_INVALID", "via": "file", "on": "tls"}
    ]


@pytest.mark.parametrize("name", ["a%41", "a b?c#d", "\udcff"])
async def test_the_operators_socket_is_where_it_was_said_to_be_whatever_its_name(tmp_path: Path, name: str) -> None:
    socket = tmp_path / name
    async with a_place(tmp_path, ADMIN_SOCKET=str(socket)), Client(f"unix:{socket}") as operator:
        assert socket.is_socket()
        assert (await operator.node.info()).node_id
