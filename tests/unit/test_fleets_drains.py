"""Drains of workers at another node: what is asked and not heard is asked again, and is done once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holon.domain.fleet import Catalog, Skill
from holon.engine.dispatcher import Dispatcher
from holon.engine.fleet import Fleet
from holon.engine.fleets import drains
from holon.engine.fleets.drained import DrainedWorkers
from holon.engine.fleets.drains import Drained, Drains
from holon.engine.session import Session
from holon.errors import NotFound
from holon.ports import Hint
from holon.storage.memory import MemoryStorage
from holon.telemetry.events import Telemetry

NOTHING: Any = None


async def test_a_drain_whose_hint_is_lost_is_asked_again(store: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drains, "LOOK_S", 0.01)
    fleets = {name: Fleet(Dispatcher(NOTHING, Telemetry()), store.now, name) for name in ("a", "b")}
    session = Session("w1", "a session", 3, {}, NOTHING)
    fleets["b"].joined(session, "sdk", {}, Catalog((Skill("t"),)))
    asks, does = (Drains(store, DrainedWorkers(store, fleet), name) for name, fleet in fleets.items())
    hints = 0

    def hear(hint: Hint) -> None:
        nonlocal hints
        hints += drains.KIND in hint.documents
        if hints > 1:
            does.changed(hint.documents)
            asks.changed(hint.documents)

    store.hear(hear)
    running = asyncio.create_task(does.run())
    await asyncio.sleep(0)
    try:
        assert await asks.ask("b", "w1", undo=False, reason="why") == Drained(True, True, 3, 0)
        assert [one.view().draining for one in fleets["b"].workers()] == [True]
        assert not (await asks.ask("b", "w1", undo=True, reason="")).draining
        assert [one.view().draining for one in fleets["b"].workers()] == [False]
        with pytest.raises(NotFound, match="'gone' is no longer connected to node 'b'"):
            await asks.ask("b", "gone", undo=False, reason="")
    finally:
        running.cancel()
        await asyncio.wait([running])
