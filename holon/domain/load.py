"""The domain: how busy a worker's machine is, as it says itself; for people, and nothing is decided by it."""

from __future__ import annotations

from dataclasses import dataclass

# What an entry takes besides its texts, in bytes.
_AROUND = 64


@dataclass(frozen=True, slots=True)
class DeviceLoad:
    """How busy one device is: 0 to 100 percent, and its memory in use; None where that is not measured."""

    device_id: str
    percent: float | None = None
    memory_used_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a machine is: of all its processors, 0 to 100 percent, and its memory; None where it is not measured."""

    cpu_percent: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    devices: tuple[DeviceLoad, ...] = ()

    @property
    def weight(self) -> int:
        """About how many bytes say it."""
        return _AROUND + sum(_AROUND + len(one.device_id.encode()) for one in self.devices)
