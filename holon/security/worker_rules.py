"""Who may act as which worker: what `workers.toml` says of a worker's id, or of all ids that a pattern stands for."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cryptography import x509

from holon.security.globs import is_glob, matches, weight
from holon.security.identity import Identity

# What tells the replicas of a worker apart.
_SUFFIX = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Rule:
    """What proves the ids that one table of the file is about.

    Attributes:
        name: a worker's id, or a pattern of ids.
        tokens: the digests of the tokens that all of them may present; none: they have none of their own.
        cn: what the common name of a certificate must be, as it is or as a pattern.
        spiffe: what its SPIFFE id must be.
        replicas: whether `<id>.<suffix>` may be claimed with what proves `<id>`.
        holon: whether it is about a holon that serves this one, and not about workers.
    """

    name: str
    tokens: frozenset[bytes] = field(default=frozenset(), repr=False)
    cn: str | None = None
    spiffe: str | None = None
    replicas: bool = False
    holon: bool = False

    @property
    def is_pattern(self) -> bool:
        """Whether it is about more than one worker."""
        return is_glob(self.name)

    @property
    def certified(self) -> bool:
        """Whether it says which certificates its workers present."""
        return self.cn is not None or self.spiffe is not None

    def names(self, identity: Identity) -> bool:
        """Whether it names this certificate's identity."""
        pattern = self.spiffe if identity.spiffe else self.cn
        return pattern is not None and matches(pattern, identity.name)


@dataclass(frozen=True, slots=True)
class Revocation:
    """What is no longer let in: certificates, or workers by id. The file's `[[revoked]]`.

    Attributes:
        workers: ids, or patterns of ids.
        thumbprints: SHA-256 of certificates.
        serials: certificates by their issuer, as RFC 4514 writes it, and their serial number.
    """

    workers: frozenset[str] = frozenset()
    thumbprints: frozenset[bytes] = frozenset()
    serials: frozenset[tuple[str, int]] = frozenset()
    _patterns: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_patterns", frozenset(filter(is_glob, self.workers)))

    def names(self, certificate: x509.Certificate, thumbprint: bytes) -> bool:
        """Whether this certificate is revoked."""
        if thumbprint in self.thumbprints:
            return True
        return bool(self.serials) and (certificate.issuer.rfc4514_string(), certificate.serial_number) in self.serials

    def names_worker(self, worker_ids: Iterable[str]) -> bool:
        """Whether one of these ids is revoked."""
        ids = tuple(worker_ids)
        # Of those that are gone there may be thousands, and whoever is there is looked at again and again.
        return not self.workers.isdisjoint(ids) or any(matches(one, name) for one in self._patterns for name in ids)


@dataclass(frozen=True, slots=True)
class Standing:
    """What must be proven to be a worker of some id.

    Attributes:
        rule: the table that is about it; None: none is.
        ids: the ids of which one must be proven; more than its own where it may be a replica.
    """

    rule: Rule | None
    ids: tuple[str, ...]

    def allows_certificate(self, identity: Identity) -> bool:
        """Whether this certificate proves it: one that the rule names; without such a rule, one of that very name."""
        if self.rule is not None and self.rule.certified:
            return self.rule.names(identity)
        return identity.name in self.ids

    def allows_token(self, digest: bytes, shared: bytes | None) -> bool:
        """Whether the token of this digest proves it; `shared` is as in `tokens`."""
        return any(hmac.compare_digest(expected, digest) for expected in self.tokens(shared))

    def tokens(self, shared: bytes | None) -> frozenset[bytes]:
        """The digests of the tokens that prove it: its table's own. The shared token proves an id without a table.

        Arguments:
            shared: the digest of the token that workers share; None: there is none.
        """
        if self.rule is not None:
            return self.rule.tokens
        return frozenset() if shared is None else frozenset({shared})


class WorkerRules:
    """All of the file. An id's own table counts before those of patterns, and a narrower pattern before a wider one.

    Arguments:
        rules: no two of the same name, none that could both be the narrowest for one id.
        revoked: who is not let in, whatever they prove.
    """

    def __init__(self, rules: Iterable[Rule] = (), revoked: Revocation | None = None) -> None:
        every = tuple(rules)
        self.revoked = revoked or Revocation()
        self._exact: Mapping[str, Rule] = {rule.name: rule for rule in every if not rule.is_pattern}
        self._globs = sorted((rule for rule in every if rule.is_pattern), key=lambda rule: -weight(rule.name))
        self._tokens: Mapping[bytes, Rule] = {token: rule for rule in every for token in rule.tokens}
        # Those of workers, by what their certificate is called, and whether that is a SPIFFE id; and those of patterns.
        self._named: dict[tuple[bool, str], list[Rule]] = {}
        self._matched: list[Rule] = []
        for rule in self._exact.values():
            names = [(spiffe, name) for spiffe, name in ((False, rule.cn), (True, rule.spiffe)) if name is not None]
            if any(is_glob(name) for _, name in names):
                self._matched.append(rule)
            else:
                for key in names:
                    self._named.setdefault(key, []).append(rule)

    def __repr__(self) -> str:
        return f"WorkerRules(workers={len(self._exact)}, patterns={len(self._globs)})"

    @property
    def has_tokens(self) -> bool:
        """Whether any worker has a token of its own."""
        return bool(self._tokens)

    def standing(self, worker_id: str) -> Standing:
        """What must be proven to be the worker of this id."""
        if (own := self._exact.get(worker_id)) is not None:
            return Standing(own, (worker_id,))
        base, _, suffix = worker_id.rpartition(".")
        if not _SUFFIX.fullmatch(suffix):
            base = ""
        if base and (rule := self._exact.get(base)) is not None and rule.replicas:
            return Standing(rule, (base,))
        for rule in self._globs:
            ids = (worker_id, base) if rule.replicas and base else (worker_id,)
            proving = tuple(one for one in ids if matches(rule.name, one))
            if proving:
                return Standing(rule, proving)
        return Standing(None, (worker_id,))

    def of_certificate(self, identity: Identity) -> list[str]:
        """The ids that a certificate stands for without a claim: those that name it; else the one that it names."""
        named = self._named.get((bool(identity.spiffe), identity.name), [])
        ids = [rule.name for rule in (*named, *self._matched) if rule.names(identity)]
        if not ids and self.standing(identity.name).allows_certificate(identity):
            return [identity.name]
        return ids

    def of_token(self, digest: bytes) -> Rule | None:
        """The rule whose own token has this digest."""
        return self._tokens.get(digest)
