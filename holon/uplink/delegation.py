"""The uplink: a delegation: a task of the parent's, and the job that does it. What becomes of it:

    offered -> looked at -> given back: nothing is kept of it
                   |
                   v
               goes on ----------------> stops ----> ends ----> told ----> settled
               its job runs, under     its job is   its job    until the   nothing is
               the newest lease        cancelled    is over    parent has  kept of it
                   |                   (`Why`)        ^   |    heard it
                   +----------------------------------+   +---> remembered, for a day: nothing is owed for it,
                                                                but its task may come again

| it is | where | what goes on |
|---|---|---|
| looked at | `Taking`, until that is settled | it is given back, has a job made, or moves the lease of one |
| goes on, stops, ends | `Running`, as a `Delegated`, whose `Stage` never goes back | the job is stopped, or ends |
| told | `Telling`, until the parent acknowledges the word of its newest lease | it is settled, or remembered |
| remembered, settled | `Books` alone | its task may come again; it is deleted, later |

All but what is looked at is in the books, and in memory there is one `Delegation` of a task. Whatever it is, an offer
of its task under a newer lease has it go on under that, with the job that it has: if that is over, its end is told
anew. But where the lease was taken back (`withdrawn`), or the offer is of a newer generation, another job begins once
this one is over. A link that is lost changes nothing of this; leases that the parent does not keep then count as taken
back, a moment later.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import orjson

from holon.domain.client import Client
from holon.rxon.v1 import worker_pb2
from holon.uplink.stopping import Why
from holon.worker.leases import Lease


@dataclass(slots=True)
class Delegation:
    """A task of the parent's, and the job that does it.

    Attributes:
        parent: whose task it is, by holon id.
        generation, attempt: of the newest lease that was taken.
        run: the attempt with which the job began, where an earlier one of this generation was withdrawn; else 0.
        deadline: when the job is to be stopped, in epoch milliseconds of this holon's store; None: not at all.
        withdrawn: whether the job is cancelled because the lease was taken back.
        skill: what the parent asked for: the name of the job's blueprint.
        stopping: why the job is being cancelled by the uplink; empty while it is not.
        cleans_until: when its clean-up is ended then, in epoch milliseconds of this holon's store.
    """

    parent: str
    task_id: str
    job_id: str
    generation: int
    attempt: int
    lease_id: str
    run: int = 0
    deadline: int | None = None
    withdrawn: bool = False
    skill: str = ""
    stopping: str = ""
    cleans_until: int = 0

    @property
    def lease(self) -> Lease:
        """The newest lease."""
        return Lease(self.task_id, self.lease_id)

    def precedes(self, offer: worker_pb2.TaskOffer) -> bool:
        """Whether an offer of its task has a newer lease."""
        return (self.generation, self.attempt) < (offer.generation, offer.attempt)

    def does(self, offer: worker_pb2.TaskOffer) -> bool:
        """Whether its job is the one that is to do what is offered."""
        return self.generation == offer.generation and not self.withdrawn

    def goes_on_under(self, lease_id: str, attempt: int, deadline: int | None) -> None:
        """Its task has another lease of the same generation."""
        self.lease_id, self.attempt, self.deadline = lease_id, attempt, deadline

    def stops(self, why: Why, cleans_until: int) -> None:
        """Its job is about to be cancelled."""
        self.withdrawn, self.stopping, self.cleans_until = why.gives_back, why.value, cleans_until

    def ends_by(self, deadline: int) -> None:
        """Its job is to be stopped by then. A newer lease never gives it longer: its tasks were told of the first."""
        self.deadline = deadline if self.deadline is None else min(self.deadline, deadline)

    @property
    def facts(self) -> dict[str, str]:
        """For the log."""
        return {"task_id": self.task_id, "job_id": self.job_id}

    @property
    def owner(self) -> Client:
        """Whose the job is here."""
        return owner_of(self.parent)


@lru_cache(maxsize=8)
def owner_of(parent_id: str) -> Client:
    """Whose the jobs are that a parent holon has done here; no client can have such a name."""
    return Client(f"@{parent_id}", plan="parent")


def origin_key(task_id: str, generation: int, run: int) -> str:
    """What makes the creation of a task's job repeatable: the same key never makes a second one.

    The parent is in it by the job's owner.
    """
    return blake2b(orjson.dumps((task_id, generation, run)), digest_size=20).hexdigest()
