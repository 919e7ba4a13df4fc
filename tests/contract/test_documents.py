"""Documents: every node sees the same, a change needs the version that its writer saw, and what expires is gone."""

from __future__ import annotations

import asyncio
from itertools import islice

import pytest

from holon.errors import ResourceExhausted, TooLarge
from holon.ports import MAX_DOCUMENT_BYTES, MAX_DOCUMENTS, Document, Put
from tests.contract.hinted import Hints
from tests.contract.world import Factory, World

ANY_BYTES = bytes(range(256))


async def test_a_document_that_was_written_is_read_as_it_was_written(world: World) -> None:
    version = await world.storage.put_document("keys", "a:b c/\u00e9", ANY_BYTES, version=0)
    assert version
    assert await world.storage.document("keys", "a:b c/\u00e9") == Document("keys", "a:b c/\u00e9", version, ANY_BYTES)


async def test_an_empty_value_is_a_value(world: World) -> None:
    version = await world.storage.put_document("keys", "a", b"", version=0)
    assert version
    assert await world.storage.document("keys", "a") == Document("keys", "a", version, b"")


async def test_an_unknown_document_reads_as_none(world: World) -> None:
    await world.storage.put_document("keys", "a", b"1", version=0)
    assert await world.storage.document("keys", "b") is None
    assert await world.storage.document("other", "a") is None
    assert await world.storage.documents("other") == []


async def test_the_documents_of_a_kind_come_in_the_order_of_their_keys(world: World) -> None:
    for key in ("b", "a", "c"):
        await world.storage.put_document("keys", key, key.encode(), version=0)
    await world.storage.put_document("other", "d", b"d", version=0)
    found = await world.storage.documents("keys")
    assert [(one.kind, one.key, one.value) for one in found] == [
        ("keys", "a", b"a"), ("keys", "b", b"b"), ("keys", "c", b"c")
    ]  # fmt: skip


async def test_many_large_documents_are_listed(world: World) -> None:
    value = b"x" * MAX_DOCUMENT_BYTES
    await asyncio.gather(*(world.storage.put_document("keys", f"{n:03}", value, version=0) for n in range(300)))
    found = await world.storage.documents("keys")
    assert [one.key for one in found] == [f"{n:03}" for n in range(300)]
    assert all(one.value == value for one in found)


async def test_a_change_needs_the_version_that_is_there(world: World) -> None:
    first = await world.storage.put_document("keys", "a", b"1", version=0)
    assert first
    assert await world.storage.put_document("keys", "a", b"2", version=0) is None
    assert await world.storage.put_document("keys", "a", b"2", version=first + 1) is None
    second = await world.storage.put_document("keys", "a", b"2", version=first)
    assert second
    assert second != first
    assert await world.storage.put_document("keys", "a", b"3", version=first) is None
    assert await world.storage.document("keys", "a") == Document("keys", "a", second, b"2")


async def test_of_several_in_one_call_each_needs_its_own_version(world: World) -> None:
    first = await world.storage.put_document("keys", "a", b"1", version=0)
    other = await world.storage.put_document("keys", "b", b"1", version=0)
    assert first
    assert other
    puts = Put("a", b"2", first), Put("b", b"2", other + 1_000), Put("c", b"1", 0), Put("b", None, other)
    changed, late, new, deleted = await world.storage.put_documents("keys", puts)
    assert late is None
    assert len({first, other, changed, new, deleted} - {None}) == 5
    assert [(one.key, one.value, one.version) for one in await world.storage.documents("keys")] == [
        ("a", b"2", changed), ("c", b"1", new)
    ]  # fmt: skip
    with pytest.raises(TooLarge):
        await world.storage.put_documents("keys", [Put("d", b"x" * (MAX_DOCUMENT_BYTES + 1), 0)])


async def test_of_many_who_change_the_same_version_one_succeeds(world: World) -> None:
    first = await world.storage.put_document("keys", "a", b"", version=0)
    assert first
    tries = (world.storage.put_document("keys", "a", b"%d" % n, version=first) for n in range(20))
    versions = await asyncio.gather(*tries)
    [winner] = [n for n, version in enumerate(versions) if version is not None]
    found = await world.storage.document("keys", "a")
    assert found is not None
    assert (found.value, found.version) == (b"%d" % winner, versions[winner])


async def test_of_many_who_write_the_same_over_the_same_version_one_succeeds(world: World) -> None:
    first = await world.storage.put_document("keys", "a", b"1", version=0)
    assert first
    tries = (world.storage.put_document("keys", "a", b"2", version=first) for _ in range(20))
    [second] = [version for version in await asyncio.gather(*tries) if version is not None]
    deletes = (world.storage.put_document("keys", "a", None, version=second) for _ in range(20))
    assert sum(version is not None for version in await asyncio.gather(*deletes)) == 1


async def test_a_document_is_deleted_under_its_version_alone(world: World) -> None:
    first = await world.storage.put_document("keys", "a", b"1", version=0)
    assert first
    assert await world.storage.put_document("keys", "a", None, version=0) is None
    assert await world.storage.document("keys", "a") is not None
    assert await world.storage.put_document("keys", "a", None, version=first)
    assert await world.storage.document("keys", "a") is None
    assert await world.storage.documents("keys") == []


async def test_the_version_of_a_deleted_document_does_not_come_again(world: World) -> None:
    first = await world.storage.put_document("keys", "a", b"1", version=0)
    assert first
    await world.storage.put_document("keys", "a", None, version=first)
    again = await world.storage.put_document("keys", "a", b"2", version=0)
    assert again
    assert await world.storage.put_document("keys", "a", b"3", version=first) is None


async def test_an_expired_document_is_not_there(world: World) -> None:
    version = await world.storage.put_document("keys", "a", b"1", version=0, expires_in=1_000)
    assert version
    expires_at = world.now + 1_000
    assert await world.storage.document("keys", "a") == Document("keys", "a", version, b"1", expires_at)
    world.clock.advance(999)
    assert await world.storage.documents("keys") == [Document("keys", "a", version, b"1", expires_at)]
    world.clock.advance(1)
    assert await world.storage.document("keys", "a") is None
    assert await world.storage.documents("keys") == []
    assert await world.storage.put_document("keys", "a", b"2", version=version) is None
    assert await world.storage.put_document("keys", "a", b"2", version=0)


async def test_a_change_sets_anew_when_a_document_expires(world: World) -> None:
    first = await world.storage.put_document("keys", "a", b"1", version=0, expires_in=1_000)
    assert first
    await world.storage.put_document("keys", "a", b"2", version=first)
    world.clock.advance(1_000)
    found = await world.storage.document("keys", "a")
    assert found is not None
    assert (found.value, found.expires_at) == (b"2", None)


async def test_what_expired_is_purged(world: World) -> None:
    for n in range(20):
        await world.storage.put_document("keys", str(n), b"1", version=0, expires_in=1_000 if n else None)
    assert (await world.kept())["documents"] == 20
    world.clock.advance(1_000)
    await world.storage.purge(0, 1)
    assert (await world.kept())["documents"] == 1


async def test_a_value_over_the_limit_is_refused(world: World) -> None:
    with pytest.raises(TooLarge) as refused:
        await world.storage.put_document("keys", "a", b"x" * (MAX_DOCUMENT_BYTES + 1), version=0)
    assert refused.value.code == "LIMIT_EXCEEDED"
    assert await world.storage.document("keys", "a") is None


@pytest.mark.parametrize(("kind", "key"), [("", "a"), ("Keys", "a"), ("a b", "a"), ("keys", ""), ("keys", "x" * 513)])
async def test_what_names_no_document_is_refused(world: World, kind: str, key: str) -> None:
    with pytest.raises(ValueError, match="document"):
        await world.storage.put_document(kind, key, b"1", version=0)


async def test_a_kind_that_is_full_takes_no_more_until_something_goes(world: World) -> None:
    puts = (
        world.storage.put_document("keys", str(n), b"1", version=0, expires_in=1_000 if n == 7 else None)
        for n in range(MAX_DOCUMENTS)
    )
    versions: list[int | None] = []
    while batch := list(islice(puts, 1_000)):
        versions += await asyncio.gather(*batch)
    with pytest.raises(ResourceExhausted) as refused:
        await world.storage.put_document("keys", "more", b"1", version=0)
    assert refused.value.code == "TOO_MANY_DOCUMENTS"
    assert await world.storage.put_document("keys", "0", b"2", version=versions[0] or 0)
    assert await world.storage.put_document("other", "more", b"1", version=0)
    world.clock.advance(1_000)
    assert await world.storage.put_document("keys", "more", b"1", version=0)
    assert len(await world.storage.documents("keys")) == MAX_DOCUMENTS


async def test_each_change_is_hinted_at_by_its_kind(world: World) -> None:
    hints = Hints(world)
    first = await world.storage.put_document("keys", "a", b"1", version=0)
    assert (await hints.until(lambda hint: hint.documents)).documents == {"keys"}
    hints = Hints(world)
    second = await world.storage.put_document("keys", "a", b"2", version=first or 0)
    assert (await hints.until(lambda hint: hint.documents)).documents == {"keys"}
    hints = Hints(world)
    await world.storage.put_document("keys", "a", None, version=second or 0)
    assert (await hints.until(lambda hint: hint.documents)).documents == {"keys"}


async def test_documents_outlive_their_process(durable: Factory) -> None:
    world = await durable()
    first = await world.storage.put_document("keys", "a", b"1", version=0)
    kept = await world.storage.put_document("keys", "a", ANY_BYTES, version=first or 0, expires_in=5_000)
    other = await world.storage.put_document("keys", "b", b"2", version=0)
    gone = await world.storage.put_document("keys", "c", b"3", version=0)
    await world.storage.put_document("keys", "c", None, version=gone or 0)
    expected = [
        Document("keys", "a", kept or 0, ANY_BYTES, world.now + 5_000),
        Document("keys", "b", other or 0, b"2"),
    ]
    await world.restart()
    assert await world.storage.documents("keys") == expected
    assert await world.storage.put_document("keys", "a", b"4", version=first or 0) is None
    newest = await world.storage.put_document("keys", "a", b"4", version=kept or 0)
    assert newest not in (None, first, kept, other)


async def test_what_was_purged_is_gone_after_a_restart(durable: Factory) -> None:
    world = await durable()
    await world.storage.put_document("keys", "a", b"1", version=0, expires_in=1_000)
    world.clock.advance(1_000)
    await world.storage.purge(0, 1)
    await world.restart()
    assert (await world.kept())["documents"] == 0


@pytest.mark.parametrize("expired", [False, True])
async def test_no_version_comes_again_after_a_restart(durable: Factory, *, expired: bool) -> None:
    world = await durable()
    storage = world.storage
    await world.create()
    gone = await storage.put_document("keys", "a", b"1", version=0, expires_in=1_000 if expired else None)
    assert gone
    given = {gone}
    if expired:
        world.clock.advance(1_000)
        await storage.purge(0, 1)
    else:
        given.add(await storage.put_document("keys", "a", None, version=gone) or 0)
    await world.restart()
    for _ in range(3):
        version = await world.storage.put_document("keys", "a", b"2", version=0)
        assert version
        assert version not in given
        given |= {version, await world.storage.put_document("keys", "a", None, version=version) or 0}
