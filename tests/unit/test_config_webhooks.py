"""The settings of webhooks: what they are signed with, and who may be told beside the public."""

from __future__ import annotations

from base64 import b64encode
from ipaddress import ip_network

import pytest

from holon.config import Config
from holon.config.webhooks import webhook_hosts, webhook_secrets
from holon.node.settings import delivery_settings, engine_settings
from tests.unit.configs import reasons


def secret(size: int = 32) -> str:
    return b64encode(bytes(range(size))).decode()


def test_without_a_secret_that_of_the_store_signs() -> None:
    config = Config({"WEBHOOK_ALLOWED_HOSTS": "localhost"})
    config.check()
    settings = delivery_settings(config, b"of the store")
    assert settings.secrets == (b"of the store",)
    assert engine_settings(config).receivers == settings.receivers


def test_a_secret_may_have_its_prefix_and_while_it_changes_each_signs() -> None:
    new, old = secret(24), secret(64)
    config = Config({"WEBHOOK_SECRET": f"whsec_{new}, {old}"})
    config.check()
    assert [b64encode(one).decode() for one in webhook_secrets(config)] == [new, old]
    settings = delivery_settings(config, b"of the store")
    assert settings.secrets == webhook_secrets(config)
    assert config.effective()["WEBHOOK_SECRET"] == "(hidden)"
    assert new not in repr(config)


@pytest.mark.parametrize(
    "text",
    [
        "short",
        secret(23),
        secret(65),
        "whsec_",
        b64encode(bytes(32)).decode(),
        "ä" * 40,
        f"{secret()},x",
        ",",
        "https://",
    ],
)
def test_what_is_no_secret_is_refused_and_never_shown(text: str) -> None:
    found = reasons(Config({"WEBHOOK_SECRET": text}))
    assert list(found) == ["WEBHOOK_SECRET"]
    assert "holon keys new" in found["WEBHOOK_SECRET"]
    assert len(text) < 5 or text not in found["WEBHOOK_SECRET"]


def test_too_many_secrets_are_refused() -> None:
    found = reasons(Config({"WEBHOOK_SECRET": ",".join(secret(32 + n) for n in range(5))}))
    assert "over the limit of 4" in found["WEBHOOK_SECRET"]


def test_names_addresses_and_networks_may_be_told_beside_the_public() -> None:
    config = Config({"WEBHOOK_ALLOWED_HOSTS": "Hooks.Internal, localhost,10.0.0.0/8,192.168.1.7,[::1],fd00::/8"})
    config.check()
    names, networks = webhook_hosts(config)
    assert names == {"hooks.internal", "localhost"}
    assert networks == tuple(map(ip_network, ("10.0.0.0/8", "192.168.1.7", "::1", "fd00::/8")))


@pytest.mark.parametrize("text", ["http://x", "host:80", "10.0.0.1/8", "1.2.3", "a b", "*.example.com", "x/y", "-x"])
def test_what_is_no_host_is_refused(text: str) -> None:
    assert repr(text) in reasons(Config({"WEBHOOK_ALLOWED_HOSTS": text}))["WEBHOOK_ALLOWED_HOSTS"]


def test_a_holon_without_clients_has_no_webhooks_to_send() -> None:
    config = Config({"WEBHOOK_SECRET": secret(), "ENABLE_CLIENT_API": "false", "PARENT_URL": "grpc://127.0.0.1:7700"})
    assert "ENABLE_CLIENT_API" in reasons(config)["WEBHOOK_SECRET"]


def test_a_try_must_be_possible() -> None:
    assert "at least 1 s" in reasons(Config({"WEBHOOK_GIVE_UP_SECONDS": "0"}))["WEBHOOK_GIVE_UP_SECONDS"]
