"""URIs of PostgreSQL databases, as asyncpg takes them."""

from __future__ import annotations

from urllib.parse import SplitResult, parse_qsl, urlsplit

from holon.config.values import has_port

SCHEMES = ("postgresql", "postgres")
HOW_TO_WRITE = (
    "is not a PostgreSQL URI; write postgresql://user:password@host:port/database, and percent-encode special "
    "characters in its parts"
)
_TLS_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")


def names_database(parts: SplitResult) -> bool:
    """Whether a URI with one of these schemes has its parts where they belong."""
    # A / or # in a password, not percent-encoded, ends the part that names the host.
    strays = parts.fragment or ("@" in parts.path and "@" not in parts.netloc)
    return not strays and all(has_port(f"//{host}") for host in parts.netloc.rpartition("@")[2].split(","))


def tls_files(uri: str) -> list[tuple[str, str]]:
    """The files that asyncpg reads to speak TLS, each with the option that names it."""
    options = parse_qsl(urlsplit(uri).query, keep_blank_values=True)
    return [(name, path) for name, path in options if name in _TLS_FILES]
