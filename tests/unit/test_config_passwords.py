"""Passwords in addresses are shown nowhere, whatever else is wrong there."""

from __future__ import annotations

import pytest

from holon.config import Config, StorageURI
from holon.errors import ConfigError
from tests.unit.configs import reasons


@pytest.mark.parametrize(
    "uri",
    [
        "//ann:secret@host",
        "redis://ann:se?cret@host:6379/0",
        "redis://ann:se#cret@host",
        "redis://:se/cret@host",
        "redis://ann:se[cret@host",
        "unix://ann:se/cret@/run/redis.sock",
    ],
)
def test_what_is_wrong_with_a_storage_uri_shows_nothing_of_a_password(uri: str) -> None:
    with pytest.raises(ConfigError) as refused:
        StorageURI.parse(uri)
    told = str(refused.value) + "".join(one.reason for one in refused.value.details)
    assert "cret" not in told
    assert "redis" in told or "percent-encode" in told


def test_a_storage_uri_that_cannot_be_read_shows_nothing_of_a_password() -> None:
    assert "cret" not in reasons(Config({"STORAGE_URI": "redis://ann:secret@h\u2100st"}))["STORAGE_URI"]


def test_a_parsed_uri_shows_no_password() -> None:
    assert "s3cr3t" not in repr(StorageURI.parse("redis://holon:s3cr3t@host:6379/0"))


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
        ("redis://a:s3cr3t@host?replicas=2&synced=true", "redis://(hidden)@host?replicas=2&synced=true"),
        ("postgresql://a:s3cr3t@host/jobs", "postgresql://(hidden)@host/jobs"),
        ("postgresql://a@host/jobs?password=s3cr3t", "postgresql://(hidden)@host/jobs?(hidden)"),
        ("postgresql://host/jobs?sslpassword=s3cr3t", "postgresql://host/jobs?(hidden)"),
    ],
)
def test_what_is_shown_of_a_uri_that_is_wrong_has_none_either(uri: str, shown: str) -> None:
    assert Config({"STORAGE_URI": uri}).effective()["STORAGE_URI"] == shown


def test_what_is_wrong_with_a_host_shows_no_password_that_is_before_it() -> None:
    assert reasons(Config({"REDIS_HOST": "ann:s3cr3t@host"}))["REDIS_HOST"].startswith(
        "'ann:(hidden)@host' is not a host"
    )


@pytest.mark.parametrize("name", ["PARENT_URL", "OTEL_EXPORTER_OTLP_ENDPOINT", "WEBHOOK_ALLOWED_HOSTS"])
def test_what_is_wrong_with_an_address_shows_no_password_that_is_in_it(name: str) -> None:
    for address in ("http://ann:s3cr3t@host:4317", "grpcs://host?token=s3cr3t", "https://ann:s3cr3t,more@h"):
        config = Config({name: address})
        assert "s3cr3t" not in reasons(config)[name] + repr(config)
