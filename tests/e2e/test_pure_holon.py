"""A pure holon, in real processes: it works for its parent alone, and only its operator on the machine can look in."""

from __future__ import annotations

import asyncio
import re
import socket
import stat
from pathlib import Path

import grpc
import pytest

from holon.client import Client
from holon.errors import Unimplemented
from holon.security import certificates
from tests.e2e.cli_node import Ran, holon
from tests.e2e.holons import Family, a_family
from tests.e2e.processes import until

ROUTES = (
    "/api/v1/jobs", "/api/v1/jobs/0-1", "/api/v1/jobs/0-1/history", "/api/v1/admin/reload", "/_public/docs",
    "/_public/openapi.json", "/api/v1/blueprints", "/api/v1/blueprints/any/graph", "/api/v1/workers",
    "/api/v1/workers/catalog", "/api/v1/dashboard", "/_public/webhooks/approval/0-1",
    "/_public/dashboard", "/_public/dashboard/main.js",
)  # fmt: skip


def calls(family: Family) -> grpc.Channel:
    """A channel to the child's worker door, as its own worker."""
    child = family.child
    pair = certificates.issue_worker(child.authority, child.certs, "another", days=2)
    files = [Path(child.ca), pair.key, pair.certificate]
    return grpc.secure_channel(
        f"localhost:{child.grpc}", grpc.ssl_channel_credentials(*(path.read_bytes() for path in files))
    )


async def test_a_pure_holon_has_no_way_in_for_clients_and_does_its_parents_work(tmp_path: Path) -> None:
    admin = tmp_path / "admin.sock"
    async with a_family(tmp_path, ENABLE_CLIENT_API=False, ADMIN_SOCKET=admin) as family:
        child = family.child
        job = await family.parent.create("/jobs/ask", {"skill": "work", "params": {"n": 7}})
        assert (await family.parent.ended(job))["result"] == {"echo": 7}

        # Absent, and not closed: nothing tells that there could be clients.
        for path in ROUTES:
            for method in ("GET", "POST"):
                answer = await child.api.request(method, path, json={})
                assert (answer.status_code, answer.json()["code"]) == (404, "ROUTE_NOT_FOUND"), path
        for path in ("/_public/status", "/_public/metrics", "/_public/jwks.json"):
            assert (await child.api.get(path)).status_code == 200
        figures = (await child.api.get("/_public/metrics")).text
        assert {"holon_uplink_linked 1.0", "holon_uplink_jobs 0.0", "holon_holarchy_depth 1.0"} <= set(
            figures.splitlines()
        )
        assert 'holon_certificate_expiry_timestamp_seconds{door="parent"}' in figures
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", child.client)) != 0
        with calls(family) as channel:
            for service, names in (
                ("JobService", ("CreateJob", "ListJobs", "GetJob", "CancelJob", "ResolveApproval", "WatchJob")),
                ("NodeService", ("GetNode", "ListWorkers", "DrainNode")),
            ):
                for name in names:
                    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                        f"/holon.rxon.v1.{service}/{name}"
                    )
                    with pytest.raises(grpc.RpcError) as refused:
                        call(b"")
                    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED

        # The operator's socket: to look, to cancel, to drain.
        assert stat.S_IMODE(admin.stat().st_mode) == 0o600
        env = {"ADMIN_SOCKET": str(admin)}
        (done,) = (await asyncio.to_thread(holon, tmp_path, "jobs", "list", "--json", env=env)).json["jobs"]
        assert (done["status"], done["blueprint_name"]) == ("finished", "work")

        # What it did is seen from above, and here it can be checked that it has not changed since.
        parent = family.parent
        above = {"HOLON_URL": parent.client_url, "HOLON_TOKEN": parent.token, "HOLON_CA": parent.ca}
        tree = await asyncio.to_thread(holon, tmp_path, "jobs", "tree", job, "--digests", env=above)
        assert re.search(rf"^   └─ job work  {done['id']}  finished  in worked  at holon \S+$", tree.out, re.MULTILINE)
        digest = re.findall(r"history (\d+:[0-9a-f]{64})$", tree.out, re.MULTILINE)[1]
        for told, code in ((digest, 0), (digest[:-4] + "0000", 1)):
            assert (await asyncio.to_thread(holon, tmp_path, "jobs", "verify", done["id"], told, env=env)).code == code

        slow = await family.parent.create("/jobs/ask", {"skill": "work", "params": {"n": 8, "seconds": 60}})
        await until(lambda: family.work.begun == 2, "the leaf has begun")
        async with Client(f"unix:{admin}", "") as operator:
            with pytest.raises(Unimplemented, match="not create jobs"):
                await operator.create_job("work", {})
            running = [one async for one in operator.list_jobs(statuses=["waiting_for_worker"])]
            assert [one.blueprint_name for one in running] == ["work"]
            await operator.cancel_job(running[0].id)
        ended = await family.parent.ended(slow)
        assert (ended["status"], ended["error"]["code"]) == ("failed", "CANCELLED_BY_CHILD")

        async with Client(f"unix:{admin}", "") as operator:
            lines = [line async for line in operator.history(running[0].id)]
            asked = [line.context_snapshot for line in lines if line.event_type == "job_cancel_requested"]
            assert asked == [{"by": "operator"}]
            await operator.node.drain(grace=5.0)
        assert await child.process.wait() == 0


async def test_what_a_pure_holon_asks_a_person_is_decided_at_the_root_also_after_each_of_them_was_killed(
    tmp_path: Path,
) -> None:
    admin = tmp_path / "admin.sock"
    async with a_family(tmp_path, ENABLE_CLIENT_API=False, ADMIN_SOCKET=admin) as family:
        parent, child = family.parent, family.child
        env = {"HOLON_URL": parent.client_url, "HOLON_TOKEN": parent.token, "HOLON_CA": parent.ca}

        async def root(*command: str) -> Ran:
            return await asyncio.to_thread(holon, tmp_path, "jobs", *command, env=env)

        async def question(job: str, number: int) -> str:
            """The newest that is asked below a job; there are so many by then."""
            found: list[str] = []

            async def asked() -> bool:
                lines = (await root("history", job)).out
                found[:] = re.findall(r'worker_event:approval_requested .*"approval_id": ?"([^"]+)', lines)
                return len(found) == number

            await until(asked, "somebody below is asked")
            return found[-1]

        job = await parent.create("/jobs/ask", {"skill": "consult"})
        first = await question(job, 1)
        await child.process.end()
        away = await root("approve", job, "no", "--approval-id", first)
        assert (away.code, "retry when it is back" in away.err) == (3, True), away
        await parent.process.end()
        await parent.start()
        await child.start()

        async def taken() -> bool:
            tried = await root("approve", job, "no", "--approval-id", first)
            # One that got no answer may have been taken too.
            return tried.code == 0 or "is not open" in tried.err

        await until(taken, "the child is back, and takes the decision")
        second = await question(job, 2)
        late = await root("approve", job, "yes", "--approval-id", first)
        assert (late.code, "is not open" in late.err) == (1, True), late
        assert (await root("approve", job, "yes", "--approval-id", second, "--data", '{"n": 1}')).code == 0
        assert (await parent.ended(job))["result"] == {"n": 1}


async def test_a_socket_that_another_process_serves_is_not_taken_from_it(tmp_path: Path) -> None:
    admin = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(admin))
        other.listen()
        with pytest.raises(AssertionError, match="another process listens"):
            async with a_family(tmp_path, ENABLE_CLIENT_API=False, ADMIN_SOCKET=admin):
                pass
    # What only its file is left of is in nobody's way.
    async with (
        a_family(tmp_path / "again", ENABLE_CLIENT_API=False, ADMIN_SOCKET=admin),
        Client(f"unix:{admin}", "") as operator,
    ):
        assert (await operator.node.info()).holon_id
