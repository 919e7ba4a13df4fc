"""Settings of the doors: what is open to the outside has TLS, and tokens that cannot be guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from holon.config import Config
from tests.unit.configs import LONG_TOKEN, reasons, tls


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
    assert reasons(Config({"CLIENT_TOKEN": "abc"} | outside))["CLIENT_TOKEN"] == (
        "has 3 characters, but needs 32, because its port can be reached from other machines (API_BEHIND_PROXY=true); "
        "`holon tokens new` makes one"
    )
    by_host = reasons(Config({"CLIENT_TOKEN": "abc", "CLIENT_GRPC_HOST": "0.0.0.0"}))
    assert "other machines (CLIENT_GRPC_HOST=0.0.0.0)" in by_host["CLIENT_TOKEN"]
    workers = reasons(Config({"GLOBAL_WORKER_TOKEN": "abc", "GRPC_HOST": "0.0.0.0", "WORKER_AUTH_MODE": "token"}))
    assert "has 3 characters, but needs 32" in workers["GLOBAL_WORKER_TOKEN"]
    Config({"CLIENT_TOKEN": LONG_TOKEN} | outside).check()


def test_two_doors_cannot_have_one_port() -> None:
    assert "GRPC_PORT" in reasons(Config({"API_PORT": "7700"}))
    Config({"API_PORT": "0", "GRPC_PORT": "0", "CLIENT_GRPC_PORT": "0"}).check()


def test_with_tls_the_grpc_doors_may_open_to_the_outside(tmp_path: Path) -> None:
    config = Config(tls(tmp_path) | {"GRPC_HOST": "0.0.0.0", "CLIENT_GRPC_HOST": "::", "CLIENT_TOKEN": LONG_TOKEN})
    config.check()
    assert config.tls
    assert not Config({}).tls


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
