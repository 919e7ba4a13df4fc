"""The gRPC doors: what a node can do for workers beyond the minimum, as a Welcome and GetNode tell it."""

from __future__ import annotations

from holon.rxon.v1 import types_pb2


def capabilities(*, renews: bool = True, holons: bool = True) -> tuple[types_pb2.Capability.ValueType, ...]:
    """What there is, for whom it is told.

    Arguments:
        renews: whether access tokens are taken, and newer ones in the stream.
        holons: whether it is told to a holon, or of a node, which every holon may ask.
    """
    told = [types_pb2.CAPABILITY_RESUME, types_pb2.CAPABILITY_CANCEL, types_pb2.CAPABILITY_EVENTS]
    if renews:
        told.append(types_pb2.CAPABILITY_REAUTHENTICATE)
    if holons:
        told.append(types_pb2.CAPABILITY_HOLON)
    return tuple(told)
