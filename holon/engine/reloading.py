"""Reloading: files that are read again while the node runs, all of them or none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from holon.errors import ConfigError, FailedPrecondition, HolonError, InvalidArgument, Violation
from holon.files import Facts, facts_of
from holon.telemetry.audit import By, audited, note
from holon.telemetry.metrics import ReloadMetrics

log = logging.getLogger(__name__)

# What can be read again, and what names its files.
TARGETS = {
    "clients": "CLIENTS_CONFIG_PATH",
    "workers": "WORKERS_CONFIG_PATH",
    "tls": "TLS_CERT_PATH",
    "keys": "ENCRYPTION_KEY_FILE",
    "schedules": "SCHEDULES_CONFIG_PATH",
    "blueprints": "BLUEPRINTS_DIR and `holon serve --dev`",
}
# What is read again only where it is named.
_BY_NAME_ALONE = frozenset({"blueprints"})
# What a reload changed, for the audit log: acts, each with whom it concerns.
Changes: TypeAlias = Iterable[tuple[str, str]]
# Puts what was read in force: at once, without waiting or failing.
Apply: TypeAlias = Callable[[], Changes]
# What tells of a part's files that one was written, replaced or taken away.
Seen: TypeAlias = tuple[tuple[str, Facts], ...]


@dataclass(frozen=True, slots=True)
class Part:
    """Something that a node reads from files of its own. Both functions are called in a thread, so they may block.

    Attributes:
        name: what it is called where a reload names its targets; one of `TARGETS`.
        paths: where its files are, as of now.
        read: reads the files and checks all of them, without changing anything; returns what puts them in force, which
            is called on the loop, once every other part was found good too. It raises ConfigError for a bad file; the
            details name each file and place.
    """

    name: str
    paths: Callable[[], Iterable[str]]
    read: Callable[[], Apply]

    def look(self) -> Seen:
        """What its files are like now."""
        return tuple((path, facts_of(path)) for path in self.paths())


class Reloading:
    """Reads parts again: on a call, on a signal, and when somebody has seen that they changed.

    A bad file changes nothing, of any part.

    Arguments:
        parts: in the order in which they are put in force.
    """

    def __init__(self, parts: Iterable[Part] = ()) -> None:
        self.metrics = ReloadMetrics()
        self._parts: dict[str, Part] = {}
        # What the files of each part were like when they were read last, be they good or bad.
        self._read: dict[str, Seen] = {}
        for part in parts:
            self.add(part)
        self._one = asyncio.Lock()
        self._asked = asyncio.Event()

    def __repr__(self) -> str:
        return f"Reloading({', '.join(self._parts)})"

    def add(self, part: Part) -> None:
        """Let one more part, whose files have just been read, be read again."""
        self._parts[part.name] = part
        self._read[part.name] = part.look()

    @property
    def targets(self) -> tuple[str, ...]:
        """What this node can read again, by name."""
        return tuple(self._parts)

    def look(self) -> Mapping[str, Seen]:
        """What the files of each part are like now, by its name; blocks."""
        return {part.name: part.look() for part in self._parts.values()}

    def has_read(self, name: str, seen: Seen) -> bool:
        """Whether a part was read, for good or bad, when its files were like this."""
        return self._read[name] == seen

    async def is_good(self, name: str) -> bool:
        """Whether the files of a part could be put in force as they are; nothing changes, and nothing is told."""
        try:
            await asyncio.to_thread(self._parts[name].read)
        except Exception:  # noqa: BLE001  that it is not good has been told; it ends nothing
            return False
        return True

    async def reload(self, targets: Sequence[str], by: By) -> tuple[str, ...]:
        """Read parts again, and put them in force together. One reload runs at a time; a cancel changes nothing.

        What came of it is logged, counted and in the audit log.

        Arguments:
            targets: their names; empty means all that this node has but blueprints.
            by: who asks for it.
        Returns:
            the names of what is in force now.
        Raises:
            InvalidArgument: there is no such part.
            FailedPrecondition: (CONFIG_INVALID) files are bad; the details name them, and nothing has changed.
                (NOT_CONFIGURED) this node has no such file.
        """
        with audited("node_reloaded", by, lambda: ", ".join(targets)):
            parts = self._named(targets)
            async with self._one:
                try:
                    # In one thread, one after the other: what is reported first does not depend on chance.
                    ready = await asyncio.to_thread(self._ready, parts)
                except HolonError as error:
                    self.metrics.reloads.add("refused")
                    log.error("nothing was reloaded: %s", error.message)
                    raise
                changes = [change for apply in ready for change in apply()]
        for act, on in changes:
            note(act, by, on=on)
        names = tuple(part.name for part in parts)
        self.metrics.reloads.add("done")
        log.info("reloaded: %s", ", ".join(names) or "nothing, because this node has none of these files")
        return names

    def ask(self) -> None:
        """Have `run` reload everything; for the handler of a signal."""
        self._asked.set()

    async def run(self) -> None:
        """Do what `ask` asked for, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self.reload_unattended((), By("signal"))

    async def reload_unattended(self, targets: Sequence[str], by: By) -> bool:
        """Reload for nobody who waits for an answer; return whether all was good."""
        try:
            await self.reload(targets, by)
            return True
        except HolonError:
            # It is told by now.
            return False
        except Exception:
            log.exception("the reload failed unexpectedly")
            return False

    def _named(self, targets: Sequence[str]) -> list[Part]:
        for name in targets:
            if name not in TARGETS:
                reason = f"{name[:64]!r} is not a reload target; use {', '.join(TARGETS)}"
                raise InvalidArgument(f"targets: {reason}", details=[Violation("targets", reason)])
            if name not in self._parts:
                reason = f"this node has no file for {name}; see {TARGETS[name]}"
                raise FailedPrecondition(
                    f"targets: {reason}", code="NOT_CONFIGURED", details=[Violation("targets", reason)]
                )
        wanted = targets or self._parts.keys() - _BY_NAME_ALONE
        return [part for name, part in self._parts.items() if name in wanted]

    def _ready(self, parts: Sequence[Part]) -> list[Apply]:
        ready: list[Apply] = []
        wrong: list[ConfigError] = []
        for part in parts:
            # What is written after this look is seen by the next.
            seen = self._read[part.name] = part.look()
            try:
                ready.append(part.read())
                _check_whole(seen, part.look())
            except ConfigError as error:
                wrong.append(error)
        if wrong:
            raise FailedPrecondition(
                "\n".join(error.message for error in wrong),
                code="CONFIG_INVALID",
                details=[violation for error in wrong for violation in error.details],
            )
        return ready


def _check_whole(before: Seen, after: Seen) -> None:
    """Raise ConfigError where files were written while they were read: half of one may be a good one that says less."""
    paths = [one[0] for one in after if one not in before]
    if paths:
        wrong = [Violation(path, "changed while it was read; reload it when it is complete") for path in paths]
        raise ConfigError("\n".join(f"{one.field} {one.reason}" for one in wrong), details=wrong)
