"""The uplink: a holon serves its parent as a worker, and the parent's tasks become jobs here."""

from __future__ import annotations

from holon.uplink.delegation import owner_of
from holon.uplink.settings import UplinkSettings
from holon.uplink.uplink import Uplink

__all__ = ["Uplink", "UplinkSettings", "owner_of"]
