"""STORAGE_URI: which store a node uses, and where it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from holon.errors import ConfigError, Violation

_SYNCHRONOUS = ("FULL", "NORMAL")


@dataclass(frozen=True, slots=True)
class StorageURI:
    """A parsed STORAGE_URI.

    Attributes:
        scheme: "sqlite" or "memory".
        path: the database file; None for memory.
        synchronous: "FULL" (a commit survives a power cut) or "NORMAL" (it survives a crash of the process).
    """

    scheme: str
    path: Path | None = None
    synchronous: str = "FULL"

    @classmethod
    def parse(cls, text: str) -> StorageURI:
        """Read `memory://` or `sqlite:///relative.db`, `sqlite:////absolute.db`, with `?synchronous=FULL|NORMAL`.

        Raises:
            ConfigError: the text names no store of this version; the message says which forms there are.
        """
        parts = urlsplit(text)
        if parts.scheme == "memory":
            if text != "memory://":
                raise _wrong("memory:// takes neither a path nor options")
            return cls("memory")
        if parts.scheme != "sqlite":
            scheme = parts.scheme or text
            raise _wrong(f"{scheme!r} is no store of this version; use sqlite:///path/to/file.db or memory://")
        path = unquote(parts.path.removeprefix("/"))
        if parts.netloc or not path or parts.fragment or "\0" in path:
            raise _wrong("a SQLite file is sqlite:///relative.db or sqlite:////absolute.db, with three or four slashes")
        return cls("sqlite", Path(path), _synchronous(parts.query))


def _synchronous(query: str) -> str:
    chosen = _SYNCHRONOUS[0]
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key != "synchronous":
            raise _wrong(f"unknown option {key!r}; sqlite takes synchronous=FULL or synchronous=NORMAL")
        if value.upper() not in _SYNCHRONOUS:
            raise _wrong(f"synchronous is FULL or NORMAL, not {value!r}")
        chosen = value.upper()
    return chosen


def _wrong(reason: str) -> ConfigError:
    return ConfigError(f"STORAGE_URI: {reason}", details=[Violation("STORAGE_URI", reason)])
