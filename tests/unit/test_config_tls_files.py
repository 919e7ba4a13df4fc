"""The files of TLS that settings name: all of them, readable, and nobody else's to write."""

from __future__ import annotations

from pathlib import Path

from holon.config import Config
from tests.unit.configs import reasons, tls


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
