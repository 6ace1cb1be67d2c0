"""What only the SQLite store has: lazy writes, restarts, history in a table, a file that may be locked, damaged or full.

A crash is played by a copy of the files as they lie on the disk at that moment.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minik8s.base.clock import RealClock
from minik8s.store import open_store, sqlite
from minik8s.store.base import Change, Compacted, Entry, Store, StoreCorrupt, StoreFailed, StoreLocked
from minik8s.testing.clock import VirtualClock

P = "/registry/"
Read = Callable[..., Any]
Crashed = Callable[[], Awaitable[Store]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "state.db"


@pytest.fixture
async def store(path: Path, clock: VirtualClock) -> AsyncIterator[Store]:
    opened = await open_store("", path, clock)
    yield opened
    await opened.close()


@pytest.fixture
def crashed(path: Path, clock: VirtualClock) -> Callable[[], Awaitable[Store]]:
    """Opens the store as another process would find it if this one were killed now."""

    async def open_copy() -> Store:
        copy = Path(shutil.copytree(path.parent, path.parent.parent / "crashed", dirs_exist_ok=True)) / path.name
        return await open_store("sqlite", copy, clock)

    return open_copy


async def contents(store: Store) -> dict[str, bytes]:
    return {entry.key: entry.value for entry in (await store.snapshot("")).entries}


async def test_a_restart_finds_values_revisions_and_history(path: Path, store: Store, read: Read, clock: VirtualClock) -> None:
    start = await store.revision()
    one = await store.write(P + "k", b"1", 0)
    two = await store.write(P + "k", b"2", one)
    gone = await store.write(P + "gone", b"g", 0)
    last = await store.write(P + "gone", None, gone)
    await store.close()
    again = await open_store("", path, clock)
    assert await again.revision() == last
    assert list((await again.snapshot(P)).entries) == [Entry(P + "k", b"2", two)]
    reader = read(again, start)
    assert await reader.take(4) == [
        Change(one, P + "k", b"1", None),
        Change(two, P + "k", b"2", Entry(P + "k", b"1", one)),
        Change(gone, P + "gone", b"g", None),
        Change(last, P + "gone", None, Entry(P + "gone", b"g", gone)),
    ]
    await reader.close()
    assert await again.write(P + "k", b"3", two) > last
    await again.close()


async def test_a_lazy_write_is_on_disk_a_minute_later(crashed: Crashed, store: Store, clock: VirtualClock) -> None:
    await store.write(P + "lazy", b"v", 0, lazy=True)
    await clock.advance(59)
    before = await crashed()
    assert await contents(before) == {}
    await before.close()
    await clock.advance(2)
    after = await crashed()
    assert await contents(after) == {P + "lazy": b"v"}
    await after.close()


async def test_lazy_writes_are_on_disk_after_close(path: Path, store: Store, clock: VirtualClock) -> None:
    one = await store.write(P + "lazy", b"1", 0, lazy=True)
    two = await store.write(P + "lazy", b"2", one, lazy=True)
    await store.close()
    again = await open_store("", path, clock)
    assert await contents(again) == {P + "lazy": b"2"}
    assert await again.revision() == two  # and so no gap after an orderly end
    await again.close()


async def test_a_lost_lazy_revision_is_not_given_again(crashed: Crashed, store: Store) -> None:
    await store.write(P + "durable", b"v", 0)
    lost = [await store.write(P + f"lazy{i}", b"v", 0, lazy=True) for i in range(5)]
    after = await crashed()
    assert await contents(after) == {P + "durable": b"v"}
    assert await after.revision() >= lost[-1]
    assert await after.write(P + "new", b"v", 0) > lost[-1]
    await after.close()


async def test_reserving_follows_the_writes(crashed: Crashed, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "RESERVE", 3)
    for i in range(10):
        revision = await store.write(P + f"k{i}", b"v", 0, lazy=i % 3 != 0)
        after = await crashed()
        assert await after.revision() >= revision
        await after.close()


async def test_a_durable_write_takes_the_lazy_ones_of_its_key_along(crashed: Crashed, store: Store, read: Read) -> None:
    start = await store.revision()
    one = await store.write(P + "k", b"1", 0)
    two = await store.write(P + "k", b"2", one, lazy=True)
    three = await store.write(P + "k", b"3", two, lazy=True)
    await store.write(P + "other", b"v", 0, lazy=True)
    four = await store.write(P + "k", b"4", three)
    after = await crashed()
    reader = read(after, start)
    assert await reader.take(4) == [
        Change(one, P + "k", b"1", None),
        Change(two, P + "k", b"2", Entry(P + "k", b"1", one)),
        Change(three, P + "k", b"3", Entry(P + "k", b"2", two)),
        Change(four, P + "k", b"4", Entry(P + "k", b"3", three)),
    ]
    assert await contents(after) == {P + "k": b"4"}
    await reader.close()
    await after.close()


async def test_a_lost_lazy_deletion_does_not_leave_a_key_twice(crashed: Crashed, store: Store) -> None:
    one = await store.write(P + "k", b"1", 0)
    await store.write(P + "k", None, one, lazy=True)
    await store.write(P + "k", b"2", 0)
    after = await crashed()
    assert await contents(after) == {P + "k": b"2"}
    await after.close()


async def test_too_many_lazy_writes_go_along_with_the_next_group(
    crashed: Crashed, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "LAZY_LIMIT", 3)
    for i in range(4):
        await store.write(P + f"k{i}", b"v", 0, lazy=True)
    after = await crashed()
    assert len(await contents(after)) == 4
    await after.close()


async def test_a_slow_watch_reads_the_table(store: Store, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "TAIL", 3)
    monkeypatch.setattr(sqlite, "READ", 7)
    monkeypatch.setattr("minik8s.store.database.READ", 7)
    reader = read(store, await store.revision())
    written: list[Change] = []
    current: dict[str, Entry] = {}
    for i in range(60):
        key, lazy = (P + "lazy", True) if i % 4 == 0 else (P + "durable", False)
        previous = current.pop(key, None)
        value = None if previous and i % 5 == 0 else b"%d" % i
        revision = await store.write(key, value, previous.revision if previous else 0, lazy=lazy)
        written.append(Change(revision, key, value, previous))
        if value is not None:
            current[key] = Entry(key, value, revision)
    assert await reader.take(60) == written
    await reader.close()


async def test_a_watch_that_falls_behind_the_compaction_is_told(store: Store, read: Read) -> None:
    reader = read(store, await store.revision())
    revision = await store.write(P + "k", b"v", 0)
    assert (await reader.next()).revision == revision
    for _ in range(3):
        revision = await store.write(P + "k", b"v", revision)
    await store.compact(revision)
    with pytest.raises(Compacted):
        await reader.next()


async def test_compaction_deletes_rows_and_is_remembered(path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "FORGET", 4)
    revision = await store.write(P + "k", b"0", 0)
    for i in range(20):
        revision = await store.write(P + "k", b"%d" % i, revision, lazy=i % 3 == 0)
    gone = await store.write(P + "gone", b"v", 0)
    last = await store.write(P + "gone", None, gone)
    await store.compact(last)
    await store.close()
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT key, value FROM log").fetchall()
    connection.close()
    assert rows == [(P + "k", b"19")]
    again = await open_store("", path, RealClock())
    assert (await again.history(), await again.revision()) == (last, last)
    await again.close()


async def test_a_compaction_cut_off_does_no_harm(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "FORGET", 1)
    revisions = [await store.write(P + f"k{i}", b"v", 0) for i in range(30)]
    compacting = asyncio.ensure_future(store.compact(revisions[-1]))
    for turn in range(60):
        await asyncio.sleep(0)
        if turn == 20:
            compacting.cancel()
        await store.write(P + f"w{turn}", b"v", 0)
    assert compacting.cancelled()
    await store.compact(revisions[-1])
    assert await store.history() == revisions[-1]


async def test_writes_at_rest_leave_the_disk_alone(path: Path, store: Store, clock: VirtualClock) -> None:
    await store.write(P + "k", b"v", 0)
    await clock.advance(5)
    files = sorted(path.parent.iterdir())
    before = [(file.name, file.stat().st_mtime_ns) for file in files]
    await clock.advance("1h")
    assert [(file.name, file.stat().st_mtime_ns) for file in files] == before


async def test_the_write_ahead_log_is_bounded(
    path: Path, store: Store, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "WAL_PAGES", 10)
    for i in range(100):
        await store.write(P + f"k{i}", bytes(4000), 0)
    await clock.advance(1)
    assert path.with_name("state.db-wal").stat().st_size == 0
    assert len(await contents(store)) == 100


async def test_only_the_owner_may_read_the_files(path: Path, store: Store) -> None:
    await store.write(P + "secret", b"v", 0)
    for file in (*path.parent.iterdir(), path.parent):
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file


async def test_two_openers_at_once(path: Path, store: Store) -> None:
    with pytest.raises(StoreLocked, match=r"state\.db is in use"):
        await open_store("", path, RealClock())
    code = (
        "import asyncio,sys;from pathlib import Path;from minik8s.store import open_store;from minik8s.base.clock import RealClock\n"
        "try: asyncio.run(open_store('',Path(sys.argv[1]),RealClock()))\n"
        "except Exception as error: print(type(error).__name__)"
    )
    ran = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code, path], capture_output=True, check=True)
    assert ran.stdout == b"StoreLocked\n"
    await store.close()
    again = await open_store("", path, RealClock())
    await again.close()


def _text(path: Path) -> None:
    path.write_text("this is not a database, but it is long enough to have a header\n" * 100)


def _other_program(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    connection.close()


def _newer_format(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def _no_table(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE log")
    connection.close()


def _garbage_within(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 : len(content)] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _a_key_twice(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO log SELECT revision + 1000, key, 0, value FROM log LIMIT 1")
    connection.close()


@pytest.mark.parametrize("damage", [_text, _other_program, _newer_format, _no_table, _garbage_within, _cut_short, _a_key_twice])
async def test_a_file_that_is_no_store_or_damaged(path: Path, damage: Callable[[Path], None]) -> None:
    if damage in {_text, _other_program}:
        path.parent.mkdir()
    else:
        made = await open_store("", path, RealClock())
        for i in range(50):
            await made.write(P + f"k{i}", bytes(1000), 0)
        await made.close()
    damage(path)
    content = path.read_bytes()
    for _ in range(2):
        with pytest.raises(StoreCorrupt, match=r"state\.db can't be used: .*Restore it from a copy"):
            await open_store("", path, RealClock())
    assert path.read_bytes() == content


async def test_a_place_where_no_file_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreFailed, match=r"Not a directory|File exists"):
        await open_store("", tmp_path / "file" / "state.db", RealClock())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    point = tmp_path / "small"
    point.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", point], check=False, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield point
    subprocess.run(["umount", point], check=True)


@pytest.mark.root
async def test_a_full_disk_refuses_writes_and_loses_nothing(small_disk: Path) -> None:
    store = await open_store("", small_disk / "state.db", RealClock())
    kept = await store.write(P + "kept", b"v", 0)
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space"):
        ballast.write_bytes(bytes(4 << 20))
    for _ in range(2):
        outcomes = await asyncio.gather(
            *(store.write(P + f"k{i}", bytes(100_000), 0) for i in range(10)), return_exceptions=True
        )
        assert {type(outcome) for outcome in outcomes} == {StoreFailed}
        assert "full" in str(outcomes[0])
    assert await store.revision() == kept
    ballast.unlink()
    later = await store.write(P + "k0", bytes(100_000), 0)
    assert later > kept
    await store.close()
    again = await open_store("", small_disk / "state.db", RealClock())
    assert set(await contents(again)) == {P + "kept", P + "k0"}
    assert await again.revision() == later
    await again.close()
