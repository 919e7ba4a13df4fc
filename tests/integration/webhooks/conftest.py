"""Certificates for receivers, of an authority that the node is told to trust."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest

from holon.security.certificates import issue_server, open_authority


@dataclass
class Trusted:
    """What a receiver serves TLS with: its name is `hooks.example`, and that of the loopback."""

    server: ssl.SSLContext


@pytest.fixture(scope="session")
def issued(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The authority, the certificate and the key."""
    folder = tmp_path_factory.mktemp("receivers")
    authority = open_authority(folder)
    pair = issue_server(authority, folder, ["hooks.example"])
    return authority.files.certificate, pair.certificate, pair.key


@pytest.fixture
def trusted(issued: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch) -> Trusted:
    """The same, and who sends trusts the authority, as an operator has it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(issued[0]))
    return Trusted(server_of(issued))


@pytest.fixture
def untrusted(issued: tuple[Path, Path, Path]) -> Trusted:
    """The same, of an authority that nobody trusts."""
    return Trusted(server_of(issued))


def server_of(issued: tuple[Path, Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued[1], issued[2])
    return context
