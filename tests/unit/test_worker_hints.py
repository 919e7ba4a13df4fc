"""What a worker, or a child holon, is told to check when a node refuses it: its own settings, by their names."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from holon.config import Config
from holon.node.settings import uplink_settings
from holon.wire.address import NodeUrl, parse_url
from holon.worker.hints import Hints


def child(**settings: str) -> Hints:
    config = Config()
    for name, value in {"PARENT_URL": "grpcs://above:7700", **settings}.items():
        setattr(config, name, value)
    return uplink_settings(config).credentials.hints


SECURE, PLAIN = parse_url("grpcs://127.0.0.1:7700", 0), parse_url("grpc://127.0.0.1:7700", 0)
CLOSED = "failed to connect to all addresses; last error: UNAVAILABLE: ipv4:127.0.0.1:7700: Socket closed"
REFUSED = "last error: UNKNOWN: ipv4:127.0.0.1:7700: Failed to connect to remote host: Connection refused"
NAMED = "address lookup failed for no-such-host:7700: Domain name not found"
VERIFY = "Tls handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:1000007d:SSL routines:"


def unreachable(hints: Hints, reasons: str = CLOSED, where: NodeUrl = SECURE) -> str:
    return hints.of(StatusCode.UNAVAILABLE, reasons, where, told=False)


def test_a_child_is_told_of_the_settings_of_its_parent() -> None:
    own = child(PARENT_TLS_CERT_PATH="child.pem", PARENT_TLS_KEY_PATH="child.key", PARENT_TLS_CA_PATH="ca.pem")
    for name in ("PARENT_TLS_CERT_PATH", "PARENT_TLS_CA_PATH", "PARENT_URL"):
        assert name in unreachable(own)
    assert "PARENT_TOKEN" in own.of(StatusCode.UNAUTHENTICATED, "", SECURE, told=True)
    assert "PARENT_WORKER_ID" in own.of(StatusCode.PERMISSION_DENIED, "WORKER_ID_MISMATCH", SECURE, told=True)
    # Those that it uses.
    nodes = unreachable(child(TLS_CERT_PATH="node.pem", TLS_KEY_PATH="node.key", TLS_CA_PATH="ca.pem"))
    assert "TLS_CERT_PATH" in nodes
    assert "PARENT_TLS" not in nodes
    assert "it requires a client certificate, and PARENT_TLS_CERT_PATH is not set. Set it" in unreachable(child())


def test_a_worker_is_told_of_its_own() -> None:
    for name in ("TLS_CERT_PATH", "TLS_CA_PATH", "NODE_URL"):
        assert name in unreachable(Hints())
    assert "grpcs://" in unreachable(Hints(), where=PLAIN)
    assert "WORKER_TOKEN" in Hints().of(StatusCode.UNAUTHENTICATED, "TOKEN_INVALID", SECURE, told=True)


@pytest.mark.parametrize(
    ("reasons", "where", "says"),
    [
        (REFUSED, "grpcs://127.0.0.1:7700", "nothing listens there"),
        (REFUSED, "grpc://localhost:7700", "nothing listens there"),
        # The one address that is told of may be the one where nobody is.
        (REFUSED, "grpcs://localhost:7700", "nothing listens there; if the node runs, check TLS_CA_PATH"),
        (f"errors resolving no-such-host:7700: [{NAMED}]", "grpcs://no-such-host", "check the host name in NODE_URL"),
        (
            f"DNS resolution failed for no-such-host: {NAMED}",
            "grpcs://no-such-host",
            "check the host name in NODE_URL",
        ),
        (
            f"{VERIFY}OPENSSL_internal:WRONG_VERSION_NUMBER",
            "grpcs://a",
            "does not speak TLS; check the port in NODE_URL",
        ),
        (f"{VERIFY}OPENSSL_internal:CERTIFICATE_VERIFY_FAILED: unable to get local issuer", "grpcs://a", "TLS_CA_PATH"),
        ("Hostname Verification Check failed.", "grpcs://a", "its certificate has the name in NODE_URL"),
    ],
)
@pytest.mark.parametrize("shows", [True, False])
def test_what_failed_is_told_without_a_word_of_the_certificate_that_has_no_part_in_it(
    reasons: str, where: str, says: str, shows: bool
) -> None:
    told = unreachable(Hints(shows=shows), reasons, parse_url(where, 7700))
    assert says in told
    assert "TLS_CERT_PATH" not in told
    assert len(told) < 150


def test_who_shows_no_certificate_is_told_that_the_door_asks_for_one() -> None:
    told = unreachable(Hints(shows=False))
    assert "it requires a client certificate, and TLS_CERT_PATH is not set. Set it and its key" in told
    assert "`holon certs issue`" in told


@pytest.mark.parametrize("reason", ["HOLON_CHANGED", "NOT_A_HOLON", "REVOKED"])
def test_nothing_is_added_to_a_refusal_that_says_itself_what_to_do(reason: str) -> None:
    assert Hints().of(StatusCode.PERMISSION_DENIED, reason, SECURE, told=True) == ""
    assert Hints().of(StatusCode.UNAVAILABLE, "", SECURE, told=True) == ""


@pytest.mark.parametrize("reason", ["CERTIFICATE_EXPIRED", "REVOCATION_UNKNOWN"])
def test_nor_is_a_word_of_tokens_to_what_is_of_a_certificate(reason: str) -> None:
    assert Hints().of(StatusCode.UNAUTHENTICATED, reason, SECURE, told=True) == ""
    assert "WORKER_TOKEN" in Hints().of(StatusCode.UNAUTHENTICATED, "TOKEN_INVALID", SECURE, told=True)
