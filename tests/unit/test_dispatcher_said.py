"""The dispatcher: what is logged of tasks that nobody here can do."""

from __future__ import annotations

from typing import Any

import pytest

from holon.domain.fleet import Catalog, Machine, Skill
from holon.domain.matching import ANY_CONTRACT, Need, Offering
from holon.engine.dispatcher import Dispatcher
from holon.engine.fleets.elsewhere import Elsewhere, Roll
from holon.engine.fleets.pages import Told
from holon.engine.fleets.stock import Stock, Stocked
from holon.engine.offered import known
from holon.engine.session import Session
from holon.telemetry.events import Telemetry

NOTHING: Any = None


async def waits(dispatcher: Dispatcher, need: Need) -> None:
    """A task waits that no call had a seat for."""
    dispatcher.learn(need)
    await dispatcher.wait_without([], [need])


async def test_that_nobody_is_there_is_said_once_whatever_contracts_are_known_meanwhile(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dispatcher = Dispatcher(NOTHING, Telemetry())
    before, with_it = Need("t"), Need("t", contracts=("c",))
    said = ["tasks wait: no worker connected to this node offers skill 't'"]
    await waits(dispatcher, before)
    # Its worker is about to come: the contract is known, and the worker not yet there.
    await waits(dispatcher, with_it)
    assert caplog.messages == said
    session = Session("w", "s", 2, {Offering("t", contract="c"): ANY_CONTRACT}, NOTHING)
    dispatcher.add(session)
    dispatcher.remove(session)
    await waits(dispatcher, with_it)
    assert caplog.messages == said * 2


async def test_who_can_do_what_is_learned_while_he_is_there_is_missed_when_he_has_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dispatcher = Dispatcher(NOTHING, Telemetry())
    await waits(dispatcher, Need("t"))
    session = Session("w", "s", 2, {Offering("t", contract="c"): ANY_CONTRACT}, NOTHING)
    dispatcher.add(session)
    dispatcher.learn(Need("t", contracts=("c",)))
    dispatcher.remove(session)
    await waits(dispatcher, Need("t", contracts=("c",)))
    assert len(caplog.messages) == 2


async def test_of_thousands_of_tasks_that_are_each_too_cheap_it_is_said_once_though_others_can_be_done(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dispatcher = Dispatcher(NOTHING, Telemetry())
    dispatcher.add(Session("w", "s", 2, {Offering("t", price=100): ANY_CONTRACT}, NOTHING))
    for cost in range(1, 100):
        await waits(dispatcher, Need("t", max_cost=cost))
        await waits(dispatcher, Need("t", max_cost=100 + cost))
    (said,) = caplog.messages
    assert "declares a price of at most 1" in said
    dispatcher.add(Session("x", "x", 2, {Offering("t", price=50): ANY_CONTRACT}, NOTHING))
    await waits(dispatcher, Need("t", max_cost=49))
    assert caplog.messages == [said, said.replace("at most 1", "at most 49")]


async def test_of_thousands_of_tasks_that_each_require_other_hardware_it_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dispatcher = Dispatcher(NOTHING, Telemetry())
    machines = {("t", "", ""): (Machine(properties={"ram_gb": 8}),)}
    dispatcher.add(Session("w", "s", 2, {Offering("t"): ANY_CONTRACT}, NOTHING, machines))
    for size in range(9, 100):
        await waits(dispatcher, Need("t", resources=f'{{"ram_gb":{size}}}'))
        await waits(dispatcher, Need("t", resources=f'{{"ram_gb":{size % 9}}}'))
    (said,) = caplog.messages
    assert said.endswith("has the required hardware: the closest machine lacks ram_gb 9")


async def test_of_what_a_worker_of_another_node_can_do_nothing_is_said_until_it_has_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    elsewhere = Elsewhere()
    dispatcher = Dispatcher(NOTHING, Telemetry(), elsewhere=elsewhere)
    stocked = Stocked(Stock(known(Catalog((Skill("t"),))), (Offering("t"),)))
    worker = Told("w", "", taking=True, credits=1, held=0, connected_at=1, last_seen_at=1)
    nobody, somebody = Roll("n", ()), Roll("n", [(stocked, [worker])])
    said = "tasks wait: no worker connected to any node offers skill 't'"
    for there, so_far in ((nobody, [said]), (somebody, [said]), (nobody, [said, said])):
        elsewhere.are({"n": there})
        await waits(dispatcher, Need("t"))
        assert caplog.messages == so_far
        busy = "waiting: every worker with skill 't' is busy"
        assert dispatcher.why(Need("t")) == (busy if there is somebody else said.replace("tasks wait", "waiting"))
        # Tasks are for the workers of this node.
        assert not dispatcher.can_do(Need("t"))
