"""The domain: workers and what they offer, as they say it themselves; for people, and for the catalog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal

from holon.domain.load import Load

# So many tasks a worker may hold.
MAX_CREDITS = 10_000
# What a worker says of a skill goes on to a parent and to people: each takes no more than this.
MAX_NAME = 128
# Of a worker's id, which may be the URI of its certificate.
MAX_WORKER_ID = 253
MAX_DESCRIPTION = 4 * 1024
MAX_STATUSES = 64
MAX_STATUS = 128
MAX_EVENTS = 64
# What a worker says of a machine is kept as long as it is there; and each device may be tried on several requirements.
MAX_MACHINE_BYTES = 64 * 1024
MAX_DEVICES = 64
# What it has loaded: so many skills, and things in its caches, by names of so many characters.
MAX_LOADED = 1_000
MAX_CACHED = 256


class Proof(IntEnum):
    """What proved a worker's id, the weakest first. A session never replaces one that a stronger proof opened."""

    SHARED_TOKEN = 1
    TOKEN = 2
    CERTIFICATE = 3


def is_name(text: str) -> bool:
    """Whether a skill may have this name, type or version; the latter two are empty where it has none."""
    return len(text) <= MAX_NAME and text.isprintable()


@dataclass(frozen=True, slots=True)
class Skill:
    """One skill that a worker offers, with its schemas as JSON schema.

    `statuses` are those that it may end with besides the common ones; `price` is in millionths of the cost unit.
    `credits` is how many tasks of it may be held; None: no fewer than of all. `machines` are those of its catalog that
    provide it, by their places there; None: all of them. `events` are the types of those that it may send, each with
    the schema of its payload, or None: any will do; None: it may send any.
    """

    name: str
    version: str = ""
    type: str = ""
    input_schema: Mapping[str, Any] | None = None
    output_schema: Mapping[str, Any] | None = None
    description: str = ""
    statuses: tuple[str, ...] = ()
    price: int | None = None
    credits: int | None = None
    machines: tuple[int, ...] | None = None
    events: Mapping[str, Mapping[str, Any] | None] | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """One device of a machine; `properties` are a JSON object."""

    type: str
    model: str
    id: str
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine behind a worker; `properties` are a JSON object."""

    devices: tuple[Device, ...] = ()
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Catalog:
    """What a worker offers, and the machines behind it; the skills that are loaded there, and what is in its caches.

    `warnings` are what is odd about it, in the node's words.
    """

    skills: tuple[Skill, ...] = ()
    machines: tuple[Machine, ...] = ()
    hot: frozenset[str] = frozenset()
    cached: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reason:
    """One of the reasons for a reputation: an error code, how often it came, and when last (epoch milliseconds)."""

    code: str
    count: int
    last_at: int


@dataclass(frozen=True, slots=True)
class SkillReputation:
    """A worker's reputation for one skill, with its reasons since it was last the best.

    `trusted` says whether the worker gets tasks of the skill. The most frequent reason comes first.
    """

    skill: str
    value: float
    trusted: bool = True
    reasons: tuple[Reason, ...] = ()

    @property
    def weight(self) -> int:
        """About how many bytes say it."""
        return len(self.skill.encode()) + 64 * (1 + len(self.reasons))


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker as its node sees it. Times are epoch milliseconds; None while it has no session.

    Attributes:
        draining: whether it gets no more tasks because it, its node, or an operator said so.
        held: how many tasks it holds, offered and accepted.
        holon_id, holon_label: of the holon that it is; empty of a plain worker.
        weight: about how many bytes say all this.
        reputations: those of its skills that are below the best, the lowest first; None where they are not known.
        load: how busy its machine is, as it told last; None: it did not.
        node_id: the node that has its session; empty while it has none.
    """

    worker_id: str
    instance_id: str = ""
    draining: bool = False
    credits: int = 0
    held: int = 0
    sdk: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    catalog: Catalog = Catalog()
    connected_at: int | None = None
    last_seen_at: int | None = None
    holon_id: str = ""
    holon_label: str = ""
    weight: int = 0
    reputations: tuple[SkillReputation, ...] | None = None
    load: Load | None = None
    node_id: str = ""

    @property
    def kind(self) -> Literal["worker", "holon"]:
        """What it is."""
        return "holon" if self.holon_id else "worker"

    @property
    def reputation(self) -> float | None:
        """The lowest of its reputations, 0 to 1; None where it is not known."""
        if self.reputations is None:
            return None
        return min([one.value for one in self.reputations], default=1.0)

    @property
    def connected(self) -> bool:
        """Whether it has a live session."""
        return self.connected_at is not None

    @property
    def skills(self) -> list[str]:
        """What it offers: each name once, in order."""
        return sorted({skill.name for skill in self.catalog.skills})

    @property
    def prices(self) -> dict[str, int]:
        """What one task of each skill costs that says so: of one in several versions or types the highest."""
        found: dict[str, int] = {}
        for skill in self.catalog.skills:
            if skill.price is not None:
                found[skill.name] = max(skill.price, found.get(skill.name, 0))
        return found

    @property
    def told_labels(self) -> dict[str, str]:
        """Its labels, and among them that of the holon that it is, as `holon`."""
        return {**self.labels, "holon": self.holon_label} if self.holon_label else dict(self.labels)


@dataclass(frozen=True, slots=True)
class SkillView:
    """A skill with one contract, and how many workers provide it now; the price is the lowest declared.

    `key` is what makes two offers the same skill; its order is that of lists. `weight` is about how many bytes say it.
    `average_reputation` is the mean of its workers' reputations for it.
    """

    skill: Skill
    providers: int
    lowest_price: int | None
    key: tuple[str, ...] = ()
    weight: int = 0
    average_reputation: float | None = None
