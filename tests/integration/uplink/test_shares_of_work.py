"""How a parent's work spreads over its children: all places are at work, and none has a heap that others could do."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from holon.domain.fleet import Skill
from holon.domain.matching import Need
from holon.engine.core import Engine
from holon.engine.session import Session
from holon.ports import Offer
from tests.integration.a_child import Leaf
from tests.integration.admission import admission
from tests.integration.grpc_node import Node, a_node
from tests.integration.holon_line import passing, spreading
from tests.integration.uplink.blueprints import DONE
from tests.integration.uplink.children import child_of
from tests.integration.uplink.test_parts import whole_and_part

PLACES = 10


@pytest.fixture
async def parent(tmp_path: Path) -> AsyncIterator[Node]:
    """Its children beat so seldom that nothing here waits for it: what they grant is said when it changes, or never."""
    rules = admission(tmp_path, '["child*"]\nkind = "holon"\ncn = "child*"')
    async with a_node(admission=rules, heartbeat=100.0) as node:
        yield node


@pytest.fixture(autouse=True)
def most(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How many tasks each child had at most: never more than it had granted when they were promised to it."""
    had, granted = Counter[str](), Counter[str]()
    promise, take = Session.promise, Session.take

    def promising(session: Session, n: int, need: Need) -> None:
        granted[session.worker_id] = max(granted[session.worker_id], session.credits)
        promise(session, n, need)

    def taking(session: Session, offers: Sequence[Offer]) -> Sequence[Offer]:
        taken = take(session, offers)
        had[session.worker_id] = max(had[session.worker_id], len(session.leases))
        return taken

    monkeypatch.setattr(Session, "promise", promising)
    monkeypatch.setattr(Session, "take", taking)
    yield had
    assert had <= granted


async def all_end(parent: Node, jobs: Sequence[str]) -> None:
    assert {(await parent.ended(job)).status for job in jobs} == {"finished"}


async def does_all(leaf: Leaf) -> None:
    """A leaf does at once whatever it is given, until cancelled."""
    while True:
        await leaf.ends(await leaf.offers.get(), DONE)


async def test_a_place_whose_task_has_ended_has_the_next_without_another_word(parent: Node) -> None:
    async with (
        child_of(parent, "child-1", [passing("t", "leaf")]) as child,
        Leaf(child, "leaf", Skill("leaf"), credits=PLACES) as leaf,
    ):
        jobs = [await parent.create() for _ in range(PLACES * 8)]
        busy = [await leaf.given() for _ in range(PLACES)]
        # One after the other, several together, and all.
        for n in (1, 1, 1, 3, 5, PLACES, 1, 7, PLACES, 1):
            ended, busy = busy[:n], busy[n:]
            await asyncio.gather(*(leaf.ends(one, DONE) for one in ended))
            busy += [await leaf.given() for _ in range(n)]
            assert leaf.offers.empty()
        for one in busy:
            await leaf.ends(one, DONE)
        ending = asyncio.create_task(does_all(leaf))
        await all_end(parent, jobs)
        ending.cancel()


async def test_who_joins_gets_what_the_others_have_no_place_for_and_none_has_more_wide_jobs_than_it_can_do(
    parent: Node,
) -> None:
    parent.engine.blueprints.register_all([passing("top", "wide")])
    async with AsyncExitStack() as children:
        live: dict[str, list[int]] = defaultdict(list)

        async def joins(name: str) -> tuple[Engine, Leaf]:
            child = await children.enter_async_context(child_of(parent, name, [spreading("wide", "leaf")]))
            return child, await children.enter_async_context(Leaf(child, name, Skill("leaf"), credits=PLACES))

        async def has_one_job(leaf: Leaf) -> list[Offer]:
            given = [await leaf.given() for _ in range(PLACES)]
            assert len({one.job_id for one in given}) == 1
            return given

        async def does(child: Engine, leaf: Leaf, given: Sequence[Offer]) -> None:
            for one in given:
                await leaf.ends(one, DONE)
            while True:
                jobs = (await child.store.counts()).jobs.values()
                live[leaf.member.session.worker_id].append(sum(jobs))
                await leaf.ends(await leaf.given(), DONE)

        those = [await joins(f"child-{n}") for n in range(3)]
        jobs = [await parent.create("top", branches=2 * PLACES) for _ in range(16)]
        begun = [(*one, await has_one_job(one[1])) for one in those]
        # Nothing of theirs has ended.
        last = await joins("child-3")
        begun.append((*last, await has_one_job(last[1])))
        ending = [asyncio.create_task(does(*one)) for one in begun]
        await all_end(parent, jobs)
        for one in ending:
            one.cancel()
        assert set(live) == {f"child-{n}" for n in range(4)}
        assert max(map(max, live.values())) <= 3


async def test_parts_of_jobs_count_for_nothing_where_a_child_takes_few_tasks_of_its_parents(
    parent: Node, most: Counter[str]
) -> None:
    parent.engine.blueprints.register_all([passing("top", "whole")])
    async with (
        child_of(parent, "child-1", whole_and_part(), max_jobs=2) as child,
        Leaf(child, "leaf", Skill("a"), credits=PLACES) as leaf,
    ):
        jobs = [await parent.create("top", n=n) for n in range(20)]
        ending = asyncio.create_task(does_all(leaf))
        await all_end(parent, jobs)
        ending.cancel()
        assert most["child-1"] == 2
