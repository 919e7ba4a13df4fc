"""What a worker is told from outside: addresses, identity and files, and every problem in one report."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from holon.errors import ConfigError
from holon.security.certificates import issue_worker, open_authority
from holon.wire.address import parse_url
from holon.worker.channel import open_channel
from holon.worker.settings import DEFAULT_PORT, Credentials, read_settings
from holon.worker.urls import Urls


@cache
def keys_of_rsa() -> dict[str, bytes]:
    """By their files, one that anybody reads and one with a password; they take long to make."""
    key = rsa.generate_private_key(65537, 2048)
    locks = {"of-another-kind.key": NoEncryption(), "locked.key": BestAvailableEncryption(b"secret")}
    return {name: key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock) for name, lock in locks.items()}


def test_arguments_win_over_the_environment(tmp_path: Path) -> None:
    ca = open_authority(tmp_path).files.certificate
    environ = {"NODE_URL": "grpcs://a, grpcs://b:99", "WORKER_ID": "w1", "WORKER_TOKEN": "t1", "TLS_CA_PATH": str(ca)}
    settings = read_settings(worker_id="w2", environ=environ)
    assert [str(url) for url in settings.urls] == ["grpcs://a:7700", "grpcs://b:99"]
    assert (settings.worker_id, settings.credentials.token, settings.credentials.ca) == ("w2", "t1", ca)
    assert "t1" not in repr(settings)


def test_every_problem_is_in_one_report(tmp_path: Path) -> None:
    environ = {
        "NODE_URL": "grpc://far.example:1,ftp://x",
        "WORKER_TOKEN": "ü",
        "TLS_CERT_PATH": str(tmp_path / "none.pem"),
    }
    with pytest.raises(ConfigError) as caught:
        read_settings(environ=environ)
    for part in (
        "far.example",
        "only allowed to this machine",
        "ftp://x",
        "WORKER_TOKEN",
        "TLS_CERT_PATH",
        "belong together",
    ):
        assert part in caught.value.message
    with pytest.raises(ConfigError, match="NODE_URL is not set"):
        read_settings(environ={})


def test_without_a_certificate_the_id_must_be_said() -> None:
    with pytest.raises(ConfigError, match="WORKER_ID is not set, and there is no certificate"):
        read_settings(environ={"NODE_URL": "grpc://localhost", "WORKER_TOKEN": "t"})


@pytest.mark.parametrize("name", ["a b", "-w", "w" * 129, "spiffe://a/b"])
def test_an_id_that_no_node_lets_in_without_a_certificate_is_refused_before_it_connects(name: str) -> None:
    with pytest.raises(ConfigError, match=r"WORKER_ID .* is invalid"):
        read_settings(environ={"NODE_URL": "grpc://localhost", "WORKER_TOKEN": "t", "WORKER_ID": name})


def test_an_address_without_tls_beside_a_certificate_is_named_as_what_is_wrong(tmp_path: Path) -> None:
    pair = issue_worker(open_authority(tmp_path), tmp_path, "w1")
    environ = {"TLS_CERT_PATH": str(pair.certificate), "TLS_KEY_PATH": str(pair.key)}
    with pytest.raises(ConfigError, match=r"NODE_URL is grpc:// .* write grpcs://") as caught:
        read_settings(environ=environ | {"NODE_URL": "grpc://localhost:17700"})
    assert "there is no certificate" not in caught.value.message
    assert not read_settings(environ=environ | {"NODE_URL": "grpcs://localhost:17700"}).worker_id


@pytest.mark.parametrize(
    ("name", "file", "says"),
    [
        ("TLS_CA_PATH", "junk", "junk has no readable certificate"),
        ("TLS_CERT_PATH", "junk", "junk has no readable certificate"),
        ("TLS_KEY_PATH", "junk", "junk has no readable private key"),
        ("TLS_KEY_PATH", "worker-w2.key", "worker-w2.key is not the key of the certificate in"),
        ("TLS_KEY_PATH", "of-another-kind.key", "of-another-kind.key is not the key of the certificate in"),
        ("TLS_KEY_PATH", "locked.key", "locked.key has no readable private key"),
    ],
)
def test_files_that_no_connection_could_use_are_named_with_their_variables(
    tmp_path: Path, name: str, file: str, says: str
) -> None:
    authority = open_authority(tmp_path)
    pair, _ = (issue_worker(authority, tmp_path, worker) for worker in ("w1", "w2"))
    (tmp_path / "junk").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    for key, text in keys_of_rsa().items():
        (tmp_path / key).touch(0o600)
        (tmp_path / key).write_bytes(text)
    (tmp_path / "junk").chmod(0o600)
    environ = {
        "NODE_URL": "grpcs://a",
        "TLS_CA_PATH": str(authority.files.certificate),
        "TLS_CERT_PATH": str(pair.certificate),
        "TLS_KEY_PATH": str(pair.key),
    }
    read_settings(environ=environ)
    with pytest.raises(ConfigError) as caught:
        read_settings(environ=environ | {name: str(tmp_path / file)})
    assert caught.value.message.startswith(f"the worker cannot start: {name}: ")
    assert says in caught.value.message
    assert ";" not in caught.value.message


def test_a_key_that_others_can_open_is_refused_and_so_is_a_link_but_where_secrets_are_mounted(tmp_path: Path) -> None:
    pair = issue_worker(open_authority(tmp_path), tmp_path, "w1")
    link = tmp_path / "link"
    link.symlink_to(pair.key)
    environ = {"NODE_URL": "grpcs://a", "TLS_CERT_PATH": str(pair.certificate), "TLS_KEY_PATH": str(link)}
    with pytest.raises(ConfigError, match=r"TLS_KEY_PATH: .*link is a link; .*SECRETS_MOUNTED=true"):
        read_settings(environ=environ)
    mounted = environ | {"SECRETS_MOUNTED": "true"}
    assert read_settings(environ=mounted).credentials.mounted
    pair.key.chmod(0o640)
    read_settings(environ=mounted)
    with pytest.raises(ConfigError, match=r"TLS_KEY_PATH: .* is open to other users of this machine; chmod 600"):
        read_settings(environ=environ | {"TLS_KEY_PATH": str(pair.key)})
    pair.key.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 640"):
        read_settings(environ=mounted)


async def test_a_key_that_others_can_open_by_now_makes_no_connection(tmp_path: Path) -> None:
    pair = issue_worker(open_authority(tmp_path), tmp_path, "w1")
    own = Credentials("", None, pair.certificate, pair.key)
    url = parse_url("grpcs://localhost:1", DEFAULT_PORT)
    channel, _ = open_channel(url, own)
    await channel.close()
    pair.key.chmod(0o644)
    with pytest.raises(OSError, match="chmod 600"):
        open_channel(url, own)


@pytest.mark.parametrize(
    "text", ["grpc://localhost", "grpc://127.0.0.1:7700", "grpc://[::1]:7700", "grpcs://[fe80::1]"]
)
def test_plaintext_stays_on_the_loopback(text: str) -> None:
    assert parse_url(text, DEFAULT_PORT).port == 7700


@pytest.mark.parametrize(
    "text", ["grpc://10.0.0.1", "http://localhost", "localhost:7700", "grpcs://a/b", "grpcs://u@a"]
)
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="grpcs://"):
        parse_url(text, DEFAULT_PORT)


def test_addresses_are_tried_in_turn_and_those_that_a_node_names_first() -> None:
    urls = Urls([parse_url("grpcs://a", DEFAULT_PORT), parse_url("grpcs://b", DEFAULT_PORT)])
    assert [urls.next().host for _ in range(3)] == ["a", "b", "a"]
    urls.prefer(["grpcs://c", "grpc://localhost", "nonsense"])
    assert [urls.next().host for _ in range(3)] == ["c", "b", "a"]


def test_short_lived_tokens_are_asked_for_by_a_switch_and_need_something_to_exchange() -> None:
    environ = {"NODE_URL": "grpcs://a", "WORKER_ID": "w1", "WORKER_TOKEN": "t1"}
    assert not read_settings(environ=environ).tokens
    assert read_settings(environ=environ | {"WORKER_STS": "true"}).tokens
    assert not read_settings(sts=False, environ=environ | {"WORKER_STS": "true"}).tokens
    with pytest.raises(ConfigError, match="WORKER_STS must be true or false"):
        read_settings(environ=environ | {"WORKER_STS": "perhaps"})
    with pytest.raises(ConfigError, match="WORKER_STS needs a credential"):
        read_settings(sts=True, environ=environ | {"WORKER_TOKEN": ""})


@pytest.mark.parametrize("password", ["s3c/r3t", "s3c,r3t", "s3c@r3t"])
def test_what_is_wrong_with_an_address_shows_no_password_that_is_in_it(password: str) -> None:
    with pytest.raises(ConfigError, match="NODE_URL") as refused:
        read_settings(worker_id="w", node_url=f"grpcs://one:7700,grpcs://ann:{password}@host:7700", environ={})
    assert "s3c" not in refused.value.message
    assert "r3t" not in refused.value.message
