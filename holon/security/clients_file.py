"""`clients.toml`: who the clients are, read strictly. What is wrong is told all at once, by file, table and key.

[shop]
token = "sha256:…"          # or the token itself; `tokens = […]` for several, such as while one takes another's place
plan = "gold"
monthly_attempts = 10000
roles = ["admin"]
region = "eu"               # any other key is for handlers, and so is what is in the table `params`
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from holon.domain.client import DEFAULT, NO_PLAN, ROLES, Client
from holon.errors import ConfigError, Violation
from holon.files import read_private
from holon.security.clients import Entry
from holon.security.token_tables import KEYS, read_tokens
from holon.toml_in import kind_of, parse, problems, shown

MOST_CLIENTS = 10_000
MOST_ATTEMPTS = 10**15
# What handlers are given of a client is stored with each of its jobs.
MOST_PARAMS_BYTES = 16 * 1024

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PLAN = re.compile(r"[ -~]{1,64}")
_OWN_KEYS = (*KEYS, "plan", "monthly_attempts", "roles", "params")
_NEAR = 0.8


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a file of clients must fulfil.

    Attributes:
        exposed: clients may come from outside this machine, so that no token may be short.
        mounted: the file is mounted, as by Kubernetes; see `read_private`.
        taken: tokens that are somebody's already, by their digests.
        names: clients that are known without the file.
    """

    exposed: bool = False
    mounted: bool = False
    taken: frozenset[bytes] = frozenset()
    names: frozenset[str] = frozenset()


def read_clients(path: str, wanted: Wanted) -> list[Entry]:
    """Read the file and check all of it. Blocks for the read.

    Raises:
        ConfigError: it cannot be read, or something in it is wrong; no message holds a token.
    """
    wrong: list[Violation] = []
    tables = _tables(path, wanted.mounted, wrong)
    owners = dict.fromkeys(wanted.taken, "")
    entries = []
    for name, table in tables.items():
        reader = _Reader(f"{path} [{shown(name)}]", table, wanted.exposed, wrong)
        entry = reader.entry(name, wanted.names)
        for digest in entry.digests:
            if digest in owners:
                reader.refuse(
                    "token",
                    f"is also the token of {f'[{owners[digest]}]' if owners[digest] else 'CLIENT_TOKEN'}; use another",
                )
            owners[digest] = name
        entries.append(entry)
    if wrong:
        lines = "\n".join(f"  {one.field}: {one.reason}" for one in wrong)
        raise ConfigError(f"the clients' file cannot be used; change these places:\n{lines}", details=wrong)
    return entries


def _tables(path: str, mounted: bool, wrong: list[Violation]) -> Mapping[str, Mapping[str, Any]]:
    try:
        content = parse(read_private(path, mounted=mounted))
    except ConfigError as error:
        wrong.append(Violation(path, error.message))
        return {}
    except ValueError as error:
        # It says which file it is of.
        wrong.append(Violation("CLIENTS_CONFIG_PATH", str(error)))
        return {}
    tables = {}
    for name, table in content.items():
        if isinstance(table, dict):
            tables[name] = table
        else:
            wrong.append(Violation(f"{path} {shown(name)}", "is outside a table; each client needs a table, [name]"))
    if not content:
        wrong.append(Violation(path, "has no client; without one, the node refuses every call"))
    if len(tables) > MOST_CLIENTS:
        wrong.append(Violation(path, f"has {len(tables)} clients, over the limit of {MOST_CLIENTS}"))
    return tables


class _Reader:
    """Reads one client's table."""

    def __init__(self, where: str, table: Mapping[str, Any], exposed: bool, wrong: list[Violation]) -> None:
        self._where = where
        self._table = table
        self._exposed = exposed
        self._wrong = wrong

    def refuse(self, key: str, reason: str) -> None:
        self._wrong.append(Violation(f"{self._where} {shown(key)}".strip(), reason))

    def entry(self, name: str, names: frozenset[str]) -> Entry:
        if not _NAME.fullmatch(name):
            self.refuse("", "is not a valid client name; use 1 to 64 letters, digits, dots, dashes and underscores")
        elif name in names:
            self.refuse("", f"is the client of CLIENT_TOKEN; unset CLIENT_TOKEN, or use another name than {DEFAULT!r}")
        digests = frozenset(self._digests())
        client = Client(name, self._plan(), self._params(), self._monthly_attempts(), self._roles())
        return Entry(client, digests)

    def _digests(self) -> Iterator[bytes]:
        if not self._table.keys() & KEYS:
            self.refuse("token", "is missing; `holon tokens new` makes one")
        for given in read_tokens(self._table, self.refuse, exposed=self._exposed, callers="clients"):
            yield given.digest

    def _plan(self) -> str:
        plan = self._table.get("plan", NO_PLAN)
        if isinstance(plan, str) and _PLAN.fullmatch(plan):
            return plan
        self.refuse("plan", "must be 1 to 64 printable ASCII characters")
        return NO_PLAN

    def _monthly_attempts(self) -> int | None:
        most = self._table.get("monthly_attempts")
        if most is None or (isinstance(most, int) and not isinstance(most, bool) and 0 <= most <= MOST_ATTEMPTS):
            return most
        self.refuse("monthly_attempts", f"must be a whole number of jobs a month, from 0 to {MOST_ATTEMPTS}")
        return None

    def _roles(self) -> frozenset[str]:
        roles = self._table.get("roles", [])
        if isinstance(roles, list) and all(isinstance(one, str) and one in ROLES for one in roles):
            return frozenset(roles)
        self.refuse("roles", f"must be a list of roles: {', '.join(sorted(ROLES))}")
        return frozenset()

    def _params(self) -> bytes:
        params = dict(self._others())
        table = self._table.get("params", {})
        if not isinstance(table, dict):
            self.refuse("params", f"must be a table, not {kind_of(table)}")
            table = {}
        for key in table.keys() & params.keys():
            self.refuse(key, "is also in the table `params`; remove one of them")
        params |= table
        bad = False
        for key, value in params.items():
            for where, reason in problems(value, f"params.{key}" if key in table else key):
                self.refuse(where, reason)
                bad = True
        text = b"" if bad or not params else orjson.dumps(params)
        if len(text) > MOST_PARAMS_BYTES:
            self.refuse(
                "params",
                f"has {len(text)} bytes as JSON, with the other own fields, over the limit of {MOST_PARAMS_BYTES}",
            )
        return text

    def _others(self) -> Iterator[tuple[str, Any]]:
        """What is not the node's own. A misspelt key would be lost there, and a token shown to handlers."""
        for key, value in self._table.items():
            if key in _OWN_KEYS:
                continue
            near = difflib.get_close_matches(key.lower(), _OWN_KEYS, n=1, cutoff=_NEAR)
            if near or key.lower().startswith("token"):
                meant = near[0] if near else "token"
                self.refuse(
                    key, f"is unknown; did you mean {meant!r}? If it is a field of your own, put it into `params`"
                )
            else:
                yield key, value
