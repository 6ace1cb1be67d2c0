"""What a connection itself shows: a verified client certificate, or who is at the other end of a unix socket.

Both cost 10 us and more to look at, and last as long as their connection: `Connections` asks once for each.
"""

from __future__ import annotations

import os
import socket
import struct
from asyncio import BaseTransport
from collections.abc import Mapping
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from minik8s.api.user import AUTHENTICATED, MASTERS, User

ADMIN = User("minik8s-admin", (MASTERS, AUTHENTICATED))
"""Who holds the admin token, or asks over the unix socket as root or as the server's own user."""


class Connections:
    """Remembers who is at the other end of each open connection."""

    def __init__(self) -> None:
        self._users: WeakKeyDictionary[Any, tuple[User | None, User | None]] = WeakKeyDictionary()

    def users(self, transport: BaseTransport) -> tuple[User | None, User | None]:
        """(the client certificate's user, the socket peer's), as `Authenticator.authenticate` takes them."""
        tls = transport.get_extra_info("ssl_object")
        key = tls or transport  # uvloop's TLS transports can't be referred to weakly
        if (known := self._users.get(key)) is None:
            if tls is not None:
                known = certificate_user(tls.getpeercert()), None
            else:
                known = None, peer_user(transport.get_extra_info("socket"))
            self._users[key] = known
        return known


class Socket(Protocol):
    """What event loops show of a socket."""

    @property
    def family(self) -> int: ...
    def getsockopt(self, level: int, option: int, length: int, /) -> bytes: ...


def certificate_user(peer: Mapping[str, Any] | None) -> User | None:
    """The user of a verified client certificate, as `ssl.SSLObject.getpeercert()` tells it: CN, with each O a group."""
    fields = [pair for part in (peer or {}).get("subject", ()) for pair in part]
    name = next((value for field, value in fields if field == "commonName"), "")
    if not name:
        return None
    groups = dict.fromkeys(value for field, value in fields if field == "organizationName")
    return User(name, (*groups, AUTHENTICATED))


def peer_user(sock: Socket | None) -> User | None:
    """Who is at the other end of a connected socket: the admin where it is a unix one of root or the server's own user."""
    if sock is None or sock.family != socket.AF_UNIX:
        return None
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return ADMIN if uid in (0, os.geteuid()) else None
