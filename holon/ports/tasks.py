"""Ports: tasks, their leases, and the sessions that hold them, as the store and the engine hand them over."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum
from types import MappingProxyType

from holon.domain.attempts import Loss, Unfinished
from holon.domain.costs import Cost
from holon.domain.matching import Need
from holon.domain.policy import Allowed
from holon.domain.task import RetryPolicy
from holon.domain.value import Value

NO_PRICES: Mapping[str, int] = MappingProxyType({})


class NewTask(Value):
    """A task that a step creates. `params` is JSON text; `need` is computed by the caller.

    `execution_timeout` is how long its worker may execute it; 0: as long as that worker may without a word.

    `trace` is the trace that its attempts belong to, see `holon.domain.trace`.

    `lost_after` is how long after its worker's last word it goes to another, but no sooner than any task of a worker
    does (milliseconds); 0: as that worker's session says.

    `reserves` is what each attempt of it may cost, which its job's budget must cover before it begins; 0: nothing.
    None: what whoever takes it declares, so that it is reserved with each lease; the task ends where that is too much.
    """

    id: str
    index: int
    need: Need
    params: bytes
    priority: float
    execution_timeout: int
    dispatch_timeout: int | None
    result_timeout: int | None
    retry: RetryPolicy
    trace: str = ""
    lost_after: int = 0
    reserves: Cost = 0


class NewFanOut(Value):
    """That the tasks of a step are branches. `rest` holds those past the first, in chunks for `spawn`."""

    total: int
    fail_fast: bool
    rest: tuple[tuple[NewTask, ...], ...] = ()


class Seat(Value):
    """Room at one worker's live session: it takes up to `n` tasks of these match keys.

    `only` are those of the keys that no other worker could do: then a task does not avoid the one that failed it last.
    `prices` are what the worker declares for tasks of those keys that have a limit of what they may cost.
    """

    worker_id: str
    session_id: str
    n: int
    keys: tuple[str, ...]
    only: frozenset[str] = frozenset()
    prices: Mapping[str, int] = NO_PRICES


class Offer(Value):
    """A task leased to a worker: what is sent to it, and what deciding about its outcome needs.

    `time_left` is what the worker has for the attempt (milliseconds; None: no limit), `deadline` the same as a time.
    `generation` is 1 plus the outcomes answered with a retry, `attempt` counts leases. `lasts` is how long the lease
    lasts from its last extension (milliseconds); None: as long as those of its session. `allowed_skills` are what a
    holon may use to do it, `max_cost` is what the attempt may cost, and so all that a holon has done for it.
    `contracts`, `statuses`, `resources` and `hint` are as in `Need`. `version` and `type` are what the task asks for;
    where its worker is told those that it is offered under instead, `asked` has them.
    """

    worker_id: str
    session_id: str
    task_id: str
    lease_id: str
    job_id: str
    skill: str
    version: str
    type: str
    params: bytes
    priority: float
    generation: int
    attempt: int
    time_left: int | None
    deadline: int | None
    retry: RetryPolicy
    trace: str = ""
    lasts: int | None = None
    allowed_skills: Allowed = None
    max_cost: Cost = None
    contracts: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    resources: str = ""
    hint: str = ""
    asked: tuple[str, str] = ("", "")


class Leased(Value):
    """Offers made, and the match keys (of those asked for) that still have tasks waiting."""

    offers: tuple[Offer, ...] = ()
    left: frozenset[str] = frozenset()


class LeaseRef(Value):
    """One lease, as its holder names it."""

    worker_id: str
    session_id: str
    task_id: str
    lease_id: str


class StopReason(Enum):
    """Why a worker is told to stop."""

    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    LEASE_LOST = "lease lost"


class Stop(Value):
    """A lease whose work is to stop; it counts against its worker's credits until its final word."""

    lease: LeaseRef
    reason: StopReason


class Accept(Value):
    """A worker took an offer, `ago` milliseconds before this is told."""

    lease: LeaseRef
    ago: int = 0


class Handback(Value):
    """A lease that its worker gives back without an outcome.

    The task comes to this worker again after `again_after` milliseconds at the soonest; None, and whatever is more:
    after one lease. That it comes sooner is granted a few times; then it is as if nothing was said. `cost` is what the
    attempt cost until then, which the job is charged; None: nothing. `unbegun` says that nobody has begun the task,
    though the lease was accepted: that counts as an offer which was not taken. `unheard` says that it is not the worker
    who gives it back, so that what its attempt costs will be known later, if ever. `reason` and `code` are for the
    job's history; the code is the worker's, or empty.
    """

    lease: LeaseRef
    again_after: int | None = None
    cost: Cost = None
    unbegun: bool = False
    unheard: bool = False
    reason: Unfinished = Unfinished.RETURNED
    code: str = ""


class Progress(Value):
    """The newest word of a running task. `percent` is 0-100. None is no news of either; an empty `message` takes back
    what was said."""

    lease: LeaseRef
    percent: float | None
    message: str | None

    def after(self, before: Progress | None) -> Progress:
        """This word and the one before it in one."""
        if before is None:
            return self
        percent = before.percent if self.percent is None else self.percent
        return Progress(self.lease, percent, before.message if self.message is None else self.message)


class Touch(Value):
    """What a node's sessions had to say that needs no answer of its own: one batch a second, or sooner.

    `credits` are (worker, session, credits). `extends` renew leases and accept those not yet accepted.
    """

    accepts: tuple[Accept, ...] = ()
    extends: tuple[LeaseRef, ...] = ()
    handbacks: tuple[Handback, ...] = ()
    progress: tuple[Progress, ...] = ()
    credits: tuple[tuple[str, str, int], ...] = ()


class Replaced(Value):
    """A session whose worker has a newer one, at whatever node. `instance_id` is the newer one's, as in `Opening`."""

    session_id: str
    newer: str
    instance_id: str


class Touched(Value):
    """The reply of `touch`: what could not be kept, and every stop that is due at this node's sessions.

    `replaced` are sessions of this node, where nodes share a store. `ended` are sessions of other nodes that have ended
    after they replaced one of this node.
    """

    lost: tuple[LeaseRef, ...] = ()
    stops: tuple[Stop, ...] = ()
    leased: Leased = Leased()
    replaced: tuple[Replaced, ...] = ()
    ended: tuple[str, ...] = ()


class Opening(Value):
    """A worker's new session. `resumed` are the (task, lease) pairs that it still holds.

    `lease` is how long its leases last, and `execution` how long it may execute a task that names no time of its own,
    in milliseconds; None: as for everybody. `instance_id` names its process, if it likes. `proof` is the rank of what
    proved the worker's id.
    """

    worker_id: str
    session_id: str
    credits: int
    resumed: tuple[tuple[str, str], ...] = ()
    lease: int | None = None
    execution: int | None = None
    instance_id: str = ""
    proof: int = 0


class Opened(Value):
    """The reply of `open_session`: which resumed leases go on (as offers), and which do not, and why.

    `losses` are the attempts that an earlier session had begun and this one does not resume.
    `outranked`: nothing was opened or changed, because the worker has a live session of a higher proof.
    """

    replaced: str | None
    kept: tuple[Offer, ...] = ()
    dropped: tuple[tuple[str, str, Superseded], ...] = ()
    losses: tuple[Loss, ...] = ()
    outranked: bool = False


class Superseded(StrEnum):
    """Why an outcome was not applied. Clients see these words."""

    JOB_NOT_FOUND = "job_not_found"
    STALE_TASK = "stale_task"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    JOB_CANCELLED = "job_cancelled"
    JOB_ALREADY_TERMINATED = "job_already_terminated"
    WORKER_MISMATCH = "worker_mismatch"
    # An event had its job go on without it.
    JOB_WENT_ON = "job_went_on"


class Attempt(Value, array_like=True):
    """One lease of a task, from its offer to its end. Times are epoch milliseconds; None: did not come to it.

    Stores pack it as the list of its fields: another one is another schema of their records.
    """

    worker_id: str
    offered: int
    leased: int | None
    ended: int | None
