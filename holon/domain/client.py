"""The domain: a client of the node, as its calls, its jobs and their handlers know it; its tokens are not among it."""

from __future__ import annotations

from holon.domain.value import Value

# The role of who may act on the node itself, and see all of it.
ADMIN = "admin"
ROLES = frozenset({ADMIN})
# Whose jobs they are where clients share one token.
DEFAULT = "default"
# Whose the jobs of schedules are; no client can have such a name, nor any holon such an id.
SCHEDULER = "@scheduler"
# Who acts at the node itself.
OPERATOR = "operator"
# The plan of a client that has none.
NO_PLAN = "unknown"


class Client(Value):
    """Who calls. `name` owns its jobs.

    `params` is JSON text of an object, given to handlers; empty: none. `monthly_attempts` is how many jobs it may
    create in a calendar month (UTC); None: as many as it likes.
    """

    name: str
    plan: str = NO_PLAN
    params: bytes = b""
    monthly_attempts: int | None = None
    roles: frozenset[str] = frozenset()

    def may(self, role: str) -> bool:
        """Whether it may do what needs this role; nothing needs the empty one."""
        return not role or role in self.roles

    def sees(self, owner: str) -> bool:
        """Whether an owner's jobs are its to look at and cancel: its own, and an administrator's those of schedules."""
        return owner == self.name or (owner == SCHEDULER and ADMIN in self.roles)
