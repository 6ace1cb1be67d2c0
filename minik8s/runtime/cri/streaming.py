"""The client of a CRI runtime's streaming server: from the URL of an Exec, Attach or PortForward answer to a `Streams`.

Speaks the `v4.channel.k8s.io` protocol (streams stdin, stdout, stderr, resize, and error, on which a Status ends the session) and
`portforward.k8s.io` over SPDY/3.1, which every runtime has (newer ones WebSocket too). Limits: no TLS; runtimes serve on loopback.

A session reads only while its reader takes what came, so that nothing grows with a slow side.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from urllib.parse import urlsplit

import orjson

from minik8s.base import spdy
from minik8s.base.clock import Clock
from minik8s.runtime.base import RuntimeFailed

STDOUT, STDERR = 1, 2
_COMMAND, _PORTS = "v4.channel.k8s.io", "portforward.k8s.io"
_CHUNK = 1 << 15
_LONGEST_ERROR = 1 << 20
_CONNECT_TIMEOUT = 30.0


async def command(url: str, clock: Clock, *, stdin: bool, tty: bool, must_tell: bool) -> SpdyStreams:
    """An exec (`must_tell`: a session that ends without a Status was interrupted) or an attach."""
    wanted = ["error", *(["stdin"] if stdin else []), "stdout", *(["resize"] if tty else ["stderr"])]
    streams = await _connect(url, _COMMAND, clock)
    await streams.start([{"streamtype": name} for name in wanted])
    streams.must_tell = must_tell
    return streams


async def port(url: str, number: int, clock: Clock) -> SpdyStreams:
    """One connection to a port. That nobody listens there is told by `output`, as a RuntimeFailed."""
    streams = await _connect(url, _PORTS, clock)
    await streams.start([{"streamtype": name, "port": str(number), "requestid": "0"} for name in ("error", "data")])
    return streams


class SpdyStreams:
    """One session (runtime/base.py: Streams)."""

    must_tell = False

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._encoder, self._decoder = spdy.Encoder(), spdy.Decoder(server=False)
        self._numbers: dict[str, int] = {}
        self._outputs: dict[int, int] = {}
        self._status = bytearray()
        self._reading = False
        self._ended = asyncio.Event()

    async def start(self, wanted: Sequence[dict[str, str]]) -> None:
        """Opens the streams; of a port's error stream we end our side at once, as the server waits for that."""
        frames = b""
        for place, headers in enumerate(wanted):
            number = self._numbers[headers["streamtype"]] = 2 * place + 1
            frames += self._encoder.open(number, headers, last="port" in headers and headers["streamtype"] == "error")
        self._outputs = {
            self._numbers[kind]: output
            for kind, output in (("stdout", STDOUT), ("stderr", STDERR), ("data", STDOUT))
            if kind in self._numbers
        }
        await self._send(frames)

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        self._reading = True
        error = self._numbers["error"]
        open_streams = {error, *self._outputs} if "data" in self._numbers else {error}
        try:
            while open_streams and (received := await self._reader.read(_CHUNK)):
                for frame in self._decoder.feed(received):
                    match frame:
                        case spdy.Data(stream, content, last):
                            if content and stream in self._outputs:
                                yield self._outputs[stream], content
                            elif stream == error and len(self._status) < _LONGEST_ERROR:
                                self._status += content
                            if last:
                                open_streams.discard(stream)
                        case spdy.Reset(stream):
                            open_streams.discard(stream)
                        case spdy.Ping(raw):
                            await self._send(raw)
                        case spdy.GoAway():
                            open_streams.clear()
        except (OSError, spdy.BadFrame):
            pass  # the runtime is gone, or speaks nonsense: the Status is missing
        finally:
            self._ended.set()
        if "data" in self._numbers and self._status:
            raise RuntimeFailed(self._status.decode(errors="replace").strip())

    async def write(self, data: bytes) -> None:
        number = self._numbers.get("stdin") or self._numbers.get("data")
        if number is None:
            return
        for frame in spdy.in_frames(number, data):
            await self._send(frame)

    async def close_stdin(self) -> None:
        if number := self._numbers.get("stdin") or self._numbers.get("data"):
            await self._send(spdy.data(number, b"", last=True))

    async def resize(self, width: int, height: int) -> None:
        if number := self._numbers.get("resize"):
            await self._send(spdy.data(number, orjson.dumps({"Width": width, "Height": height})))

    async def wait(self) -> int:
        if not self._reading:
            async for _ in self.output():
                pass
        await self._ended.wait()
        if "data" in self._numbers or not (self._status or self.must_tell):
            return 0
        return exit_code(bytes(self._status))

    async def close(self) -> None:
        self._writer.close()
        self._ended.set()

    async def _send(self, frame: bytes) -> None:
        try:
            self._writer.write(frame)
            await self._writer.drain()
        except OSError:
            return  # it has ended: what it won't read is dropped


def exit_code(text: bytes) -> int:
    """Of the Status (metav1) that ends a session. RuntimeFailed where the command did not run or nothing was told."""
    if not text:
        raise RuntimeFailed("the session was interrupted")
    try:
        status = orjson.loads(text)
        if status["status"] == "Success":
            return 0
        if status.get("reason") == "NonZeroExitCode":
            causes = status["details"]["causes"]
            return next(int(cause["message"]) for cause in causes if cause.get("reason") == "ExitCode")
        message = str(status.get("message") or status)
    except (ValueError, TypeError, KeyError, StopIteration):
        message = text.decode(errors="replace")
    raise RuntimeFailed(message)


async def _connect(url: str, protocol: str, clock: Clock) -> SpdyStreams:
    """Raises RuntimeFailed."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise RuntimeFailed(f"the runtime's streaming server is at {url}, which is not http://")
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    request = (
        f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
        f"X-Stream-Protocol-Version: {protocol}\r\nContent-Length: 0\r\n\r\n"
    )
    writer: asyncio.StreamWriter | None = None
    try:
        async with clock.hold(), clock.timeout(_CONNECT_TIMEOUT):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
            writer.write(request.encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode(errors="replace")
            status = head.partition("\r\n")[0]
            if " 101 " not in f"{status} ":
                length = next((int(h.split(":")[1]) for h in head.split("\r\n") if h.lower().startswith("content-length:")), 0)
                body = await reader.readexactly(min(length, _LONGEST_ERROR))
                raise RuntimeFailed(f"the runtime's streaming server refused: {status} {body.decode(errors='replace').strip()}")
    except (OSError, ValueError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        if writer:
            writer.close()
        raise RuntimeFailed(f"the runtime's streaming server does not answer: {error}") from error
    except BaseException:
        if writer:
            writer.close()
        raise
    return SpdyStreams(reader, writer)
