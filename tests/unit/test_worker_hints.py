"""What a worker, or a child holon, is told to check when a node refuses it: its own settings, by their names."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from holon.config import Config
from holon.node.settings import uplink_settings
from holon.worker.hints import Hints


def child(**settings: str) -> Hints:
    config = Config()
    for name, value in {"PARENT_URL": "grpcs://above:7700", **settings}.items():
        setattr(config, name, value)
    return uplink_settings(config).credentials.hints


def unreachable(hints: Hints, *, secure: bool = True) -> str:
    return hints.of(StatusCode.UNAVAILABLE, "", secure=secure, told=False)


def test_a_child_is_told_of_the_settings_of_its_parent() -> None:
    own = child(PARENT_TLS_CERT_PATH="child.pem", PARENT_TLS_KEY_PATH="child.key", PARENT_TLS_CA_PATH="ca.pem")
    for name in ("PARENT_TLS_CERT_PATH", "PARENT_TLS_CA_PATH", "PARENT_URL"):
        assert name in unreachable(own)
    assert "PARENT_TOKEN" in own.of(StatusCode.UNAUTHENTICATED, "", secure=True, told=True)
    assert "PARENT_WORKER_ID" in own.of(StatusCode.PERMISSION_DENIED, "WORKER_ID_MISMATCH", secure=True, told=True)
    # Those that it uses.
    nodes = unreachable(child())
    assert "TLS_CERT_PATH" in nodes
    assert "PARENT_TLS" not in nodes


def test_a_worker_is_told_of_its_own() -> None:
    for name in ("TLS_CERT_PATH", "TLS_CA_PATH", "NODE_URL"):
        assert name in unreachable(Hints())
    assert "grpcs://" in unreachable(Hints(), secure=False)
    assert "WORKER_TOKEN" in Hints().of(StatusCode.UNAUTHENTICATED, "TOKEN_INVALID", secure=True, told=True)


@pytest.mark.parametrize("reason", ["HOLON_CHANGED", "NOT_A_HOLON", "REVOKED"])
def test_nothing_is_added_to_a_refusal_that_says_itself_what_to_do(reason: str) -> None:
    assert Hints().of(StatusCode.PERMISSION_DENIED, reason, secure=True, told=True) == ""
    assert Hints().of(StatusCode.UNAVAILABLE, "", secure=True, told=True) == ""
