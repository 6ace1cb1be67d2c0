"""The store in a real etcd (v3 API, 3.4 and newer), for data that outlives the server's disk.

Promise: the whole contract; every write, also a lazy one, is one Txn and durable. A watch goes on after etcd was away. A revision is
one of etcd's, so it also rises by what others write there; the watch learns how far it has come from a touch of a key of its own
(progress can't be asked for in 3.4, and came out of order in its first versions).

Limits: one endpoint. Values up to what etcd takes for a request (1.5 MiB unless told otherwise).

Neighbours: `base/protobuf.py` makes the messages out of the tables below (etcd's api/etcdserverpb/rpc.proto). Imports grpc, so it
is itself imported late.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import grpc.aio

from minik8s.base.backoff import Backoff
from minik8s.base.clock import Clock
from minik8s.base.protobuf import messages, methods
from minik8s.base.tasks import Owner
from minik8s.store.base import TOUCHED, Change, Compacted, Conflict, Entry, Snapshot, StoreFailed
from minik8s.store.log import FIRST, check_write

log = logging.getLogger(__name__)

TIMEOUT = 10.0
"""Seconds that one call may take."""

GRACE = 0.05
"""Seconds that a watch is given to reach a revision by itself before the store writes to get it there."""

PAGE = 1000
"""Entries of a snapshot read at once."""

BACKOFF = Backoff(initial=0.1, maximum=1.0)

OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.enable_http_proxy", 0),
)

TYPES = messages(
    {
        "ResponseHeader": [("revision", 3, "int64")],
        "KeyValue": [("key", 1, "bytes"), ("create_revision", 2, "int64"), ("mod_revision", 3, "int64"), ("value", 5, "bytes")],
        "Event": [("type", 1, "int32"), ("kv", 2, "KeyValue"), ("prev_kv", 3, "KeyValue")],
        "RangeRequest": [
            ("key", 1, "bytes"),
            ("range_end", 2, "bytes"),
            ("limit", 3, "int64"),
            ("revision", 4, "int64"),
            ("keys_only", 8, "bool"),
        ],
        "RangeResponse": [("header", 1, "ResponseHeader"), ("kvs", 2, "repeated KeyValue"), ("more", 3, "bool")],
        "PutRequest": [("key", 1, "bytes"), ("value", 2, "bytes")],
        "PutResponse": [("header", 1, "ResponseHeader")],
        "DeleteRangeRequest": [("key", 1, "bytes")],
        "Compare": [("result", 1, "int32"), ("target", 2, "int32"), ("key", 3, "bytes"), ("mod_revision", 6, "int64")],
        "RequestOp": [
            ("request_range", 1, "RangeRequest"),
            ("request_put", 2, "PutRequest"),
            ("request_delete_range", 3, "DeleteRangeRequest"),
        ],
        "ResponseOp": [("response_range", 1, "RangeResponse")],
        "TxnRequest": [
            ("compare", 1, "repeated Compare"),
            ("success", 2, "repeated RequestOp"),
            ("failure", 3, "repeated RequestOp"),
        ],
        "TxnResponse": [("header", 1, "ResponseHeader"), ("succeeded", 2, "bool"), ("responses", 3, "repeated ResponseOp")],
        "CompactionRequest": [("revision", 1, "int64")],
        "CompactionResponse": [("header", 1, "ResponseHeader")],
        "WatchCreateRequest": [
            ("key", 1, "bytes"),
            ("range_end", 2, "bytes"),
            ("start_revision", 3, "int64"),
            ("prev_kv", 6, "bool"),
        ],
        "WatchRequest": [("create_request", 1, "WatchCreateRequest")],
        "WatchResponse": [
            ("header", 1, "ResponseHeader"),
            ("canceled", 4, "bool"),
            ("compact_revision", 5, "int64"),
            ("cancel_reason", 6, "string"),
            ("events", 11, "repeated Event"),
        ],
    },
    "minik8s.etcd",
)
KV = {
    "Range": ("RangeRequest", "RangeResponse"),
    "Put": ("PutRequest", "PutResponse"),
    "Txn": ("TxnRequest", "TxnResponse"),
    "Compact": ("CompactionRequest", "CompactionResponse"),
}
WATCH = {"Watch": ("stream WatchRequest", "stream WatchResponse")}
MOD = 2  # Compare.CompareTarget; its result EQUAL and Event.EventType's PUT are 0
DELETE = 1  # Event.EventType


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files for an `https` endpoint: whom to trust (None: the machine's roots), and who we are (both or neither)."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


@dataclass(slots=True, eq=False)
class _Follower:
    """One running watch: up to which revision it has given everything, and its call where it has one."""

    prefix: str
    reached: int
    call: Any = None


async def open_etcd(endpoint: str, clock: Clock, tls: Tls | None = None) -> EtcdStore:
    """Connects to `http://host[:port]` or `https://...`. Raises StoreFailed where no etcd answers, ValueError for another URL."""
    store = EtcdStore(endpoint, _channel(endpoint, tls or Tls()), clock)
    try:
        await store.revision()
    except BaseException:
        await store.close()
        raise
    return store


class EtcdStore:
    """Fulfils `base.Store`. Made by `open_etcd`."""

    def __init__(self, endpoint: str, channel: grpc.aio.Channel, clock: Clock) -> None:
        self._endpoint = endpoint
        self._channel = channel
        self._clock = clock
        self._kv = methods(channel, "etcdserverpb.KV", KV, TYPES)
        self._watch = methods(channel, "etcdserverpb.Watch", WATCH, TYPES)["Watch"]
        self._followers: dict[_Follower, None] = {}
        self._asked = 0  # the highest revision that `revision()` gave
        self._behind = asyncio.Event()
        self._closed = asyncio.Event()
        self._owner = Owner("store")
        self._owner.start(self._touch_behind(), "touch")

    async def write(self, key: str, value: bytes | None, expected: int, *, lazy: bool = False) -> int:
        check_write(value, expected)
        name = key.encode()
        if value is None:
            operation = TYPES["RequestOp"](request_delete_range=TYPES["DeleteRangeRequest"](key=name))
        else:
            operation = TYPES["RequestOp"](request_put=TYPES["PutRequest"](key=name, value=value))
        answer = await self._call(
            "Txn",
            TYPES["TxnRequest"](
                compare=[TYPES["Compare"](target=MOD, key=name, mod_revision=expected)],
                success=[operation],
                failure=[TYPES["RequestOp"](request_range=TYPES["RangeRequest"](key=name, keys_only=True))],
            ),
        )
        if not answer.succeeded:
            found = answer.responses[0].response_range.kvs
            raise Conflict(key, found[0].mod_revision if found else 0)
        return int(answer.header.revision)

    async def revision(self) -> int:
        answer = await self._call("Range", TYPES["RangeRequest"](key=TOUCHED.encode(), keys_only=True))
        revision = int(answer.header.revision)
        self._asked = max(self._asked, revision)
        if self._prefixes_behind():
            self._behind.set()
        return revision

    async def snapshot(self, prefix: str) -> Snapshot:
        entries: list[Entry] = []
        request = TYPES["RangeRequest"](**_range(prefix), limit=PAGE)
        while True:
            answer = await self._call("Range", request)
            entries += (Entry(kv.key.decode(), kv.value, kv.mod_revision) for kv in answer.kvs)
            request.revision = request.revision or answer.header.revision
            if not answer.more:
                return Snapshot(request.revision, entries)
            request.key = answer.kvs[-1].key + b"\0"

    async def watch(self, prefix: str, after: int) -> AsyncIterator[Sequence[Change]]:
        follower = _Follower(prefix, after)
        self._followers[follower] = None
        failures = 0
        lowest = 0  # an etcd whose revision is below was put back to an older state
        try:
            while not self._closed.is_set():
                try:
                    async for answer in self._answers(follower):
                        failures = 0
                        if answer.canceled:
                            raise StoreFailed(f"etcd {self._endpoint} ended the watch: {answer.cancel_reason}")
                        if answer.header.revision < lowest:
                            raise StoreFailed(
                                f"etcd {self._endpoint} went back from revision {lowest} to {answer.header.revision}"
                            )
                        changes = await self._changes(answer.events, follower.reached)
                        if changes:
                            lowest = follower.reached = changes[-1].revision
                            yield changes
                except grpc.aio.AioRpcError as error:
                    if self._closed.is_set():
                        return
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise self._failure(error) from error
                if not self._closed.is_set():
                    failures += 1
                    log.warning("etcd %s: the watch of %s broke at revision %d", self._endpoint, prefix, follower.reached)
                    await self._clock.sleep(BACKOFF.delay(failures))
        finally:
            del self._followers[follower]

    async def history(self) -> int:
        try:
            await self._kv["Range"](TYPES["RangeRequest"](key=b"\0", revision=FIRST, keys_only=True), timeout=TIMEOUT)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.OUT_OF_RANGE:
                raise self._failure(error) from error
        else:
            return FIRST
        # Only the refusal of a watch tells the number.
        try:
            async with self._clock.timeout(TIMEOUT), aclosing(self._answers(_Follower("", 0))) as answers:
                async for _ in answers:
                    pass
        except Compacted as compacted:
            return compacted.revision
        except (TimeoutError, grpc.aio.AioRpcError) as error:
            raise self._failed(f"did not say where its history begins: {error}") from error
        raise self._failed("did not say where its history begins")

    async def compact(self, revision: int) -> None:
        revision = min(revision, await self.revision())
        try:
            async with self._clock.hold():
                await self._kv["Compact"](TYPES["CompactionRequest"](revision=revision), timeout=TIMEOUT)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.OUT_OF_RANGE:  # it is compacted further already
                raise self._failure(error) from error

    async def close(self) -> None:
        self._closed.set()
        await self._owner.stop()
        for follower in self._followers:
            if follower.call is not None:
                follower.call.cancel()
        await self._channel.close()

    async def _answers(self, follower: _Follower) -> AsyncGenerator[Any]:
        """The answers of one watch call; ends when the call does. Raises Compacted, and what grpc raises."""
        call = follower.call = self._watch()
        try:
            create = TYPES["WatchCreateRequest"](
                **_range(follower.prefix),
                # The revision reached is asked for again, and passed over: so etcd refuses exactly what lies before its compaction.
                start_revision=max(follower.reached, FIRST),
                prev_kv=True,
            )
            await call.write(TYPES["WatchRequest"](create_request=create))
            while (answer := await call.read()) is not grpc.aio.EOF:
                if answer.compact_revision:
                    raise Compacted(answer.compact_revision)
                if answer.canceled:
                    raise self._failed(f"ended the watch: {answer.cancel_reason}")
                yield answer
        except asyncio.CancelledError:
            if not self._closed.is_set() or _cancelled():
                raise
        finally:
            follower.call = None
            call.cancel()

    async def _changes(self, events: Sequence[Any], after: int) -> list[Change]:
        changes = []
        for event in events:
            kv = event.kv
            if kv.mod_revision <= after:
                continue
            key = kv.key.decode()
            previous = Entry(key, event.prev_kv.value, event.prev_kv.mod_revision) if event.HasField("prev_kv") else None
            if previous is None and (event.type == DELETE or kv.create_revision != kv.mod_revision):
                raise Compacted(await self.history())  # what it was before is compacted: the reader fell behind
            changes.append(Change(kv.mod_revision, key, None if event.type == DELETE else kv.value, previous))
        return changes

    async def _touch_behind(self) -> None:
        """Brings watches to revisions that were asked for: others' keys raise the revision, and no event tells a watch of it."""
        while True:
            await self._behind.wait()
            self._behind.clear()
            await self._clock.sleep(GRACE)
            for prefix in self._prefixes_behind():
                try:
                    await self._call("Put", TYPES["PutRequest"](key=(prefix + TOUCHED).encode()))
                except StoreFailed as error:
                    log.warning("%s", error)
                    self._behind.set()
                    await self._clock.sleep(BACKOFF.maximum)

    def _prefixes_behind(self) -> set[str]:
        return {follower.prefix for follower in self._followers if follower.reached < self._asked}

    async def _call(self, method: str, request: Any) -> Any:
        if self._closed.is_set():
            raise StoreFailed("the store is closed")
        try:
            async with self._clock.hold():
                return await self._kv[method](request, timeout=TIMEOUT)
        except grpc.aio.AioRpcError as error:
            raise self._failure(error) from error

    def _failure(self, error: grpc.aio.AioRpcError) -> StoreFailed:
        return self._failed(f"{error.code().name}: {error.details()}")

    def _failed(self, what: str) -> StoreFailed:
        return StoreFailed(f"etcd {self._endpoint}: {what}")


def _cancelled() -> bool:
    """Whether the running task was asked to end (and not only the call that it awaits)."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _range(prefix: str) -> dict[str, bytes]:
    """`key` and `range_end` (the first key after) of all that begins with `prefix`; UTF-8 has no byte 0xff, so the last can be raised."""
    name = prefix.encode()
    return {"key": name, "range_end": name[:-1] + bytes([name[-1] + 1])} if name else {"key": b"\0", "range_end": b"\0"}


def _channel(endpoint: str, tls: Tls) -> grpc.aio.Channel:
    url = urlsplit(endpoint)
    if url.scheme not in {"http", "https"} or not url.hostname or url.path not in {"", "/"}:
        raise ValueError(f"datastore endpoint {endpoint!r}: an etcd is http://HOST:PORT or https://HOST:PORT")
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    target = f"{host}:{url.port or 2379}"
    if url.scheme == "http":
        return grpc.aio.insecure_channel(target, options=OPTIONS)
    try:
        ca, key, cert = (path.read_bytes() if path else None for path in (tls.ca, tls.key, tls.cert))
    except OSError as error:
        raise StoreFailed(f"{error.filename}: {error.strerror}") from error
    return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(ca, key, cert), options=OPTIONS)
