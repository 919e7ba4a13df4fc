"""Webhooks: how receivers are told."""

from __future__ import annotations

from holon.domain.value import Value
from holon.domain.webhook import Receivers


class DeliverySettings(Value, gc=True):
    """How receivers are told.

    Arguments:
        secrets: what it is signed with, by each.
        receivers: who may be told beside the public.
        version: of this node.
        timeout: seconds that a try may take in all.
    """

    secrets: tuple[bytes, ...]
    receivers: Receivers
    version: str
    timeout: float = 10.0

    def __repr__(self) -> str:
        return f"DeliverySettings({self.receivers}, secrets={len(self.secrets)})"
