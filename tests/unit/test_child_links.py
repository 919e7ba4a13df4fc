"""Notes of which children are linked: whose session each is of, and what becomes of a renewal that was half done."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from holon.clock import ManualClock
from holon.domain.holarchy import HolonIdentity
from holon.engine.links import LINK_MS, LINKS, Links
from holon.errors import StoreUnavailable, Unavailable
from holon.ports import Put
from holon.storage.memory import MemoryStorage


def process(holon_id: str = "below", instance: str = "a process") -> HolonIdentity:
    """Each time another session of the same process."""
    return HolonIdentity(holon_id, 1, instance)


async def noted(store: MemoryStorage) -> list[str]:
    return [one.key for one in await store.documents(LINKS)]


async def test_a_session_that_ends_late_leaves_the_note_of_the_one_that_came_since(store: MemoryStorage) -> None:
    links, old, new = Links(store), process(), process()
    await links.link("w", old)
    await links.link("w", new)
    await links.unlink("w", old)
    assert await noted(store) == ["w"]
    with pytest.raises(Unavailable, match="another process"):
        await Links(store).link("w", process(instance="another"))
    await links.unlink("w", new)
    assert await noted(store) == []


async def test_who_is_linked_and_has_no_note_is_noted_again(store: MemoryStorage) -> None:
    links, child = Links(store), process()
    await links.link("w", child)
    await links.unlink("w", child)
    await links.renew({"w": child})
    assert await noted(store) == ["w"]
    # But not in the place of another process, at another node.
    await store.put_document(LINKS, "v", b"{}", version=0)
    await links.renew({"w": child, "v": process("other")})
    assert [one.value for one in await store.documents(LINKS) if one.key == "v"] == [b"{}"]


async def test_a_renewal_that_was_half_done_lets_no_link_run_out(
    store: MemoryStorage, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    links, linked = Links(store), {"v": process("one"), "w": process("other")}
    for worker_id, identity in linked.items():
        await links.link(worker_id, identity)
    put = store.put_documents

    async def half(kind: str, puts: Sequence[Put]) -> Sequence[int | None]:
        await put(kind, puts[:1])
        raise StoreUnavailable("the second was not written")

    with monkeypatch.context() as away:
        away.setattr(store, "put_documents", half)
        with pytest.raises(StoreUnavailable):
            await links.renew(linked)
    for _ in range(5):
        clock.advance(LINK_MS // 3)
        await links.renew(linked)
        assert sorted(await noted(store)) == ["v", "w"]
    for worker_id, identity in linked.items():
        await links.unlink(worker_id, identity)
    assert await noted(store) == []
