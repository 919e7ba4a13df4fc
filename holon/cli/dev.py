"""The command line: what `serve --dev` makes, and where the other commands find it again."""

from __future__ import annotations

import os
import secrets
import time
import tomllib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from holon.errors import ConfigError

if TYPE_CHECKING:
    from holon.config import Config
    from holon.security.certificates import Authority, KeyPair

CERTS = Path("certs")
FILE = Path(".holon/dev.toml")
BLUEPRINTS = Path("blueprints")
_HOSTS = ("API_HOST", "GRPC_HOST", "CLIENT_GRPC_HOST")
_DAY_MS = 86_400_000
_WHSEC = "whsec_"
_OTHER = "set HOLON_URL, or NODE_URL for a worker"
_ANEW = "remove it and start `holon serve --dev` again"


@dataclass(frozen=True, slots=True)
class Found:
    """What the file of a development node says; None where it says nothing."""

    url: str | None = None
    token: str | None = None
    ca: str | None = None
    webhook_secret: str | None = None
    worker_url: str | None = None
    certs: Path | None = None


def prepare(config: Config) -> None:
    """Fill in what a development node needs: mTLS with certificates of its own, a token, blueprints that are there.

    Webhooks are signed with a secret of its own, and may go to this machine.

    Blocks for reads and writes.

    Raises:
        ConfigError: a door would be open to other machines, the token is short, the certificates cannot be made, or
            another user could have made or changed what is there.
    """
    from holon.security.certificates import open_authority
    from holon.security.token_tables import SAFE_LENGTH

    try:
        str(CERTS.absolute()).encode()
    except UnicodeEncodeError as error:
        raise ConfigError("the path of this folder is not UTF-8; use another folder") from error
    for name in _HOSTS:
        if getattr(config, name) not in ("127.0.0.1", "localhost", "::1"):
            raise ConfigError(
                f"{name}: a node with --dev listens on this machine only; unset it, or serve without --dev"
            )
    if not config.ENABLE_CLIENT_API:
        raise ConfigError("ENABLE_CLIENT_API: a node with --dev serves clients; unset it, or serve without --dev")
    found = read(mounted=config.SECRETS_MOUNTED)
    if not config.CLIENT_TOKEN:
        config.CLIENT_TOKEN = found.token or secrets.token_urlsafe(32)
    if len(config.CLIENT_TOKEN) < SAFE_LENGTH:
        raise ConfigError(
            f"CLIENT_TOKEN is shorter than {SAFE_LENGTH} characters; unset it, or make one with `holon tokens new`"
        )
    authority = open_authority(CERTS, mounted=config.SECRETS_MOUNTED)
    server = server_pair(authority, CERTS)
    config.TLS_CA_PATH = str(authority.files.certificate)
    config.TLS_CERT_PATH = str(server.certificate)
    config.TLS_KEY_PATH = str(server.key)
    if not config.WEBHOOK_SECRET:
        config.WEBHOOK_SECRET = found.webhook_secret or _WHSEC + b64encode(secrets.token_bytes(32)).decode()
    if not config.WEBHOOK_ALLOWED_HOSTS:
        config.WEBHOOK_ALLOWED_HOSTS = "localhost,127.0.0.0/8,::1"
    if not config.BLUEPRINTS_DIR and BLUEPRINTS.is_dir():
        config.BLUEPRINTS_DIR = str(BLUEPRINTS)


def server_pair(authority: Authority, folder: Path, hosts: Sequence[str] = ()) -> KeyPair:
    """The server's certificate in `folder`: the one that is there, when it is good for another day; else a new one.

    Arguments:
        hosts: names that it is to have beside the loopback's; with any, it is made anew.
    Raises:
        ConfigError: it cannot be written.
    """
    from holon.security.certificates import KeyPair, issue_server

    pair = KeyPair(folder / "server.pem", folder / "server.key")
    if not hosts and _is_good(authority, pair):
        return pair
    return issue_server(authority, folder, hosts)


def _is_good(authority: Authority, pair: KeyPair) -> bool:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    from holon.security.tls import TlsPaths, load_server_credentials

    now_ms = time.time_ns() // 1_000_000
    try:
        paths = TlsPaths(str(pair.certificate), str(pair.key), str(authority.files.certificate))
        loaded = load_server_credentials(paths, now_ms)
        x509.load_pem_x509_certificate(loaded.chain).verify_directly_issued_by(authority.certificate)
    except (ConfigError, ValueError, TypeError, InvalidSignature):
        return False
    return loaded.expires_at_ms > now_ms + _DAY_MS


def write(config: Config, http: str, workers: str, clients: str) -> Path:
    """Write where the node's doors are, and the secrets of clients and webhooks, into a file that only its owner reads.

    Returns:
        the file.
    Raises:
        ConfigError: it cannot be written.
    """
    from holon.files import make_folder, write_atomically

    ca = str(Path(config.TLS_CA_PATH).absolute())
    top = {"HOLON_URL": clients, "HOLON_TOKEN": config.CLIENT_TOKEN, "HOLON_CA": ca, "HOLON_HTTP_URL": http}
    top["WEBHOOK_SECRET"] = config.WEBHOOK_SECRET
    worker = {"NODE_URL": workers, "TLS_CA_PATH": ca, "CERTS_DIR": str(CERTS.absolute())}
    text = "\n".join(
        (
            "# Written by `holon serve --dev`; it holds a secret.",
            *_toml(top),
            "",
            "# For `holon worker run`, which makes a certificate of its own with the authority in CERTS_DIR.",
            "[worker]",
            *_toml(worker),
            "",
        )
    )
    try:
        make_folder(FILE.parent)
        write_atomically(FILE, text.encode())
    except OSError as error:
        raise ConfigError(f"{FILE} cannot be written: {error.strerror}") from error
    return FILE


def read(*, mounted: bool | None = None) -> Found:
    """Read the file of the development node of this folder; all of it None when there is none.

    Arguments:
        mounted: what SECRETS_MOUNTED says, for the node itself; None: it is read, for who may name another node.
    Raises:
        ConfigError: it cannot be read, names a node elsewhere or a short token, or another user could have written it.
    """
    from holon.config import Config
    from holon.files import read_private, trust_problem
    from holon.security.token_tables import SAFE_LENGTH

    otherwise = f"; or {_OTHER}" if mounted is None else ""
    mounted = Config().SECRETS_MOUNTED if mounted is None else mounted
    if problem := trust_problem(str(FILE), mounted=mounted, beside=True):
        raise ConfigError(f"{problem}{otherwise}")
    if not os.path.lexists(FILE):
        return Found()
    try:
        text = read_private(str(FILE), mounted=mounted)
    except ValueError as error:
        raise ConfigError(f"{error}{otherwise}") from error
    try:
        content = tomllib.loads(text.decode())
    except ValueError as error:
        raise ConfigError(f"{FILE} cannot be read: {error}; {_ANEW}") from error
    token = _text(content, "HOLON_TOKEN")
    if token is not None and len(token) < SAFE_LENGTH:
        raise ConfigError(f"{FILE}: HOLON_TOKEN is shorter than {SAFE_LENGTH} characters; {_ANEW}")
    worker = content.get("worker")
    certs = _text(worker, "CERTS_DIR")
    return Found(
        url=_of_this_machine(_text(content, "HOLON_URL")),
        token=token,
        ca=_text(content, "HOLON_CA"),
        webhook_secret=_text(content, "WEBHOOK_SECRET"),
        worker_url=_of_this_machine(_text(worker, "NODE_URL")),
        certs=Path(certs) if certs else None,
    )


def _of_this_machine(url: str | None) -> str | None:
    """The address of a node; a folder that somebody else has written must not have tokens sent to his own."""
    from holon.wire.address import parse_url

    try:
        is_ours = url is None or parse_url(url, 0).is_loopback
    except ValueError:
        is_ours = False
    if not is_ours:
        wanted = "remove it, or set HOLON_URL, or NODE_URL for a worker"
        raise ConfigError(f"{FILE} names a node on another machine, but a development node runs on this one; {wanted}")
    return url


def _text(table: Any, name: str) -> str | None:
    value = table.get(name) if isinstance(table, dict) else None
    return value if isinstance(value, str) and value else None


def _toml(pairs: dict[str, str]) -> list[str]:
    # A JSON string is a basic string of TOML too, but for the one control character that JSON may have as it is.
    return [f"{name} = {orjson.dumps(value).decode()}".replace("\x7f", r"\u007f") for name, value in pairs.items()]
