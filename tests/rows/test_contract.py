"""What every row store promises the core."""

from __future__ import annotations

import asyncio

import pytest

from holon.stores.port import NOBODY, Batch, Change, Draw, Entry, Head, Row, RowKey, RowStore, Word
from tests.rows.conftest import Stores

A, B = "a" * 32, "b" * 32
shared_store = pytest.mark.shared_store


async def owned(store: RowStore, shard: int = 0, token: str = A) -> Head:
    """A shard that is owned from now on."""
    head = await store.acquire((await store.heads())[shard], token, "n1", 1)
    assert head is not None
    return head


def batch(
    head: Head,
    number: int,
    *puts: Row,
    stamp: int = 0,
    deletes: tuple[RowKey, ...] = (),
    purged: tuple[str, ...] = (),
    entries: tuple[Entry, ...] = (),
    removed: tuple[Entry, ...] = (),
) -> Batch:
    return Batch(head.shard, head.epoch, head.token, number, stamp, puts, deletes, purged, entries, removed)


async def word(store: RowStore, *batches: Batch) -> Word:
    [(word, _)] = await store.apply(batches)
    return word


async def value(store: RowStore, job: str, name: str, shard: int = 0) -> bytes | None:
    [value] = await store.read(shard, [(job, name)])
    return value


# Ownership ---------------------------------------------------------------------------------------------------------


async def test_a_new_store_has_free_shards_and_an_id(store: RowStore, stores: Stores) -> None:
    heads = await store.heads()
    assert [head.shard for head in heads] == list(range(store.shards))
    assert {(head.epoch, head.token, head.batch, head.node) for head in heads} == {(0, NOBODY, 0, "")}
    assert store.id
    assert store.generation == 1


@shared_store
async def test_a_store_that_is_opened_again_is_the_same(store: RowStore, stores: Stores) -> None:
    await owned(store, 1)
    other = await stores.open()
    assert (other.id, other.shards) == (store.id, store.shards)
    assert [head.token for head in await other.heads()] == [NOBODY, A, NOBODY]


async def test_who_saw_the_newest_head_owns_the_shard(store: RowStore) -> None:
    [seen, *_] = await store.heads()
    head = await store.acquire(seen, A, "n1", 7)
    assert head is not None
    assert (head.epoch, head.token, head.node, head.schema) == (1, A, "n1", 7)
    assert await store.acquire(seen, B, "n2", 7) is None
    taken = await store.acquire(head, B, "n2", 8)
    assert taken is not None
    assert (taken.epoch, taken.token, taken.node, taken.schema) == (2, B, "n2", 8)


async def test_a_repeated_acquire_answers_as_the_first_one(store: RowStore) -> None:
    [seen, *_] = await store.heads()
    first = await store.acquire(seen, A, "n1", 1)
    again = await store.acquire(seen, A, "n1", 1)
    assert first is not None
    assert again is not None
    assert (first.epoch, first.token) == (again.epoch, again.token)


async def test_an_owner_that_wrote_meanwhile_is_not_taken_over(store: RowStore) -> None:
    head = await owned(store)
    assert await word(store, batch(head, 1)) is Word.APPLIED
    assert await store.acquire(head, B, "n2", 1) is None


async def test_a_released_shard_is_free_and_its_owner_fenced(store: RowStore) -> None:
    head = await owned(store)
    await store.apply([batch(head, 1, ("1", "head", b"x"))])
    assert not await store.release(head, 0)
    assert await store.release(head, 1)
    assert await word(store, batch(head, 2)) is Word.FENCED
    assert (await store.heads())[0].token == NOBODY
    assert (await owned(store, 0, B)).batch == 1


# Batches -----------------------------------------------------------------------------------------------------------


async def test_a_batch_changes_rows_and_entries_together(store: RowStore) -> None:
    head = await owned(store)
    entries: tuple[Entry, ...] = (("live", 5, "1"), ("live", 7, "2"), ("due", 9, "1.a"))
    first = batch(head, 1, ("1", "head", b"h"), ("1", "task.1", b"t"), ("2", "head", b""), entries=entries)
    assert await word(store, first) is Word.APPLIED
    assert await store.read(0, [("2", "head"), ("1", "task.1"), ("3", "head")]) == [b"", b"t", None]
    second = batch(
        head, 2, ("1", "head", b"new"), deletes=(("1", "task.1"), ("9", "nothing")), removed=(("live", 5, "1"),),
        entries=(("over", 6, "1"),),
    )  # fmt: skip
    assert await word(store, second) is Word.APPLIED
    assert await store.read(0, [("1", "head"), ("1", "task.1")]) == [b"new", None]
    assert [found.member for found in await store.range("live", [0], 0, 100, 10)] == ["2"]
    assert [found.member for found in await store.range("over", [0], 0, 100, 10)] == ["1"]


async def test_a_purged_job_has_no_row_left(store: RowStore) -> None:
    head = await owned(store)
    await store.apply([batch(head, 1, *(("1", f"line.{n}", b"x") for n in range(50)), ("2", "head", b"y"))])
    assert len(await store.names(0, "1")) == 50
    await store.apply([batch(head, 2, ("1", "head", b"anew"), purged=("1",))])
    assert await store.names(0, "1") == ["head"]
    assert await store.names(0, "2") == ["head"]
    assert await store.names(0, "3") == []


async def test_a_repeated_batch_is_applied_once(store: RowStore) -> None:
    head = await owned(store)
    first = batch(head, 1, ("1", "head", b"x"))
    assert await word(store, first) is Word.APPLIED
    await store.apply([batch(head, 2, ("1", "head", b"y"))])
    assert await word(store, first) is Word.APPLIED
    assert await value(store, "1", "head") == b"y"


async def test_a_batch_whose_predecessor_is_missing_is_a_gap(store: RowStore) -> None:
    head = await owned(store)
    assert await word(store, batch(head, 2, ("1", "head", b"x"))) is Word.GAP
    assert await value(store, "1", "head") is None
    [(_, now)] = await store.apply([batch(head, 3)])
    assert now.batch == 0


async def test_a_batch_of_an_earlier_owner_is_fenced(store: RowStore) -> None:
    head = await owned(store)
    await store.apply([batch(head, 1, ("1", "head", b"x"))])
    now = await owned(store, 0, B)
    assert await word(store, batch(head, 2, ("1", "head", b"old"))) is Word.FENCED
    # The token is the fence: the number of an epoch can come again after a backup was restored.
    forged = batch(Head(0, now.epoch, A), 2, ("1", "head", b"old"))
    assert await word(store, forged) is Word.FENCED
    assert await value(store, "1", "head") == b"x"
    assert await word(store, batch(now, 2, ("1", "head", b"new"))) is Word.APPLIED


async def test_a_large_batch_is_applied_whole(store: RowStore) -> None:
    head = await owned(store)
    puts = tuple((str(n % 7), f"row.{n}", b"v" * (n % 50)) for n in range(9_000))
    entries: tuple[Entry, ...] = tuple(("all", n, f"{n:05}") for n in range(9_000))
    assert await word(store, batch(head, 1, *puts, entries=entries)) is Word.APPLIED
    assert len(await store.names(0, "3")) == len(range(3, 9_000, 7))
    wanted = [(job, name) for job, name, _ in puts[:2_000]]
    assert await store.read(0, wanted) == [content for _, _, content in puts[:2_000]]
    deletes = tuple((job, name) for job, name, _ in puts)
    assert await word(store, batch(head, 2, deletes=deletes, removed=entries)) is Word.APPLIED
    assert await store.names(0, "3") == []
    assert await store.range("all", [0], 0, 10_000, 10) == []


@shared_store
async def test_batches_of_several_shards_go_together_each_by_itself(store: RowStore) -> None:
    heads = [await owned(store, shard) for shard in range(3)]
    await store.apply([batch(heads[1], 1)])
    words = await store.apply(
        [batch(head, 1, ("1", "head", b"%d" % head.shard)) for head in heads[:2]] + [batch(heads[2], 5)]
    )
    assert [word for word, _ in words] == [Word.APPLIED, Word.APPLIED, Word.GAP]
    assert await value(store, "1", "head", 0) == b"0"
    assert await value(store, "1", "head", 1) is None
    assert await value(store, "1", "head", 2) is None


async def test_rows_outlive_the_process(stores: Stores) -> None:
    store = await stores.open()
    head = await owned(store)
    await store.apply([batch(head, 1, ("1", "head", b"\x00\xff" * 500_000), entries=(("live", 2**52, "1"),))])
    other = await stores.open()
    assert await value(other, "1", "head") == b"\x00\xff" * 500_000
    [found] = await other.range("live", [0], 0, 2**53 - 1, 10)
    assert (found.shard, found.score, found.member) == (0, 2**52, "1")
    [now, *_] = await other.heads()
    assert now.seen() == (1, A, 1)


async def test_i9_the_time_of_a_shard_never_goes_back(store: RowStore, stores: Stores) -> None:
    head = await owned(store)
    far = head.time + 1_000_000_000
    [(_, later)] = await store.apply([batch(head, 1, stamp=far)])
    assert later.time >= far
    assert (await store.heads())[0].time >= far
    assert (await owned(store, 0, B)).time >= far
    stores.later(1)


# Indexes -----------------------------------------------------------------------------------------------------------


@shared_store
async def test_a_range_goes_over_several_shards_in_one_order(store: RowStore) -> None:
    for shard in range(3):
        entries: tuple[Entry, ...] = tuple(("made", 10 * n + shard, f"{shard}.{n}") for n in range(5))
        await store.apply([batch(await owned(store, shard), 1, entries=entries)])
    oldest = await store.range("made", [0, 1, 2], 10, 31, 100)
    assert [one.score for one in oldest] == [10, 11, 12, 20, 21, 22, 30, 31]
    assert [one.member for one in await store.range("made", [0, 2], 0, 99, 3, newest_first=True)] == [
        "2.4",
        "0.4",
        "2.3",
    ]
    assert await store.range("made", [0, 1, 2], 50, 99, 3) == []
    assert await store.range("other", [0, 1, 2], 0, 99, 3) == []


@shared_store
async def test_entries_are_counted_over_several_shards(store: RowStore) -> None:
    for shard in range(3):
        entries: tuple[Entry, ...] = tuple(("made", n, f"{n}") for n in range(shard + 1))
        await store.apply([batch(await owned(store, shard), 1, entries=entries)])
    assert await store.count("made", [0, 2]) == 4
    assert await store.count("other", [0, 1, 2]) == 0


async def test_entries_of_one_score_are_ordered_by_member_in_both_directions(store: RowStore) -> None:
    entries: tuple[Entry, ...] = tuple(("made", 5, f"{n:04x}") for n in (3, 1, 10, 2, 255))
    await store.apply([batch(await owned(store), 1, entries=entries)])
    assert [one.member for one in await store.range("made", [0], 5, 5, 3)] == ["0001", "0002", "0003"]
    newest = await store.range("made", [0], 5, 5, 2, newest_first=True)
    assert [one.member for one in newest] == ["00ff", "000a"]


# Mail --------------------------------------------------------------------------------------------------------------


@shared_store
async def test_mail_goes_to_one_node_in_order_and_once(store: RowStore, stores: Stores) -> None:
    other = await stores.open()
    await other.send("n1", [b"1", b"2"])
    await other.send("n2", [b"other"])
    assert [*await store.receive("n1")] == [b"1", b"2"]
    await other.send("n1", [b"3"])
    assert [*await store.receive("n1")] == [b"3"]
    assert [*await other.receive("n2")] == [b"other"]


async def test_mail_wakes_the_node_that_waits_for_it(store: RowStore) -> None:
    await store.receive("n1")
    waiting = asyncio.create_task(store.receive("n1"))
    await asyncio.sleep(0)
    await store.send("n1", [b"wake"])
    assert [*await waiting] == [b"wake"]


async def test_with_nothing_to_receive_the_wait_ends_by_itself(store: RowStore) -> None:
    assert not await store.receive("n1")


# Shared records ----------------------------------------------------------------------------------------------------


async def test_a_record_changes_only_from_the_version_that_was_read(store: RowStore) -> None:
    [(made, one)] = await store.exchange([Change("doc", "k", 0, b"1")])
    assert made
    assert one is not None
    assert (one.value, one.expires_at) == (b"1", None)
    [(made, other)] = await store.exchange([Change("doc", "k", 0, b"other")])
    assert (made, other) == (False, one)
    changes = [Change("doc", "k", one.version, b"2"), Change("doc", "k", one.version, b"3")]
    [(made, two), (wrong, same)] = await store.exchange(changes)
    assert made
    assert not wrong
    assert two is not None
    assert two.version > one.version
    assert two == same == (await store.records("doc"))[0]


async def test_of_equal_changes_one_is_made_and_the_record_tells_the_others(store: RowStore) -> None:
    [(_, one)] = await store.exchange([Change("doc", "k", 0, b"1")])
    assert one is not None
    assert await store.exchange([Change("doc", "k", 0, b"1")]) == [(False, one)]
    assert await store.exchange([Change("doc", "k", one.version, None)]) == [(True, None)]
    assert await store.exchange([Change("doc", "k", one.version, None)]) == [(False, None)]
    assert await store.exchange([Change("doc", "k", 0, None)]) == [(True, None)]
    assert await store.records("doc") == []


async def test_no_version_comes_again_whatever_the_record_and_after_a_restart(stores: Stores) -> None:
    versions = []
    for turn in range(2):
        store = await stores.open()
        for key in ("k", "other", "k") if turn else ("k", "k"):
            [(_, one)] = await store.exchange([Change("doc", key, 0, b"1")])
            assert one is not None
            versions.append(one.version)
            [(made, _)] = await store.exchange([Change("doc", key, one.version, None)])
            assert made
    assert versions == sorted(set(versions))
    assert versions[0] > 0
    [(made, _)] = await store.exchange([Change("doc", "k", versions[0], b"2")])
    assert not made


async def test_changes_of_one_call_are_made_in_their_order(store: RowStore) -> None:
    keys = [f"{n:02}" for n in range(20)]
    await store.exchange([Change("doc", key, 0, b"") for key in reversed(keys)])
    known = {one.key: one.version for one in await store.records("doc")}
    changes = [Change("doc", key, known[key], value) for key in reversed(keys) for value in (b"first", b"second")]
    answers = await store.exchange(changes)
    assert [made for made, _ in answers] == [True, False] * 20
    assert [one.key for _, one in answers if one is not None] == [change.key for change in changes]
    assert {one.value for one in await store.records("doc")} == {b"first"}


@shared_store
async def test_calls_of_several_nodes_about_the_same_records_do_not_wait_in_a_circle(
    store: RowStore, stores: Stores
) -> None:
    other = await stores.open()
    keys = [f"{n:03}" for n in range(200)]
    back = list(reversed(keys))

    async def all_of(node: RowStore, some: list[str]) -> None:
        await node.draw([Draw("q", key, 1, 1_000, 60_000) for key in some])
        await node.exchange([Change("doc", key, 0, b"") for key in reversed(some)])

    for _ in range(5):
        await asyncio.gather(all_of(store, keys), all_of(other, back))
    assert {one.value for one in await store.draw([Draw("q", key, 0, 1_000, 60_000) for key in keys])} == {10}
    assert await store.count_records("doc") == len(keys)


async def test_records_are_listed_by_kind_or_by_keys(store: RowStore) -> None:
    await store.exchange([Change(kind, key, 0, key.encode()) for kind in ("a", "b") for key in ("x", "y z", "ü")])
    assert sorted(one.key for one in await store.records("a")) == ["x", "y z", "ü"]
    assert [one.value for one in await store.records("b", ["ü", "none"])] == ["ü".encode()]
    assert await store.records("c") == []


async def test_a_record_keeps_every_byte_of_its_value(stores: Stores) -> None:
    values = {"nul": b"\0", "both": b"a\0\0b\0", "all": bytes(range(256)), "line": b"\n 1 2 \r\n", "none": b""}
    store = await stores.open()
    answers = await store.exchange([Change("doc", key, 0, value) for key, value in values.items()])
    assert [one.value for _, one in answers if one is not None] == [*values.values()]
    other = await stores.open()
    assert {one.key: one.value for one in await other.records("doc")} == values
    # A change that is refused shows the whole record too.
    refused = await other.exchange([Change("doc", key, 0, b"other") for key in values])
    assert [(made, one.value) for made, one in refused if one is not None] == [(False, one) for one in values.values()]


async def test_an_expired_record_is_gone(store: RowStore, stores: Stores) -> None:
    await store.exchange([Change("doc", "k", 0, b"1", 1)])
    await store.exchange([Change("doc", "long", 0, b"1", 60_000)])
    if not stores.later(2):
        async with asyncio.timeout(10):
            while len(await store.records("doc")) > 1:  # noqa: ASYNC110
                await asyncio.sleep(0)
    [left] = await store.records("doc")
    assert left.key == "long"
    assert left.expires_at is not None
    [(made, one)] = await store.exchange([Change("doc", "k", 0, b"2")])
    assert made
    assert one is not None
    assert one.value == b"2"


async def test_a_counter_never_goes_beyond_its_limit(store: RowStore) -> None:
    drawn = await store.draw([Draw("quota", "ann", 1, 3, 60_000) for _ in range(5)])
    assert [(one.granted, one.value) for one in drawn] == [(True, 1), (True, 2), (True, 3), (False, 3), (False, 3)]
    [other] = await store.draw([Draw("quota", "bob", 4, 3, 60_000)])
    assert (other.granted, other.value) == (False, 0)


async def test_a_counter_begins_anew_when_it_expires(store: RowStore, stores: Stores) -> None:
    await store.draw([Draw("rate", "ann", 3, 3, 1)])
    if not stores.later(2):
        async with asyncio.timeout(10):
            while not (await store.draw([Draw("rate", "ann", 1, 3, 1)]))[0].granted:  # noqa: ASYNC110
                await asyncio.sleep(0)
        return
    [one] = await store.draw([Draw("rate", "ann", 1, 3, 1)])
    assert (one.granted, one.value) == (True, 1)


async def test_a_counter_expires_at_the_same_time_whatever_is_drawn(store: RowStore, stores: Stores) -> None:
    [first] = await store.draw([Draw("rate", "ann", 1, 3, 60_000)])
    left = [first.expires_in]
    # Two more are granted, one is refused, and one adds nothing; the later ones ask for other times.
    for amount, ttl in ((1, 60_000), (1, 90_000), (1, 90_000), (0, 1), (0, 3_600_000)):
        stores.later(1_000)
        [one] = await store.draw([Draw("rate", "ann", amount, 3, ttl)])
        left.append(one.expires_in)
    assert one.value == 3
    if stores.later(0):
        assert left == [60_000, 59_000, 58_000, 57_000, 56_000, 55_000]
    else:
        assert left == sorted(left, reverse=True)
        assert left[-1] > 50_000


async def test_what_has_expired_is_deleted_some_at_a_time_and_nothing_else(store: RowStore, stores: Stores) -> None:
    await store.exchange([Change(kind, str(n), 0, b"1", 1) for kind in ("a", "b") for n in range(10)])
    kept = [Change("a", "long", 0, b"1", 60_000), Change("b", "always", 0, b"1"), Change("a", "0", 0, b"2", 60_000)]
    await store.draw([Draw("rate", "long", 1, 3, 60_000), *(Draw("rate", str(n), 1, 3, 1) for n in range(10))])
    if not stores.later(2):
        async with asyncio.timeout(10):
            while await store.records("a"):  # noqa: ASYNC110
                await asyncio.sleep(0)
    # One that expired and was made again stays.
    await store.exchange(kept)
    assert await store.count_records("a") == 11
    deleted = [await store.expire(7) for _ in range(6)]
    assert max(deleted) <= 14
    assert sum(deleted) in (19, 29)  # a server may let counters go by itself
    assert await store.expire(7) == 0
    assert [await store.count_records(kind) for kind in "abc"] == [2, 1, 0]
    assert sorted((one.key, one.value) for one in await store.records("a")) == [("0", b"2"), ("long", b"1")]
    [one] = await store.draw([Draw("rate", "long", 1, 3, 60_000)])
    assert one.value == 2


async def test_an_aligned_counter_ends_at_a_multiple_of_its_time(store: RowStore, stores: Stores) -> None:
    hour = 3_600_000
    [first, later] = await store.draw([Draw("rate", key, 1, 3, hour, aligned=True) for key in ("ann", "bob")])
    assert 0 < first.expires_in <= hour
    if stores.later(1_000):
        [same] = await store.draw([Draw("rate", "ann", 1, 3, hour, aligned=True)])
        assert (same.value, same.expires_in) == (2, (first.expires_in - 1_000 - 1) % hour + 1)
    assert abs(later.expires_in - first.expires_in) % hour < 1_000
    [free] = await store.draw([Draw("rate", "carl", 1, 3, hour)])
    assert hour - 1_000 < free.expires_in <= hour


@shared_store
async def test_draws_of_several_nodes_are_counted_together(store: RowStore, stores: Stores) -> None:
    other = await stores.open()
    drawn = await asyncio.gather(
        *(one.draw([Draw("q", "k", 1, 10, 60_000)]) for one in (store, other) for _ in range(10))
    )
    assert sum(one.granted for [one] in drawn) == 10
