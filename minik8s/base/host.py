"""Facts about the machine that several parts need."""

from __future__ import annotations

import fcntl
import platform
import socket
import struct

_SIOCGIFADDR = 0x8915
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}


def architecture() -> str:
    """The machine's, as images name it."""
    machine = platform.machine()
    return ARCHITECTURES.get(machine, machine)


def default_address() -> str:
    """The address from which this machine would reach others; without a route one of its interfaces', loopback where it has none.
    Sends nothing.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            found = (_interface_address(probe, name) for _, name in socket.if_nameindex())
            return next((address for address in found if address and not address.startswith("127.")), "127.0.0.1")
        address: str = probe.getsockname()[0]
        return address


def _interface_address(probe: socket.socket, name: str) -> str:
    try:
        answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
    except OSError:
        return ""
    return socket.inet_ntoa(answer[20:24])


def node_name() -> str:
    """The host's name as a node is called by default."""
    return socket.gethostname().lower()
