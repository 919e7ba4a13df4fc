"""`workers.toml`: read strictly. All that is wrong is reported, by table and key, and then nothing of it is used."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import Any

from holon.errors import ConfigError, Violation
from holon.files import read_private, read_public
from holon.security.globs import overlap, weight
from holon.security.identity import is_identity
from holon.security.token_tables import KEYS, read_tokens
from holon.security.tokens import digest_of
from holon.security.worker_rules import Revocation, Rule, WorkerRules

SETTING = "WORKERS_CONFIG_PATH"
# The one name at the top that is no worker.
REVOKED = "revoked"
HOLON = "holon"
KINDS = ("worker", HOLON)
_PROVING = frozenset({*KEYS, "cn", "spiffe"})
# Each is compared with each of the others, and tried on whoever has no table of its own.
MAX_PATTERNS = 256
_THUMBPRINT = re.compile(r"[0-9A-Fa-f]{64}|[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){31}")
_SERIAL = re.compile(r"[0-9A-Fa-f]{1,40}|[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){0,19}")


def load_workers(
    path: str, shared: str = "", *, exposed: bool = True, mounted: bool = False, certificates: bool = True
) -> WorkerRules:
    """Read the file. Blocks for it.

    Arguments:
        shared: the token that workers share, which none may have as its own; empty: there is none.
        exposed: workers may come from outside this machine, so that no token may be short.
        mounted: the file is mounted, as by Kubernetes; see `read_private`.
        certificates: whether there is a door where workers show certificates; without, only a token proves a worker.
    Raises:
        ConfigError: all that is wrong with it; the details name table and key.
    """
    try:
        text = read_public(path)
        try:
            text = read_private(path, mounted=mounted)
            open_reason = ""
        except ValueError as error:
            # That matters only where it holds a secret.
            open_reason = str(error)
    except ValueError as error:
        raise ConfigError(f"{SETTING}: {error}", details=[Violation(SETTING, str(error))]) from error
    return _Reading(path, shared, open_reason, exposed=exposed, certificates=certificates).rules(text)


class _Reading:
    """One reading of one file: what is wrong with it collects here."""

    def __init__(self, path: str, shared: str, open_reason: str, *, exposed: bool, certificates: bool) -> None:
        self._path = path
        self._exposed = exposed
        self._certificates = certificates
        self._shared = digest_of(shared) if shared else None
        # Why the file may hold no secret; empty: it may.
        self._open_reason = open_reason
        self._problems: list[Violation] = []
        self._holders: dict[bytes, str] = {} if self._shared is None else {self._shared: "GLOBAL_WORKER_TOKEN"}

    def rules(self, text: bytes) -> WorkerRules:
        tables = self._tables(text)
        rules = [self._rule(name, table) for name, table in tables.items() if name != REVOKED]
        revoked = self._revoked(tables.get(REVOKED, []))
        self._compare([rule.name for rule in rules if rule.is_pattern])
        if self._problems:
            raise _wrong(self._path, self._problems)
        return WorkerRules(rules, revoked)

    def _tables(self, text: bytes) -> Mapping[str, Any]:
        try:
            return tomllib.loads(text.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            # What it says of a value shows none of it.
            reason = f"is not valid TOML: {'it is nested too deeply' if isinstance(error, RecursionError) else error}"
            raise _wrong(self._path, [Violation("", reason)]) from error

    def _add(self, where: str, reason: str) -> None:
        self._problems.append(Violation(where, reason))

    # Workers ----------------------------------------------------------------------------------------------------------

    def _rule(self, name: str, table: object) -> Rule:
        where = f"[{_quoted(name)}]"
        before = len(self._problems)
        if not is_identity(name.replace("*", "a").replace("?", "a")):
            self._add(
                where,
                "is not a valid worker id; use 1 to 253 letters, digits or characters of . _ : / - (in a pattern "
                "also * and ?)",
            )
        if not isinstance(table, dict):
            self._add(where, "is not a table; only [[revoked]] may be something else")
            return Rule(name)
        known: dict[str, Callable[[str, Any], None]] = {
            "cn": self._check_name,
            "spiffe": self._check_name,
            "replicas": self._check_switch,
            "kind": self._check_kind,
        }
        for key, value in table.items():
            if key in known:
                known[key](f"{where} {key}", value)
            elif key in KEYS:
                continue
            elif isinstance(value, dict):
                self._add(
                    f"{where} {key}",
                    f'is a table in a table; if the dot belongs to the worker id, quote it: ["{name}.{key}"]',
                )
            else:
                self._add(f"{where} {key}", f"is not a known key; use {', '.join((*KEYS, *known))}")
        if len(self._problems) == before and not table.keys() & _PROVING:
            if table.get("kind") == HOLON:
                self._add(where, f"is a holon without credentials; add cn, spiffe, or {', '.join(KEYS)}")
            elif not self._certificates:
                self._add(
                    where, f"has no token, but workers authenticate only with tokens here; add one of {', '.join(KEYS)}"
                )
        tokens = self._tokens(where, table)
        if len(self._problems) > before:
            return Rule(name)
        if table.get("kind") == HOLON and table.get("replicas"):
            self._add(where, "is a holon with replicas; all nodes of a holon are one worker, so remove replicas")
        return Rule(
            name,
            tokens,
            table.get("cn"),
            table.get("spiffe"),
            table.get("replicas", False),
            table.get("kind") == HOLON,
        )

    def _tokens(self, where: str, table: Mapping[str, Any]) -> frozenset[bytes]:
        def refuse(key: str, reason: str) -> None:
            self._add(f"{where} {key}".strip(), reason)

        if len(table.keys() & KEYS) > 1:
            refuse("", f"has several of {', '.join(KEYS)}; keep one")
        digests = set()
        for given in read_tokens(table, refuse, exposed=self._exposed, callers="workers"):
            if given.plain and self._open_reason:
                refuse(given.key, f"is a secret, and {self._open_reason}; or use a token_hash")
            if (holder := self._holders.setdefault(given.digest, where)) != where:
                refuse(given.key, f"is also the token of {holder}; each worker has its own, or none")
            digests.add(given.digest)
        return frozenset(digests)

    def _check_name(self, where: str, value: object) -> None:
        if not isinstance(value, str) or not is_identity(value.replace("*", "a").replace("?", "a")):
            self._add(
                where, "must be text of 1 to 253 letters, digits or characters of . _ : / - (in a pattern also * and ?)"
            )
        elif where.endswith(" spiffe") and not value.startswith("spiffe://"):
            self._add(where, "must begin with spiffe://")

    def _check_switch(self, where: str, value: object) -> None:
        if not isinstance(value, bool):
            self._add(where, "must be true or false")

    def _check_kind(self, where: str, value: object) -> None:
        if value not in KINDS:
            self._add(where, f"must be one of {', '.join(KINDS)}")

    def _compare(self, patterns: list[str]) -> None:
        if len(patterns) > MAX_PATTERNS:
            self._add("", f"has {len(patterns)} patterns, over the limit of {MAX_PATTERNS}")
            return
        for one, other in combinations(patterns, 2):
            if weight(one) == weight(other) and overlap(one, other):
                self._add(
                    f"[{_quoted(other)}]",
                    f"is as specific as [{_quoted(one)}], and both match some ids; make one more specific",
                )

    # What is revoked --------------------------------------------------------------------------------------------------

    def _revoked(self, entries: object) -> Revocation:
        if not isinstance(entries, list):
            self._add(f"[{REVOKED}]", f"must be a list: write [[{REVOKED}]]. A worker cannot have this id")
            return Revocation()
        workers, thumbprints, serials = set(), set(), set()
        for number, entry in enumerate(entries, 1):
            where = f"[[{REVOKED}]] {number}"
            if not isinstance(entry, dict):
                self._add(where, "is not a table")
                continue
            before = len(self._problems)
            self._problems += _revocation_problems(where, entry)
            if len(self._problems) > before:
                continue
            if "worker" in entry:
                workers.add(entry["worker"])
            elif "thumbprint" in entry:
                thumbprints.add(bytes.fromhex(entry["thumbprint"].replace(":", "")))
            else:
                serials.add((entry["issuer"], int(entry["serial"].replace(":", ""), 16)))
        return Revocation(frozenset(workers), frozenset(thumbprints), frozenset(serials))


def _revocation_problems(where: str, entry: Mapping[str, Any]) -> Iterator[Violation]:
    kinds = ({"worker"}, {"thumbprint"}, {"issuer", "serial"})
    if set(entry) - {"reason"} not in kinds:
        yield Violation(where, "needs worker, or thumbprint, or issuer and serial; reason is optional")
        return
    for key, value in entry.items():
        if not isinstance(value, str) or not value:
            yield Violation(f"{where} {key}", "must be text")
        elif key == "worker" and not is_identity(value.replace("*", "a").replace("?", "a")):
            yield Violation(f"{where} worker", "is not a worker id or a pattern of worker ids")
        elif key == "thumbprint" and not _THUMBPRINT.fullmatch(value):
            yield Violation(f"{where} thumbprint", "must be the SHA-256 of the certificate, in 64 hexadecimal digits")
        elif key == "serial" and not _SERIAL.fullmatch(value):
            yield Violation(f"{where} serial", "must be the serial number of the certificate, in hexadecimal")


def _quoted(name: str) -> str:
    """A table's name as the file has it; of a name that is none only the beginning is shown."""
    shown = name[:64]
    return shown if re.fullmatch(r"[A-Za-z0-9_-]+", shown) else f'"{ascii(shown)[1:-1]}"'


def _wrong(path: str, problems: list[Violation]) -> ConfigError:
    details = [Violation(f"{path} {one.field}".strip(), one.reason) for one in problems]
    lines = "\n".join(f"  {one.field}: {one.reason}" for one in details)
    return ConfigError(f"the file of {SETTING} cannot be used; change these places:\n{lines}", details=details)
