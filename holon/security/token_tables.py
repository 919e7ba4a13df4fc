"""The tokens of one table of a file of clients or workers: `token`, `token_hash` or `tokens`, read strictly."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from holon.security.tokens import HASHED, digest_of
from holon.toml_in import kind_of

KEYS = ("token", "token_hash", "tokens")
MOST = 10
# Its digest is all that is kept of a token, and whoever reads one could try short ones until one fits.
SAFE_LENGTH = 32
# Enough where nobody on another machine can try.
LOOPBACK_LENGTH = 8

_TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True)
class Given:
    """One token of a table.

    Attributes:
        key: where it stands, such as `token`, or `tokens 2`.
        digest: its SHA-256.
        plain: whether it stands there as itself, and not as its hash.
    """

    key: str
    digest: bytes = field(repr=False)
    plain: bool


def read_tokens(
    table: Mapping[str, Any], refuse: Callable[[str, str], None], *, exposed: bool, callers: str
) -> Iterator[Given]:
    """Every good token of a table.

    Arguments:
        refuse: is told what is wrong, by the key and a reason that shows no token.
        exposed: whether callers may come from outside this machine; their tokens are then longer.
        callers: who they are, for the reason.
    """
    least, why = (SAFE_LENGTH, f" if {callers} can connect from other machines") if exposed else (LOOPBACK_LENGTH, "")
    for key in (key for key in KEYS if key in table):
        for where, token in _given(key, table[key], refuse):
            if reason := _problem(key, token, least, why):
                refuse(where, reason)
            elif token.startswith(HASHED):
                yield Given(where, bytes.fromhex(token.removeprefix(HASHED)), False)
            else:
                yield Given(where, digest_of(token), True)


def _given(key: str, given: Any, refuse: Callable[[str, str], None]) -> list[tuple[str, Any]]:
    if key != "tokens":
        return [(key, given)]
    if not isinstance(given, list) or not 1 <= len(given) <= MOST:
        refuse(key, f"must be a list of 1 to {MOST} tokens or hashes of tokens")
        return []
    return [(f"{key} {number}", one) for number, one in enumerate(given, 1)]


def _problem(key: str, token: Any, least: int, why: str) -> str | None:
    if not isinstance(token, str):
        return f"must be text, not {kind_of(token)}"
    if token.startswith(HASHED):
        good = _DIGEST.fullmatch(token.removeprefix(HASHED))
        return None if good else f"must be 64 hexadecimal digits after {HASHED}, as `holon tokens hash` prints them"
    if key == "token_hash":
        return f"must be {HASHED} and 64 hexadecimal digits, as `holon tokens hash` prints them"
    if not _TOKEN.fullmatch(token):
        return "must be 1 to 4096 visible ASCII characters without spaces, so that a header can carry it"
    if len(token) < least:
        return f"has under {least} characters, which is too short{why}; `holon tokens new` makes one"
    return None
