"""Calls over a CRI socket: errors become the contract's, the connection comes back by itself.

Reconnecting waits 100, 100, then up to 1000 ms; a call meanwhile fails at once. Limit: a call that the runtime does not answer in
`TIMEOUT` seconds has failed, but for those that say otherwise (a pull has no limit).
"""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio

from minik8s.base.clock import Clock
from minik8s.base.protobuf import methods, status_text
from minik8s.runtime.base import NotThere, RuntimeFailed
from minik8s.runtime.cri import wire

TIMEOUT = 120.0
"""Seconds, as upstream's `runtimeRequestTimeout`."""

NAMESPACE = (("containerd-namespace", "k8s.io"),)
"""Where containerd keeps what CRI made."""


class NotImplementedThere(RuntimeFailed):
    """The runtime does not have this call."""


class Client:
    """One socket. `runtime` and `images` are CRI's calls by their names; the others are containerd's own."""

    def __init__(self, socket: str, clock: Clock) -> None:
        self.socket = socket
        self._clock = clock
        self._channel = grpc.aio.insecure_channel(f"unix:{socket}", options=wire.OPTIONS)
        self._calls = {
            **methods(self._channel, wire.RUNTIME_SERVICE, wire.RUNTIME, wire.CRI),
            **methods(self._channel, wire.IMAGE_SERVICE, wire.IMAGES, wire.CRI),
        }
        self.subscribe = methods(self._channel, "containerd.services.events.v1.Events", wire.EVENTS, wire.CONTAINERD)[
            "Subscribe"
        ]
        self.leases = methods(self._channel, "containerd.services.leases.v1.Leases", wire.LEASES, wire.CONTAINERD)
        self.content = methods(self._channel, "containerd.services.content.v1.Content", wire.CONTENT, wire.CONTAINERD)
        self.names = methods(self._channel, "containerd.services.images.v1.Images", wire.CONTAINERD_IMAGES, wire.CONTAINERD)

    async def call(self, method: str, request: Any = None, *, timeout: float | None = TIMEOUT) -> Any:
        """Raises RuntimeFailed, NotThere, NotImplementedThere; its text is the runtime's own."""
        try:
            async with self._clock.hold():
                return await self._calls[method](request or wire.CRI["Empty"](), timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise failure(error) from error

    async def call_if_there(self, method: str, request: Any, *, timeout: float = TIMEOUT) -> None:
        """`call`, but that what it is about is gone is no error."""
        try:
            await self.call(method, request, timeout=timeout)
        except NotThere:
            return

    def events(self) -> Any:
        """A running GetContainerEvents."""
        return self._calls["GetContainerEvents"](wire.CRI["Empty"]())

    async def close(self) -> None:
        await self._channel.close()


def failure(error: grpc.aio.AioRpcError) -> RuntimeFailed:
    kinds = {grpc.StatusCode.NOT_FOUND: NotThere, grpc.StatusCode.UNIMPLEMENTED: NotImplementedThere}
    return kinds.get(error.code(), RuntimeFailed)(error.details() or error.code().name)


def whole_text(error: RuntimeFailed) -> str:
    """As Go prints an error of gRPC, which the kubelet's events quote of sandboxes and probes."""
    cause = error.__cause__
    if not isinstance(cause, grpc.aio.AioRpcError):
        return str(error)
    return status_text(cause)


def timed_out(error: RuntimeFailed) -> bool:
    """Whether the runtime says that an exec took too long: by gRPC's code, or (containerd 1.6) in words."""
    cause = error.__cause__
    code = cause.code() if isinstance(cause, grpc.aio.AioRpcError) else None
    return code is grpc.StatusCode.DEADLINE_EXCEEDED or ("timeout" in str(error) and "exceeded" in str(error))
