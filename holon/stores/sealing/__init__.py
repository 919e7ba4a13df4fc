"""What is secret is sealed before it is stored: encrypted, and bound to its place."""

from __future__ import annotations

from holon.errors import KeyUnknown, SealBroken
from holon.stores.sealing.seal import Seal, key_id

__all__ = ["KeyUnknown", "Seal", "SealBroken", "key_id"]
