"""A process that writes into a store until it is killed, or `count` times one after the other; run by the tests of crashes.

`load PATH ROUND`: sixteen writers at once; each answered write is a line `key revision value durable|lazy`.
`steps PATH COUNT`: lines `write N`, then `ack N` or `failed N`, unbuffered, so that a trace shows what stands between them.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from minik8s.base.clock import RealClock
from minik8s.store import open_store
from minik8s.store.base import Store, StoreFailed


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


async def load(store: Store, name: str) -> None:
    async def writer(number: int) -> None:
        lazy = number % 4 == 0
        for i in range(1_000_000):
            key, revision = f"/registry/{name}/{number}-{i}", 0
            for value in ("created", "updated", None, "again"):
                encoded = value and f"{value}-{name}".encode() * 50
                revision = await store.write(key, encoded, revision, lazy=lazy)
                say(f"{key} {revision} {value} {'lazy' if lazy else 'durable'}")
                revision = revision if value else 0

    await asyncio.gather(*(writer(number) for number in range(16)))


async def steps(store: Store, count: str) -> None:
    for i in range(int(count)):
        say(f"write {i}")
        try:
            await store.write(f"/registry/{os.getpid()}/{i}", b"v", 0)
            say(f"ack {i}")
        except StoreFailed:
            say(f"failed {i}")


async def main(verb: str, path: str, argument: str) -> None:
    store = await open_store("", Path(path), RealClock())
    say("open")
    await {"load": load, "steps": steps}[verb](store, argument)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
