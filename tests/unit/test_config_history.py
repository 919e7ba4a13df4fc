"""Settings of the database of history."""

from __future__ import annotations

from pathlib import Path

import pytest

from holon.config import Config, HistoryURI
from tests.unit.configs import reasons


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", HistoryURI()),
        ("sqlite:///history.db", HistoryURI(Path("history.db"))),
        ("sqlite:////var/lib/a%20b.db", HistoryURI(Path("/var/lib/a b.db"))),
        (
            "postgresql://me:secret@host/db?sslmode=require",
            HistoryURI(None, "postgresql://me:secret@host/db?sslmode=require"),
        ),
        ("postgres:///db?host=/run/postgresql", HistoryURI(None, "postgres:///db?host=/run/postgresql")),
    ],
)
def test_a_history_uri_says_where_history_is_kept(text: str, expected: HistoryURI) -> None:
    assert HistoryURI.parse(text) == expected
    config = Config({"HISTORY_DATABASE_URI": text})
    config.check()
    assert config.moves_history is bool(text)
    assert "secret" not in repr(config)
    assert "secret" not in repr(expected)


@pytest.mark.parametrize(
    "text",
    ["history.db", "mysql://me:secret@host/db", "memory://", "sqlite://", "sqlite://host/x.db", "sqlite:///x.db?a=1",
     "sqlite:///x.db#y", "sqlite:///x%00.db", "http://[", "postgresql://me:secret@host:port/db",
     "postgresql://me@host:70000/db", "postgresql://me:secret@a:1,b:0/db", "postgresql://me:sec/ret@host/db"],
)  # fmt: skip
def test_a_history_uri_of_no_database_is_refused_and_not_shown(text: str) -> None:
    wrong = reasons(Config({"HISTORY_DATABASE_URI": text}))
    assert set(wrong) == {"HISTORY_DATABASE_URI"}
    assert "secret" not in str(wrong)


@pytest.mark.parametrize("option", ["sslrootcert", "sslcert", "sslkey", "sslcrl"])
def test_the_tls_files_of_a_history_uri_are_looked_at(tmp_path: Path, option: str) -> None:
    uri = f"postgresql://me:secret@host/db?sslmode=verify-full&{option}={tmp_path}/ca.pem"
    assert reasons(Config({"HISTORY_DATABASE_URI": uri})) == {
        "HISTORY_DATABASE_URI": f"{option}: {tmp_path}/ca.pem cannot be read: No such file or directory"
    }
    (tmp_path / "ca.pem").write_text("pem")
    Config({"HISTORY_DATABASE_URI": uri}).check()


def test_the_stores_own_file_is_no_database_of_history() -> None:
    same = {"STORAGE_URI": "sqlite:///a/holon.db", "HISTORY_DATABASE_URI": "sqlite:///a/../a/holon.db"}
    assert not Config(same).moves_history
    assert Config(same | {"STORAGE_URI": "memory://"}).moves_history


def test_history_is_kept_for_as_long_as_its_jobs_at_least() -> None:
    short = {"HISTORY_RETENTION": "1000", "JOB_RETENTION": "2000"}
    Config(short).check()
    assert set(reasons(Config(short | {"HISTORY_DATABASE_URI": "sqlite:///h.db"}))) == {"HISTORY_RETENTION"}
