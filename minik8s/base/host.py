"""Facts about the machine that several parts need."""

from __future__ import annotations

import platform
import socket

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


def architecture() -> str:
    """The machine's, as images name it."""
    machine = platform.machine()
    return ARCHITECTURES.get(machine, machine)


def default_address() -> str:
    """The address from which this machine would reach others; loopback where it has no route. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address


def node_name() -> str:
    """The host's name as a node is called by default."""
    return socket.gethostname().lower()
