"""Two holons that name each other as parents, in real processes: one link stays, whichever of them starts first."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from holon.clock import SystemClock
from holon.engine.pins import own_holon
from holon.ports import StoreSettings
from holon.security import certificates
from holon.storage.sqlite import SqliteStorage
from tests.chaos.link import Link
from tests.e2e.holons import children, holon_node
from tests.e2e.processes import Node, until


@dataclass
class Pair:
    """Two holons, of which the store of `older` was made first.

    Attributes:
        apart: whether the older one does not reach the other.
    """

    older: Node
    younger: Node
    ids: tuple[str, str]
    apart: bool = False

    async def one_stays(self, lower: Node, upper: Node) -> None:
        """Wait until the lower one serves the upper one, which was refused in turn, with both ids."""

        async def so() -> bool:
            below, none = await asyncio.gather(children(upper), children(lower))
            refusals = [
                line for line in upper.process.tail(100_000).splitlines() if "FAILED_PRECONDITION: holon" in line
            ]
            return bool(below) and not none and any(all(one in line for one in self.ids) for line in refusals)

        await until(so, "one link stays, and the other one is refused")


async def made(folder: Path, at: int) -> str:
    """The holon of a new store that says that it was made then."""
    folder.mkdir()  # noqa: ASYNC240  nothing else runs
    async with SqliteStorage(folder / "holon.db", StoreSettings("maker"), SystemClock()) as store:
        return (await own_holon(store, at)).id


@contextlib.asynccontextmanager
async def a_pair(folder: Path) -> AsyncIterator[Pair]:
    """Each names the other one; neither of them is started."""
    ids = await made(folder / "child-1", 1_000), await made(folder / "child-2", 2_000)
    async with Link("older to younger", lambda: None if pair.apart else pair.younger.grpc) as link:
        own = folder / "child-1"
        older = holon_node(
            folder,
            "child-1",
            PARENT_URL=f"grpcs://localhost:{link.port}",
            PARENT_TLS_CERT_PATH=own / "worker-child-1.pem",
            PARENT_TLS_KEY_PATH=own / "worker-child-1.key",
            PARENT_TLS_CA_PATH=folder / "child-2" / "certs" / "ca.pem",
        )
        pair = Pair(older, holon_node(folder, "child-2", older), ids)
        certificates.issue_worker(pair.younger.authority, own, "child-1", days=2)
        try:
            yield pair
        finally:
            await pair.younger.close()
            await pair.older.close()


@pytest.mark.parametrize("order", ["older first", "younger first", "together"])
async def test_of_two_that_name_each_other_the_link_of_the_one_whose_store_is_older_stays(
    tmp_path: Path, order: str
) -> None:
    async with a_pair(tmp_path) as pair:
        if order == "together":
            await asyncio.gather(pair.older.start(), pair.younger.start())
        else:
            both = (pair.older, pair.younger) if order == "older first" else (pair.younger, pair.older)
            for one in both:
                await one.start()
        await pair.one_stays(pair.older, pair.younger)


async def test_a_link_over_which_a_task_has_gone_stays_though_the_store_of_the_other_holon_is_older(
    tmp_path: Path,
) -> None:
    async with a_pair(tmp_path) as pair:
        pair.apart = True
        await pair.older.start()
        await pair.younger.start()
        job = await pair.older.create("/jobs/ask", {"skill": "lose"})
        assert (await pair.older.ended(job))["error"]["code"] == "CHILD_FAILED"
        pair.apart = False
        await pair.one_stays(pair.younger, pair.older)
