"""HISTORY_DATABASE_URI: where history is kept, if not in the store."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from holon.config import postgres_uri
from holon.config.values import sqlite_instead
from holon.errors import ConfigError, Violation

_FORMS = "use postgresql://user:password@host/database, or sqlite:///path/to/file.db"


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
        if parts.scheme in postgres_uri.SCHEMES:
            if not postgres_uri.names_database(parts):
                raise _wrong(postgres_uri.HOW_TO_WRITE)
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
        return postgres_uri.tls_files(self.postgres)


def _wrong(reason: str) -> ConfigError:
    return ConfigError(f"HISTORY_DATABASE_URI {reason}", details=[Violation("HISTORY_DATABASE_URI", reason)])
