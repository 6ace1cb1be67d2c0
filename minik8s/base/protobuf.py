"""protobuf messages and gRPC methods out of small tables: no generated stubs, only the fields that are used.

Promise: `messages` makes real protobuf classes (upb's speed) from names, numbers and types; `methods` makes grpc.aio callables for
them. What a table leaves out is kept by protobuf as unknown fields, so that a newer peer does no harm.

Limits: proto3. Enums are written `int32` and members of a oneof as plain message fields: both are the same on the wire.

Neighbours: `store/etcd.py` and `runtime/cri.py` hold the tables. Imports protobuf, so it is itself imported late.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

if TYPE_CHECKING:
    import grpc.aio

Fields = Sequence[tuple[str, int, str]]
"""(name, number, type) of each field. A type is a scalar's name, a message's name out of the same table, one of these after
`repeated `, or `map<string, T>` with a scalar key."""

_SCALARS: Mapping[str, FieldDescriptorProto.Type.ValueType] = {
    name.removeprefix("TYPE_").lower(): number
    for name, number in FieldDescriptorProto.Type.items()
    if name not in {"TYPE_MESSAGE", "TYPE_GROUP", "TYPE_ENUM"}
}


def messages(table: Mapping[str, Fields], package: str) -> dict[str, Any]:
    """The message classes of `table` by their names; KeyError for a type that is neither a scalar nor in the table."""
    file = FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, fields in table.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            _add_field(message, field, number, kind, table, package)
    pool = descriptor_pool.DescriptorPool()  # not the default one: a name may stand in the tables of several parts
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in table}


def methods(
    channel: grpc.aio.Channel, service: str, table: Mapping[str, tuple[str, str]], types: Mapping[str, Any]
) -> dict[str, Callable[..., Any]]:
    """grpc.aio callables by method name; `table` gives (request, response), where `stream X` is a stream of X.

    `service` is the full name, as `etcdserverpb.KV`. The callables take the request (or an iterator of them) and `timeout=` seconds.
    """
    found = {}
    for name, (request, response) in table.items():
        shape = "_".join("stream" if side.startswith("stream ") else "unary" for side in (request, response))
        found[name] = getattr(channel, shape)(
            f"/{service}/{name}",
            request_serializer=types[request.removeprefix("stream ")].SerializeToString,
            response_deserializer=types[response.removeprefix("stream ")].FromString,
        )
    return found


def status_text(error: grpc.aio.AioRpcError) -> str:
    """A failed call as Go prints it, which events quote: `rpc error: code = NotFound desc = no such volume`."""
    code = "".join(part.title() for part in error.code().name.split("_"))
    return f"rpc error: code = {code} desc = {error.details()}"


def _add_field(message: DescriptorProto, name: str, number: int, kind: str, table: Mapping[str, Fields], package: str) -> None:
    repeated = kind.startswith(("repeated ", "map<"))
    label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label)
    if kind.startswith("map<"):
        key, value = kind.removeprefix("map<").removesuffix(">").split(",")
        entry = message.nested_type.add(name=name.title().replace("_", "") + "Entry")
        entry.options.map_entry = True
        _add_field(entry, "key", 1, key.strip(), table, package)
        _add_field(entry, "value", 2, value.strip(), table, package)
        field.type = FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f".{package}.{message.name}.{entry.name}"
    elif (single := kind.removeprefix("repeated ")) in table:
        field.type = FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f".{package}.{single}"
    else:
        field.type = _SCALARS[single]
