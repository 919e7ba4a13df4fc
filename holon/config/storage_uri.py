"""STORAGE_URI: which store a node uses, and where it is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from holon.config import postgres_uri
from holon.config.values import has_port, sqlite_instead
from holon.errors import ConfigError, Violation

_SYNCHRONOUS = ("FULL", "NORMAL")
_SENTINELS = ("redis+sentinel", "rediss+sentinel")
_HOSTS = re.compile(r"(?:[^@]*@)?[^,@/]+(?:,[^,@/]+)*")
_CLUSTERS = ("redis+cluster", "rediss+cluster")
_TLS = ("rediss", "rediss+sentinel", "rediss+cluster")
_REDIS = ("redis", "rediss", "unix", *_SENTINELS, *_CLUSTERS)
_SERVICE = re.compile(r"/[^/]+(?:/[0-9]+)?")
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_FORMS = (
    "sqlite:///path/to/file.db, redis://host:6379/0, rediss://host:6379/0, unix:///path/to/socket, "
    "redis+sentinel://host:26379/service, redis+cluster://host:6379, postgresql://user:password@host/database or "
    "memory://"
)


@dataclass(frozen=True, slots=True)
class StorageURI:
    """A parsed STORAGE_URI.

    Attributes:
        scheme: "sqlite", "memory", "redis" or "postgresql".
        path: the database file; None for others than SQLite.
        synchronous: "FULL" (a commit survives a power cut) or "NORMAL" (it survives a crash of the process).
        server: the Redis server, as its client library takes it; empty for others. It may hold a password.
        replicas: how many replicas must have a call before it is answered.
        synced: whether it must be on the disk too, there and at the server itself.
        postgres: the whole URI of a PostgreSQL database, with its password; empty for others.
    """

    scheme: str
    path: Path | None = None
    synchronous: str = "FULL"
    server: str = field(default="", repr=False)
    replicas: int = 0
    synced: bool = False
    postgres: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: str) -> StorageURI:
        """Read a URI: `memory://`; `sqlite:///relative.db`, `sqlite:////absolute.db`, with `?synchronous=FULL|NORMAL`;
        `redis://`, `rediss://`, `unix://`, and `+sentinel` or `+cluster` behind the first two, with
        `?replicas=N` and `?synced=true`; `postgresql://`.

        Raises:
            ConfigError: the text names no store of this version; the message says which forms there are.
        """
        try:
            parts = urlsplit(text)
        except ValueError:
            # What the parser says may show the part with the password.
            raise _wrong("is not a URI; percent-encode special characters in its parts") from None
        if parts.scheme == "memory":
            if text != "memory://":
                raise _wrong("memory:// takes no path and no options")
            return cls("memory")
        if parts.scheme in _REDIS:
            return _redis(parts)
        if parts.scheme in postgres_uri.SCHEMES:
            if not postgres_uri.names_database(parts):
                raise _wrong(postgres_uri.HOW_TO_WRITE)
            return cls("postgresql", postgres=text)
        if parts.scheme != "sqlite":
            raise _wrong(f"{parts.scheme or 'no scheme'!r} is not a store of this version; use {_FORMS}")
        if instead := sqlite_instead(text):
            raise _wrong(f"the path of a SQLite file follows three or four slashes; {instead}")
        path = unquote(parts.path.removeprefix("/"))
        if parts.netloc or not path or parts.fragment or "\0" in path:
            raise _wrong("a SQLite file is sqlite:///relative.db or sqlite:////absolute.db, with three or four slashes")
        return cls("sqlite", Path(path), _synchronous(parts.query))

    @property
    def tls_files(self) -> list[tuple[str, str]]:
        """The files that the client library reads to speak TLS, each with the option that names it."""
        if self.postgres:
            return postgres_uri.tls_files(self.postgres)
        options = parse_qsl(urlsplit(self.server).query, keep_blank_values=True)
        return [(name, path) for name, path in options if name in _TLS_FILES]


def is_redis(text: str) -> bool:
    """Whether a URI, right or wrong, is one of Redis."""
    return text.partition("://")[0] in _REDIS


def has_open_options(text: str) -> bool:
    """Whether a URI names a store whose options are known, and none is secret; PostgreSQL takes passwords there."""
    try:
        return not StorageURI.parse(text).postgres
    except ConfigError:
        return False


def _synchronous(query: str) -> str:
    chosen = _SYNCHRONOUS[0]
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key != "synchronous":
            raise _wrong(f"unknown option {key!r}; sqlite takes synchronous=FULL or synchronous=NORMAL")
        if value.upper() not in _SYNCHRONOUS:
            raise _wrong(f"synchronous must be FULL or NORMAL, not {value!r}")
        chosen = value.upper()
    return chosen


def _redis(parts: SplitResult) -> StorageURI:
    socket = parts.scheme == "unix"
    if parts.fragment or not _names_a_server(parts):
        raise _wrong(
            "write a Redis as redis://[user:password@]host[:port][/database], where the database is a number, as "
            "unix:///path/to/socket, as redis+sentinel://[user:password@]host:port,.../service[/database], or as "
            "redis+cluster://[user:password@]host:port,..., which has no database; rediss is the same over TLS"
        )
    replicas, synced, kept = 0, False, []
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key == "replicas" and value.isdecimal():
            replicas = int(value)
        elif key == "synced" and value in ("true", "false"):
            synced = value == "true"
        elif (key == "db" and socket and value.isdecimal()) or (key in _TLS_FILES and parts.scheme in _TLS):
            kept.append(f"{key}={quote(value)}")
        else:
            # Not shown: what is special in a password, and not percent-encoded, makes an option of the rest of it.
            raise _wrong(
                f"{parts.scheme}:// has an unknown option, or an option with an invalid value. Options are "
                f"replicas=NUMBER, synced=true, db=NUMBER for a socket, and for rediss {', '.join(_TLS_FILES)}, each "
                "with a file"
            )
    server = f"{parts.scheme}://{parts.netloc}{parts.path}" + (f"?{'&'.join(kept)}" if kept else "")
    return StorageURI("redis", server=server, replicas=replicas, synced=synced)


def _names_a_server(parts: SplitResult) -> bool:
    if not all(has_port(f"//{host}") for host in parts.netloc.rpartition("@")[2].split(",")):
        return False
    if parts.scheme in _SENTINELS:
        return bool(_HOSTS.fullmatch(parts.netloc) and _SERVICE.fullmatch(parts.path))
    if parts.scheme in _CLUSTERS:
        return bool(_HOSTS.fullmatch(parts.netloc)) and parts.path in ("", "/")
    path = parts.path.removeprefix("/")
    if parts.scheme == "unix":
        # A / in a password, not percent-encoded, makes a path of the rest of it.
        return bool(path) and ("@" in parts.netloc or not parts.netloc)
    return bool(parts.hostname) and (path or "0").isdecimal()


def _wrong(reason: str) -> ConfigError:
    return ConfigError(f"STORAGE_URI: {reason}", details=[Violation("STORAGE_URI", reason)])
