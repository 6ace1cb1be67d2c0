"""The processes of this machine, as /proc has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def command_lines() -> Iterator[tuple[int, str]]:
    """Of each process its id and its words with spaces between."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue  # ended meanwhile
        yield int(process.name), command.replace(b"\0", b" ").decode(errors="replace").strip()


def children(pid: int) -> list[int]:
    """A process's children, the agent beside a server among them."""
    return [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
