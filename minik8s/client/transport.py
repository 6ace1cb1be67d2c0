"""How a call travels to an API server: one plain description, two ways (`http.py` over a socket, `inprocess.py` in the process)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from minik8s.api.call import Call, WatchEvent

__all__ = ["Transport", "WatchEvent"]


class Transport(Protocol):
    """Carries calls. Raises `api.errors.ApiError` for what the server refused, OSError where it could not be reached."""

    async def request(self, call: Call) -> Any:
        """The answer's object (a dict that the caller may keep but, in the same process, not change), or text for `log`."""
        ...

    def watch(self, call: Call) -> AbstractAsyncContextManager[AsyncIterator[Sequence[WatchEvent]]]:
        """Batches of events until the server ends the watch; leaving the block closes it."""
        ...

    async def close(self) -> None: ...
