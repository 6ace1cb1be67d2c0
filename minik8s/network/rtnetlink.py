"""Links, addresses and routes of a network namespace, over an rtnetlink socket (rtnetlink(7)), without a fork.

Promise: each call is one request that the kernel has acknowledged when it returns, else OSError. Limits: IPv4; blocking (the kernel
answers at once, but may wait for its own lock), so `pods.py` calls from a thread of its own.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

_ERROR, _DONE = 2, 3  # linux/netlink.h
_REQUEST, _ACK, _DUMP, _REPLACE, _EXCL, _CREATE = 1, 4, 0x300, 0x100, 0x200, 0x400
_NEWLINK, _DELLINK, _GETLINK, _NEWADDR, _DELADDR, _GETADDR, _NEWROUTE, _DELROUTE, _GETROUTE = 16, 17, 18, 20, 21, 22, 24, 25, 26
_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 3, 4, 18, 28
_INFO_KIND, _INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_UNIVERSE, _LINK, _HOST, _NOWHERE = 0, 253, 254, 255  # scopes; the last is any, of what is to be deleted
_MAIN_TABLE, _UNICAST = 254, 1
_CLONE_NEWNET = 0x40000000

ROUTE_PROTOCOL = 0x4D
"""Marks the routes that are ours, as /etc/iproute2/rt_protos marks those of routing daemons."""

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def inside(path: str) -> Iterator[None]:
    """Sockets and interface names in the block are those of the network namespace at `path`; of this thread only."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(target)
        finally:
            os.close(target)
        try:
            yield
        finally:
            _setns(own)
    finally:
        os.close(own)


class Netlink:
    """A socket in the network namespace in which the thread was when it made this."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    # --- links ---

    def add_veth(self, name: str, peer: str, peer_namespace: str, mtu: int) -> None:
        """A pair: `name` here, `peer` in the namespace at the path `peer_namespace`."""
        fd = os.open(peer_namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            other = _link() + _text(_IFLA_IFNAME, peer) + _number(_IFLA_MTU, mtu) + _number(_IFLA_NET_NS_FD, fd)
            info = _text(_INFO_KIND, "veth") + _attribute(_INFO_DATA, _attribute(_VETH_INFO_PEER, other))
            body = _link() + _text(_IFLA_IFNAME, name) + _number(_IFLA_MTU, mtu) + _attribute(_IFLA_LINKINFO, info)
            self._request(_NEWLINK, _CREATE | _EXCL, body)
        finally:
            os.close(fd)

    def delete_link(self, name: str) -> None:
        """Does nothing where there is no such link."""
        _unless_gone(self, _DELLINK, _link() + _text(_IFLA_IFNAME, name))

    def set_up(self, index: int) -> None:
        self._request(_NEWLINK, 0, _link(index, up=True))

    def mtus(self) -> dict[int, int]:
        """Of each link, by its index."""
        return {
            struct.unpack_from("=i", body, 4)[0]: struct.unpack("=I", attributes[_IFLA_MTU])[0]
            for body, attributes in self._dump(_GETLINK, _link(), 16)
        }

    # --- addresses ---

    def add_address(self, index: int, address: IPv4Interface, *, host_only: bool = False) -> None:
        """`host_only`: never chosen as the source of what goes out."""
        self._request(_NEWADDR, _CREATE | _REPLACE, _address(index, address, _HOST if host_only else _UNIVERSE))

    def delete_address(self, index: int, address: IPv4Interface) -> None:
        """Does nothing where there is no such address."""
        _unless_gone(self, _DELADDR, _address(index, address, _UNIVERSE))

    def addresses(self) -> dict[IPv4Address, int]:
        """The index of the link that has each address."""
        body = struct.pack("=BBBBi", socket.AF_INET, 0, 0, 0, 0)
        return {
            IPv4Address(attributes[_IFA_LOCAL]): struct.unpack_from("=i", found, 4)[0]
            for found, attributes in self._dump(_GETADDR, body, 8)
            if _IFA_LOCAL in attributes
        }

    # --- routes ---

    def set_link_route(self, to: IPv4Network, index: int) -> None:
        """`to` is reached on that link itself."""
        self._request(_NEWROUTE, _CREATE | _REPLACE, _route(to, _LINK) + _number(_RTA_OIF, index))

    def set_route(self, to: IPv4Network, gateway: IPv4Address) -> None:
        """ENETUNREACH where the gateway is on no link of this namespace."""
        self._request(_NEWROUTE, _CREATE | _REPLACE, _route(to) + _attribute(_RTA_GATEWAY, gateway.packed))

    def delete_route(self, to: IPv4Network) -> None:
        """Of ours, on whatever it leads to; does nothing where there is none."""
        _unless_gone(self, _DELROUTE, _route(to, _NOWHERE))

    def routes(self) -> dict[IPv4Network, IPv4Address]:
        """Ours that lead through a gateway."""
        return {
            to: IPv4Address(attributes[_RTA_GATEWAY])
            for to, body, attributes in self._routes()
            if body[5] == ROUTE_PROTOCOL and _RTA_GATEWAY in attributes
        }

    def own_routes(self) -> list[IPv4Network]:
        """All of ours, through gateways or not."""
        return [to for to, body, _ in self._routes() if body[5] == ROUTE_PROTOCOL]

    def links_to(self, network: IPv4Network) -> set[int]:
        """The indexes of the links that lead to single addresses of the network, whoever made those routes."""
        found = [(to, attributes) for to, _, attributes in self._routes() if to.prefixlen == 32 and to.subnet_of(network)]
        return {struct.unpack("=i", attributes[_RTA_OIF])[0] for _, attributes in found if _RTA_OIF in attributes}

    def _routes(self) -> Iterator[tuple[IPv4Network, bytes, dict[int, bytes]]]:
        for body, attributes in self._dump(_GETROUTE, _route(IPv4Network("0.0.0.0/0")), 12):
            yield IPv4Network((attributes.get(_RTA_DST, bytes(4)), body[1])), body, attributes

    # --- messages ---

    def _request(self, kind: int, flags: int, body: bytes) -> None:
        for _ in self._answers(kind, flags | _ACK, body):
            pass

    def _dump(self, kind: int, body: bytes, header: int) -> Iterator[tuple[bytes, dict[int, bytes]]]:
        for answer in self._answers(kind, _DUMP, body):
            yield answer[:header], dict(_attributes(answer[header:]))

    def _answers(self, kind: int, flags: int, body: bytes) -> Iterator[bytes]:
        self._sequence += 1
        self._socket.send(struct.pack("=IHHII", 16 + len(body), kind, flags | _REQUEST, self._sequence, 0) + body)
        while True:
            data = self._socket.recv(1 << 18)
            while data:
                length, answer, _, sequence, _ = struct.unpack_from("=IHHII", data)
                content, data = data[16:length], data[_aligned(length) :]
                if sequence != self._sequence:
                    continue
                if answer == _ERROR and (code := struct.unpack_from("=i", content)[0]):
                    raise OSError(-code, os.strerror(-code))
                if answer in (_ERROR, _DONE):
                    return
                yield content


def _setns(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "setns")


def _unless_gone(netlink: Netlink, kind: int, body: bytes) -> None:
    try:
        netlink._request(kind, 0, body)
    except OSError as error:
        if error.errno not in (19, 99, 3):  # ENODEV, EADDRNOTAVAIL, ESRCH
            raise


def _link(index: int = 0, *, up: bool = False) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, up, up)


def _address(index: int, address: IPv4Interface, scope: int) -> bytes:
    header = struct.pack("=BBBBi", socket.AF_INET, address.network.prefixlen, 0, scope, index)
    return header + _attribute(_IFA_LOCAL, address.ip.packed) + _attribute(_IFA_ADDRESS, address.ip.packed)


def _route(to: IPv4Network, scope: int = _UNIVERSE) -> bytes:
    header = struct.pack(
        "=8BI", socket.AF_INET, to.prefixlen, 0, 0, _MAIN_TABLE, ROUTE_PROTOCOL, scope, _UNICAST, 0
    )  # fmt: skip
    return header + (_attribute(_RTA_DST, to.network_address.packed) if to.prefixlen else b"")


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + bytes(_aligned(length) - length)


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        yield kind & 0x3FFF, data[4:length]
        data = data[_aligned(length) :]


def _aligned(length: int) -> int:
    return (length + 3) & ~3
