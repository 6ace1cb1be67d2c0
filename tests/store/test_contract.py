"""The contract suite of `minik8s/store/base.py`, on every implementation. Revisions are compared with the one at the start of a
test, as a real etcd serves more than one of them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from minik8s.store.base import Change, Compacted, Conflict, Entry, Store, StoreFailed

P = "/registry/"
Read = Callable[..., Any]  # the fixture's `Reader`


async def test_a_write_is_in_the_snapshot_with_its_revision(store: Store) -> None:
    start = await store.revision()
    revision = await store.write(P + "core/pods/default/a", b"one", 0)
    snapshot = await store.snapshot(P)
    assert revision > start
    assert snapshot.revision >= revision
    assert list(snapshot.entries) == [Entry(P + "core/pods/default/a", b"one", revision)]


async def test_a_snapshot_is_sorted_and_ends_at_its_prefix(store: Store) -> None:
    for name in ("pods/b", "pods/a", "pods/ä", "podsx/c", "secrets/a"):
        await store.write(P + name, name.encode(), 0)
    found = [entry.key for entry in (await store.snapshot(P + "pods/")).entries]
    assert found == [P + "pods/a", P + "pods/b", P + "pods/ä"]


async def test_revisions_rise_strictly(store: Store) -> None:
    revisions = [await store.write(P + f"k{i}", b"v", 0) for i in range(5)]
    assert revisions == sorted(set(revisions))
    assert await store.revision() >= revisions[-1]


@pytest.mark.parametrize("lazy", [False, True])
async def test_update_and_delete_need_the_current_revision(store: Store, lazy: bool) -> None:
    key = P + "k"
    one = await store.write(key, b"1", 0, lazy=lazy)
    two = await store.write(key, b"2", one, lazy=lazy)
    for stale, value in ((0, b"x"), (one, b"x"), (one, None), (two + 1000, b"x")):
        with pytest.raises(Conflict) as raised:
            await store.write(key, value, stale, lazy=lazy)
        assert (raised.value.key, raised.value.current) == (key, two)
    three = await store.write(key, None, two, lazy=lazy)
    assert three > two
    with pytest.raises(Conflict) as raised:
        await store.write(key, b"x", two, lazy=lazy)
    assert raised.value.current == 0
    assert (await store.snapshot(P)).entries == []


async def test_a_conflict_changes_nothing(store: Store) -> None:
    revision = await store.write(P + "k", b"1", 0)
    with pytest.raises(Conflict):
        await store.write(P + "k", b"2", 0)
    assert await store.revision() == revision
    assert list((await store.snapshot(P)).entries) == [Entry(P + "k", b"1", revision)]


async def test_deleting_at_zero_is_a_mistake_of_the_caller(store: Store) -> None:
    with pytest.raises(ValueError, match="nothing can be deleted"):
        await store.write(P + "k", None, 0)


async def test_of_many_writes_at_once_to_one_key_one_wins(store: Store) -> None:
    outcomes = await asyncio.gather(*(store.write(P + "k", b"%d" % i, 0) for i in range(20)), return_exceptions=True)
    won = [outcome for outcome in outcomes if isinstance(outcome, int)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, Conflict)]
    assert (len(won), len(lost)) == (1, 19)
    assert {conflict.current for conflict in lost} == set(won)


async def test_many_writes_at_once_each_get_a_revision(store: Store, read: Read) -> None:
    reader = read(store, await store.revision())
    revisions = await asyncio.gather(*(store.write(P + f"k{i}", b"v", 0) for i in range(100)))
    assert len(set(revisions)) == 100
    seen = await reader.take(100)
    assert [change.revision for change in seen] == sorted(revisions)
    await reader.close()


async def test_a_watch_gives_history_then_news_each_with_what_was_before(store: Store, read: Read) -> None:
    start = await store.revision()
    key = P + "k"
    one = await store.write(key, b"1", 0)
    two = await store.write(key, b"2", one)
    reader = read(store, start)
    history = await reader.take(2)
    three = await store.write(key, None, two)
    four = await store.write(key, b"4", 0)
    news = await reader.take(2)
    assert history + news == [
        Change(one, key, b"1", None),
        Change(two, key, b"2", Entry(key, b"1", one)),
        Change(three, key, None, Entry(key, b"2", two)),
        Change(four, key, b"4", None),
    ]
    await reader.close()


async def test_a_watch_gives_only_its_prefix(store: Store, read: Read) -> None:
    reader = read(store, await store.revision(), P + "pods/")
    await store.write(P + "podsx/a", b"v", 0)
    await store.write(P + "pods/a", b"v", 0)
    assert (await reader.next()).key == P + "pods/a"
    await reader.close()


async def test_a_watch_from_the_middle_misses_and_repeats_nothing(store: Store, read: Read) -> None:
    revisions = [await store.write(P + f"k{i}", b"v", 0) for i in range(10)]
    for i in (0, 4, 8):
        reader = read(store, revisions[i])
        assert [change.revision for change in await reader.take(9 - i)] == revisions[i + 1 :]
        await reader.close()


async def test_watches_from_anywhere_while_writes_go_on(store: Store, read: Read) -> None:
    start = await store.revision()

    async def write(i: int) -> list[int]:
        revisions = [await store.write(P + f"w{i}", b"0", 0)]
        for n in range(1, 20):
            revisions.append(await store.write(P + f"w{i}", b"%d" % n, revisions[-1], lazy=i % 2 == 1))
        return revisions

    async def follow() -> list[Change]:
        reader = read(store, start)
        changes = await reader.take(100)
        await reader.close()
        return changes

    async def late() -> list[Change]:
        await asyncio.sleep(0)
        return await follow()

    *written, first, second = await asyncio.gather(*(write(i) for i in range(5)), follow(), late())
    assert first == second == await follow()
    assert [change.revision for change in first] == sorted(itertools.chain(*written))
    for change in first:
        assert (change.previous.value if change.previous else None) == (
            b"%d" % (int(change.value) - 1) if change.value != b"0" else None
        )


async def test_a_watch_may_wait_for_a_revision_to_come(store: Store, read: Read) -> None:
    revision = await store.write(P + "a", b"v", 0)
    reader = read(store, revision + 1)
    two = await store.write(P + "b", b"v", 0)
    three = await store.write(P + "c", b"v", 0)
    assert (await reader.next()).revision == (three if two == revision + 1 else two)
    await reader.close()


async def test_a_reader_that_leaves_does_not_disturb_the_others(store: Store, read: Read) -> None:
    start = await store.revision()
    stays, leaves = read(store, start), read(store, start)
    waiting = [asyncio.ensure_future(reader.next()) for reader in (stays, leaves)]
    await asyncio.sleep(0.01)
    waiting[1].cancel()
    revision = await store.write(P + "k", b"v", 0)
    assert (await waiting[0]).revision == revision
    await stays.close()


async def test_a_cancelled_write_leaves_the_store_whole(store: Store, read: Read) -> None:
    reader = read(store, await store.revision())
    writing = asyncio.ensure_future(store.write(P + "a", b"v", 0))
    await asyncio.sleep(0)
    writing.cancel()
    revision = await store.write(P + "b", b"v", 0)
    last = await reader.next()
    if last.key == P + "a":
        last = await reader.next()
    assert (last.key, last.revision) == (P + "b", revision)
    await reader.close()


async def test_compaction_keeps_what_is_current_and_refuses_older_watches(store: Store, read: Read) -> None:
    start = await store.revision()
    gone = await store.write(P + "gone", b"v", 0)
    kept = await store.write(P + "kept", b"v", 0)
    one = await store.write(P + "k", b"1", 0)
    removed = await store.write(P + "gone", None, gone)
    two = await store.write(P + "k", b"2", one)
    await store.compact(removed)
    assert await store.history() == removed
    for after in (start, one, removed - 1):
        with pytest.raises(Compacted) as raised:
            await read(store, after).next()
        assert raised.value.revision == removed
    reader = read(store, removed)
    assert await reader.next() == Change(two, P + "k", b"2", Entry(P + "k", b"1", one))
    await reader.close()
    assert list((await store.snapshot(P)).entries) == [Entry(P + "k", b"2", two), Entry(P + "kept", b"v", kept)]


async def test_compacting_again_or_further_back_does_nothing(store: Store) -> None:
    revisions = [await store.write(P + f"k{i}", b"v", 0) for i in range(3)]
    for revision in (revisions[1], revisions[1], revisions[0]):
        await store.compact(revision)
        assert await store.history() == revisions[1]


async def test_a_watch_that_waits_outlives_a_compaction(store: Store, read: Read) -> None:
    first = await store.write(P + "a", b"1", 0)
    reader = read(store, first)
    waiting = asyncio.ensure_future(reader.next())
    await asyncio.sleep(0.01)
    await store.compact(first)
    second = await store.write(P + "a", b"2", first)
    assert await waiting == Change(second, P + "a", b"2", Entry(P + "a", b"1", first))
    await reader.close()


async def test_closing_ends_watches_and_refuses_writes(store: Store, read: Read) -> None:
    reader = read(store, await store.revision())
    waiting = asyncio.ensure_future(reader.next())
    await asyncio.sleep(0.01)
    await store.close()
    await store.close()
    with pytest.raises(StopAsyncIteration):
        await waiting
    with pytest.raises(StoreFailed):
        await store.write(P + "k", b"v", 0)
    with pytest.raises(StoreFailed):
        await store.write(P + "k", b"v", 0, lazy=True)


async def test_a_big_value(store: Store, read: Read) -> None:
    value = bytes(range(256)) * 4096  # 1 MiB, below the 1.5 MiB that etcd takes for a request
    revision = await store.write(P + "k", value, 0)
    reader = read(store, revision - 1)
    assert (await reader.next()).value == value
    await reader.close()
