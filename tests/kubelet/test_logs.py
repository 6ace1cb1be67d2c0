"""Logs as CRI runtimes write them. Answers: golden/node/logs ng-params, ng-partial, ng-long-line."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from minik8s.kubelet.logs import LogOptions, last_lines, read_log

DAY = "2026-01-02T03:04:0"
LINES = [f"{DAY}{n}.000000000Z stdout F line {n}" for n in range(1, 6)]
LINES += [f"{DAY}6.5Z stderr F err", f"{DAY}7.5Z stdout P no newline"]


async def never() -> None:
    await asyncio.Event().wait()


async def text(path: Path, **options: Any) -> str:
    return b"".join([chunk async for chunk in read_log(path, LogOptions(**options), never)]).decode()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "0.log"
    path.write_text("\n".join(LINES) + "\n")
    return path


ALL = "line 1\nline 2\nline 3\nline 4\nline 5\nerr\nno newline"


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, ALL),
        ({"tail_lines": 2}, "err\nno newline"),
        ({"tail_lines": 0}, ""),
        ({"tail_lines": 100}, ALL),
        ({"limit_bytes": 9}, "line 1\nli"),
        ({"limit_bytes": 1}, "l"),
        ({"tail_lines": 3, "limit_bytes": 6}, "line 5"),
        ({"since": 4e9}, ""),
        ({"since": 1767323046.4}, "err\nno newline"),
        ({"tail_lines": 1, "timestamps": True}, f"{DAY}7.5Z no newline"),
    ],
)
async def test_options(log: Path, options: dict[str, Any], wanted: str) -> None:
    assert await text(log, **options) == wanted


async def test_parts_of_a_line_are_one(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text(f"{DAY}1Z stdout F before\n{DAY}2Z stdout P aaa\n{DAY}3Z stdout F bbb\n{DAY}4Z stdout F end\n")
    assert await text(path, tail_lines=2) == "aaabbb\nend\n"
    assert await text(path, tail_lines=2, timestamps=True) == f"{DAY}2Z aaabbb\n{DAY}4Z end\n"


async def test_long_files_are_read_from_the_end(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text("".join(f"{DAY}1Z stdout F line {n} {'x' * 50}\n" for n in range(10_000)))
    assert (await text(path, tail_lines=3)).split("\n")[0].startswith("line 9997 ")
    assert (await text(path)).count("\n") == 10_000
    assert last_lines(path, 80, 2048).count("\n") <= 80


async def test_following_until_the_container_ends(log: Path) -> None:
    over = asyncio.Event()
    got: list[bytes] = []

    async def follow() -> None:
        async for chunk in read_log(log, LogOptions(follow=True, tail_lines=1), lambda: _wait(over)):
            got.append(chunk)

    following = asyncio.create_task(follow())
    while not got:
        await asyncio.sleep(0)
    with log.open("a") as file:
        file.write(f"{DAY}8Z stdout F more\n{DAY}9Z stdout F unfini")
        file.flush()
        while len(got) < 2:
            await asyncio.sleep(0.001)
        file.write("shed\n")
    over.set()
    await following
    assert b"".join(got) == b"no newlinemore\nunfinished\n"


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


async def test_following_through_a_rotation(log: Path) -> None:
    over = asyncio.Event()
    got: list[bytes] = []

    async def follow() -> None:
        async for chunk in read_log(log, LogOptions(follow=True, tail_lines=0), lambda: _wait(over)):
            got.append(chunk)

    following = asyncio.create_task(follow())
    await asyncio.sleep(0.01)
    log.rename(log.with_suffix(".old"))
    log.write_text(f"{DAY}8Z stdout F anew\n")
    while not got:
        await asyncio.sleep(0.001)
    over.set()
    await following
    assert got == [b"anew\n"]


async def test_nothing_is_missed_while_a_writer_changes_files(log: Path) -> None:
    """The kubelet renames, and only then the runtime opens a new file: meanwhile it writes to the old one."""
    over = asyncio.Event()
    got = bytearray()

    async def follow() -> None:
        async for chunk in read_log(log, LogOptions(follow=True, tail_lines=0), lambda: _wait(over)):
            got.extend(chunk)

    async def until(text: bytes) -> None:
        while text not in got:
            await asyncio.sleep(0.001)

    following = asyncio.create_task(follow())
    await asyncio.sleep(0.01)
    with log.open("a") as old:
        log.rename(log.with_suffix(".log.1"))
        await asyncio.sleep(0.02)
        old.write(f"{DAY}8Z stdout F late\n")
        old.flush()
        await until(b"late\n")
        old.write(f"{DAY}8Z stdout F last\n")
    log.write_text(f"{DAY}9Z stdout F anew\n")
    await until(b"anew\n")
    with log.open("a") as new:
        new.write(f"{DAY}9Z stdout F more\n")
    await until(b"more\n")
    over.set()
    await following
    assert bytes(got) == b"late\nlast\nanew\nmore\n"


async def test_no_log_at_all(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await text(tmp_path / "none.log")
    assert last_lines(tmp_path / "none.log", 1, 1) == ""
