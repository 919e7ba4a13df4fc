"""Compound holons and time: clocks that are an hour apart, and a certificate that ends while its holon is at work."""

from __future__ import annotations

import os
import shutil
import signal
from datetime import timedelta
from pathlib import Path

import pytest

from holon.cli import main
from holon.security import certificates
from holon.security.certificates import KeyPair
from tests.chaos.link import Link
from tests.chaos.node import WallClock
from tests.e2e.holons import a_family
from tests.e2e.processes import Node, until, work_log
from tests.integration.worker_certificates import issue

HOUR_S = 3_600
LIMIT_S = 4
# Its margin is longer than whatever is on its way is.
LONG_S = 200


class Skewed(Node):
    """A node whose wall clock is off by as many seconds as its settings say."""

    program = "from tests.e2e.test_holon_clocks import serve; serve()"


def serve() -> None:
    """Serve by that clock."""
    WallClock(float(os.environ.get("SKEW_S", "0")))
    main()


@pytest.mark.parametrize(("skew_s", "stands"), [(HOUR_S, True), (-HOUR_S, False)], ids=["stands still", "cut off"])
async def test_work_in_a_child_whose_clock_is_an_hour_off_stops_in_time_also_where_nobody_can_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skew_s: int, *, stands: bool
) -> None:
    # Certificates that are good by either clock.
    monkeypatch.setattr(certificates, "_BACKDATE", timedelta(seconds=2 * HOUR_S))
    async with Link("child to parent", lambda: ports[0]) as link:
        ports: list[int | None] = [None]
        async with a_family(tmp_path, kind=Skewed, port=link.port, SKEW_S=skew_s) as family:
            ports[0] = family.parent.grpc
            asked = {"skill": "work", "params": {"n": 1}, "result_timeout": LONG_S}
            done = await family.parent.ended(await family.parent.create("/jobs/ask", asked))
            assert done["result"] == {"echo": 1}
            # By the child's own clock, within the margin and never later than at the parent.
            (begun, _) = work_log(family.child.folder, "leaf")
            left = begun["deadline"] - skew_s - done["created_at"]
            assert 0.98 * LONG_S <= left <= LONG_S

            asked = {
                "skill": "work",
                "params": {"n": 2, "seconds": HOUR_S},
                "result_timeout": LIMIT_S,
                "on_lost": "wait",
                "transitions": {"timeout": "consoled"},
            }
            late = await family.parent.create("/jobs/ask", asked)
            await until(lambda: family.work.begun == 2, "the leaf has begun")
            if stands:
                os.kill(family.child.process.pid, signal.SIGSTOP)
            else:
                link.freeze()
            # The leaf at least knows by itself.
            await until(lambda: family.work.stopped == 1, "the leaf has stopped")
            ended = await family.parent.ended(late)
            assert ended["result"]["consoled"]["code"] == "RESULT_TIMEOUT"
            if stands:
                os.kill(family.child.process.pid, signal.SIGCONT)
            # What it had begun ended with its time, and what cleans up after it is done, once.
            await until(lambda: family.work.ended == 2, "it has cleaned up")
            assert family.work.begun == 3
            link.heal()


async def test_a_child_whose_certificate_ends_while_it_works_goes_on_and_is_back_with_a_new_one(tmp_path: Path) -> None:
    async with a_family(tmp_path) as family:
        parent, child = family.parent, family.child
        await until(lambda: "session" in parent.process.tail(100_000), "the child is linked")
        await child.process.end()
        pair = KeyPair(child.folder / "worker-child.pem", child.folder / "worker-child.key")
        made = issue(tmp_path, parent.authority, "child", lasts=timedelta(seconds=LIMIT_S))
        shutil.copy(made.certificate, pair.certificate)
        shutil.copy(made.key, pair.key)
        await child.start()
        job = await parent.create("/jobs/ask", {"skill": "work", "params": {"n": 1, "seconds": 2 * LIMIT_S}})
        await until(lambda: family.work.begun == 1, "the leaf has begun")
        await until(lambda: "CERTIFICATE_EXPIRED" in parent.process.tail(100_000), "the parent has ended the link")
        await until(lambda: "the client certificate expired at" in child.process.tail(100_000), "the child says why")
        await until(lambda: family.work.ended == 1, "the leaf has ended")
        assert (await parent.job(job))["finished_at"] is None
        # Another in its place, of the same authority.
        pair.certificate.unlink()
        certificates.issue_worker(parent.authority, child.folder, "child", days=2)
        assert (await parent.ended(job))["result"] == {"echo": 1}
        assert (family.work.begun, family.work.ended) == (1, 1)
        told = [event["event_type"] for event in await parent.history(job)]
        assert told.count("task_finished") == 1
        assert "result_superseded" not in told
