"""The transport inside the server's process: calls go to the API server's functions under one identity, objects pass undecoded.

The two functions are handed in by who composes the process, so that this room knows nothing of the front desk.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from minik8s.api.call import Call
from minik8s.api.user import User
from minik8s.client.transport import WatchEvent

Handler = Callable[[User, Call], Awaitable[Any]]
"""Answers a call, or raises its ApiError."""
Watcher = Callable[[User, Call], AbstractAsyncContextManager[AsyncIterator[Sequence[WatchEvent]]]]
"""Follows a kind until the block is left."""


class InProcessTransport:
    """Fulfils `transport.Transport`. What it gives up is shared with the server's cache."""

    def __init__(self, user: User, handler: Handler, watcher: Watcher) -> None:
        self._user = user
        self._handler = handler
        self._watcher = watcher

    async def request(self, call: Call) -> Any:
        return await self._handler(self._user, call)

    def watch(self, call: Call) -> AbstractAsyncContextManager[AsyncIterator[Sequence[WatchEvent]]]:
        return self._watcher(self._user, call)

    async def close(self) -> None:
        """Nothing is open."""
