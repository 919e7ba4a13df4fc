"""Holons that come as children."""

from __future__ import annotations

from holon.domain.holarchy import HolonIdentity


def child(epoch: int, instance: str) -> HolonIdentity:
    return HolonIdentity("below", epoch, instance)
