"""The worker door: a worker that is a holon: who may be one, which one it is, and where it may stand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from holon.clock import SystemClock
from holon.domain.blueprint import Blueprint
from holon.domain.holarchy import Chain
from holon.engine.core import Engine, EngineSettings
from holon.engine.holarchy import Holarchy
from holon.ports import StoreSettings
from holon.rxon.v1 import node_pb2, types_pb2
from holon.storage.memory import MemoryStorage
from holon.testing import RunningNode
from holon.uplink import Uplink, UplinkSettings
from holon.uplink.settings import parent_urls
from holon.wire.grpc_status import info_of
from holon.wire.trees import read_summary
from holon.worker.settings import Credentials
from tests.integration.admission import admission
from tests.integration.grpc_node import (
    CLIENT,
    GUARD,
    Node,
    Wire,
    a_node,
    authority,
    fields_of,
    offering,
    reason_of,
    worker_files,
)
from tests.integration.holon_line import a_holon, until
from tests.integration.holons_below import comes, identity
from tests.log_watch import LogWatch

CODE = grpc.StatusCode
OURS = "holon-1"
ACCEPT = "/holon.rxon.v1.NodeService/AcceptHolon"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with a_node(admission=admission(tmp_path, '["child*"]\nkind = "holon"\ncn = "child*"')) as node:
        yield node


def holarchy(node: Node) -> Holarchy:
    assert node.holarchy is not None
    return node.holarchy


async def refusal(node: Node, who: Any, worker_id: str = "child", instance: str = "i1") -> tuple[Any, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await comes(node, who, worker_id, instance)
    return caught.value.code(), reason_of(caught.value)


async def gone(node: Node, wire: Wire) -> None:
    await wire.close()
    await node.until(lambda: not holarchy(node).below)


async def accept(node: Node, worker_id: str) -> str:
    call: Any = node.channel.unary_unary(ACCEPT)
    request = node_pb2.AcceptHolonRequest(worker_id=worker_id).SerializeToString()
    answer = node_pb2.AcceptHolonResponse.FromString(await call(request, metadata=CLIENT, timeout=GUARD))
    return answer.holon_id


async def test_a_holon_is_let_in_where_the_operator_says_that_it_is_one_and_told_who_is_above(node: Node) -> None:
    await holarchy(node).serve(Chain(("root",)))
    child = await comes(node, identity("below", 1, "further"))
    assert child.welcome.holon_id == OURS
    assert list(child.welcome.holon_ids_above) == ["root"]
    assert types_pb2.CAPABILITY_HOLON in child.welcome.capabilities
    assert child.welcome.max_holarchy_depth == 1
    assert set(holarchy(node).below) == {"below", "further"}
    await gone(node, child)


async def test_no_plain_worker_comes_as_a_holon_and_no_holon_as_a_plain_worker(node: Node) -> None:
    assert await refusal(node, identity(), "w1") == (CODE.PERMISSION_DENIED, "NOT_A_HOLON")
    assert await refusal(node, None) == (CODE.INVALID_ARGUMENT, "HELLO_INVALID")
    # A holon further down shows a certificate of the same authority, and is no child here all the same.
    assert await refusal(node, identity("further"), "grandchild") == (CODE.PERMISSION_DENIED, "NOT_A_HOLON")
    # Nor does a worker offer what others do, as a holon might.
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await node.worker("w1", offering("t", holon_path=["below"]))
    assert (reason_of(caught.value), fields_of(caught.value)) == ("HELLO_INVALID", ["catalog.offerings.0.holon_path"])
    async with a_node() as other:
        assert await refusal(other, identity()) == (CODE.PERMISSION_DENIED, "NOT_A_HOLON")


@pytest.mark.parametrize(
    ("who", "instance"),
    [
        (identity(""), "i1"),
        (identity("no id!"), "i1"),
        (identity("below", 0), "i1"),
        (identity("below", 1, "no id!"), "i1"),
        (identity("below", 1, *(f"h{n}" for n in range(1_001))), "i1"),
        (identity(), ""),
    ],
)
async def test_a_holon_that_says_nonsense_of_itself_is_refused(node: Node, who: Any, instance: str) -> None:
    assert await refusal(node, who, instance=instance) == (CODE.INVALID_ARGUMENT, "HELLO_INVALID")
    assert holarchy(node).below == ()


async def test_another_holon_in_the_place_of_a_known_one_is_refused_until_that_is_accepted(node: Node) -> None:
    await gone(node, await comes(node, identity("first")))
    assert await refusal(node, identity("second")) == (CODE.PERMISSION_DENIED, "HOLON_CHANGED")
    assert await accept(node, "child") == "first"
    await gone(node, await comes(node, identity("second")))
    assert await refusal(node, identity("first", 9)) == (CODE.PERMISSION_DENIED, "HOLON_CHANGED")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await accept(node, "child.9")
    assert reason_of(caught.value) == "HOLON_UNKNOWN"


async def test_the_highest_epoch_is_the_holon_and_an_older_one_never_comes_back(node: Node) -> None:
    first = await comes(node, identity("below", 3), instance="a")
    # Whoever has copied the store cannot push out who is there; nor can one with the same claim.
    assert await refusal(node, identity("below", 4), instance="b") == (CODE.UNAVAILABLE, "HOLON_LINKED")
    assert await refusal(node, identity("below", 3), instance="b") == (CODE.ABORTED, "UPLINK_STALE")
    await gone(node, first)
    second = await comes(node, identity("below", 4), instance="b")
    # Its own process may open another stream at any time.
    again = await comes(node, identity("below", 4), instance="b")
    await second.close()
    assert await refusal(node, identity("below", 3), instance="a") == (CODE.ABORTED, "UPLINK_STALE")
    await gone(node, again)


async def test_an_epoch_rises_no_faster_than_nodes_can_take_the_link(tmp_path: Path) -> None:
    clock = Ahead()
    rules = admission(tmp_path, '["child*"]\nkind = "holon"\ncn = "child*"')
    async with a_node(admission=rules, clock=clock) as node:
        await gone(node, await comes(node, identity("below", 3)))
        ahead = (CODE.FAILED_PRECONDITION, "UPLINK_AHEAD")
        for epoch in (2**63 - 1, 100_000):
            assert await refusal(node, identity("below", epoch), instance="i2") == ahead
        with pytest.raises(grpc.aio.AioRpcError, match="run `holon uplink accept child` on its parent"):
            await comes(node, identity("below", 2**63 - 1), instance="i2")
        # Who is meant is not kept out by such a claim; and many takes may have come to nothing, in a long time more.
        await gone(node, await comes(node, identity("below", 1_003), instance="i3"))
        clock.ahead = 100_000_000
        await gone(node, await comes(node, identity("below", 102_000), instance="i4"))
        assert await accept(node, "child") == "below"
        await gone(node, await comes(node, identity("below", 2**62), instance="i5"))


async def test_a_holon_is_one_worker_only_also_while_it_is_away_until_that_is_accepted(node: Node) -> None:
    first, sibling = await comes(node, identity("below")), await comes(node, identity("sibling"), "child-3")
    elsewhere = (CODE.PERMISSION_DENIED, "HOLON_CHANGED")
    assert await refusal(node, identity("below", 2), "child-2", "i2") == elsewhere
    # What a process calls itself is its own word, and shuts out nobody.
    await first.close()
    await node.until(lambda: holarchy(node).below == ("sibling",))
    liar = await comes(node, identity("liar"), "child-4", "below")
    # Nor does who knows the id of a holon that is away.
    assert await refusal(node, identity("below", 9), "child-2", "i1") == elsewhere
    first = await comes(node, identity("below"))
    await liar.close()
    # While it is linked it does not come as another worker either, whatever is accepted.
    assert await accept(node, "child") == "below"
    assert await refusal(node, identity("below", 2), "child-2", "i2") == (CODE.UNAVAILABLE, "HOLON_LINKED")
    await first.close()
    await node.until(lambda: holarchy(node).below == ("sibling",))
    renamed = await comes(node, identity("below", 2), "child-2", "i2")
    assert set(holarchy(node).below) == {"sibling", "below"}
    assert await refusal(node, identity("below", 3)) == elsewhere
    await renamed.close()
    await gone(node, sibling)


async def test_certificates_of_different_names_are_one_child_where_the_operator_says_so(tmp_path: Path) -> None:
    async with a_node(admission=admission(tmp_path, '[child]\nkind = "holon"\ncn = "child-*"')) as node:
        await gone(node, await comes(node, identity("below"), "child-1"))
        await comes(node, identity("below", 2), "child-2", "i2")
        assert [one.worker_id for one in node.engine.dispatcher.sessions] == ["child"]
        assert await refusal(node, identity("below", 3), "child-1", "i3") == (CODE.UNAVAILABLE, "HOLON_LINKED")


class Ahead(SystemClock):
    """Goes ahead of the time when a test says so."""

    ahead = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead


def warnings(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Whom the log says to be refused, and with which words; they are forgotten then."""
    told = [
        (getattr(one, "worker_id", ""), one.getMessage())
        for one in caplog.records
        if one.levelno == logging.WARNING and "is refused" in one.getMessage()
    ]
    caplog.clear()
    return told


@pytest.mark.parametrize(
    ("who", "instance", "above", "code", "to_do"),
    [
        (identity("second"), "i2", (), "HOLON_CHANGED", "run `holon uplink accept child` on its parent"),
        (identity("first", 1), "i2", (), "UPLINK_STALE", "end the other and run `holon uplink accept child`"),
        (identity("first", 9, "root"), "i1", ("root",), "HOLARCHY_CYCLE", "unset one PARENT_URL of the cycle"),
        (identity("first", 9), "i1", ("root", "middle"), "HOLARCHY_DEPTH", "raise that, or link this holon higher up"),
    ],
)
async def test_the_log_of_a_parent_says_which_child_it_refuses_and_what_can_be_done(
    node: Node,
    caplog: pytest.LogCaptureFixture,
    who: Any,
    instance: str,
    above: tuple[str, ...],
    code: str,
    to_do: str,
) -> None:
    await gone(node, await comes(node, identity("first")))
    if above:
        await holarchy(node).serve(Chain(above))
    assert (await refusal(node, who, instance=instance))[1] == code
    ((worker_id, said),) = warnings(caplog)
    assert worker_id == "child"
    assert f"worker child is refused: {code}: " in said
    assert to_do in said


async def test_who_is_refused_again_and_again_is_in_the_log_once_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Ahead()
    rules = admission(tmp_path, '["child*"]\nkind = "holon"\ncn = "child*"')
    monkeypatch.setattr("holon.transports.grpc.refused_links.MOST", 3)
    async with a_node(admission=rules, clock=clock) as node:
        await gone(node, await comes(node, identity("first", 2)))
        for _ in range(4):
            assert (await refusal(node, identity("second")))[1] == "HOLON_CHANGED"
        assert len(warnings(caplog)) == 1
        # Another reason, or another worker, is news.
        assert (await refusal(node, identity("first")))[1] == "UPLINK_STALE"
        assert (await refusal(node, identity(), "w1"))[1] == "NOT_A_HOLON"
        assert [worker_id for worker_id, _ in warnings(caplog)] == ["child", "w1"]
        # But however many say that they are holons, no more of them are told of in that time.
        assert (await refusal(node, identity(), "w2"))[1] == "NOT_A_HOLON"
        assert warnings(caplog) == []
        clock.ahead = 61_000
        assert (await refusal(node, identity("second")))[1] == "HOLON_CHANGED"
        assert (await refusal(node, identity(), "w2"))[1] == "NOT_A_HOLON"
        (again, other) = warnings(caplog)
        assert "(3 more refusals since the last log line)" in again[1]
        assert other[0] == "w2"


async def test_a_child_that_has_no_place_any_more_is_in_the_log_too(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    child = await comes(node, identity("below", 1, "further"))
    await holarchy(node).serve(Chain(("further", "root")))
    await child.end()
    ((worker_id, said),) = warnings(caplog)
    assert (worker_id, "HOLARCHY_CYCLE" in said) == ("child", True)


def done_at_once() -> Blueprint:
    blueprint = Blueprint("t")

    @blueprint.handler("end", is_start=True, is_end=True)
    async def end() -> None: ...

    return blueprint


async def test_a_child_is_there_within_seconds_after_it_was_accepted_and_serves_nobody_before(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    await gone(node, await comes(node, identity("first")))
    files, store_settings = worker_files("child"), StoreSettings("n1")
    own = Credentials("", authority("ours").files.certificate, files.certificate, files.key)
    async with MemoryStorage(store_settings, SystemClock()) as store:
        engine = Engine(store, store_settings, EngineSettings(), read_told=read_summary)
        engine.blueprints.register(done_at_once())
        url = f"grpcs://localhost:{node.workers.port}"
        uplink = Uplink(engine, Holarchy(store, "second", 8), UplinkSettings(parent_urls(url), own, "n1"))
        running = [asyncio.create_task(part.run()) for part in (engine, uplink)]
        try:
            with LogWatch("HOLON_CHANGED", "holon.transports.grpc") as watch:
                await asyncio.wait_for(watch.seen.wait(), GUARD)
            job_id = await node.create()
            assert not list(node.engine.dispatcher.sessions)
            await accept(node, "child")
            # It had waited for 30 s at least, as long as a worker that nobody expects.
            async with asyncio.timeout(15):
                await node.until(lambda: "second" in holarchy(node).below)
            # What waited for a child is done by it.
            assert (await node.ended(job_id)).status == "finished"
        finally:
            for task in running:
                task.cancel()
            await asyncio.wait(running)


async def test_who_served_a_holon_once_has_it_as_a_child_when_its_parent_url_is_unset(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()

    async def serves(node: RunningNode) -> bool:
        return [one.worker_id async for one in node.client.node.list_workers()] == ["child"]

    async with a_holon(folders[0], "a") as a, a_holon(folders[1], "b", above=a):
        await until(partial(serves, a), "b serves a")
    async with a_holon(folders[1], "b") as b, a_holon(folders[0], "a", above=b):
        await until(partial(serves, b), "a serves b")


async def test_a_circle_of_holons_is_refused_also_when_it_closes_later(node: Node) -> None:
    await holarchy(node).serve(Chain(("root",)))
    for who in (identity(OURS), identity("root"), identity("below", 1, "root"), identity("below", 1, OURS)):
        assert await refusal(node, who) == (CODE.FAILED_PRECONDITION, "HOLARCHY_CYCLE")
    child = await comes(node, identity("below", 1, "further"))
    await holarchy(node).serve(Chain(("further", "root")))
    end = await child.end()
    assert (end.code(), reason_of(end)) == (CODE.FAILED_PRECONDITION, "HOLARCHY_CYCLE")


async def test_a_parent_that_comes_as_a_child_is_told_what_speaks_for_the_link_that_there_is(node: Node) -> None:
    await holarchy(node).serve(Chain(("root",)))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await comes(node, identity("root"))
    assert info_of(dict(caught.value.trailing_metadata() or ())["grpc-status-details-bin"]) == (
        "HOLARCHY_CYCLE",
        {"holon_id": OURS, "store_made_at": "0", "link_used": "false"},
    )


async def test_a_child_is_asked_to_come_again_when_the_chain_above_has_changed(node: Node) -> None:
    child = await comes(node, identity())
    await holarchy(node).serve(Chain(("root",)))
    assert (await child.expect("go_away")).reason == "ROTATE"
    again = await comes(node, identity())
    assert list(again.welcome.holon_ids_above) == ["root"]


async def test_a_holon_keeps_its_tasks_for_longer_than_a_worker_and_may_take_longer(tmp_path: Path) -> None:
    rules = admission(tmp_path, '["child*"]\nkind = "holon"\ncn = "child*"')
    async with a_node(admission=rules, lease=30.0, child_lease=300.0, child_execution=5_000.0) as node:
        times = []
        for is_holon in (True, False):
            worker = await (comes(node, identity()) if is_holon else node.worker("w1", offering("t")))
            await node.create()
            left = (await worker.offer()).time_left.seconds
            times.append((worker.welcome.lease_duration.seconds, round(left, -2)))
            await worker.close()
            await node.until(lambda: not list(node.engine.dispatcher.sessions))
        assert times == [(300, 5_000), (30, 300)]


async def test_a_holon_is_shown_as_one_with_the_label_that_it_gave_itself(node: Node) -> None:
    who = identity()
    who.label = "Harbour"
    await comes(node, who)
    call: Any = node.channel.unary_unary("/holon.rxon.v1.NodeService/ListWorkers")
    raw = await call(node_pb2.ListWorkersRequest().SerializeToString(), metadata=CLIENT, timeout=GUARD)
    (shown,) = node_pb2.ListWorkersResponse.FromString(raw).workers
    assert (shown.kind, shown.holon_id) == (node_pb2.WORKER_KIND_HOLON, "below")
    assert dict(shown.labels) == {"holon": "Harbour"}


async def test_a_child_for_which_the_line_has_become_too_long_is_sent_away(node: Node) -> None:
    child = await comes(node, identity())
    await holarchy(node).serve(Chain(("root",), 2))
    end = await child.end()
    assert (end.code(), reason_of(end)) == (CODE.FAILED_PRECONDITION, "HOLARCHY_DEPTH")


async def test_a_line_of_holons_has_an_end(node: Node) -> None:
    await holarchy(node).serve(Chain(("root", "middle")))
    assert await refusal(node, identity()) == (CODE.FAILED_PRECONDITION, "HOLARCHY_DEPTH")
