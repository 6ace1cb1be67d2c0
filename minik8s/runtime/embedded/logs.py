"""A container's log in CRI's format: `2026-01-02T03:04:05.000000000Z stdout F line`, P for a part of a line.

As containerd writes it: a line longer than 16 KiB is cut into parts, what stands without a newline when its stream ends is a part
too, a terminal's carriage return before the newline is dropped. Standard library only.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

_LONGEST = 16 * 1024


class Log:
    """Appends to the file at `path`; with an empty path writes nothing."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1
        self._pending: dict[str, bytes] = {}
        self._failing = False
        self.reopen()

    def reopen(self) -> None:
        """Goes on in a new file at the same path (the kubelet has renamed the old one)."""
        self.close()
        if self.path:
            os.makedirs(os.path.dirname(self.path), 0o755, exist_ok=True)
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)

    def write(self, stream: str, data: bytes) -> None:
        entries, self._pending[stream] = format_entries(stream, self._pending.get(stream, b"") + data, time.time_ns())
        self._append(entries)

    def end(self, stream: str) -> None:
        """The stream has ended: its unfinished line is written as a part."""
        if rest := self._pending.pop(stream, b""):
            self._append(entry(stream, b"P", rest, time.time_ns()))

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _append(self, entries: bytes) -> None:
        """On a full disk entries are lost, as the container must not wait for it; said once until it works again."""
        try:
            while entries and self._fd >= 0:
                entries = entries[os.write(self._fd, entries) :]
            self._failing = False
        except OSError as error:
            if not self._failing:
                complain(f"log {self.path}: {error.strerror}")
            self._failing = True


def complain(text: str) -> None:
    """To the node process's own log, which may lie on the disk that is full."""
    with suppress(OSError):
        os.write(2, f"{text}\n".encode())


def format_entries(stream: str, data: bytes, now_ns: int) -> tuple[bytes, bytes]:
    """(whole entries, the unfinished rest of at most 16 KiB)."""
    *lines, rest = data.replace(b"\r\n", b"\n").split(b"\n")
    if lines and max(map(len, lines)) <= _LONGEST:  # the usual case, without a turn of this loop for each line
        whole = head(stream, b"F", now_ns)
        entries = [whole + (b"\n" + whole).join(lines) + b"\n"]
    else:
        entries = []
        for line in lines:
            while len(line) > _LONGEST:
                entries.append(entry(stream, b"P", line[:_LONGEST], now_ns))
                line = line[_LONGEST:]
            entries.append(entry(stream, b"F", line, now_ns))
    while len(rest) > _LONGEST:
        entries.append(entry(stream, b"P", rest[:_LONGEST], now_ns))
        rest = rest[_LONGEST:]
    return b"".join(entries), rest


def entry(stream: str, tag: bytes, line: bytes, now_ns: int) -> bytes:
    return head(stream, tag, now_ns) + line + b"\n"


def head(stream: str, tag: bytes, now_ns: int) -> bytes:
    seconds, nanos = divmod(now_ns, 1_000_000_000)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{stamp}.{nanos:09d}Z {stream} ".encode() + tag + b" "
