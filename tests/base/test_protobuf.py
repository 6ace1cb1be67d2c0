"""Messages and methods from tables. Wire examples: protobuf.dev/programming-guides/encoding."""

from __future__ import annotations

import grpc.aio
import pytest

from minik8s.base.protobuf import messages, methods

TYPES = messages(
    {
        "Point": [("x", 1, "int32"), ("name", 2, "string")],
        "Shape": [
            ("points", 1, "repeated Point"),
            ("sizes", 2, "repeated int32"),
            ("labels", 3, "map<string, string>"),
            ("named_points", 4, "map<string, Point>"),
            ("centre", 5, "Point"),
            ("raw", 6, "bytes"),
        ],
    },
    "test",
)
Point, Shape = TYPES["Point"], TYPES["Shape"]


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (Point(x=150), "089601"),
        (Point(name="testing"), "120774657374696e67"),
        (Shape(sizes=[3, 270, 86942]), "1206038e029ea705"),
        (Shape(points=[Point(x=1)]), "0a020801"),
        (Shape(labels={"a": "b"}), "1a060a0161120162"),
        (Shape(raw=b"\x00"), "320100"),
        (Point(), ""),
    ],
)
def test_wire_format(message: object, wire: str) -> None:
    assert message.SerializeToString().hex() == wire
    assert type(message).FromString(bytes.fromhex(wire)) == message


def test_maps_presence_and_nesting() -> None:
    shape = Shape(labels={"app": "web"}, named_points={"a": Point(x=1)})
    again = Shape.FromString(shape.SerializeToString())
    assert dict(again.labels) == {"app": "web"}
    assert again.named_points["a"].x == 1
    assert not again.HasField("centre")
    again.centre.x = 0
    assert Shape.FromString(again.SerializeToString()).HasField("centre")


def test_fields_outside_the_table_survive() -> None:
    narrow = messages({"Point": [("x", 1, "int32")]}, "test")["Point"]
    assert Point.FromString(narrow.FromString(Point(x=1, name="n").SerializeToString()).SerializeToString()).name == "n"


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(KeyError, match="Pont"):
        messages({"Shape": [("points", 1, "repeated Pont")]}, "test")


async def test_each_shape_of_method() -> None:
    table = {
        "One": ("Point", "Point"),
        "Down": ("Point", "stream Point"),
        "Up": ("stream Point", "Point"),
        "Both": ("stream Point", "stream Point"),
    }

    async def one(request, context):
        return Point(x=request.x + 1)

    async def down(request, context):
        for x in range(request.x):
            yield Point(x=x)

    async def up(requests, context):
        return Point(x=sum([request.x async for request in requests]))

    async def both(requests, context):
        async for request in requests:
            yield request

    codec = {"request_deserializer": Point.FromString, "response_serializer": Point.SerializeToString}
    server = grpc.aio.server()
    handlers = {
        "One": grpc.unary_unary_rpc_method_handler(one, **codec),
        "Down": grpc.unary_stream_rpc_method_handler(down, **codec),
        "Up": grpc.stream_unary_rpc_method_handler(up, **codec),
        "Both": grpc.stream_stream_rpc_method_handler(both, **codec),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Service", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = methods(channel, "test.Service", table, TYPES)
        points = [Point(x=1), Point(x=2)]
        assert (await call["One"](Point(x=1), timeout=5)).x == 2
        assert [point.x async for point in call["Down"](Point(x=3))] == [0, 1, 2]
        assert (await call["Up"](iter(points))).x == 3
        assert [point async for point in call["Both"](iter(points))] == points
    await server.stop(None)
