"""Row stores whose server or file is away, full, gone, or another's: nothing that was confirmed is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from holon.errors import ConfigError, StoreBroken, StoreUnavailable
from holon.stores import postgres as postgres_module
from holon.stores import redis_servers
from holon.stores.port import Batch, Change, Head, RowStore, Word
from holon.stores.postgres import PostgresRows
from holon.stores.redis import RedisRows
from holon.stores.sqlite import SqliteRows
from tests.history.postgres import Server, serving, serving_pair, uri_of
from tests.redis_server import RedisServer
from tests.rows.test_contract import batch, owned, value, word


def run(code: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own."""
    return subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)


async def applied(store: RowStore, one: Batch) -> Word:
    """Send a batch until there is a definite word."""
    while True:
        try:
            return await word(store, one)
        except StoreBroken:
            raise
        except StoreUnavailable:
            await asyncio.sleep(0.01)


# A server that dies --------------------------------------------------------------------------------------------------


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    server = RedisServer(append_only=True)
    yield server
    server.close()


@pytest.fixture
def postgres() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture(params=["redis", "postgres"])
async def mortal(request: pytest.FixtureRequest) -> AsyncIterator[tuple[RowStore, RedisServer | Server]]:
    server = request.getfixturevalue(request.param)
    store: RowStore = RedisRows(server.uri(1)) if request.param == "redis" else PostgresRows(server.database())
    async with store:
        yield store, server


async def test_i1_batches_go_on_when_a_killed_server_is_back(mortal: tuple[RowStore, RedisServer | Server]) -> None:
    store, server = mortal
    head = await owned(store)
    await store.apply([batch(head, 1, ("1", "head", b"1"))])
    server.kill()
    with pytest.raises(StoreUnavailable):
        await store.apply([batch(head, 2, ("1", "head", b"2"))])
    with pytest.raises(StoreUnavailable):
        await store.read(0, [("1", "head")])
    await asyncio.to_thread(server.start)
    assert await applied(store, batch(head, 2, ("1", "head", b"2"))) is Word.APPLIED
    assert await value(store, "1", "head") == b"2"


async def test_reads_of_a_silent_postgresql_end_however_many_there_are(
    postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_module, "TIMEOUT_S", 1.0)
    async with PostgresRows(postgres.database()) as store:
        await asyncio.gather(*(store.heads() for _ in range(10)))
        with postgres.silent():
            # They would take longer if each four waited for the four before.
            async with asyncio.timeout(20):
                reads = [store.heads() for _ in range(200)]
                answers = await asyncio.gather(*reads, return_exceptions=True)
        assert {type(answer) for answer in answers} == {StoreUnavailable}
        while True:
            with contextlib.suppress(StoreUnavailable):
                assert len(await store.heads()) == store.shards
                break


async def test_a_batch_whose_reply_was_lost_is_applied_once(mortal: tuple[RowStore, RedisServer | Server]) -> None:
    store, server = mortal
    head = await owned(store)
    for number in range(1, 30):
        sent = asyncio.create_task(store.apply([batch(head, number, ("1", f"row.{number}", b"first"))]))
        await asyncio.sleep(0)
        await _cut(server)
        try:
            await sent
        except StoreUnavailable:
            assert await applied(store, batch(head, number, ("1", f"row.{number}", b"again"))) is Word.APPLIED
    assert await applied(store, batch(head, 30)) is Word.APPLIED
    rows = await store.read(0, [("1", f"row.{number}") for number in range(1, 30)])
    assert set(rows) <= {b"first", b"again"}


async def _cut(server: RedisServer | Server) -> None:
    """End all connections of clients at a server."""
    if isinstance(server, RedisServer):
        async with Redis.from_url(server.uri(1)) as redis:
            await redis.client_kill_filter(_type="normal", skipme=True)
    else:
        kill = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        await asyncio.to_thread(server.sql, kill)


async def test_a_redis_that_lost_the_store_ends_the_process(redis: RedisServer) -> None:
    async with RedisRows(redis.uri(1)) as store:
        head = await owned(store)
        async with Redis.from_url(redis.uri(1)) as client:
            await client.flushdb()
            await client.client_kill_filter(_type="normal", skipme=True)
        with pytest.raises(StoreBroken, match="lost the store"):
            await applied(store, batch(head, 1))
        with pytest.raises(StoreBroken, match="lost the store"):
            await store.heads()


async def test_a_flushed_redis_is_a_gap_and_not_a_new_store(redis: RedisServer) -> None:
    async with RedisRows(redis.uri(1)) as store:
        head = await owned(store)
        async with Redis.from_url(redis.uri(1)) as client:
            await client.flushdb()
        assert await word(store, batch(head, 1)) is Word.FENCED
        with pytest.raises(StoreBroken, match="lost the store"):
            await store.acquire(Head(0), "b", "n1", 1)
        with pytest.raises(StoreBroken, match="lost the store"):
            await store.exchange([Change("doc", "k", 0, b"1")])
        # Nothing is left of it there, and the next node makes a new store.
        async with RedisRows(redis.uri(1)) as new:
            assert new.id != store.id
            assert not await new.records("doc")


async def test_a_write_that_its_replicas_do_not_have_is_not_confirmed(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holon.stores.redis_servers.WAIT_MS", 50)
    with pytest.raises(ConfigError, match="not as many replicas"):
        async with RedisRows(redis.uri(1), replicas=1):
            pass
    async with RedisRows(redis.uri(1), synced=True) as store:
        assert await word(store, batch(await owned(store), 1)) is Word.APPLIED


async def test_a_library_that_the_server_forgot_is_loaded_again(redis: RedisServer) -> None:
    async with RedisRows(redis.uri(1)) as store:
        head = await owned(store)
        async with Redis.from_url(redis.uri(1)) as client:
            await client.function_flush()
        assert await applied(store, batch(head, 1, ("1", "head", b"x"))) is Word.APPLIED


async def test_a_full_redis_takes_batches_again_when_there_is_room(redis: RedisServer) -> None:
    async with RedisRows(redis.uri(1)) as store, Redis.from_url(redis.uri(1)) as client:
        head = await owned(store)
        await client.config_set("maxmemory", "1mb")
        # Work under way may go beyond the limit.
        assert await word(store, batch(head, 1, ("1", "head", b"x"))) is Word.APPLIED


async def test_the_store_of_an_older_version_is_refused_and_kept(redis: RedisServer) -> None:
    async with Redis.from_url(redis.uri(1)) as client:
        await client.hset("{h:0}:meta", "schema", "30")
        with pytest.raises(ConfigError, match=r"store of an older version.*begin anew in another database"):
            async with RedisRows(redis.uri(1)):
                pass
        # A second start does not take it for its own either.
        with pytest.raises(ConfigError, match="store of an older version"):
            async with RedisRows(redis.uri(1)):
                pass
        assert await client.hgetall("{h:0}:meta") == {b"schema": b"30"}


# Connections to Redis ------------------------------------------------------------------------------------------------


async def test_a_connection_that_was_closed_while_it_was_made_is_a_lost_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        async def connect(self) -> None:
            # The text of uvloop.
            raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

        async def disconnect(self, nowait: bool) -> None:
            pass

    monkeypatch.setattr(ConnectionPool, "make_connection", lambda _: Closed())
    with pytest.raises(RedisConnectionError, match="closed"):
        await redis_servers.Server("redis://127.0.0.1:1").connect()


@pytest.mark.parametrize("what", ["connects", "sends"])
async def test_a_cancel_that_the_client_library_keeps_to_itself_is_heard(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The library sends with `asyncio.wait_for`, which loses a cancel before Python 3.12 if it ends at that moment."""

    class Deaf:
        async def connect(self) -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

        async def send_packed_command(self, *_: object, **__: object) -> None:
            await self.connect()

        async def disconnect(self, nowait: bool) -> None:
            pass

    deaf: Any = Deaf()
    monkeypatch.setattr(ConnectionPool, "make_connection", lambda _: deaf)
    server = redis_servers.Server("redis://127.0.0.1:1")
    asking = asyncio.create_task(server.connect() if what == "connects" else redis_servers.ask(deaf, ("PING",)))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait((asking,))
    assert asking.cancelled()


# PostgreSQL ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[Server, Server]]:
    """A PostgreSQL primary and its standby."""
    with serving_pair() as servers:
        yield servers


def database_of(pair: tuple[Server, Server], *order: int) -> str:
    """The URI of a new database that names both servers, in this order."""
    database = pair[0].database()
    return uri_of(database.partition("?")[0].rpartition("/")[2], *(pair[place] for place in order))


async def test_a_standby_that_the_uri_names_first_is_not_used(pair: tuple[Server, Server]) -> None:
    async with PostgresRows(database_of(pair, 1, 0)) as store:
        head = await owned(store)
        assert await word(store, batch(head, 1, ("1", "head", b"x"))) is Word.APPLIED
        assert await value(store, "1", "head") == b"x"
        await store.send("n1", [b"message"])
        assert [*await store.receive("n1")] == [b"message"]


async def test_after_a_failover_nothing_is_read_from_the_old_primary(pair: tuple[Server, Server]) -> None:
    primary, standby = pair
    async with PostgresRows(database_of(pair, 0, 1)) as store:
        head = await owned(store)
        await store.apply([batch(head, 1, ("1", "head", b"old"))])
        assert await value(store, "1", "head") == b"old"
        assert standby.sql("SELECT pg_promote()") == ["t"]
        # It still answers those who read.
        primary.sql("ALTER SYSTEM SET default_transaction_read_only = on")
        primary.sql("SELECT pg_reload_conf()")
        while primary.sql("SHOW default_transaction_read_only") != ["on"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert await applied(store, batch(head, 2, ("1", "head", b"new"))) is Word.APPLIED
        assert await value(store, "1", "head") == b"new"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("ALTER SYSTEM SET synchronous_commit = off", "synchronous_commit off"),
        ("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0", "encoding is LATIN1"),
    ],
)
async def test_an_unfit_postgresql_is_refused(postgres: Server, settings: str, said: str) -> None:
    uri = postgres.database()
    postgres.sql(settings)
    postgres.sql("SELECT pg_reload_conf()")
    if "latin" in settings:
        uri = postgres.uri("latin")

    async def opened() -> str:
        try:
            async with PostgresRows(uri):
                return ""
        except ConfigError as error:
            return error.message

    # The server applies a reloaded setting within moments.
    while not (message := await opened()):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert said in message
    assert "STORAGE_URI" in message


async def test_an_older_postgresql_is_refused(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_module, "OLDEST", 990_000)
    with pytest.raises(ConfigError, match="the store needs 14 or newer"):
        async with PostgresRows(postgres.database()):
            pass


async def test_another_number_of_shards_is_refused(mortal: tuple[RowStore, RedisServer | Server]) -> None:
    store, server = mortal
    again: RowStore
    if isinstance(server, RedisServer):
        again = RedisRows(server.uri(1), shards=5)
    else:
        again = PostgresRows(server.uri("test_1"), shards=5)
    with pytest.raises(ConfigError, match=rf"has {store.shards} shards.*takes one with 5"):
        async with again:
            pass


@pytest.mark.parametrize("kind", [RedisRows, PostgresRows])
async def test_a_server_that_cannot_be_reached_is_named(kind: type[RedisRows | PostgresRows], tmp_path: Path) -> None:
    uri = f"unix://{tmp_path}/socket" if kind is RedisRows else f"postgresql://holon@/holon?host={tmp_path}"
    with pytest.raises(ConfigError, match=r"of STORAGE_URI cannot (hold a store|be reached)"):
        async with kind(uri):
            pass


# A file --------------------------------------------------------------------------------------------------------------


async def test_a_file_that_another_version_made_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "holon.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE jobs (id TEXT)")
        db.execute("PRAGMA user_version = 12")
    with pytest.raises(ConfigError, match=r"no store of this version.*start anew.*name another file in STORAGE_URI"):
        async with SqliteRows(path):
            pass


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "holon.db"
    path.write_bytes(b"no database" * 1_000)
    with pytest.raises(ConfigError, match="cannot be opened: file is not a database"):
        async with SqliteRows(path):
            pass


async def test_a_second_process_is_told_whose_the_file_is(tmp_path: Path) -> None:
    path = tmp_path / "holon.db"
    code = (
        "import asyncio, pathlib, sys\nfrom holon.stores.sqlite import SqliteRows\n"
        "async def main():\n    async with SqliteRows(pathlib.Path(sys.argv[1])): pass\nasyncio.run(main())"
    )
    link = tmp_path / "link.db"
    async with SqliteRows(path):
        link.hardlink_to(path)
        for name in (path, link):
            ran = run(code, name)
            assert f"belongs to another node (process {os.getpid() if name == path else 'unknown'}" in ran.stderr
    link.unlink()
    assert not run(code, path).returncode


async def test_a_file_that_was_removed_ends_the_process(tmp_path: Path) -> None:
    async with SqliteRows(tmp_path / "holon.db") as store:
        head = await owned(store)
        (tmp_path / "holon.db").unlink()
        with pytest.raises(StoreBroken, match="was removed while the node ran"):
            await store.apply([batch(head, 1)])


async def test_a_file_whose_folder_is_no_folder_any_more_ends_the_process(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    async with SqliteRows(folder / "holon.db") as store:
        head = await owned(store)
        folder.rename(tmp_path / "moved")
        folder.touch()
        async with asyncio.timeout(10):
            with pytest.raises(StoreBroken, match=r"was removed while the node ran, or cannot be reached any more"):
                await store.apply([batch(head, 1)])


async def test_an_unexpected_error_of_a_transaction_ends_the_process(tmp_path: Path) -> None:
    async with SqliteRows(tmp_path / "holon.db") as store:
        head = await owned(store)
        too_large = batch(head, 1, ("1", "head", b"x"), entries=(("all", 2**63, "1"),))
        async with asyncio.timeout(10):
            with pytest.raises(StoreBroken, match=r"OverflowError.*restart the node") as broken:
                await store.apply([too_large])
            assert isinstance(broken.value.__cause__, OverflowError)
            with pytest.raises(StoreBroken, match="OverflowError"):
                await store.apply([batch(head, 1)])
    async with SqliteRows(tmp_path / "holon.db") as store:
        assert await value(store, "1", "head") is None


async def test_with_a_full_disk_the_batch_waits_and_is_applied_when_there_is_room(tmp_path: Path) -> None:
    async with SqliteRows(tmp_path / "holon.db") as store:
        head = await owned(store)
        one = batch(head, 1, ("1", "head", b"x" * 1_000_000))
        await store._write(lambda: store._db.execute("PRAGMA max_page_count = 30"))
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="database or disk is full"):
                await store.apply([one])
        assert await value(store, "1", "head") is None
        await store._write(lambda: store._db.execute("PRAGMA max_page_count = 1000000"))
        assert await word(store, one) is Word.APPLIED
        assert await value(store, "1", "head") == b"x" * 1_000_000


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_CORRUPT])
async def test_a_disk_that_fails_ends_the_process_and_a_restart_finds_what_was_committed(
    tmp_path: Path, code: int
) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code

    def fail() -> None:
        raise error

    async with SqliteRows(tmp_path / "holon.db") as store:
        head = await owned(store)
        assert await word(store, batch(head, 1, ("1", "head", b"x"))) is Word.APPLIED
        with pytest.raises(StoreBroken, match="Look at the disk, then restart the node"):
            await store._write(fail)
        with pytest.raises(StoreBroken, match="Look at the disk"):
            await store.apply([batch(head, 2, ("2", "head", b"y"))])
    async with SqliteRows(tmp_path / "holon.db") as store:
        assert [await value(store, "1", "head"), await value(store, "2", "head")] == [b"x", None]


async def test_an_i_o_error_of_a_full_disk_says_that_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR

    def fail() -> None:
        raise error

    async with SqliteRows(tmp_path / "holon.db") as store:
        monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=0))
        with pytest.raises(StoreBroken, match="disk I/O error, and the disk is full"):
            await store._write(fail)


async def test_a_file_that_is_damaged_while_it_is_open_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "holon.db"
    async with SqliteRows(path) as store:
        head = await owned(store)
        await store.apply([batch(head, 1, ("1", "head", b"x" * 10_000))])
    async with SqliteRows(path) as store:
        path.write_bytes(b"no database" * 10_000)
        with pytest.raises(StoreUnavailable, match=r"holon\.db"):
            await store.read(0, [("1", "head")])
