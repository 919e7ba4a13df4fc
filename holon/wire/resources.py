"""The wire: machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from holon.domain.fleet import Machine
from holon.rxon.v1 import types_pb2
from holon.wire.values import json_payload


def resources_message(machine: Machine) -> types_pb2.Resources:
    """What a machine has."""
    message = types_pb2.Resources()
    for device in machine.devices:
        added = message.devices.add(type=device.type, model=device.model, id=device.id)
        if device.properties:
            added.properties.CopyFrom(_json(device.properties))
    if machine.properties:
        message.properties.CopyFrom(_json(machine.properties))
    return message


def _json(value: Mapping[str, Any]) -> types_pb2.Payload:
    return json_payload(orjson.dumps(value))
