"""Ports that a test may listen on in a moment.

A port that the kernel gives (bind to 0) is one of those that it also gives to outgoing connections: with several tests at a time
somebody has it before the program under test. These are below that range, and below that of node ports.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack
from random import SystemRandom

FIRST, END = 10_000, 30_000


def free_ports(count: int) -> list[int]:
    """So many different ports of 127.0.0.1 on which nobody listens, neither by TCP nor by UDP."""
    chosen: list[int] = []
    with ExitStack() as held:
        while len(chosen) < count:
            port = SystemRandom().randrange(FIRST, END)
            try:
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    held.enter_context(socket.socket(socket.AF_INET, kind)).bind(("127.0.0.1", port))
            except OSError:
                continue
            chosen.append(port)
    return chosen


def free_port() -> int:
    return free_ports(1)[0]
