"""The node process's event loop: epoll, timers and ended children, in one thread and without asyncio (which alone would double
the process's memory).

A watched descriptor's handler is called with the epoll event bits; a timer's with nothing; an ended child's with (pid, wait status).
Handlers never block. Standard library only.
"""

from __future__ import annotations

import heapq
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from itertools import count

READ, WRITE, GONE = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP | select.EPOLLERR

_LONGEST_WAIT = 3600.0  # seconds; epoll takes no time that is out of all range


class Loop:
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self.on_child_ended: Callable[[int, int], None] = lambda _pid, _status: None
        self.running = False
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        self.watch(self._woken.fileno(), READ, self._children)

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        """Calls `handler` when `fd` is ready; again with other `events` to change what is waited for (0: only its end)."""
        if fd in self._handlers:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def unwatch(self, fd: int) -> None:
        """Before `fd` is closed; nothing happens where it is not watched."""
        if self._handlers.pop(fd, None):
            self._epoll.unregister(fd)

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), call))

    def run(self) -> None:
        self.running = True
        self._children(READ)
        while self.running:
            wait = min(max(self._timers[0][0] - time.monotonic(), 0), _LONGEST_WAIT) if self._timers else -1
            for fd, events in self._epoll.poll(wait):
                if handler := self._handlers.get(fd):
                    _guarded(lambda handler=handler, events=events: handler(events))  # type: ignore[misc]
            while self._timers and self._timers[0][0] <= time.monotonic():
                _guarded(heapq.heappop(self._timers)[2])

    def _children(self, _events: int) -> None:
        try:
            while self._woken.recv(4096):
                pass
        except BlockingIOError:
            pass
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            _guarded(lambda pid=pid, status=status: self.on_child_ended(pid, status))  # type: ignore[misc]


def _guarded(call: Callable[[], None]) -> None:
    """All containers hang on this process: a fault in one handler is written to its log and ends nothing else."""
    try:
        call()
    except Exception:
        sys.excepthook(*sys.exc_info())
