"""What only a real etcd can show: restarts, others' keys, TLS. The rules: `minik8s/store/base.py`, etcd.io/docs (API guarantees)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from minik8s.base.clock import RealClock
from minik8s.base.pki import Authority, write_pair
from minik8s.store import open_store
from minik8s.store.base import TOUCHED, Change, Entry, Store, StoreFailed

P = "/registry/"
Read = Callable[..., Any]  # the fixture's `Reader`
Etcd = Any  # the fixture's `Etcd`

pytestmark = pytest.mark.e2e


@pytest.fixture
async def shared(etcd: Etcd) -> AsyncIterator[tuple[Store, Store]]:
    """Two servers' stores in one etcd."""
    one, two = await etcd.open(), await etcd.open()
    for entry in (await one.snapshot("")).entries:
        await one.write(entry.key, None, entry.revision)
    yield one, two
    await one.close()
    await two.close()


async def test_two_servers_see_each_others_writes(shared: tuple[Store, Store], read: Read) -> None:
    one, two = shared
    reader = read(two, await two.revision())
    first = await one.write(P + "k", b"1", 0)
    assert await two.revision() >= first
    second = await two.write(P + "k", b"2", first)
    assert await reader.take(2) == [
        Change(first, P + "k", b"1", None),
        Change(second, P + "k", b"2", Entry(P + "k", b"1", first)),
    ]
    await reader.close()


async def test_a_watch_reaches_a_revision_that_another_prefix_raised(shared: tuple[Store, Store]) -> None:
    store, other = shared
    batches = store.watch(P, await store.revision())
    waiting = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0.1)
    await other.write("/elsewhere/k", b"v", 0)
    revision = await store.revision()
    [change] = await asyncio.wait_for(waiting, 5)
    assert change.key == P + TOUCHED
    assert change.revision > revision
    await batches.aclose()


async def test_a_watch_that_keeps_up_is_not_touched(shared: tuple[Store, Store], read: Read) -> None:
    store, _ = shared
    reader = read(store, await store.revision())
    for i in range(3):
        await store.write(P + f"k{i}", b"v", 0)
        await reader.next()
        await store.revision()
    await asyncio.sleep(0.15)
    assert [entry.key for entry in (await store.snapshot(P)).entries] == [P + "k0", P + "k1", P + "k2"]
    await reader.close()


async def test_a_long_snapshot_is_read_in_pages_at_one_revision(
    shared: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minik8s.store.etcd.PAGE", 7)
    store, _ = shared
    written = {P + f"k{i:02}": await store.write(P + f"k{i:02}", b"v", 0) for i in range(30)}
    snapshot = await store.snapshot(P)
    assert {entry.key: entry.revision for entry in snapshot.entries} == written
    assert snapshot.revision == max(written.values())


async def test_a_restarted_etcd_is_watched_on_from_where_it_was(new_etcd: Callable[..., Etcd], read: Read) -> None:
    own = new_etcd()
    try:
        store = await own.open()
        first = await store.write(P + "k", b"1", 0)
        reader = read(store, first)
        waiting = asyncio.ensure_future(reader.next())
        await asyncio.sleep(0.05)
        own.stop()
        with pytest.raises(StoreFailed, match=r"UNAVAILABLE|DEADLINE"):
            await store.write(P + "k", b"lost", first)
        own.start()
        other = await own.open()
        [kept] = (await other.snapshot(P)).entries
        second = await other.write(P + "k", b"2", kept.revision)
        seen = await asyncio.wait_for(waiting, 10)
        while seen.revision != second:  # whether the failed write happened is not known
            seen = await reader.next()
        assert seen.value == b"2"
        assert await store.revision() >= second
        await reader.close()
        await store.close()
        await other.close()
    finally:
        own.stop()


async def test_closing_while_etcd_is_away(new_etcd: Callable[..., Etcd], read: Read) -> None:
    own = new_etcd()
    try:
        store = await own.open()
        reader = read(store, await store.revision())
        waiting = asyncio.ensure_future(reader.next())
        await asyncio.sleep(0.05)
    finally:
        own.stop()
    await asyncio.sleep(0.05)
    await store.close()
    with pytest.raises(StopAsyncIteration):
        await waiting


async def test_nobody_there(new_etcd: Callable[..., Etcd]) -> None:
    gone = new_etcd()
    gone.stop()
    with pytest.raises(StoreFailed, match=f"etcd {gone.endpoint}: UNAVAILABLE"):
        await open_store(gone.endpoint, Path(), RealClock())


async def test_tls_with_certificates_on_both_sides(new_etcd: Callable[..., Etcd], tmp_path: Path) -> None:
    authority = Authority.create("etcd", RealClock())
    ca, cert, key = tmp_path / "ca.crt", tmp_path / "client.crt", tmp_path / "client.key"
    ca.write_bytes(authority.pair.certificate)
    write_pair(authority.client("root"), cert, key)
    write_pair(authority.server(["127.0.0.1"]), tmp_path / "server.crt", tmp_path / "server.key")
    own = new_etcd(
        **{
            "cert-file": tmp_path / "server.crt",
            "key-file": tmp_path / "server.key",
            "trusted-ca-file": ca,
            "client-cert-auth": "true",
        }
    )
    store = await own.open(ca=ca, cert=cert, key=key)
    assert await store.write(P + "k", b"v", 0) == await store.revision()
    await store.close()
    for files in ({}, {"ca": ca}):
        with pytest.raises(StoreFailed, match="UNAVAILABLE"):
            await open_store(own.endpoint, Path(), RealClock(), **files)
    with pytest.raises(StoreFailed, match=r"none\.crt: No such file"):
        await open_store(own.endpoint, Path(), RealClock(), ca=tmp_path / "none.crt")
    own.stop()


@pytest.mark.parametrize("endpoint", ["http://", "http://a,http://b", "http://h:1/path", "mysql://h", "etcd"])
async def test_endpoints_that_are_none(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r"datastore endpoint|Port"):
        await open_store(endpoint, Path(), RealClock())
