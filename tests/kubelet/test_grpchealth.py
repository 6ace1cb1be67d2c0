"""gRPC probes against a real gRPC server. Source: v1.GRPCAction; texts as upstream's events show them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from minik8s.base.clock import RealClock
from minik8s.kubelet.actions import Actions, Outcome, Target
from minik8s.kubelet.grpchealth import SERVICE, TYPES

HEALTH = {"": 1, "ill": 2, "odd": 0}


async def check(request: Any, context: Any) -> Any:
    if request.service == "slow":
        await asyncio.sleep(5)
    if request.service not in HEALTH:
        await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
    agents = [value for key, value in context.invocation_metadata() if key == "user-agent"]
    assert agents[0].startswith("kube-probe/")
    return TYPES["HealthCheckResponse"](status=HEALTH[request.service])


@asynccontextmanager
async def server(name: str = SERVICE) -> AsyncIterator[int]:
    handler = grpc.unary_unary_rpc_method_handler(
        check,
        request_deserializer=TYPES["HealthCheckRequest"].FromString,
        response_serializer=TYPES["HealthCheckResponse"].SerializeToString,
    )
    served = grpc.aio.server()
    served.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"Check": handler}),))
    port = served.add_insecure_port("127.0.0.1:0")
    await served.start()
    try:
        yield port
    finally:
        await served.stop(0)


async def probe(port: int, service: str | None = None, timeout: int = 2) -> Outcome:
    actions = Actions(None, RealClock())  # type: ignore[arg-type]  # no exec
    handler = {"port": port} | ({} if service is None else {"service": service})
    return await actions.probe({"grpc": handler, "timeoutSeconds": timeout}, Target({"name": "c"}, "1", "127.0.0.1"))


@pytest.mark.parametrize(
    ("service", "success", "text"),
    [
        (None, True, "service healthy"),
        ("", True, "service healthy"),
        ("ill", False, 'service unhealthy (responded with "NOT_SERVING")'),
        ("odd", False, 'service unhealthy (responded with "UNKNOWN")'),
        ("other", False, "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service"),
    ],
)
async def test_what_the_server_says(service: str | None, success: bool, text: str) -> None:
    async with server() as port:
        assert await probe(port, service) == Outcome(success, text)


async def test_a_server_without_the_health_service() -> None:
    async with server("some.Other") as port:
        found = await probe(port)
    assert found.success is False
    assert found.text.startswith("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): ")


async def test_a_server_that_does_not_answer() -> None:
    async with server() as port:
        assert await probe(port, "slow", 1) == Outcome(False, "timeout: health rpc did not complete within 1s")


async def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        text = f'timeout: failed to connect service "127.0.0.1:{port}" within 1s: context deadline exceeded'
        assert await probe(port, timeout=1) == Outcome(False, text)
