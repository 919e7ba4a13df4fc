"""HISTORY_DATABASE_URI: where history is kept, if not in the store."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from holon.config.values import has_port, sqlite_instead
from holon.errors import ConfigError, Violation

_TLS_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_FORMS = "use postgresql://user:password@host/database, or sqlite:///path/to/file.db"
_NO_POSTGRES = (
    "is not a PostgreSQL URI; write postgresql://user:password@host:port/database, and percent-encode special "
    "characters in its parts"
)


@dataclass(frozen=True, slots=True)
class HistoryURI:
    """A parsed HISTORY_DATABASE_URI; neither is set when history stays in the store.

    Attributes:
        path: the SQLite file, or None.
        postgres: the whole URI of a PostgreSQL database, with its password, or empty.
    """

    path: Path | None = None
    postgres: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: str) -> HistoryURI:
        """Read `sqlite:///relative.db`, `sqlite:////absolute.db`, `postgresql://…`, or nothing.

        Raises:
            ConfigError: the text names no database of these kinds; the message never shows it.
        """
        if not text:
            return cls()
        try:
            parts = urlsplit(text)
        except ValueError:
            # What the parser says may show the part with the password.
            raise _wrong(f"is not a URI; {_FORMS}") from None
        if parts.scheme in ("postgresql", "postgres"):
            # A / or # in a password, not percent-encoded, ends the part that names the host.
            strays = parts.fragment or ("@" in parts.path and "@" not in parts.netloc)
            if strays or not all(has_port(f"//{host}") for host in parts.netloc.rpartition("@")[2].split(",")):
                raise _wrong(_NO_POSTGRES)
            return cls(postgres=text)
        if parts.scheme != "sqlite":
            raise _wrong(f"is not a database for history; {_FORMS}")
        if instead := sqlite_instead(text):
            raise _wrong(f"has too few slashes before the path of the SQLite file; {instead}")
        path = unquote(parts.path.removeprefix("/"))
        if parts.netloc or not path or parts.query or parts.fragment or "\0" in path:
            raise _wrong("must be sqlite:///relative.db or sqlite:////absolute.db, without options")
        return cls(Path(path))

    @property
    def tls_files(self) -> list[tuple[str, str]]:
        """The files that asyncpg reads to speak TLS, each with the option that names it."""
        options = parse_qsl(urlsplit(self.postgres).query, keep_blank_values=True)
        return [(name, path) for name, path in options if name in _TLS_FILES]


def _wrong(reason: str) -> ConfigError:
    return ConfigError(f"HISTORY_DATABASE_URI {reason}", details=[Violation("HISTORY_DATABASE_URI", reason)])
