"""A tunnel's line in memory (tunnel/mux.py: Link)."""

from __future__ import annotations

import asyncio


class Pipe:
    """One end; `slow` messages at most wait on their way."""

    def __init__(self, slow: int = 0) -> None:
        self.inbox: asyncio.Queue[bytes | None] = asyncio.Queue(slow)
        self.other: Pipe
        self.closed = False
        self.sent = 0

    async def send(self, message: bytes) -> None:
        if self.closed or self.other.closed:
            raise ConnectionResetError("closed")
        self.sent += len(message)
        await self.other.inbox.put(message)

    async def receive(self) -> bytes | None:
        return None if self.closed else await self.inbox.get()

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            for end in (self, self.other):
                if end.inbox.full():
                    end.inbox.get_nowait()
                end.inbox.put_nowait(None)


def joined_pipes(slow: int = 0) -> tuple[Pipe, Pipe]:
    """Both ends of a line."""
    here, there = Pipe(slow), Pipe(slow)
    here.other, there.other = there, here
    return here, there
