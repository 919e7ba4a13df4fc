"""Quotas: how many jobs a client may create in a calendar month, in UTC, and what is said when it has."""

from __future__ import annotations

from datetime import UTC, datetime

from holon.errors import QuotaExceeded
from holon.ports import Quota


def monthly(key: str, limit: int, now: int) -> Quota:
    """The quota of the month of a time in epoch milliseconds."""
    month = datetime.fromtimestamp(now / 1000, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    year, zero_based = divmod(month.year * 12 + month.month, 12)
    following = month.replace(year=year, month=zero_based + 1)
    return Quota(key, limit, f"{month:%Y-%m}", round(following.timestamp() * 1000))


def used_up(quota: Quota, now: int) -> QuotaExceeded:
    """The refusal of one more job."""
    resets = datetime.fromtimestamp(quota.expires_at / 1000, UTC)
    if quota.limit:
        why = (
            f"may create {quota.limit} jobs in {quota.period}, and has created them; the next quota begins at "
            f"{resets:%Y-%m-%dT%H:%M:%SZ}"
        )
    else:
        why = "may create no jobs: its quota is 0; an administrator can raise it"
    return QuotaExceeded(
        f"Quota exceeded or not configured: {quota.key} {why}",
        subject=quota.key,
        # Every such refusal says when to ask again: with a quota of 0 that is soon enough, too.
        retry_after=max(1.0, (quota.expires_at - now) / 1000),
    )
