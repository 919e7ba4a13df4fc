"""The one tree of errors: each has a kind, which doors map to a status, and a stable code, which programs read.

A user's failure (a worker's task error) is data and never an exception; see `holon.domain.task.Outcome`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

# What cannot be had just now is asked for again after so many seconds, where nothing else is said.
RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Violation:
    """One field of the input that is wrong: where it is, and why."""

    field: str
    reason: str


class HolonError(Exception):
    """Unexpected: anything of ours without a better name. The operator must act: see the log.

    Arguments:
        message: one sentence that says what happened, where, and what to do next.
        code: a stable name in capitals; defaults to the class's own.
        details: the fields at fault, for the caller.
        retry_after: seconds after which the same call may succeed; None when repeating it unchanged cannot help.
        metadata: more facts by name, for programs.
    """

    code = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        details: Sequence[Violation] = (),
        retry_after: float | None = None,
        metadata: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = metadata
        self.code = code or type(self).code
        self.details = tuple(details)
        self.retry_after = retry_after

    @property
    def again_after(self) -> float:
        """How many seconds to wait before trying again, for who does so in any case: as the error says, or a second."""
        return self.retry_after or RETRY_S


class InvalidArgument(HolonError):
    """Expected: the caller sent something wrong and must change it."""

    code = "INVALID_ARGUMENT"


def invalid(field: str, reason: str) -> InvalidArgument:
    """That one field of what was sent is wrong, as the message and the details say."""
    return InvalidArgument(f"{field} {reason}", details=[Violation(field, reason)])


class TooLarge(InvalidArgument):
    """Expected: the caller sent more than the limit that the message names."""

    code = "PAYLOAD_TOO_LARGE"


class NotFound(HolonError):
    """Expected: the thing named does not exist, or is not the caller's to see."""

    code = "NOT_FOUND"


class AlreadyExists(HolonError):
    """Expected: the same key was used for something else; the caller must choose another."""

    code = "ALREADY_EXISTS"


class FailedPrecondition(HolonError):
    """Expected: the thing is in a state that does not allow the call."""

    code = "FAILED_PRECONDITION"


class Aborted(FailedPrecondition):
    """Expected: something newer has taken the caller's place; it must not repeat what it did."""

    code = "ABORTED"


class Unimplemented(HolonError):
    """Expected: this version of the node does not do what was asked; another may."""

    code = "UNIMPLEMENTED"


class Unauthenticated(HolonError):
    """Expected: the caller did not prove who it is."""

    code = "UNAUTHENTICATED"


class PermissionDenied(HolonError):
    """Expected: the caller is known and may not do this."""

    code = "PERMISSION_DENIED"


class ResourceExhausted(HolonError):
    """Expected: a limit of the node is reached; try later, or raise the setting that the message names."""

    code = "RESOURCE_EXHAUSTED"


class QuotaExceeded(ResourceExhausted):
    """Expected: as many jobs were created as may be in this period; more can be in the next.

    Arguments:
        subject: whose quota it is; empty where nobody is told.
    """

    code = "QUOTA_EXCEEDED"

    def __init__(self, message: str, *, subject: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.subject = subject


class Unavailable(HolonError):
    """Expected: the node, or what it needs, is away for a while; repeat after `retry_after`."""

    code = "UNAVAILABLE"


class StoreUnavailable(Unavailable):
    """Expected: the store could not take the operation and nothing of it happened, or its reply was lost."""

    code = "STORE_UNAVAILABLE"


class StoreBroken(StoreUnavailable):
    """Unexpected: this process can never use its store again, and ends. The operator must act: see the log."""


class SealBroken(StoreUnavailable):
    """Expected: what is stored was changed, cut short, or moved here from elsewhere; the operator must restore it."""

    code = "SEAL_BROKEN"


class KeyUnknown(SealBroken):
    """Expected: what is stored was sealed with a key that this node does not have; the operator must give it that."""

    code = "ENCRYPTION_KEY_UNKNOWN"


class IntegrityError(HolonError):
    """Expected: data is not what it was said to be; whoever has it must not use it, and may fetch it again."""

    code = "INTEGRITY_MISMATCH"


class ConfigError(HolonError):
    """Expected: settings or files are wrong; the operator must change what the message lists, and start again."""

    code = "CONFIG_INVALID"


class BlueprintError(HolonError, ValueError):
    """Expected: a blueprint is not sound; its author must change what the message lists.

    It is a ValueError too, as which programs catch it.
    """

    code = "BLUEPRINT_INVALID"


class Unreachable(HolonError):
    """Expected: no connection to the node; check the address and whether it runs."""

    code = "UNREACHABLE"
