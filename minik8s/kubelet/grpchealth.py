"""Asks a gRPC server for its health (`grpc.health.v1.Health/Check`), as gRPC probes do.

Promise: `check` answers within its time-out, in upstream's words; whatever goes wrong is a failure, as with the tool grpc_health_probe.
Limits: no TLS, as the API has no field for it. Imports grpc, so it is itself imported where the first such probe is.
Source: v1.GRPCAction, the gRPC health checking protocol.
"""

from __future__ import annotations

import grpc
import grpc.aio

from minik8s.base.clock import Clock
from minik8s.base.protobuf import messages, methods, status_text

SERVICE = "grpc.health.v1.Health"
METHODS = {"Check": ("HealthCheckRequest", "HealthCheckResponse")}
TYPES = messages(
    {"HealthCheckRequest": [("service", 1, "string")], "HealthCheckResponse": [("status", 1, "int32")]}, "grpc.health.v1"
)
STATUSES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
SERVING = 1


async def check(clock: Clock, address: str, service: str, timeout: float, user_agent: str) -> tuple[bool, str]:
    """Whether the server at `address` (host:port) says that `service` ("": the whole of it) is well, and what a probe tells of it."""
    options = (
        ("grpc.primary_user_agent", user_agent),
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),  # a connection of its own: a probe is to find out whether one can be made
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
    )
    connected = False
    channel = grpc.aio.insecure_channel(f"dns:///{address}", options=options)
    try:
        async with clock.timeout(timeout), clock.hold():
            await channel.channel_ready()
            connected = True
            ask = methods(channel, SERVICE, METHODS, TYPES)["Check"]
            answer = await ask(TYPES["HealthCheckRequest"](service=service))
    except TimeoutError:
        if connected:
            return False, f"timeout: health rpc did not complete within {timeout:g}s"
        return False, f'timeout: failed to connect service "{address}" within {timeout:g}s: context deadline exceeded'
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return False, f"error: this server does not implement the grpc health protocol ({SERVICE}): {error.details()}"
        return False, f"error: health rpc probe failed: {status_text(error)}"
    finally:
        await channel.close()
    if answer.status != SERVING:
        return False, f'service unhealthy (responded with "{STATUSES.get(answer.status, answer.status)}")'
    return True, "service healthy"
