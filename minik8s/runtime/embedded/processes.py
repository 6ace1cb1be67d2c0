"""The node process's children and those it took over: how they are made, heard, signalled and seen to end.

Invariants: 1. a pid is only signalled while its process is ours to reap or held by a pidfd, so never a stranger's. 2. A spawned child is
told of as started before it is told of as ended, however quick it was. 3. A child becomes nothing before `on_forked` has returned: if
this process is killed before that, the child ends too, so that none runs of which nothing is on disk. Standard library only.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from minik8s.runtime.embedded import linux
from minik8s.runtime.embedded.loop import READ, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

UNKNOWN = -1
"""The exit code of an adopted process that nobody can tell."""

_STATUS_TRIES, _STATUS_WAIT = 5, 0.02


class Processes:
    """`child_ended` is for the loop to call."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._children: dict[int, Callable[[int], None]] = {}  # ours: what their end means
        self._pidfds: dict[int, int] = {}  # adopted: another's children
        loop.on_child_ended = self.child_ended

    def child_ended(self, pid: int, status: int) -> None:
        """Others' orphans end here too: they need no more than having been reaped."""
        if ended := self._children.pop(pid, None):
            ended(exit_code(status))

    def spawn(
        self,
        namespace_of: int | None,
        stdio: Iterable[int],
        become: Callable[[socket.socket], NoReturn],
        *,
        on_message: Callable[[dict[str, Any]], None],
        on_started: Callable[[], None],
        on_ended: Callable[[int], None],
        on_forked: Callable[[int], None] = lambda _pid: None,
    ) -> int:
        """A child that becomes something else, in the pid namespace of the process `namespace_of` (0: ours, None: a new one).

        `stdio` is the child's from here on. `on_forked` is told its pid. It reports over a socket, a JSON object a message (with a
        descriptor: its `fd`); the socket's end, by execve or exit, is `on_started`. OSError where it can't be made.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            pid = self.fork(namespace_of)
            if pid == 0:
                ours.close()
                _wait_for_word(theirs)
                become(theirs)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
            close_all(set(stdio))
        early: list[int] = []

        def heard_all() -> None:
            self._children[pid] = on_ended
            on_started()
            if early:
                self._children.pop(pid)
                on_ended(early[0])

        self._children[pid] = early.append
        self._listen(ours, on_message, heard_all)
        on_forked(pid)
        with suppress(OSError):  # it has ended already, which will be heard
            ours.send(b"1")
        return pid

    def fork(self, namespace_of: int | None = 0) -> int:
        if namespace_of == 0:
            pid = os.fork()
        else:
            with linux.children_in_pid_namespace(namespace_of):
                pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
        return pid

    def adopt(self, pid: int, started: int, on_ended: Callable[[int], None]) -> bool:
        """Follows a process that is not our child, if it still is the one that started then; its code may be UNKNOWN."""
        if not pid:
            return False
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        if linux.start_time(pid) != started:
            os.close(pidfd)
            return False

        def gone(_events: int) -> None:
            self._loop.unwatch(pidfd)
            told(_STATUS_TRIES)

        def told(tries: int) -> None:
            """Where neither zombie nor pidfd tells its status, its new parent may be about to reap it."""
            status = linux.exit_status(pid, started, pidfd)
            if status is None and tries:
                self._loop.after(_STATUS_WAIT, lambda: told(tries - 1))
                return
            self._pidfds.pop(pid)
            os.close(pidfd)
            on_ended(UNKNOWN if status is None else exit_code(status))

        self._pidfds[pid] = pidfd
        self._loop.watch(pidfd, READ, gone)
        return True

    def signal(self, pid: int, number: int) -> None:
        """Nothing happens where it has ended."""
        if pid in self._children:
            os.kill(pid, number)
        elif pid in self._pidfds:
            signal.pidfd_send_signal(self._pidfds[pid], number)

    def _listen(self, report: socket.socket, on_message: Callable[[dict[str, Any]], None], on_end: Callable[[], None]) -> None:
        def ready(_events: int) -> None:
            try:
                data, fds, _, _ = socket.recv_fds(report, 1 << 16, 1)
            except OSError:
                data, fds = b"", []
            if data:
                message: Mapping[str, Any] = json.loads(data)
                on_message({**message, **({"fd": fds[0]} if fds else {})})
                return
            self._loop.unwatch(report.fileno())
            report.close()
            on_end()

        self._loop.watch(report.fileno(), READ, ready)


def _wait_for_word(channel: socket.socket) -> None:
    """In the child: returns when the parent says so, ends where the parent is gone."""
    try:
        if channel.recv(1):
            return
    except OSError:
        pass
    os._exit(0)


def exit_code(status: int) -> int:
    """The shell's: 128 + n for an end by signal n."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def signal_number(name: str) -> int:
    """Of `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`; SIGTERM where there is none."""
    if name.isdigit():
        return int(name)
    word, _, offset = (name.upper().removeprefix("SIG") or "TERM").partition("+")
    return int(getattr(signal, f"SIG{word}", signal.SIGTERM)) + int(offset or 0)


def close_all(fds: Iterable[int]) -> None:
    """Those that are open at all (-1 stands for none)."""
    for fd in fds:
        if fd >= 0:
            os.close(fd)
