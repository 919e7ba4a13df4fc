"""Settings: where they come from, what is refused, and that all of it is said at once."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from holon.config import Config, HistoryURI, Setting, StorageURI
from holon.domain.blueprint import Blueprint
from holon.errors import BlueprintError, ConfigError
from holon.security import certificates

REPOSITORY = Path(__file__).parents[2]
LONG_TOKEN = "t" * 32


def reasons(config: Config) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        config.check()
    found = {violation.field: violation.reason for violation in caught.value.details}
    for field, reason in found.items():
        assert f"{field}: {reason}" in str(caught.value)
    return found


def tls(folder: Path) -> dict[str, str]:
    authority = certificates.open_authority(folder)
    pair = certificates.issue_server(authority, folder)
    return {
        "TLS_CERT_PATH": str(pair.certificate),
        "TLS_KEY_PATH": str(pair.key),
        "TLS_CA_PATH": str(authority.files.certificate),
    }


def test_the_defaults_are_sound_and_open_nothing_to_the_outside() -> None:
    config = Config({})
    config.check()
    assert (config.API_HOST, config.GRPC_HOST, config.CLIENT_GRPC_HOST) == ("127.0.0.1",) * 3
    assert (config.API_PORT, config.GRPC_PORT, config.CLIENT_GRPC_PORT) == (8080, 7700, 7701)
    assert (config.CLIENT_TOKEN, config.GLOBAL_WORKER_TOKEN, config.REUSE_PORT) == ("", "", False)
    assert config.STORAGE_URI == "sqlite:///.holon/holon.db"
    assert config.job_retention == 7 * 86_400


def test_ended_jobs_are_kept_for_a_week_and_on_redis_for_a_day_unless_told_otherwise() -> None:
    assert Config({"STORAGE_URI": "redis://host"}).job_retention == 86_400
    assert Config({"STORAGE_URI": "unix:///socket", "JOB_RETENTION": "5"}).job_retention == 5


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


def test_what_is_said_of_a_redis_is_checked_where_it_counts() -> None:
    wrong = {"REDIS_HOST": "redis://host", "REDIS_PORT": "tcp://10.0.0.1:6379", "REDIS_DB": "-1"}
    assert set(reasons(Config(wrong))) == set(wrong)
    Config(wrong | {"STORAGE_URI": "memory://"}).check()
    Config({"REDIS_PORT": "tcp://10.0.0.1:6379"}).check()


def test_an_instance_id_is_made_for_each_node_unless_one_is_given() -> None:
    assert Config({}).INSTANCE_ID != Config({}).INSTANCE_ID
    assert Config({"INSTANCE_ID": "node-1"}).INSTANCE_ID == "node-1"


def test_the_environment_sets_and_code_overrides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_PORT", "9001")
    monkeypatch.setenv("GRPC_PORT", "9002")
    config = Config(GRPC_PORT=9003)
    config.CLIENT_TOKEN = "my-secret-client-token"
    assert (config.API_PORT, config.GRPC_PORT, config.CLIENT_TOKEN) == (9001, 9003, "my-secret-client-token")
    config.check()


def test_a_variable_that_asks_for_what_is_not_there_is_refused_and_what_to_do_is_said() -> None:
    (reason,) = reasons(Config({"SCHEDULES_CONFIG_PATH": "/etc/holon/schedules.toml"})).values()
    assert "no schedules" in reason
    assert "holon jobs create" in reason
    Config({"SCHEDULES_CONFIG_PATH": ""}).check()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("S3_ENDPOINT_URL", "no files"),
        ("TASK_FILES_DIR", "no files"),
        ("REPUTATION_MIN_THRESHOLD", "no reputation"),
        ("REPUTATION_PENALTY_CONTRACT_VIOLATION", "no reputation"),
        ("REPUTATION_PENALTY_TASK_FAILURE", "no reputation"),
        ("REPUTATION_REWARD_SUCCESS", "no reputation"),
        ("DISPATCHER_SOFT_LIMIT", "chooses no worker"),
        ("STRICT_EVENT_VALIDATION", "no events"),
    ],
)
def test_what_is_not_there_yet_is_refused_in_the_environment_and_in_code(name: str, why: str) -> None:
    (reason,) = reasons(Config({name: "1"})).values()
    assert why in reason
    with pytest.raises(ConfigError, match=f"there is no setting {name}; .*{why}"):
        Config({}, **{name: "1"})
    assert f"`{name}`" in (REPOSITORY / "docs/configuration.md").read_text(encoding="utf-8")


def test_an_empty_variable_counts_as_unset() -> None:
    config = Config({"API_PORT": "", "TZ": ""})
    config.check()
    assert (config.API_PORT, config.TZ) == (8080, "UTC")


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("Yes", True), ("off", False), ("0", False)])
def test_switches_read_the_usual_words(text: str, value: bool) -> None:
    assert Config({"REUSE_PORT": text}).REUSE_PORT is value


def test_text_given_by_code_is_read_as_the_environment_would_be() -> None:
    assert Config({}, API_PORT="9000").API_PORT == 9000
    assert Config({}, WORKER_TIMEOUT_SECONDS=5).WORKER_TIMEOUT_SECONDS == 5.0


def test_all_problems_are_reported_at_once_by_name() -> None:
    config = Config({"API_PORT": "http", "GRPC_PORT": "70000", "LOG_LEVEL": "LOUD", "TZ": "Mars/Olympus"})
    config.JOB_MAX_RETRIES = -1
    config.BLUEPRINTS_DIR = "/no/such/folder"
    assert set(reasons(config)) == {
        "API_PORT", "GRPC_PORT", "LOG_LEVEL", "TZ", "JOB_MAX_RETRIES", "BLUEPRINTS_DIR",
    }  # fmt: skip


def test_a_wrong_value_is_forgiven_once_it_is_replaced() -> None:
    config = Config({"API_PORT": "http"})
    config.API_PORT = 8081
    config.check()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_PORT", "80.5"), ("API_PORT", -1), ("API_PORT", True), ("WORKER_TIMEOUT_SECONDS", "nan"),
        ("WORKER_TIMEOUT_SECONDS", "inf"), ("WORKER_TIMEOUT_SECONDS", 0), ("JOB_RETENTION", "7d"),
        ("JOB_RETENTION", "1_000"), ("JOB_RETENTION", "\uff11\uff12"), ("PARENT_WORKER_ID", "a b"),
        ("REUSE_PORT", "maybe"), ("REUSE_PORT", 1), ("STATE_MAX_BYTES", 10), ("API_HOST", ""), ("INSTANCE_ID", "a b"),
        ("GRPC_HOST", "http://127.0.0.1"), ("GRPC_HOST", "[::1]"), ("LOG_FORMAT", "xml"), ("TZ", "../../etc/passwd"),
    ],
)  # fmt: skip
def test_a_value_out_of_its_kind_or_bounds_is_refused(name: str, value: str | float) -> None:
    assert set(reasons(Config({}, **{name: value}))) == {name}


def test_a_name_that_is_no_setting_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="did you mean API_PORT"):
        Config({}, API_PROT=1)
    with pytest.raises(ConfigError, match="did you mean CLIENT_TOKEN"):
        Config({}).CLIENT_TOKN = "x"  # type: ignore[attr-defined]  # the mistake under test


def test_a_frozen_configuration_refuses_changes_and_a_wrong_one_does_not_freeze() -> None:
    config = Config({"API_PORT": "http"})
    with pytest.raises(ConfigError):
        config.freeze()
    config.API_PORT = 8080
    assert config.freeze() is config
    with pytest.raises(ConfigError, match="API_PORT cannot change"):
        config.API_PORT = 1


def test_secrets_show_nowhere() -> None:
    config = Config({"CLIENT_TOKEN": "hush hush", "GLOBAL_WORKER_TOKEN": "also-hush"})
    shown = repr(config) + str(config.effective()) + str(reasons(config))
    assert "hush" not in shown
    assert config.effective()["CLIENT_TOKEN"] == "(hidden)"
    assert Config({}).effective()["CLIENT_TOKEN"] == ""


@pytest.mark.parametrize("name", ["GRPC_HOST", "CLIENT_GRPC_HOST"])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "node.example"])
def test_a_plaintext_grpc_door_off_loopback_is_refused(name: str, host: str) -> None:
    assert "TLS" in reasons(Config({name: host}))[name]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_a_plaintext_door_on_loopback_is_allowed(host: str) -> None:
    Config({"API_HOST": host, "GRPC_HOST": host, "CLIENT_GRPC_HOST": host}).check()


def test_http_off_loopback_needs_a_proxy_that_ends_tls() -> None:
    assert "API_BEHIND_PROXY" in reasons(Config({"API_HOST": "0.0.0.0"}))["API_HOST"]
    Config({"API_HOST": "0.0.0.0", "API_BEHIND_PROXY": "true"}).check()


def test_http_off_loopback_may_speak_tls_itself(tmp_path: Path) -> None:
    wide = {"API_HOST": "0.0.0.0", "CLIENT_TOKEN": LONG_TOKEN}
    assert "TLS_ENABLED" in reasons(Config(tls(tmp_path) | wide))["API_HOST"]
    Config(tls(tmp_path) | wide | {"TLS_ENABLED": "true", "TLS_REQUIRE_CLIENT_CERT": "true"}).check()
    assert set(reasons(Config(wide | {"TLS_ENABLED": "true"}))) == {"TLS_CERT_PATH", "TLS_KEY_PATH", "TLS_CA_PATH"}


def test_clients_certificates_are_asked_for_over_tls_alone(tmp_path: Path) -> None:
    alone = reasons(Config(tls(tmp_path) | {"TLS_REQUIRE_CLIENT_CERT": "true"}))
    assert "TLS_ENABLED" in alone["TLS_REQUIRE_CLIENT_CERT"]


def test_a_client_token_that_can_be_guessed_is_refused_where_it_can_be_tried_from_outside() -> None:
    Config({"CLIENT_TOKEN": "short"}).check()
    outside = {"API_BEHIND_PROXY": "true"}
    assert "32" in reasons(Config({"CLIENT_TOKEN": "short"} | outside))["CLIENT_TOKEN"]
    Config({"CLIENT_TOKEN": LONG_TOKEN} | outside).check()


def test_two_doors_cannot_have_one_port() -> None:
    assert "GRPC_PORT" in reasons(Config({"API_PORT": "7700"}))
    Config({"API_PORT": "0", "GRPC_PORT": "0", "CLIENT_GRPC_PORT": "0"}).check()


def test_with_tls_the_grpc_doors_may_open_to_the_outside(tmp_path: Path) -> None:
    config = Config(tls(tmp_path) | {"GRPC_HOST": "0.0.0.0", "CLIENT_GRPC_HOST": "::", "CLIENT_TOKEN": LONG_TOKEN})
    config.check()
    assert config.tls
    assert not Config({}).tls


def test_tls_needs_all_of_its_paths(tmp_path: Path) -> None:
    paths = tls(tmp_path)
    for name in paths:
        assert set(reasons(Config({one: path for one, path in paths.items() if one != name}))) == {name}


def test_authorities_are_needed_where_somebody_shows_a_certificate_alone(tmp_path: Path) -> None:
    paths = tls(tmp_path) | {"WORKER_AUTH_MODE": "token"}
    del paths["TLS_CA_PATH"]
    config = Config(paths)
    config.check()
    assert (config.tls, config.worker_auth) == (True, "token")
    for more in ({"WORKER_AUTH_MODE": "mixed"}, {"TLS_ENABLED": "true", "TLS_REQUIRE_CLIENT_CERT": "true"}):
        assert set(reasons(Config(paths | more))) == {"TLS_CA_PATH"}
    assert set(reasons(Config(paths | {"TLS_CRL_PATH": str(tmp_path)}))) == {"TLS_CRL_PATH"}
    asks = {"TLS_ENABLED": "true", "TLS_REQUIRE_CLIENT_CERT": "true", "TLS_CRL_PATH": str(tmp_path)}
    Config(tls(tmp_path) | asks | {"WORKER_AUTH_MODE": "token"}).check()


def test_every_tls_file_that_cannot_be_read_is_named_with_its_variable(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    found = reasons(
        Config({"TLS_CERT_PATH": "/no/cert", "TLS_KEY_PATH": str(tmp_path), "TLS_CA_PATH": str(tmp_path / "empty")})
    )
    assert found == {
        "TLS_CERT_PATH": "/no/cert cannot be read: No such file or directory",
        "TLS_KEY_PATH": f"{tmp_path} cannot be read: Is a directory",
        "TLS_CA_PATH": f"{tmp_path / 'empty'} is empty",
    }


def test_a_key_that_every_user_can_read_is_refused(tmp_path: Path) -> None:
    paths = tls(tmp_path)
    Path(paths["TLS_KEY_PATH"]).chmod(0o644)
    assert "chmod 600" in reasons(Config(paths))["TLS_KEY_PATH"]


def test_a_key_behind_a_link_is_taken_where_secrets_are_mounted_only(tmp_path: Path) -> None:
    paths = tls(tmp_path)
    link = tmp_path / "link"
    link.symlink_to(paths["TLS_KEY_PATH"])
    assert "SECRETS_MOUNTED" in reasons(Config(paths | {"TLS_KEY_PATH": str(link)}))["TLS_KEY_PATH"]
    Config(paths | {"TLS_KEY_PATH": str(link), "SECRETS_MOUNTED": "true"}).check()


def test_an_authority_that_every_user_can_add_to_is_refused(tmp_path: Path) -> None:
    paths = tls(tmp_path)
    Path(paths["TLS_CA_PATH"]).chmod(0o666)
    assert "chmod 644" in reasons(Config(paths))["TLS_CA_PATH"]


def test_times_that_contradict_each_other_are_refused() -> None:
    assert set(reasons(Config({"HEARTBEAT_INTERVAL_SECONDS": "15"}))) == {"WORKER_SILENCE_SECONDS"}
    assert set(reasons(Config({"TASK_LEASE_SECONDS": "5"}))) == {"TASK_LEASE_SECONDS"}
    Config({"HEARTBEAT_INTERVAL_SECONDS": "1", "WORKER_SILENCE_SECONDS": "3", "TASK_LEASE_SECONDS": "5"}).check()
    assert "RETRY_BACKOFF_MAX_SECONDS" in reasons(Config({"RETRY_BACKOFF_MAX_SECONDS": "0.5"}))
    for size in ("4194303", "4177921"):
        assert "INLINE_PAYLOAD_MAX_BYTES" in reasons(Config({"INLINE_PAYLOAD_MAX_BYTES": size}))
    Config({"INLINE_PAYLOAD_MAX_BYTES": "4177920"}).check()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("memory://", StorageURI("memory")),
        ("sqlite:///.holon/holon.db", StorageURI("sqlite", Path(".holon/holon.db"))),
        ("sqlite:////var/lib/holon.db", StorageURI("sqlite", Path("/var/lib/holon.db"))),
        ("sqlite:///a%20b.db?synchronous=normal", StorageURI("sqlite", Path("a b.db"), "NORMAL")),
        ("redis://localhost", StorageURI("redis", server="redis://localhost")),
        ("redis+cluster://u:p@a:1,b:2", StorageURI("redis", server="redis+cluster://u:p@a:1,b:2")),
        (
            f"rediss+cluster://a:1?partitions=6&ssl_ca_certs={__file__}",
            StorageURI("redis", server=f"rediss+cluster://a:1?ssl_ca_certs={__file__}", partitions=6),
        ),
        ("redis://localhost?partitions=8", StorageURI("redis", server="redis://localhost", partitions=8)),
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
        "redis+cluster://h:1/1", "redis+cluster://h:1,,h:2", "redis://h?partitions=0", "redis://h?partitions=65",
        "redis+cluster://h:1?ssl_keyfile=k", "redis://h:99999", "redis://h:x", "redis+sentinel://h:1,g:x/jobs",
        "redis+cluster://u:p@h:1,g:70000", "rediss://h?ssl_ca_certs=/no/such/file", "rediss://h?ssl_certfile=",
    ],
)  # fmt: skip
def test_a_storage_uri_of_no_store_is_refused(text: str) -> None:
    assert set(reasons(Config({"STORAGE_URI": text}))) == {"STORAGE_URI"}


@pytest.mark.parametrize(
    "uri", ["//ann:secret@host", "redis://ann:se?cret@host:6379/0", "redis://ann:se#cret@host", "redis://:se/cret@host"]
)
def test_what_is_wrong_with_a_storage_uri_shows_nothing_of_a_password(uri: str) -> None:
    with pytest.raises(ConfigError) as refused:
        StorageURI.parse(uri)
    told = str(refused.value) + "".join(one.reason for one in refused.value.details)
    assert "cret" not in told
    assert "redis" in told


def test_a_storage_uri_that_cannot_be_read_shows_nothing_of_a_password() -> None:
    assert "cret" not in reasons(Config({"STORAGE_URI": "redis://ann:secret@h\u2100st"}))["STORAGE_URI"]


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


def test_workers_show_certificates_where_there_is_tls_and_tokens_where_there_is_none(tmp_path: Path) -> None:
    assert Config({}).worker_auth == "token"
    assert Config(tls(tmp_path)).worker_auth == "mtls"
    assert Config(tls(tmp_path) | {"WORKER_AUTH_MODE": "mixed"}).worker_auth == "mixed"


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"WORKER_AUTH_MODE": "mtls"}, "WORKER_AUTH_MODE"),
        ({"WORKER_AUTH_MODE": "mixed"}, "WORKER_AUTH_MODE"),
        ({"WORKER_AUTH_MODE": "none"}, "WORKER_AUTH_MODE"),
        ({"TLS_CRL_PATH": "crl.pem"}, "TLS_CRL_PATH"),
        ({"WORKER_AUTH_MODE": "token", "TLS_CRL_PATH": "crl.pem"}, "TLS_CRL_PATH"),
    ],
)
def test_what_needs_certificates_needs_tls(settings: dict[str, str], wrong: str) -> None:
    assert set(reasons(Config(settings))) == {wrong}


def test_the_port_for_tokens_is_one_of_its_own_where_there_is_one(tmp_path: Path) -> None:
    same = tls(tmp_path) | {"WORKER_TOKEN_PORT": "7700"}
    Config(same).check()
    assert set(reasons(Config(same | {"WORKER_AUTH_MODE": "mixed"}))) == {"WORKER_TOKEN_PORT"}


def test_a_short_token_of_workers_is_refused_where_they_come_from_outside(tmp_path: Path) -> None:
    outside = tls(tmp_path) | {"WORKER_AUTH_MODE": "token", "GRPC_HOST": "0.0.0.0"}
    Config(outside | {"GLOBAL_WORKER_TOKEN": LONG_TOKEN}).check()
    assert set(reasons(Config(outside | {"GLOBAL_WORKER_TOKEN": "short"}))) == {"GLOBAL_WORKER_TOKEN"}


def test_what_is_shown_of_a_uri_has_no_password_in_it() -> None:
    config = Config({"STORAGE_URI": "redis://holon:s3cr3t@host:6379/0"})
    assert "s3cr3t" not in repr(config)
    assert config.effective()["STORAGE_URI"] == "redis://(hidden)@host:6379/0"
    assert config.STORAGE_URI == "redis://holon:s3cr3t@host:6379/0"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("redis://:s3cr3t/with+more==@host:6379/0", "redis://(hidden)@host:6379/0"),
        ("redis://:s3cr3t@and@host", "redis://(hidden)@host"),
        ("redis:s3cr3t@host", "redis:(hidden)@host"),
        ("redis://host?password=s3cr3t", "redis://host?(hidden)"),
        ("redis://host#s3cr3t", "redis://host#(hidden)"),
        ("redis://a:s3cr3t@host?partitions=2&synced=true", "redis://(hidden)@host?partitions=2&synced=true"),
    ],
)
def test_what_is_shown_of_a_uri_that_is_wrong_has_none_either(uri: str, shown: str) -> None:
    assert Config({"STORAGE_URI": uri}).effective()["STORAGE_URI"] == shown


@pytest.mark.parametrize("name", ["PARENT_URL", "OTEL_EXPORTER_OTLP_ENDPOINT"])
def test_what_is_wrong_with_an_address_shows_no_password_that_is_in_it(name: str) -> None:
    for address in ("http://ann:s3cr3t@host:4317", "grpcs://host?token=s3cr3t"):
        config = Config({name: address})
        assert "s3cr3t" not in reasons(config)[name] + repr(config)


def test_the_documentation_lists_every_setting_as_it_is() -> None:
    page = (REPOSITORY / "docs/configuration.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if re.match(r"\| `[A-Z_]+` \|", line)]
    assert sorted(rows) == sorted(documented(setting) for setting in Config.settings().values())


def documented(setting: Setting) -> str:
    default = str(setting.default).lower() if setting.kind is bool else f"{setting.default}"
    default = f"{setting.default:.15g}" if setting.kind is float else default
    values = ", ".join(f"`{choice}`" for choice in setting.choices)
    if setting.kind is bool:
        values = "`true`, `false`"
    elif setting.minimum is not None and setting.maximum is not None:
        values = f"{setting.minimum:.15g} to {setting.maximum:.15g} {setting.unit}".strip()
    return f"| `{setting.name}` | {f'`{default}`' if default else ''} | {values} | {setting.about} |"


@pytest.mark.parametrize("text", ["grpcs://root:7700", "grpcs://a:7700, grpcs://[::1]:7701", "grpc://127.0.0.1"])
def test_a_parent_is_named_by_addresses_of_worker_doors(text: str) -> None:
    Config({}, PARENT_URL=text).check()


@pytest.mark.parametrize(
    "text",
    [
        "grpc://root:7700",
        "root:7700",
        "https://root",
        "grpcs://root:7700/path",
        "grpcs://root:99999",
        "grpcs://[1:2]",
        ",",
    ],
)
def test_what_is_no_address_of_a_worker_door_or_not_encrypted_is_refused_as_a_parent(text: str) -> None:
    assert set(reasons(Config({}, PARENT_URL=text))) == {"PARENT_URL"}


def test_a_node_without_clients_needs_a_parent_and_a_socket_a_folder(tmp_path: Path) -> None:
    assert set(reasons(Config({}, ENABLE_CLIENT_API=False))) == {"ENABLE_CLIENT_API"}
    parent = "grpcs://root:7700"
    Config({}, ENABLE_CLIENT_API=False, PARENT_URL=parent, ADMIN_SOCKET=str(tmp_path / "s")).check()
    (tmp_path / "file").write_text("precious")
    for path in (tmp_path / "none" / "s", tmp_path / ("s" * 100), tmp_path, tmp_path / "file"):
        assert set(reasons(Config({}, ADMIN_SOCKET=str(path)))) == {"ADMIN_SOCKET"}
    lacking = reasons(Config({}, PARENT_TLS_CERT_PATH=str(tmp_path / "cert")))["PARENT_TLS_KEY_PATH"]
    assert lacking.endswith("PARENT_TLS_CERT_PATH and PARENT_TLS_KEY_PATH belong together; set both or neither")


def test_a_limit_of_skills_for_the_parent_has_those_that_are_passed_on() -> None:
    Config({}, UPLINK_ALLOWED_SKILLS="ocr, resize", UPLINK_SKILLS="resize").check()
    wrong = Config({}, UPLINK_ALLOWED_SKILLS="ocr", UPLINK_SKILLS="ocr,resize")
    assert reasons(wrong)["UPLINK_ALLOWED_SKILLS"].startswith("lacks 'resize'")


@pytest.mark.parametrize("skill", ["a b", "ö", "s" * 129, "a.b"])
def test_a_skill_that_no_blueprint_could_have_the_name_of_is_not_passed_on(skill: str) -> None:
    with pytest.raises(BlueprintError):
        Blueprint(skill)
    assert set(reasons(Config({}, UPLINK_SKILLS=f"ocr,{skill}"))) == {"UPLINK_SKILLS"}


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
