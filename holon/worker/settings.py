"""The worker SDK: where the node is and who we are, from arguments and the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from holon.errors import ConfigError
from holon.wire.address import NodeUrl, parse_url, shown_url
from holon.wire.pem import certificates_problem, key_problem
from holon.wire.values import is_id
from holon.worker.certificate import read_key
from holon.worker.hints import Hints

DEFAULT_PORT = 7700


@dataclass(frozen=True, slots=True)
class Credentials:
    """What proves who we are, and what proves the node: files are read anew for each connection.

    Attributes:
        token: sent as `x-worker-token`; empty sends none.
        ca: authorities that the node's certificate may come from; None takes those of the system.
        certificate, key: our own certificate and its key, both or neither.
        hints: what to say of these when they do not do.
        mounted: whether the key may be a link and readable by its group (SECRETS_MOUNTED).
    """

    token: str = field(default="", repr=False)
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    hints: Hints = field(default_factory=Hints)
    mounted: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that a worker is told from outside.

    Attributes:
        urls: the node's addresses, the first to be tried first; never empty.
        worker_id: the id that it claims; empty takes that of its certificate.
        tokens: whether it shows short-lived tokens, which it gets for its certificate or token.
    """

    urls: tuple[NodeUrl, ...]
    worker_id: str
    credentials: Credentials
    tokens: bool = False


def read_settings(
    *,
    node_url: str | None = None,
    worker_id: str | None = None,
    token: str | None = None,
    ca_path: str | Path | None = None,
    cert_path: str | Path | None = None,
    key_path: str | Path | None = None,
    sts: bool | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Take each argument, or where it is None its variable: NODE_URL (several, split by commas, for failover),
    WORKER_ID, WORKER_TOKEN, TLS_CA_PATH, TLS_CERT_PATH, TLS_KEY_PATH, WORKER_STS. SECRETS_MOUNTED is of the place.

    Raises:
        ConfigError: something is missing or wrong; the message lists all of it.
    """
    problems: list[str] = []
    urls: list[NodeUrl] = []
    text = node_url if node_url is not None else environ.get("NODE_URL", "")
    # Before it is split, for a password may have a comma.
    for one in filter(None, (part.strip() for part in shown_url(text).split(","))):
        try:
            urls.append(parse_url(one, DEFAULT_PORT))
        except ValueError as error:
            problems.append(f"NODE_URL: {error}")
    if not text.strip(", "):
        problems.append(
            f"NODE_URL is not set; set it to the node's address, such as grpcs://127.0.0.1:{DEFAULT_PORT}, or use "
            "`holon worker run` in the folder where `holon serve --dev` runs"
        )
    credentials = Credentials(
        token if token is not None else environ.get("WORKER_TOKEN", ""),
        ca := _file("TLS_CA_PATH", ca_path, environ),
        certificate := _file("TLS_CERT_PATH", cert_path, environ),
        key := _file("TLS_KEY_PATH", key_path, environ),
        Hints(shows=certificate is not None),
        mounted := _switch("SECRETS_MOUNTED", environ, problems),
    )
    problems += _file_problems(ca, certificate, key, mounted=mounted)
    if not (credentials.token.isascii() and credentials.token.isprintable()):
        problems.append("WORKER_TOKEN has characters that a header cannot carry; use printable ASCII")
    if bool(certificate) != bool(key):
        problems.append("TLS_CERT_PATH and TLS_KEY_PATH belong together; set both or neither")
    identity = worker_id if worker_id is not None else environ.get("WORKER_ID", "")
    if not identity and urls and not certificate:
        problems.append("WORKER_ID is not set, and there is no certificate that has the id; set WORKER_ID")
    elif identity and not certificate and not is_id(identity):
        problems.append(
            f"WORKER_ID {identity!r} is invalid; use 1 to 128 letters, digits, dots, underscores or dashes, and "
            "begin with a letter or digit"
        )
    elif not identity and (plain := [url for url in urls if not url.secure]):
        problems.append(
            f"NODE_URL is grpc:// ({plain[0]}), so no certificate is used and WORKER_ID cannot come from it; write "
            "grpcs://, or if the node has no TLS, set WORKER_ID"
        )
    tokens = sts if sts is not None else _switch("WORKER_STS", environ, problems)
    if tokens and not (credentials.token or credentials.certificate):
        problems.append("WORKER_STS needs a credential to exchange; set WORKER_TOKEN, or a certificate and its key")
    if problems:
        raise ConfigError("the worker cannot start: " + "; ".join(problems))
    return Settings(tuple(urls), identity, credentials, tokens)


def _switch(name: str, environ: Mapping[str, str], problems: list[str]) -> bool:
    word = environ.get(name, "").strip().lower()
    if word not in ("", "true", "1", "yes", "on", "false", "0", "no", "off"):
        problems.append(f"{name} must be true or false, not {word[:32]!r}")
    return word in ("true", "1", "yes", "on")


def _file(name: str, given: str | Path | None, environ: Mapping[str, str]) -> Path | None:
    text = given if given is not None else environ.get(name, "")
    return Path(text) if str(text) else None


def _file_problems(ca: Path | None, certificate: Path | None, key: Path | None, *, mounted: bool) -> list[str]:
    wrong: dict[str, str] = {}
    for name, path in (("TLS_CA_PATH", ca), ("TLS_CERT_PATH", certificate)):
        if path and (reason := _unreadable(path) or certificates_problem(path)):
            wrong[name] = reason
    try:
        read_key(key, mounted=mounted)
    except OSError as error:
        wrong["TLS_KEY_PATH"] = str(error)
    good = not wrong.keys() & {"TLS_CERT_PATH", "TLS_KEY_PATH"}
    if certificate and key and good and (reason := key_problem(key, certificate)):
        wrong["TLS_KEY_PATH"] = reason
    return [f"{name}: {reason}" for name, reason in wrong.items()]


def _unreadable(path: Path) -> str | None:
    try:
        path.open("rb").close()
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    return None
