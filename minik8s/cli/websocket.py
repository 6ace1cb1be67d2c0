"""A WebSocket, the client's side (RFC 6455): the handshake, and messages to and from bytes.

Limits: no extensions. Reading and writing never wait; the caller does, on `fileno` (see `exec`).
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import ssl
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, parse_headers
from socket import socket

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
MAX_HEAD = 65536


class HandshakeRefused(Exception):
    """The server answered with something else: an HTTP status and a body."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"HTTP status {status}")
        self.status = status
        self.body = body


class WebSocket:
    """An open connection. `closed` once the other side has said so or is gone."""

    def __init__(self, sock: socket) -> None:
        self._sock = sock
        self._in = bytearray()
        self._out = bytearray()
        self._parts = bytearray()
        self.closed = False
        sock.setblocking(False)

    @classmethod
    def open(cls, connection: HTTPConnection, target: str, protocol: str, headers: Mapping[str, str]) -> WebSocket:
        """Asks for `protocol` on an open connection. HandshakeRefused; OSError where it breaks."""
        key = base64.b64encode(os.urandom(16))
        asked = {
            "Host": connection.host,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": key.decode(),
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Protocol": protocol,
            **headers,
        }
        lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in asked.items()), "", ""]
        sock: socket = connection.sock
        sock.sendall("\r\n".join(lines).encode())
        head = bytearray()
        while not head.endswith(b"\r\n\r\n"):  # byte by byte: what follows is no longer HTTP's
            if not (byte := sock.recv(1)) or len(head) > MAX_HEAD:
                raise ConnectionError("the server hung up")
            head += byte
        first, _, rest = bytes(head).partition(b"\r\n")
        status, answered = int(first.split()[1]), parse_headers(io.BytesIO(rest))
        if status != 101:
            length = int(answered.get("Content-Length") or 0)
            with sock.makefile("rb") as body:
                raise HandshakeRefused(status, body.read(length))
        wanted = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest()).decode()
        if answered.get("Sec-WebSocket-Accept") != wanted or answered.get("Sec-WebSocket-Protocol") != protocol:
            raise ConnectionError(f"the server does not speak {protocol}")
        return cls(sock)

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def unsent(self) -> int:
        """Bytes that wait until the connection can be written to (`flush`)."""
        return len(self._out)

    def send(self, message: bytes) -> None:
        """A binary message, on its way with the next `flush`."""
        self._frame(_BINARY, message)

    def flush(self) -> None:
        while self._out:
            try:
                del self._out[: self._sock.send(self._out)]
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                return

    def receive(self) -> Iterator[bytes]:
        """The messages that have come whole; answers pings."""
        while not self.closed:
            try:
                data = self._sock.recv(65536)
            except (BlockingIOError, ssl.SSLWantReadError):
                break
            self.closed = not data
            self._in += data
            yield from self._messages()

    def close(self) -> None:
        """Says good-bye, if it can be said at once."""
        if not self.closed:
            self._frame(_CLOSE, b"\x03\xe8")
            self.flush()
        self._sock.close()

    def _messages(self) -> Iterator[bytes]:
        while (frame := self._take()) is not None:
            opcode, final, payload = frame
            if opcode == _CLOSE:
                self.closed = True
                return
            if opcode == _PING:
                self._frame(_PONG, payload)
                self.flush()
            elif opcode in (_CONTINUATION, _TEXT, _BINARY):
                self._parts += payload
                if final:
                    message = bytes(self._parts)
                    self._parts.clear()
                    yield message

    def _take(self) -> tuple[int, bool, bytes] | None:
        """The next whole frame; a server's are not masked."""
        data = self._in
        if len(data) < 2:
            return None
        length, start = data[1] & 0x7F, 2
        if length >= 126:
            start = 4 if length == 126 else 10
            length = int.from_bytes(data[2:start])
        if len(data) < start + length:
            return None
        frame = data[0] & 0x0F, bool(data[0] & 0x80), bytes(data[start : start + length])
        del data[: start + length]
        return frame

    def _frame(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        mask = os.urandom(4)
        if size < 126:
            head = bytes((0x80 | opcode, 0x80 | size))
        elif size < 65536:
            head = bytes((0x80 | opcode, 0x80 | 126)) + size.to_bytes(2)
        else:
            head = bytes((0x80 | opcode, 0x80 | 127)) + size.to_bytes(8)
        stream = (mask * (size // 4 + 1))[:size]
        self._out += head + mask + (int.from_bytes(payload) ^ int.from_bytes(stream)).to_bytes(size)
