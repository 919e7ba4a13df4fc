"""Ids: nobody can guess them, and those of jobs sort by their time."""

from __future__ import annotations

from functools import reduce
from operator import and_, or_
from uuid import RFC_4122, UUID

from holon.randomness import ordered_id
from holon.storage import MemoryStorage

NOW = 1_790_000_000_000


def test_an_ordered_id_is_a_uuid_of_version_7_of_its_time() -> None:
    ids = [ordered_id(NOW) for _ in range(2_000)]
    for one in ids:
        uuid = UUID(hex=one)
        assert one == uuid.hex
        assert (uuid.version, uuid.variant) == (7, RFC_4122)
        assert uuid.int >> 80 == NOW
    # 74 random bits of each: all of them are used.
    assert len(set(ids)) == len(ids)
    numbers = [UUID(hex=one).int for one in ids]
    # Of the bits that one or another has: those that not all have.
    changing = reduce(or_, numbers) & ~reduce(and_, numbers)
    assert changing == (1 << 76) - 1 & ~(0b11 << 62)


def test_later_ids_sort_behind_earlier_ones() -> None:
    ids = [ordered_id(NOW + later) for later in range(300)]
    assert ids == sorted(ids)


async def test_the_ids_of_a_store_are_such() -> None:
    async with MemoryStorage() as store:
        before, job_id, after = store.now(), store.new_job_id("somebody"), store.now()
    partition, _, rest = job_id.partition("-")
    assert partition == "0"
    assert before <= UUID(hex=rest).int >> 80 <= after
