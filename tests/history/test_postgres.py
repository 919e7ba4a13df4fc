"""PostgreSQL: upgraded by the first who comes, away and back at any time, and never in the way of a node's start."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from holon.domain.value import replace
from holon.errors import ConfigError, StoreUnavailable
from holon.storage.history import PostgresHistory
from holon.storage.history import postgres as of_postgres
from holon.storage.history.postgres_schema import LOCK, VERSIONS
from tests.history.postgres import Server
from tests.history.test_contract import RICH, notice, record
from tests.history.waiting import GUARD_S, until


async def count(history: PostgresHistory, job_id: str) -> int:
    return len(await history.history(job_id, 0, 1_000))


async def test_many_nodes_that_start_at_once_make_its_tables_once(postgres: Server) -> None:
    uri = postgres.database()
    histories = [PostgresHistory(uri) for _ in range(8)]
    await asyncio.gather(*(one.__aenter__() for one in histories))
    await asyncio.gather(*(one.add([notice(record("0-a"), 1, RICH)]) for one in histories))
    assert await count(histories[0], "0-a") == 1
    await asyncio.gather(*(one.__aexit__(None, None, None) for one in histories))
    versions = postgres.sql("SELECT version FROM holon_history_version", uri)
    assert versions == [str(number) for number, _ in enumerate(VERSIONS, start=1)]


async def test_a_database_of_a_later_release_is_refused(postgres: Server) -> None:
    uri = postgres.database()
    async with PostgresHistory(uri):
        postgres.sql("INSERT INTO holon_history_version VALUES (99)", uri)
    with pytest.raises(ConfigError, match="version 99"):
        async with PostgresHistory(uri):
            pass


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_a_database_that_has_not_every_character_is_refused_and_stays_as_it_was(
    postgres: Server, encoding: str
) -> None:
    name = encoding.lower()
    postgres.sql(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    uri = postgres.uri(name)
    with pytest.raises(ConfigError, match=f"HISTORY_DATABASE_URI: .* {encoding}, .* create one with ENCODING 'UTF8'"):
        async with PostgresHistory(uri):
            pass
    assert postgres.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", uri) == []


@pytest.mark.parametrize("wrong", ["a database that is not there", "a user that is not there", "a wrong option"])
async def test_a_setting_that_cannot_work_is_refused_at_the_start(postgres: Server, wrong: str) -> None:
    uri = {
        "a database that is not there": postgres.uri("nothing"),
        "a user that is not there": postgres.uri().replace("holon@", "nobody:secret@"),
        "a wrong option": "postgresql://holon@localhost:notaport/x",
    }[wrong]
    with pytest.raises(ConfigError, match="HISTORY_DATABASE_URI") as refused:
        async with PostgresHistory(uri):
            pass
    assert "secret" not in refused.value.message


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("sslmode=verify-full", r"root certificate .*sslrootcert=/path"),
        ("sslmode=full", "`sslmode` parameter must be one"),
    ],
)
async def test_what_tls_lacks_is_said_and_not_that_the_uri_is_none(
    postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, told: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=f"HISTORY_DATABASE_URI: {told}") as refused:
        async with PostgresHistory(f"postgresql://holon:secret@localhost/x?{option}"):
            pass
    assert "secret" not in refused.value.message


@pytest.mark.parametrize("wrong", ["others' tables", "no right to make tables", "an option that there is not"])
async def test_a_database_that_cannot_hold_history_is_refused_at_the_start(postgres: Server, wrong: str) -> None:
    uri = postgres.database()
    if wrong == "others' tables":
        postgres.sql("CREATE TABLE holon_jobs (n integer)", uri)
    elif wrong == "no right to make tables":
        postgres.sql("CREATE USER weak", uri)
        postgres.sql("REVOKE CREATE ON SCHEMA public FROM public", uri)
        uri = uri.replace("holon@", "weak@")
    else:
        uri += "&no_such=option"
    with pytest.raises(ConfigError, match="HISTORY_DATABASE_URI: the database cannot hold history"):
        async with PostgresHistory(uri):
            pass


async def test_it_opens_while_the_database_is_away_and_works_when_that_comes(
    own: Server, caplog: pytest.LogCaptureFixture
) -> None:
    uri = own.database()
    own.stop()
    async with PostgresHistory(uri) as history:
        assert "waits in the store" in caplog.text
        with pytest.raises(StoreUnavailable) as away:
            await history.add([notice(record("0-a"))])
        assert (away.value.code, away.value.retry_after) == ("HISTORY_UNAVAILABLE", 2.0)
        own.start()
        await history.add([notice(record("0-a"))])
        assert await count(history, "0-a") == 1


async def test_of_a_database_that_takes_no_writes_it_is_not_said_that_it_does_not_answer(postgres: Server) -> None:
    async with PostgresHistory(f"{postgres.database()}&default_transaction_read_only=on") as history:
        with pytest.raises(StoreUnavailable) as refused:
            await history.add([notice(record("0-a"), 1, RICH)])
    said = "cannot be used now: cannot execute CREATE TABLE in a read-only transaction; try again when it can"
    assert refused.value.message == f"the database of history (PostgreSQL) {said}"


async def test_what_a_session_was_told_when_it_began_does_not_outlive_a_failure(postgres: Server) -> None:
    uri = postgres.database()
    name = postgres.sql("SELECT current_database()", uri)[0]
    postgres.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    async with PostgresHistory(uri) as history:
        with pytest.raises(StoreUnavailable, match="read-only"):
            await history.add([notice(record("0-a"))])
        postgres.sql(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await history.add([notice(record("0-a"))])
        assert await count(history, "0-a") == 1


async def test_who_holds_its_tables_does_not_hold_up_a_start(
    postgres: Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_postgres, "CONNECT_S", 1.0)
    monkeypatch.setattr(of_postgres, "STATEMENT_S", 10 * GUARD_S)
    uri = postgres.database()
    other = await asyncpg.connect(uri)
    try:
        await other.execute("SELECT pg_advisory_lock($1)", LOCK)
        async with asyncio.timeout(GUARD_S), PostgresHistory(uri) as history:
            assert "(PostgreSQL) cannot be used now: no answer came in time" in caplog.text
            assert "waits in the store" in caplog.text
            await other.execute("SELECT pg_advisory_unlock($1)", LOCK)
            await history.add([notice(record("0-a"))])
            assert await count(history, "0-a") == 1
    finally:
        await other.close()


async def test_a_server_that_ends_every_connection_at_once_is_away_and_that_is_said_in_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    async with await asyncio.start_server(end, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with PostgresHistory(f"postgresql://holon@127.0.0.1:{port}/holon") as history:
            assert "cannot be used now: it ended the connection before it answered; try again" in caplog.text
            with pytest.raises(StoreUnavailable, match="it ended the connection before it answered"):
                await count(history, "0-a")


@pytest.mark.parametrize("what", ["write", "read"])
async def test_who_gives_up_does_not_wait_for_a_server_that_does_not_answer(own: Server, what: str) -> None:
    uri = own.database()
    async with PostgresHistory(uri) as history:
        await history.add([notice(record("0-a"))])
        # One that is in the middle of its transaction.
        holds = await asyncpg.connect(uri)
        await holds.execute("BEGIN; LOCK TABLE holon_history IN ACCESS EXCLUSIVE MODE")
        waits = asyncio.create_task(history.add([notice(record("0-b"))]) if what == "write" else count(history, "0-a"))
        await until(lambda: own.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
        with own.silent():
            waits.cancel()
            # Else it would be told that the database is away, some seconds later, and go on.
            with pytest.raises(asyncio.CancelledError):
                await waits
        await holds.close()
        await history.add([notice(record("0-b"))])
        assert await count(history, "0-b") == 1


async def test_a_session_that_the_server_ends_in_a_transaction_is_told_of_as_that(postgres: Server) -> None:
    uri = postgres.database()
    async with PostgresHistory(uri) as history:
        await history.add([notice(record("0-a"))])
        holds = await asyncpg.connect(uri)
        await holds.execute("BEGIN; LOCK TABLE holon_history IN ACCESS EXCLUSIVE MODE")
        waits = asyncio.create_task(history.add([notice(record("0-b"))]))
        of_it = f"WHERE wait_event_type = 'Lock' AND datname = '{urlsplit(uri).path[1:]}'"
        await until(lambda: postgres.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity {of_it}"))
        with pytest.raises(StoreUnavailable, match="terminating connection due to administrator command"):
            await waits
        await holds.close()


async def test_what_was_kept_outlives_a_kill_of_the_server_and_its_clients_find_it_again(own: Server) -> None:
    async with PostgresHistory(own.database()) as history:
        await history.add([notice(record(f"0-{n}"), 1, RICH) for n in range(100)])
        own.kill()

        async def add_for_ever() -> None:
            # The process that serves a client may have a moment left.
            while True:
                await history.add([notice(record("0-b"))])

        with pytest.raises(StoreUnavailable):
            await asyncio.wait_for(add_for_ever(), GUARD_S)
        own.start()
        await history.add([notice(record("0-b"))])
        assert [await count(history, f"0-{n}") for n in range(100)] == [1] * 100


async def test_a_write_that_the_servers_death_cut_off_is_all_or_nothing(own: Server) -> None:
    async with PostgresHistory(own.database()) as history:
        notices = [notice(record(f"0-{n}"), 1, *[RICH] * 20) for n in range(500)]
        writing = asyncio.create_task(history.add(notices))
        await asyncio.sleep(0)
        await asyncio.to_thread(own.kill)
        [failed] = await asyncio.gather(writing, return_exceptions=True)
        own.start()
        kept = {await count(history, one.record.job.id) for one in notices}
        assert kept == {20} or (failed and kept == {0})
        await history.add(notices)
        assert {await count(history, one.record.job.id) for one in notices} == {20}


async def test_its_tables_are_made_again_where_it_was_emptied(postgres: Server) -> None:
    uri = postgres.database()
    async with PostgresHistory(uri) as history:
        await history.add([notice(record("0-a"))])
        postgres.sql("DROP TABLE holon_jobs, holon_history, holon_history_version", uri)
        with pytest.raises(StoreUnavailable):
            await history.add([notice(record("0-b"))])
        await history.add([notice(record("0-b"))])
        assert await count(history, "0-b") == 1


async def test_anybody_can_query_it(postgres: Server) -> None:
    uri = postgres.database()
    async with PostgresHistory(uri) as history:
        await history.add([notice(record("0-a"), 1, replace(RICH, details={"f": 3.0}))])
    query = "SELECT to_timestamp(time / 1000.0) AT TIME ZONE 'UTC', worker_id, details->>'f' FROM holon_history"
    assert postgres.sql(query, uri) == ["2023-11-14 22:13:20.123|worker-1|3.0"]
    assert "password" not in repr(history)


async def test_the_query_of_the_page_counts_the_tasks_of_each_worker(postgres: Server) -> None:
    page = (Path(__file__).parents[2] / "docs/history.md").read_text(encoding="utf-8")
    [query] = re.findall(r"^```sql\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    uri = postgres.database()
    now = int(time.time() * 1000)
    tasks = [replace(RICH, type="task_finished", worker_id="w1", duration_ms=took, time=now) for took in (2, 4)]
    old = replace(tasks[0], time=now - 2 * 86_400_000)
    async with PostgresHistory(uri) as history:
        await history.add([notice(record("0-a"), 1, *tasks, old)])
    assert postgres.sql(query, uri) == ["w1|2|3.0000000000000000"]
