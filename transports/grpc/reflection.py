"""The gRPC doors: server reflection, by which a generic client learns what a door serves without having the protos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection, reflection_pb2

SERVICES = ("grpc.reflection.v1.ServerReflection", reflection.SERVICE_NAME)
_V1, _V1ALPHA = "grpc.reflection.v1", "grpc.reflection.v1alpha"
_FILE = "grpc/reflection/v1/reflection.proto"


def handlers(names: Sequence[str]) -> list[grpc.GenericRpcHandler]:
    """Return the handlers of both versions of the service. They have the same messages under different names.

    Arguments:
        names: the full names of the services that the door has besides.
    """
    served: Any = reflection.aio.ReflectionServicer([*names, *SERVICES], _pool(names))
    calls = {
        "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
            served.ServerReflectionInfo,
            reflection_pb2.ServerReflectionRequest.FromString,
            reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
    }
    return [grpc.method_handlers_generic_handler(name, calls) for name in SERVICES]


def _pool(names: Sequence[str]) -> descriptor_pool.DescriptorPool:
    """The files of the services, and no other file that this process has loaded."""
    pool, known = descriptor_pool.DescriptorPool(), descriptor_pool.Default()
    # A pool takes a file once the files that it imports are there.
    files: dict[str, FileDescriptorProto] = {}
    for name in (*names, reflection.SERVICE_NAME):
        for file in _with_imports(known.FindFileContainingSymbol(name)):
            if file.name not in files:
                file.CopyToProto(files.setdefault(file.name, FileDescriptorProto()))
    for proto in (*files.values(), _v1(files[reflection_pb2.DESCRIPTOR.name])):
        pool.Add(proto)
    return pool


def _with_imports(file: FileDescriptor) -> Iterator[FileDescriptor]:
    for imported in file.dependencies:
        yield from _with_imports(imported)
    yield file


def _v1(alpha: FileDescriptorProto) -> FileDescriptorProto:
    """The file of the later version: that of the earlier one under its own names."""
    file = FileDescriptorProto()
    file.CopyFrom(alpha)
    file.name, file.package = _FILE, _V1
    for message in file.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = field.type_name.replace(_V1ALPHA, _V1)
    for service in file.service:
        for method in service.method:
            method.input_type = method.input_type.replace(_V1ALPHA, _V1)
            method.output_type = method.output_type.replace(_V1ALPHA, _V1)
    return file
