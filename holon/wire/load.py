"""The wire: how busy a worker's machine is, as the worker tells it and as the node shows it."""

from __future__ import annotations

import math

from holon.domain.fleet import MAX_DEVICES, MAX_NAME
from holon.domain.load import DeviceLoad, Load
from holon.rxon.v1 import node_pb2, worker_pb2

# As every integer of 64 bits here.
_MOST = 2**53


def load_of(told: worker_pb2.WorkerLoad) -> Load | None:
    """What a worker says of its load; None when that is nothing.

    It is for people alone, and comes with a sign of life: what cannot be is passed over, and costs nobody a lease.
    """
    devices = [
        DeviceLoad(
            one.device_id,
            _percent(one.percent) if one.HasField("percent") else None,
            _bytes(one.memory_used_bytes) if one.HasField("memory_used_bytes") else None,
        )
        for one in told.devices[:MAX_DEVICES]
        if 0 < len(one.device_id) <= MAX_NAME and one.device_id.isprintable()
    ]
    load = Load(
        _percent(told.cpu_percent) if told.HasField("cpu_percent") else None,
        _bytes(told.memory_used_bytes) if told.HasField("memory_used_bytes") else None,
        _bytes(told.memory_total_bytes) if told.HasField("memory_total_bytes") else None,
        tuple(devices),
    )
    return None if load == Load() else load


def load_message(load: Load) -> node_pb2.MachineLoad:
    """It, as operators see it."""
    return node_pb2.MachineLoad(
        cpu_percent=load.cpu_percent,
        memory_used_bytes=load.memory_used_bytes,
        memory_total_bytes=load.memory_total_bytes,
        devices=[
            node_pb2.MachineDeviceLoad(
                device_id=one.device_id, percent=one.percent, memory_used_bytes=one.memory_used_bytes
            )
            for one in load.devices
        ],
    )


def _percent(value: float) -> float | None:
    return value if math.isfinite(value) and 0 <= value <= 100 else None


def _bytes(value: int) -> int | None:
    return value if 0 <= value < _MOST else None
