"""Names that aren't the cluster's: asked of the servers in the node's resolv.conf, and remembered for a short while.

Promise: the answer's bytes as the upstream gave them (under the asker's id, with TTLs counted down), or None where no upstream answers.
The file is read again when it has changed. Limits: at most `PENDING` questions under way and `REMEMBERED` answers kept, for 30 s at
most; an answer cut off goes back so (the asker comes again by TCP, and so do we).
"""

from __future__ import annotations

import asyncio
import struct
from collections import OrderedDict
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from random import Random

from minik8s.base.clock import Clock
from minik8s.dns import wire
from minik8s.dns.wire import Query

PORT = 53
TIMEOUT = 2.0
ROUNDS = 2
PENDING = 1000
REMEMBERED = 10_000
LONGEST = 30.0
_LARGEST_KEPT = 4096

_Key = tuple[bytes, bool, bool]


class Forwarder:
    """`never` are addresses not to ask: the DNS server's own."""

    def __init__(self, resolv_conf: Path, clock: Clock, rng: Random, never: Collection[str] = ()) -> None:
        self._file, self._clock, self._rng, self._never = resolv_conf, clock, rng, never
        self._upstreams: list[str] = []
        self._read_at = 0.0
        self._cache: OrderedDict[_Key, tuple[float, float, bytes]] = OrderedDict()  # asked, until, answer
        self._pending: dict[_Key, asyncio.Task[bytes | None]] = {}

    async def ask(self, message: bytes, query: Query, *, tcp: bool) -> bytes | None:
        key = (query.question.lower(), query.edns, tcp)
        now = self._clock.monotonic()
        if (kept := self._cache.get(key)) and now < kept[1]:
            return _aged(kept[2], query, int(now - kept[0]))
        if (task := self._pending.get(key)) is None:
            if len(self._pending) >= PENDING:
                return None
            task = self._pending[key] = asyncio.create_task(self._resolve(key, message, query, tcp=tcp))
            task.add_done_callback(lambda _: self._pending.pop(key, None))
        found = await asyncio.shield(task)
        return _aged(found, query, 0) if found else None

    async def close(self) -> None:
        for task in list(self._pending.values()):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _resolve(self, key: _Key, message: bytes, query: Query, *, tcp: bool) -> bytes | None:
        for upstream in self._servers() * ROUNDS:
            identity = struct.pack("!H", self._rng.getrandbits(16))
            try:
                async with self._clock.timeout(TIMEOUT):
                    answer = await (_by_tcp if tcp else _by_udp)(upstream, identity + message[2:], query)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                continue
            self._remember(key, answer)
            return answer
        return None

    def _remember(self, key: _Key, answer: bytes) -> None:
        flags = struct.unpack_from("!H", answer, 2)[0]
        if flags & wire.TC or flags & 0xF not in (wire.NOERROR, wire.NXDOMAIN) or len(answer) > _LARGEST_KEPT:
            return
        with suppress(ValueError, struct.error, IndexError):  # an answer that can't be read is passed on, not kept
            seconds = min((ttl for _, ttl in _ttls(answer)), default=0)
            now = self._clock.monotonic()
            self._cache[key] = (now, now + min(seconds, LONGEST), answer)
            self._cache.move_to_end(key)
            if len(self._cache) > REMEMBERED:
                self._cache.popitem(last=False)

    def _servers(self) -> list[str]:
        with suppress(OSError):
            changed = self._file.stat().st_mtime
            if changed != self._read_at:
                self._upstreams = upstreams(self._file.read_text(), self._never)
                self._read_at = changed
        return self._upstreams


def upstreams(resolv_conf: str, never: Collection[str]) -> list[str]:
    """The `nameserver` lines of a resolv.conf(5)."""
    words = (line.split() for line in resolv_conf.splitlines())
    return [two[1] for two in words if len(two) >= 2 and two[0] == "nameserver" and two[1] not in never]


class _Reply(asyncio.DatagramProtocol):
    def __init__(self, identity: bytes, query: Query) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._identity, self._query = identity, query

    def datagram_received(self, data: bytes, addr: object) -> None:
        if _answers(data, self._identity, self._query) and not self.answer.done():
            self.answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _by_udp(upstream: str, message: bytes, query: Query) -> bytes:
    loop = asyncio.get_running_loop()
    transport, reply = await loop.create_datagram_endpoint(lambda: _Reply(message[:2], query), remote_addr=(upstream, PORT))
    try:
        transport.sendto(message)
        return await reply.answer
    finally:
        transport.close()


async def _by_tcp(upstream: str, message: bytes, query: Query) -> bytes:
    reader, writer = await asyncio.open_connection(upstream, PORT)
    try:
        writer.write(struct.pack("!H", len(message)) + message)
        answer = await reader.readexactly(struct.unpack("!H", await reader.readexactly(2))[0])
    finally:
        writer.close()
    if not _answers(answer, message[:2], query):
        raise ConnectionError("not the answer to what was asked")
    return answer


def _answers(data: bytes, identity: bytes, query: Query) -> bool:
    """Whether it is the answer to this question under this id, not somebody's guess."""
    question = data[12 : 12 + len(query.question)].lower()
    return len(data) >= 12 and data[:2] == identity and bool(data[2] & 0x80) and question == query.question.lower()


def _aged(answer: bytes, query: Query, seconds: int) -> bytes:
    out = bytearray(answer)
    struct.pack_into("!H", out, 0, query.id)
    out[12 : 12 + len(query.question)] = query.question
    if seconds:
        for at, ttl in _ttls(answer):
            struct.pack_into("!I", out, at, max(0, ttl - seconds))
    return bytes(out)


def _ttls(message: bytes) -> list[tuple[int, int]]:
    """Where each record's TTL stands, and what it is; EDNS's pseudo-record has none."""
    questions, *others = struct.unpack_from("!4H", message, 4)
    at, found = 12, []
    for _ in range(questions):
        at = _after_name(message, at) + 4
    for _ in range(sum(others)):
        at = _after_name(message, at)
        kind, _, ttl, length = struct.unpack_from("!HHIH", message, at)
        if kind != wire.OPT:
            found.append((at + 4, ttl))
        at += 10 + length
    return found


def _after_name(message: bytes, at: int) -> int:
    while (size := message[at]) and size < 0xC0:
        at += size + 1
    return at + (2 if size else 1)
