"""UDP flows that the kernel would go on leading where nothing is any more: an entry of connection tracking lives as long as its client
keeps sending, whatever the rules say by now. TCP ends by itself.

Source: nfnetlink_conntrack's messages (linux/netfilter/nfnetlink_conntrack.h). Blocking; the caller gives it a thread.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from minik8s.proxy.endpoints import Target

_NETLINK_NETFILTER = 12
_GET, _DELETE = 0x101, 0x102
_REQUEST, _ACK, _DUMP = 1, 4, 0x300
_ERROR, _DONE = 2, 3
_ORIGINAL, _REPLY = 1, 2
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_SOURCE, _DESTINATION = 1, 2
_PROTO_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_FAMILY = struct.pack("!BBH", socket.AF_INET, 0, 0)
_ENOENT = 2


@dataclass(frozen=True, slots=True)
class Flow:
    """A UDP flow: to what its client sends, and who answers in truth. `tuple_` is its name for the kernel."""

    to: Target
    served_by: Target
    tuple_: bytes


def forget(gone: Collection[Target], new: Collection[Target]) -> int:
    """Forgets flows led to endpoints that are `gone`, and flows to addresses of Services that are `new` and were led nowhere yet; how
    many. Their next datagram is led by the rules. OSError where the kernel has no such interface.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as kernel:
        stale = [flow for flow in _flows(kernel) if flow.served_by in gone or (flow.to in new and flow.served_by == flow.to)]
        for flow in stale:
            try:
                for _ in _answers(kernel, _DELETE, _ACK, flow.tuple_):
                    pass
            except OSError as error:
                if error.errno != _ENOENT:  # it ended meanwhile
                    raise
    return len(stale)


def _flows(kernel: socket.socket) -> Iterator[Flow]:
    for answer in _answers(kernel, _GET, _DUMP, b""):
        found = dict(_attributes(answer[4:]))
        original, reply = _ends(found[_ORIGINAL]), _ends(found[_REPLY])
        if original and reply:
            yield Flow(original[1], reply[0], _attribute(_ORIGINAL | 0x8000, found[_ORIGINAL]))


def _ends(data: bytes) -> tuple[Target, Target] | None:
    """Source and destination of one direction; None where it isn't UDP over IPv4."""
    parts = dict(_attributes(data))
    protocol = dict(_attributes(parts[_TUPLE_PROTO]))
    addresses = dict(_attributes(parts[_TUPLE_IP]))
    if protocol[_PROTO_NUMBER][0] != socket.IPPROTO_UDP or len(addresses.get(_SOURCE, b"")) != 4:
        return None
    ports = [struct.unpack("!H", protocol[kind])[0] for kind in (_SOURCE_PORT, _DESTINATION_PORT)]
    hosts = [socket.inet_ntoa(addresses[kind]) for kind in (_SOURCE, _DESTINATION)]
    return (hosts[0], ports[0]), (hosts[1], ports[1])


def _answers(kernel: socket.socket, kind: int, flags: int, body: bytes) -> Iterator[bytes]:
    kernel.send(struct.pack("=IHHII", 20 + len(body), kind, flags | _REQUEST, 0, 0) + _FAMILY + body)
    while True:
        data = kernel.recv(1 << 18)
        while data:
            length, answer = struct.unpack_from("=IH", data)
            content, data = data[16:length], data[(length + 3) & ~3 :]
            if answer == _ERROR and (code := struct.unpack_from("=i", content)[0]):
                raise OSError(-code, os.strerror(-code))
            if answer in (_ERROR, _DONE):
                return
            yield content


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + bytes(-length % 4)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        yield kind & 0x3FFF, data[4:length]
        data = data[(length + 3) & ~3 :]
