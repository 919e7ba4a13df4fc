"""clients.toml with anything in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holon.errors import ConfigError
from holon.security.clients import Entry
from holon.security.clients_file import Wanted, read_clients
from holon.security.tokens import hashed

TOKEN = "a-token-of-more-than-thirty-two-characters"


TEXTS = ('""', '"x"', f'"{TOKEN}"', f'"{hashed(TOKEN)}"', '"\\u0000"', '"\\U0010ffff"', "'''\n\n'''")
OTHERS = ("1", "-1", "0x10", "1e999", "nan", "true", "9999999999999999999", "2026-11-24", "10:00:00")
VALUES = st.recursive(
    st.sampled_from((*TEXTS, *OTHERS)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda some: f"[{', '.join(some)}]"),
        st.lists(inner, max_size=2).map(lambda some: f"{{{', '.join(f'k{n} = {v}' for n, v in enumerate(some))}}}"),
    ),
    max_leaves=6,
)
KEYS = st.sampled_from(("token", "token_hash", "tokens", "plan", "monthly_attempts", "roles", "params", "x", '"a b"'))
TABLES = st.tuples(st.sampled_from(("[a]", '["\\u0000"]', "[a.b]", "[[a]]", "[b]", "")), st.dictionaries(KEYS, VALUES))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "clients.toml"
    path.touch(0o600)
    return path


def outcome(file: Path, content: bytes) -> list[Entry] | ConfigError:
    file.write_bytes(content)
    try:
        return read_clients(str(file), Wanted())
    except ConfigError as error:
        return error


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.one_of(st.binary(max_size=60), st.lists(TABLES, max_size=3)))
def test_any_file_is_taken_or_refused_with_where_and_why(file: Path, content: bytes | list[tuple[str, Any]]) -> None:
    if not isinstance(content, bytes):
        lines = [line for head, table in content for line in (head, *(f"{key} = {table[key]}" for key in table))]
        content = "\n".join(lines).encode()
    found = outcome(file, content)
    if isinstance(found, ConfigError):
        assert found.details
        assert all(one.field and one.reason for one in found.details)
        assert TOKEN not in found.message
    else:
        assert all(entry.digests and entry.client.name for entry in found)
