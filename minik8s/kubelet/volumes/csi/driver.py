"""Calls to a CSI driver's node service, and to a plugin's registration service, over their unix sockets.

Promise: a call ends within TIMEOUT; what goes wrong is a CallFailed in gRPC's words. Each call has a connection of its own, as calls are
rare and drivers restart. Imports grpc, so this room is imported when the first plugin registers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from minik8s.base.clock import Clock
from minik8s.base.protobuf import methods, status_text
from minik8s.kubelet.volumes.csi import wire

TIMEOUT = 120.0
REGISTRATION_TIMEOUT = 10.0
STAGES, EXPANDS, MULTI_WRITER, TAKES_GROUP = 1, 3, 5, 6
"""Capabilities of node services: csi.v1 NodeServiceCapability.RPC.Type."""
_UNDECIDED = {"CANCELLED", "DEADLINE_EXCEEDED", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "ABORTED"}
_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.default_authority", "localhost"),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
)


class CallFailed(Exception):
    """`decided`: the driver is done with it, nothing is under way any more."""

    def __init__(self, text: str, *, decided: bool) -> None:
        super().__init__(text)
        self.decided = decided


@dataclass(frozen=True, slots=True)
class Plugin:
    """What a plugin says of itself as it registers."""

    kind: str  # CSIPlugin, DevicePlugin, DRAPlugin
    name: str
    endpoint: str
    versions: tuple[str, ...]


class Driver:
    """A CSI driver on this node."""

    def __init__(self, name: str, socket: str, clock: Clock) -> None:
        self.name, self.socket, self._clock = name, socket, clock
        self._capabilities: frozenset[int] | None = None

    async def call(self, method: str, **fields: Any) -> Any:
        """Raises CallFailed."""
        request, _ = wire.NODE[method]
        message = wire.CSI[request](**fields)
        return await _call(self.socket, wire.NODE_SERVICE, wire.NODE, wire.CSI, method, message, TIMEOUT, self._clock)

    async def can(self, capability: int) -> bool:
        """Raises CallFailed."""
        if self._capabilities is None:
            answer = await self.call("NodeGetCapabilities")
            self._capabilities = frozenset(each.rpc.type for each in answer.capabilities)
        return capability in self._capabilities


async def introduce(socket: str, clock: Clock) -> Plugin:
    """Asks a registration socket who is there. Raises CallFailed."""
    info = await _register(socket, "GetInfo", clock)
    return Plugin(info.type, info.name, info.endpoint or socket, tuple(info.supported_versions))


async def notify(socket: str, error: str, clock: Clock) -> None:
    """Tells a plugin that it is registered, or (`error`) why not. Raises CallFailed."""
    await _register(socket, "NotifyRegistrationStatus", clock, plugin_registered=not error, error=error)


async def _register(socket: str, method: str, clock: Clock, **fields: Any) -> Any:
    request, _ = wire.REGISTRATION[method]
    message = wire.PLUGINS[request](**fields)
    table, types = wire.REGISTRATION, wire.PLUGINS
    return await _call(socket, wire.REGISTRATION_SERVICE, table, types, method, message, REGISTRATION_TIMEOUT, clock)


async def _call(
    socket: str,
    service: str,
    table: Mapping[str, tuple[str, str]],
    types: Mapping[str, Any],
    method: str,
    message: Any,
    timeout: float,
    clock: Clock,
) -> Any:
    async with grpc.aio.insecure_channel(f"unix:{socket}", options=_OPTIONS) as channel:
        ask = methods(channel, service, table, types)[method]
        try:
            async with clock.hold():
                return await ask(message, timeout=timeout, wait_for_ready=False)
        except grpc.aio.AioRpcError as error:
            raise CallFailed(status_text(error), decided=error.code().name not in _UNDECIDED) from error
