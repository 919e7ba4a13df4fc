"""Settings of the store: which one, where it is, and the files that it writes."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import pytest

from holon.config import Config, StorageURI
from tests.unit.configs import reasons


def test_a_redis_named_by_its_host_is_the_store_where_no_uri_is_given() -> None:
    config = Config({"REDIS_HOST": "cache.example"})
    config.check()
    assert (config.STORAGE_URI, config.job_retention) == ("redis://cache.example:6379/0", 86_400)
    assert Config({"REDIS_HOST": "::1", "REDIS_PORT": "7000", "REDIS_DB": "3"}).STORAGE_URI == "redis://[::1]:7000/3"
    by_code = Config({})
    by_code.REDIS_HOST = "cache.example"
    by_code.REDIS_PORT = 7000
    assert by_code.STORAGE_URI == "redis://cache.example:7000/0"
    by_code.REDIS_HOST = ""
    assert by_code.STORAGE_URI == Config({}).STORAGE_URI


def test_a_storage_uri_that_is_given_wins_over_the_host_of_a_redis() -> None:
    both = Config({"STORAGE_URI": "sqlite:///.holon/holon.db", "REDIS_HOST": "cache.example"})
    assert both.STORAGE_URI == "sqlite:///.holon/holon.db"
    config = Config({"REDIS_HOST": "cache.example"}, STORAGE_URI="memory://")
    config.REDIS_PORT = 7000
    assert config.STORAGE_URI == "memory://"


@pytest.mark.parametrize("name", ["STORAGE_URI", "HISTORY_DATABASE_URI"])
@pytest.mark.parametrize("text", ["sqlite:/data/x.db", "sqlite:data/x.db", "sqlite://data/x.db", "SQLITE:/data/x.db"])
def test_a_sqlite_file_with_too_few_slashes_is_refused_with_what_to_write(name: str, text: str) -> None:
    instead = "for data/x.db in the node's folder write sqlite:///data/x.db, for /data/x.db write sqlite:////data/x.db"
    assert reasons(Config({name: text}))[name].endswith(instead)


def test_what_is_said_of_a_redis_is_checked_where_it_counts() -> None:
    wrong = {"REDIS_HOST": "redis://host", "REDIS_PORT": "tcp://10.0.0.1:6379", "REDIS_DB": "-1"}
    assert set(reasons(Config(wrong))) == set(wrong)
    Config(wrong | {"STORAGE_URI": "memory://"}).check()
    Config({"REDIS_PORT": "tcp://10.0.0.1:6379"}).check()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("memory://", StorageURI("memory")),
        ("sqlite:///.holon/holon.db", StorageURI("sqlite", Path(".holon/holon.db"))),
        ("sqlite:////var/lib/holon.db", StorageURI("sqlite", Path("/var/lib/holon.db"))),
        ("sqlite:///a%20b.db?synchronous=normal", StorageURI("sqlite", Path("a b.db"), "NORMAL")),
        ("redis://localhost", StorageURI("redis", server="redis://localhost")),
        ("postgresql://u:p@a:1,b:2/jobs", StorageURI("postgresql", postgres="postgresql://u:p@a:1,b:2/jobs")),
        ("postgres://u@/jobs?host=/run", StorageURI("postgresql", postgres="postgres://u@/jobs?host=/run")),
        ("redis+cluster://u:p@a:1,b:2", StorageURI("redis", server="redis+cluster://u:p@a:1,b:2")),
        (
            f"rediss+cluster://a:1?ssl_ca_certs={__file__}&replicas=2",
            StorageURI("redis", server=f"rediss+cluster://a:1?ssl_ca_certs={__file__}", replicas=2),
        ),
        ("redis://a:b@[::1]:7000/3", StorageURI("redis", server="redis://a:b@[::1]:7000/3")),
        ("redis+sentinel://u:p@a:1,b:2/jobs/3", StorageURI("redis", server="redis+sentinel://u:p@a:1,b:2/jobs/3")),
        (
            f"rediss+sentinel://a:1/jobs?ssl_ca_certs={__file__}",
            StorageURI("redis", server=f"rediss+sentinel://a:1/jobs?ssl_ca_certs={__file__}"),
        ),
        ("unix:///run/redis.sock?db=2", StorageURI("redis", server="unix:///run/redis.sock?db=2")),
        (
            f"rediss://host/0?ssl_ca_certs={__file__}&replicas=1&synced=true",
            StorageURI("redis", server=f"rediss://host/0?ssl_ca_certs={__file__}", replicas=1, synced=True),
        ),
    ],
)
def test_a_storage_uri_says_which_store_and_where(text: str, expected: StorageURI) -> None:
    assert StorageURI.parse(text) == expected
    Config({"STORAGE_URI": text}).check()


@pytest.mark.parametrize(
    "text",
    [
        "holon.db", "memory:///x", "memory://?a=1", "sqlite://", "sqlite:///", "sqlite://host/x.db",
        "sqlite:///x.db?synchronous=OFF", "sqlite:///x.db?mode=ro", "sqlite:///x.db#y", "sqlite:///x%00.db", "http://[",
        "redis://", "redis://h/x", "redis://h?db=1", "redis://h?ssl_keyfile=k", "redis://h?replicas=-1", "unix://",
        "redis+sentinel://h:1", "redis+sentinel://h:1/jobs/x", "redis+sentinel:///jobs", "redis+cluster://",
        "redis+cluster://h:1/1", "redis+cluster://h:1,,h:2", "redis://h?partitions=2", "redis://h?shards=2",
        "redis+cluster://h:1?ssl_keyfile=k", "redis://h:99999", "redis://h:x", "redis+sentinel://h:1,g:x/jobs",
        "postgresql://h:99999/jobs", "postgresql://h/jobs#x", "postgresql://u:p/w@h/jobs", "mysql://h/jobs",
        "postgresql://h/jobs?sslrootcert=/no/such/file",
        "redis+cluster://u:p@h:1,g:70000", "rediss://h?ssl_ca_certs=/no/such/file", "rediss://h?ssl_certfile=",
    ],
)  # fmt: skip
def test_a_storage_uri_of_no_store_is_refused(text: str) -> None:
    assert set(reasons(Config({"STORAGE_URI": text}))) == {"STORAGE_URI"}


def test_a_file_of_a_redis_is_named_by_whatever_characters_percent_encoded(tmp_path: Path) -> None:
    file = tmp_path / "a+b&c=%41 d.pem"
    file.write_text("authorities")
    uri = f"rediss://h?ssl_ca_certs={quote(str(file))}"
    Config({"STORAGE_URI": uri}).check()
    assert StorageURI.parse(uri).tls_files == [("ssl_ca_certs", str(file))]


DATABASES = {"STORAGE_URI": "sqlite:///{}", "HISTORY_DATABASE_URI": "sqlite:///{}"}
WRITTEN = DATABASES | {"AUDIT_LOG_PATH": "{}", "ADMIN_SOCKET": "{}"}


@pytest.mark.parametrize("name", WRITTEN)
def test_files_that_the_node_writes_are_found_wrong_before_it_does_and_none_is_made(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe")
    there = sorted(tmp_path.iterdir())
    for wrong in (tmp_path, tmp_path / "pipe", tmp_path / "file" / "x"):
        config = Config({}, **{name: WRITTEN[name].format(wrong)})
        assert set(reasons(config)) == {name}
    Config({}, **{name: WRITTEN[name].format(tmp_path / "new")}).check()
    assert sorted(tmp_path.iterdir()) == there


def test_folders_are_made_for_databases_and_for_nothing_else(tmp_path: Path) -> None:
    for name, form in WRITTEN.items():
        config = Config({}, **{name: form.format(tmp_path / "some" / "where" / "x")})
        if name in DATABASES:
            config.check()
        else:
            assert set(reasons(config)) == {name}
