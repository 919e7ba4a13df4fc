"""The uplink: where the parent is, and what it is told."""

from __future__ import annotations

from dataclasses import dataclass

from holon.domain.policy import Allowed, allowing
from holon.domain.tree import Disclose
from holon.errors import ConfigError, InvalidArgument, Violation
from holon.wire.address import NodeUrl, parse_url
from holon.worker.settings import DEFAULT_PORT, Credentials
from holon.worker.timing import Timing

# What a child is refused for is mended at its parent, by a command there, which nobody tells it of; and while it is not
# linked, nobody has work of all that is below it. There are few children, and so they may ask more often than workers.
# A link that was lost is tried again at once. The waits after that grow slowly: none is longer than about half the time
# for which the parent has been away.
# A job takes longer than a handler, and is accepted by its result all the same where it is over soon.
TIMING = Timing(
    accept_after=0.01,
    reconnect_at_once=True,
    reconnect_first=0.2,
    reconnect_growth=1.25,
    reconnect_longest=15.0,
    refused_first=2.0,
    reconnect_refused=10.0,
)


@dataclass(frozen=True, slots=True)
class UplinkSettings:
    """What a holon needs to serve its parent. Times are milliseconds, but where they are said to be seconds.

    Attributes:
        urls: addresses of one parent holon, tried in turn; never empty.
        node: names this node, unique in its holon.
        worker_id: the id that it claims there; empty takes that of its certificate.
        max_jobs: how many of the parent's tasks it holds at most.
        skills: those of the workers here that the parent is offered as they are.
        allowed_skills: all that its tasks may use here and below; None: whatever it allows.
        result_timeout: how long a task may take when the parent sets no limit.
        label: its name for people.
        disclose: what the parent is told of how its tasks are done.
        version: of the node's software, for people.
        share: which part of the places here its tasks may have, while others have some; above 0, at most 1.
        max_priority: the highest that its tasks have here; its opposite is the lowest.
        escalate_after: how long one may wait for a worker that is not there, in seconds.
        cleanup: how long a cancelled one may clean up, in seconds.
        timing: shorter waits, for tests.
    """

    urls: tuple[NodeUrl, ...]
    credentials: Credentials
    node: str
    worker_id: str = ""
    max_jobs: int = 100
    result_timeout: int = 86_400_000
    label: str = ""
    version: str = ""
    share: float = 1.0
    max_priority: float = 100.0
    escalate_after: float = 10.0
    cleanup: float = 30.0
    skills: tuple[str, ...] = ()
    allowed_skills: Allowed = None
    disclose: Disclose = Disclose.SUMMARY
    timing: Timing = TIMING


def parent_urls(text: str) -> tuple[NodeUrl, ...]:
    """The addresses that PARENT_URL names.

    Raises:
        ConfigError: one of them is none.
    """
    try:
        return tuple(parse_url(one, DEFAULT_PORT) for one in filter(None, (part.strip() for part in text.split(","))))
    except ValueError as error:
        raise ConfigError(f"PARENT_URL: {error}", details=[Violation("PARENT_URL", str(error))]) from error


def allowed_to_parent(skills: tuple[str, ...]) -> Allowed:
    """The limit that UPLINK_ALLOWED_SKILLS sets; no skills are no limit.

    Raises:
        ConfigError: there are too many, or one is none.
    """
    try:
        return allowing("UPLINK_ALLOWED_SKILLS", skills or None)
    except InvalidArgument as error:
        raise ConfigError(error.message, details=error.details) from error
