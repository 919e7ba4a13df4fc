"""Several nodes share the shards of one store. The time is virtual."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field

import pytest
from msgspec.msgpack import Encoder

from holon.core.members import KIND, Member, Members
from holon.core.owner import TAKE_OVER_S, Owner
from holon.core.writer import RENEW_S, Cut, Ownership, Rows, Writer
from holon.errors import ConfigError, StoreUnavailable
from holon.stores.memory import MemoryRows
from holon.stores.port import NOBODY, Batch, Change, Head, Word
from holon.stores.records import SCHEMA
from tests.sim.loop import Process, VirtualLoop
from tests.sim.node import SimClock
from tests.sim.store import Server, SimRows

SHARDS = 32
# How long mail takes (seconds).
MAIL_S = 0.005


@dataclass
class Audited(Server):
    """A store in which each batch of a shard counts one up: no count may be missing, or be there twice."""

    tokens: dict[tuple[int, int], str] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)

    async def apply(self, rows: MemoryRows, batches: Sequence[Batch]) -> Sequence[tuple[Word, Head]]:
        words = await super().apply(rows, batches)
        for batch, (word, _) in zip(batches, words, strict=True):
            place = batch.shard, batch.number
            if word is not Word.APPLIED or self.tokens.get(place) == batch.token:
                continue
            if place in self.tokens:
                self.wrong.append(f"two owners wrote batch {batch.number} of shard {batch.shard}")
            self.tokens[place] = batch.token
            for _, _, value in batch.puts:
                before = self.counts.get(batch.shard, 0)
                self.counts[batch.shard] = int(value)
                if int(value) != before + 1:
                    self.wrong.append(f"shard {batch.shard} counted from {before} to {int(value)}")
        return words


class Count:
    """Rows that count their batches."""

    def __init__(self, value: int) -> None:
        self.value = value

    def cut(self) -> Cut:
        self.value += 1
        return Cut(0, [("", "count", b"%d" % self.value)])

    def written(self) -> None:
        pass

    def lost(self, why: str) -> None:
        pass


class Way(SimRows):
    """A node's way to the store; some of its calls may fail.

    Attributes:
        failing: names of calls that fail.
        slow: how long a call takes to get to the store, and its answer to come back (seconds).
        acquired: when each shard was acquired last, by the loop's time.
    """

    def __init__(self, server: Server) -> None:
        super().__init__(server, copy_context())
        self.failing: set[str] = set()
        self.slow: dict[str, float] = {}
        self.acquired: dict[int, float] = {}

    async def acquire(self, seen: Head, token: str, node: str, schema: int) -> Head | None:
        self.check("acquire")
        head = await super().acquire(seen, token, node, schema)
        if head is not None:
            self.acquired[head.shard] = asyncio.get_running_loop().time()
        return head

    async def apply(self, batches: Sequence[Batch]) -> Sequence[tuple[Word, Head]]:
        await asyncio.sleep(self.slow.get("apply", 0))
        return await super().apply(batches)

    async def release(self, head: Head, batch: int) -> bool:
        await asyncio.sleep(self.slow.get("release", 0))
        released = await super().release(head, batch)
        await asyncio.sleep(self.slow.get("release", 0))
        return released

    def check(self, call: str) -> None:
        if call in self.failing:
            raise StoreUnavailable(f"{call} fails")


class Node:
    """A process that owns shards, and works on them.

    Attributes:
        lost: which shards which node took from it.
        handed: when it handed over shards that it was asked for, by the loop's time.
        asks: how often it asked for a shard.
        settle_s: how long work on a shard takes to end (seconds).
        work_s: how often shards change (seconds).
    """

    def __init__(self, site: Site, name: str, reads: int) -> None:
        self.name = name
        self.process = Process(name)
        self.way = Way(site.server)
        self.lost: list[str] = []
        self.handed: list[float] = []
        self.asks = 0
        self.settle_s = 0.0
        self.work_s = 0.1
        self._site = site
        self._tasks: list[asyncio.Task[None]] = []
        self.writer = self.process.context.run(Writer, self.way)
        self.members = Members(self.way, name, reads)
        self.owner = Owner(
            self.way, name, self.writer, self._load, self._begin, taken=self.lost.append,
            members=self.members, ask=self._ask, told=self._told, settle=self._settle,
        )  # fmt: skip
        for run in (self.writer.run, self._run, self.members.run, self._work):
            self._tasks.append(self.process.spawn(run()))

    @property
    def shards(self) -> set[int]:
        return {*self.owner.owned}

    async def _run(self) -> None:
        with suppress(StoreUnavailable):
            await self.owner.start()
        await self.owner.run()

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(self.work_s)
            for owned in [*self.owner.owned.values()]:
                if random.random() < 0.2:
                    self.writer.gate.changed(owned)

    async def _load(self, head: Head) -> Rows:
        if "load" in self.way.failing:
            await asyncio.sleep(2)
        self.way.check("load")
        [value] = await self.way.read(head.shard, [("", "count")])
        return Count(int(value or b"0"))

    async def _begin(self, rows: Rows, owned: Ownership) -> None:
        await asyncio.sleep(self.way.slow.get("begin", 0))
        await self.writer.gate.passed(owned)

    async def _settle(self, shard: int) -> None:
        await asyncio.sleep(self.settle_s)

    def _ask(self, node: str, shard: int) -> None:
        self.asks += 1
        self._site.mail(node, lambda other: other.owner.asked(shard, self.name))

    def _told(self, node: str, shard: int) -> None:
        self.handed.append(self._site.loop.time())
        self._site.mail(node, lambda other: other.owner.freed(shard))

    async def drain(self) -> float:
        """Drain it, and end it; returns how long the drain took (seconds)."""

        async def drain() -> float:
            began = self._site.loop.time()
            await self.owner.drain()
            took = self._site.loop.time() - began
            # A node that ends has more to do.
            await asyncio.sleep(0.5)
            await self.members.leave()
            return took

        took = await self.process.spawn(drain())
        for task in self._tasks:
            task.cancel()
        return took


class Site:
    """A store, and the nodes that share it."""

    def __init__(self, loop: VirtualLoop, seed: int) -> None:
        self.loop = loop
        self.server = Audited(MemoryRows(SHARDS, SimClock(loop, 0)), random.Random(seed))
        self.nodes: dict[str, Node] = {}

    def start(self, *names: str, reads: int = SCHEMA) -> list[Node]:
        nodes = [Node(self, name, reads) for name in names]
        self.nodes.update({node.name: node for node in nodes})
        return nodes

    def mail(self, node: str, act: Callable[[Node], None]) -> None:
        to = self.nodes[node]
        self.loop.call_later(MAIL_S, act, to, context=to.process.context)

    async def heads(self) -> Sequence[Head]:
        return await self.server.rows.heads()

    async def shared(self, *nodes: Node) -> None:
        """Check that these nodes have all shards, each its share, and know who has which."""
        counts = sorted(len(node.shards) for node in nodes)
        assert sum(counts) == SHARDS, counts
        assert counts[-1] - counts[0] <= 1, counts
        for head in await self.heads():
            assert head.token != NOBODY
            assert {node.owner.of(head.shard) for node in nodes} == {head.node}
            [owner] = [node for node in nodes if head.shard in node.shards]
            assert (owner.name, owner.owner.owned[head.shard].head.token) == (head.node, head.token)
        for node in nodes:
            assert {name: member.shards for name, member in node.members.live.items()} == {
                other.name: len(other.shards) for other in nodes
            }


def run(story: Callable[[Site], Awaitable[None]], seed: int = 1) -> None:
    loop = VirtualLoop()
    random.seed(seed)
    site = Site(loop, seed)
    try:
        loop.run_until_complete(asyncio.wait_for(story(site), 2_000))
    finally:
        loop.end()
    assert site.server.wrong == []


@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "c")], ids=len)
def test_nodes_that_start_together_have_equal_shares_at_once(names: tuple[str, ...]) -> None:
    async def story(site: Site) -> None:
        nodes = site.start(*names)
        await asyncio.sleep(2.9)
        counts = sorted(len(node.shards) for node in nodes)
        assert (sum(counts), counts[-1] - counts[0] <= 1) == (SHARDS, True)
        await asyncio.sleep(2)
        await site.shared(*nodes)
        assert [node.lost for node in nodes] == [[] for _ in nodes]

    run(story)


def test_a_node_that_comes_later_gets_its_share_one_by_one_and_then_all_is_quiet() -> None:
    async def story(site: Site) -> None:
        [a] = site.start("a")
        await asyncio.sleep(5)
        assert len(a.shards) == SHARDS
        [b] = site.start("b")
        await asyncio.sleep(40)
        await site.shared(a, b)
        assert len(a.handed) == SHARDS // 2
        assert all(later - earlier >= 1 for earlier, later in zip(a.handed, a.handed[1:], strict=False))
        [c] = site.start("c")
        await asyncio.sleep(40)
        await site.shared(a, b, c)
        before = [head.epoch for head in await site.heads()]
        await asyncio.sleep(60)
        assert [head.epoch for head in await site.heads()] == before
        # One epoch for each shard, and one for each that was handed over: no shard went there and back.
        assert sum(before) == SHARDS + SHARDS // 2 + SHARDS // 3
        assert a.lost == b.lost == c.lost == []

    run(story)


def test_a_node_that_has_no_more_than_its_share_keeps_it() -> None:
    async def story(site: Site) -> None:
        a, b = site.start("a", "b")
        await asyncio.sleep(5)
        a.owner.asked(min(a.shards), "b")
        await asyncio.sleep(5)
        assert a.handed == []
        await site.shared(a, b)

    run(story)


def test_more_nodes_than_shards_are_quiet() -> None:
    async def story(site: Site) -> None:
        nodes = site.start(*(f"n{n}" for n in range(SHARDS + 3)))
        # Those who look at the same time want different shards.
        await asyncio.sleep(0.3)
        assert sum(len(node.shards) for node in nodes) > SHARDS / 3
        await asyncio.sleep(120)
        assert sum(len(node.shards) for node in nodes) == SHARDS
        before = [head.epoch for head in await site.heads()]
        await asyncio.sleep(30)
        assert [head.epoch for head in await site.heads()] == before

    run(story)


def test_the_shards_of_a_killed_node_are_taken_by_all_others_after_ten_seconds() -> None:
    async def story(site: Site) -> None:
        a, b, c = site.start("a", "b", "c")
        await asyncio.sleep(10)
        orphans, killed_at = c.shards, site.loop.time()
        c.process.kill()
        await asyncio.sleep(14)
        await site.shared(a, b)
        for shard in orphans:
            took = max(node.way.acquired.get(shard, 0) for node in (a, b)) - killed_at
            assert TAKE_OVER_S - RENEW_S <= took <= TAKE_OVER_S + 2
        assert a.handed == b.handed == []

    run(story)


def test_a_node_that_is_started_again_takes_its_own_shards_at_once() -> None:
    async def story(site: Site) -> None:
        a, b, c = site.start("a", "b", "c")
        await asyncio.sleep(10)
        before = a.shards, b.shards, c.shards
        c.process.kill()
        await asyncio.sleep(1)
        [c] = site.start("c")
        await asyncio.sleep(1)
        assert (a.shards, b.shards, c.shards) == before
        await asyncio.sleep(20)
        await site.shared(a, b, c)
        assert a.lost == b.lost == c.lost == []

    run(story)


def test_a_node_that_drains_hands_all_shards_over_in_a_second() -> None:
    async def story(site: Site) -> None:
        a, b, c = site.start("a", "b", "c")
        await asyncio.sleep(10)
        # Work on all shards ends at the same time.
        c.settle_s = 0.4
        ending = asyncio.create_task(c.drain())
        await asyncio.sleep(0.8)
        assert not c.shards
        assert len(a.shards) == len(b.shards) == SHARDS / 2
        assert await ending < 1
        await asyncio.sleep(2)
        await site.shared(a, b)
        assert a.lost == b.lost == c.lost == []

    run(story)


def test_work_that_does_not_end_holds_a_hand_over_up_for_five_seconds() -> None:
    async def story(site: Site) -> None:
        a, b = site.start("a", "b")
        await asyncio.sleep(10)
        b.settle_s = 100
        assert 5 <= await b.drain() < 6
        await asyncio.sleep(2)
        await site.shared(a)

    run(story)


def test_a_drain_does_not_wait_for_a_store_that_is_away() -> None:
    async def story(site: Site) -> None:
        a, b = site.start("a", "b")
        await asyncio.sleep(10)
        site.server.down_until = site.loop.time() + 60
        assert await b.drain() < 4
        await asyncio.sleep(80)
        await site.shared(a)

    run(story)


def test_a_shard_that_is_handed_over_while_the_store_is_away_keeps_what_changed() -> None:
    async def story(site: Site) -> None:
        [a] = site.start("a")
        await asyncio.sleep(5)
        a.settle_s = 2
        [b] = site.start("b")
        await asyncio.sleep(3)
        [shard] = a.owner._handing
        a.writer.gate.changed(a.owner.owned[shard])
        site.server.down_until = site.loop.time() + 20
        await asyncio.sleep(15)
        assert shard in a.shards
        await asyncio.sleep(70)
        assert shard in b.shards
        await site.shared(a, b)

    run(story)


def test_a_hand_over_that_takes_long_is_no_twin_and_not_taken_back() -> None:
    async def story(site: Site) -> None:
        [a] = site.start("a")
        await asyncio.sleep(5)
        a.way.slow["release"] = 1.5
        site.start("b")
        await asyncio.sleep(30)
        assert a.lost == []
        assert len(a.handed) >= 5
        assert sum(head.epoch for head in await site.heads()) in (SHARDS + len(a.handed), SHARDS + len(a.handed) + 1)

    run(story)


def test_a_shard_on_which_work_goes_on_is_handed_over_after_its_last_batch() -> None:
    async def story(site: Site) -> None:
        [a] = site.start("a")
        await asyncio.sleep(5)
        a.work_s, a.way.slow["apply"] = 0.01, 0.05
        [b] = site.start("b")
        await asyncio.sleep(40)
        assert len(a.handed) == len(b.shards) == SHARDS / 2
        assert sum(head.epoch for head in await site.heads()) == SHARDS + SHARDS / 2
        assert a.lost == []

    run(story)


def test_a_shard_that_is_loaded_may_be_handed_over() -> None:
    async def story(site: Site) -> None:
        [a] = site.start("a")
        a.way.slow["begin"] = 1.0
        await asyncio.sleep(2.5)
        [b] = site.start("b")
        b.owner._ask_at = float("inf")
        await asyncio.sleep(3)
        shard = next(iter(a.owner._unloaded))
        a.owner.asked(shard, "b")
        await asyncio.sleep(2)
        # It loads the others.
        assert len(a.shards) == SHARDS - 1
        assert b.shards == {shard}

    run(story)


def test_a_node_that_is_cut_off_from_the_store_loses_its_shards_to_silence_and_gets_its_share_again() -> None:
    async def story(site: Site) -> None:
        a, b, c = site.start("a", "b", "c")
        await asyncio.sleep(10)
        had = c.shards
        c.way.cut_until = site.loop.time() + 30
        await asyncio.sleep(TAKE_OVER_S - RENEW_S)
        assert {head.shard for head in await site.heads() if head.node == "c"} == had
        await asyncio.sleep(10)
        assert len(a.shards) == len(b.shards) == SHARDS / 2
        # It cannot know, and writes nothing.
        assert c.shards == had
        await asyncio.sleep(15)
        assert len(c.lost) == len(had)
        assert {*c.lost} == {"a", "b"}
        await asyncio.sleep(40)
        await site.shared(a, b, c)
        assert a.lost == b.lost == []

    run(story)


def test_a_store_that_is_away_changes_no_owner_and_no_member() -> None:
    async def story(site: Site) -> None:
        a, b, c = nodes = site.start("a", "b", "c")
        await asyncio.sleep(10)
        before = [(head.epoch, head.node) for head in await site.heads()]
        site.server.down_until = site.loop.time() + 30
        for _ in range(500):
            await asyncio.sleep(0.1)
            assert all({*node.members.live} == {"a", "b", "c"} for node in nodes)
        assert [(head.epoch, head.node) for head in await site.heads()] == before
        await site.shared(a, b, c)

    run(story)


def test_records_of_newer_nodes_are_read_and_others_left_out() -> None:
    async def story(site: Site) -> None:
        newer = Encoder().encode(["process", 5, False, 2, "more"])
        changes = [Change(KIND, name, 0, value) for name, value in {"newer": newer, "broken": b"\xc1"}.items()]
        await site.server.rows.exchange(changes)
        [a] = site.start("a")
        await asyncio.sleep(3)
        assert {*a.members.live} == {"a", "newer"}
        assert a.members.live["newer"] == Member("process", 5, False, 2)

    run(story)


NEXT = SCHEMA + 1


def test_a_newer_release_writes_what_the_older_reads_until_no_live_node_needs_that() -> None:
    async def story(site: Site) -> None:
        a, b = site.start("a", "b")
        await asyncio.sleep(30)
        # One after the other is replaced. Both releases own shards meanwhile, and hand them to each other.
        await a.drain()
        [c] = site.start("c", reads=NEXT)
        await asyncio.sleep(40)
        await site.shared(b, c)
        assert {head.schema for head in await site.heads()} == {SCHEMA}
        await b.drain()
        [d] = site.start("d", reads=NEXT)
        await asyncio.sleep(40)
        await site.shared(c, d)
        # What is taken from now on is in the next schema.
        assert {head.schema for head in await site.heads() if head.node == "d"} == {NEXT}

    run(story)


def test_a_node_takes_no_shard_that_it_cannot_read_and_goes_on_with_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story(site: Site) -> None:
        [a] = site.start("a")
        await asyncio.sleep(3)
        first = a.owner.owned[0]
        # The shard is taken by a newer release that had not heard of this node.
        [head] = [head for head in await site.heads() if head.shard == 0]
        taken = await site.server.rows.acquire(head, "token", "newer", NEXT)
        assert taken is not None
        await asyncio.sleep(TAKE_OVER_S + 10)
        assert first.lost
        assert a.shards == {*range(1, SHARDS)}
        [told] = [one.getMessage() for one in caplog.records if "schema" in one.getMessage()]
        assert told.startswith(f"shard 0 of the store has rows of schema {NEXT}, and this release reads {SCHEMA} at")

    run(story)


def test_an_older_release_does_not_start_on_shards_that_it_cannot_read() -> None:
    async def story(site: Site) -> None:
        [c] = site.start("c", reads=NEXT)
        await asyncio.sleep(3)
        assert len(c.shards) == SHARDS
        writer = Writer(site.server.rows)
        owner = Owner(site.server.rows, "a", writer, c._load, c._begin, members=Members(site.server.rows, "a"))
        with pytest.raises(ConfigError, match=f"rows of schema {NEXT}, and this release reads {SCHEMA} at most"):
            await owner.start()

    run(story)


def test_a_node_that_resigns_while_it_looks_takes_nothing_from_the_next_process_of_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(site: Site) -> None:
        [a] = site.start("a")
        await asyncio.sleep(3)
        before = await site.heads()
        look = a.way.heads

        async def heads() -> Sequence[Head]:
            found = await look()
            a.owner.resign()
            return found

        monkeypatch.setattr(a.way, "heads", heads)
        a.owner.drop(0, "the test says so")
        await asyncio.sleep(5)
        assert a.shards == {*range(1, SHARDS)}
        assert [head.token for head in await site.heads()] == [head.token for head in before]

    run(story)


@pytest.mark.parametrize("call", ["acquire", "load"])
def test_shards_that_their_fair_owner_cannot_take_are_taken_by_another(call: str) -> None:
    async def story(site: Site) -> None:
        a, b = site.start("a", "b")
        b.way.failing.add(call)
        await asyncio.sleep(10)
        assert len(a.shards) == SHARDS
        # That lasts: the other one is not given any, as it failed just now.
        await asyncio.sleep(30)
        assert len(a.shards) == SHARDS
        b.way.failing.clear()
        await asyncio.sleep(80)
        await site.shared(a, b)

    run(story)


def test_a_second_process_of_one_name_is_told_of_by_the_first() -> None:
    async def story(site: Site) -> None:
        a, b = site.start("a", "b")
        await asyncio.sleep(10)
        had = a.shards
        site.start("a")
        await asyncio.sleep(3)
        assert a.lost.count("a") >= len(had)
        assert b.lost == []

    run(story)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_no_shard_has_two_owners_whose_batches_are_applied(seed: int) -> None:
    async def story(site: Site) -> None:
        dice, chances = random.Random(seed), site.server.chances
        site.start("a", "b", "c")
        chances.lost, chances.late, chances.twice = 0.02, 0.02, 0.05
        for _ in range(15):
            await asyncio.sleep(dice.uniform(1, 15))
            node = site.nodes[dice.choice("abc")]
            match dice.choice(["kill", "drain", "freeze", "cut"]):
                case "kill":
                    node.process.kill()
                    await asyncio.sleep(dice.choice([0.5, 15]))
                    site.start(node.name)
                case "drain":
                    await node.drain()
                    site.start(node.name)
                case "freeze":
                    node.process.freeze()
                    await asyncio.sleep(dice.uniform(1, 20))
                    node.process.go_on()
                case "cut":
                    node.way.cut_until = site.loop.time() + dice.uniform(1, 20)
        chances.lost = chances.late = chances.twice = 0.0
        await asyncio.sleep(120)
        await site.shared(*site.nodes.values())

    run(story, seed)
