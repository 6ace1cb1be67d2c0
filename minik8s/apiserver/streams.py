"""Watches as HTTP answers: events that a thousand clients wait for go out in one sweep, not by a thousand tasks.

What a change makes pending is written to each idle connection by the `Fanout`, in groups between which others have their turn.
A connection that takes its events slower than they come falls back to its own task, which waits for it, and cuts it off when it stays
unread. What goes wrong after the first byte is an ERROR event.
Neighbours: `watching.py` says which events, `forms.py` how they look.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from aiohttp import HttpVersion11, web

from minik8s.api.errors import ApiError
from minik8s.apiserver import forms
from minik8s.apiserver.forms import Form, Framer
from minik8s.apiserver.metrics import SentEvents
from minik8s.apiserver.watching import Bookmark, Shown, Watch
from minik8s.base.clock import Clock

SLOW_CLIENT = 60.0
"""Seconds that a watcher may leave its stream unread before its connection is cut."""
GROUP = 64
"""How many connections are written to before others have their turn: some milliseconds."""
SLICE = 500
"""Events that are encoded at a time."""
BUFFERED = 64 * 1024
"""Bytes that a connection may leave unsent and still be written to by the sweep."""


class Fanout:
    """Writes to the connections whose watches have something pending."""

    def __init__(self) -> None:
        self._ready: deque[_Stream] = deque()

    def add(self, stream: _Stream) -> None:
        if not self._ready:
            asyncio.get_running_loop().call_soon(self._sweep)
        self._ready.append(stream)

    def _sweep(self) -> None:
        for _ in range(min(GROUP, len(self._ready))):
            self._ready.popleft().flush()
        if self._ready:
            asyncio.get_running_loop().call_soon(self._sweep)


async def answer(
    http: web.BaseRequest, watch: Watch, form: Form, frame: Framer, clock: Clock, fanout: Fanout, sent: SentEvents
) -> web.StreamResponse:
    """Streams a watch until its time is over, or its client is gone. Closes it."""
    response = web.StreamResponse(headers={"Content-Type": forms.stream_media(form), "Cache-Control": "no-cache, private"})
    chunked = http.version >= HttpVersion11
    if chunked:
        response.enable_chunked_encoding()
    try:
        await response.prepare(http)
        stream = _Stream(http, watch, frame, chunked, fanout, sent)
        watch.on_pending(stream.pending)
        await stream.run(response, clock)
        await response.write_eof()
    except ApiError as error:
        with suppress(ConnectionError):  # who is gone needs no word
            await response.write(forms.event_frame("ERROR", error.to_status(), form))
    except (TimeoutError, ConnectionError):
        if http.transport is not None:
            http.transport.abort()
    finally:
        watch.close()
    return response


async def refuse(http: web.BaseRequest, form: Form, error: ApiError) -> web.StreamResponse:
    """A stream that is but one ERROR event."""
    response = web.StreamResponse(headers={"Content-Type": forms.stream_media(form), "Cache-Control": "no-cache, private"})
    await response.prepare(http)
    await response.write(forms.event_frame("ERROR", error.to_status(), form))
    return response


class _Stream:
    """One connection, as the sweep sees it."""

    __slots__ = ("_chunked", "_fanout", "_frame", "_http", "_own", "_sent", "_waiting", "_watch")

    def __init__(
        self,
        http: web.BaseRequest,
        watch: Watch,
        frame: Framer,
        chunked: bool,
        fanout: Fanout,
        sent: SentEvents,
    ) -> None:
        self._http = http
        self._watch = watch
        self._frame = frame
        self._chunked = chunked
        self._fanout = fanout
        self._sent = sent
        self._waiting = False  # for the sweep
        self._own = False  # its task alone writes: what is pending meanwhile comes later

    async def run(self, response: web.StreamResponse, clock: Clock) -> None:
        """Writes what the sweep doesn't, until the watch's time is over. TimeoutError where the client does not read."""
        self._watch.on_pending(self.pending)
        try:
            while batch := await self._watch.next():
                self._own = True
                for start in range(0, len(batch), SLICE):
                    if start:
                        await clock.sleep(0)
                    async with clock.timeout(SLOW_CLIENT):
                        await response.write(self._encode(batch[start : start + SLICE]))
                self._own = False
        finally:
            self._own = True

    def pending(self) -> None:
        if not self._waiting:
            self._waiting = True
            self._fanout.add(self)

    def flush(self) -> None:
        self._waiting = False
        transport = self._http.transport
        if self._own:
            return
        if self._watch.done or transport is None or transport.is_closing() or transport.get_write_buffer_size() > BUFFERED:
            self._watch.wake()
        elif batch := self._watch.take():
            lines = self._encode(batch)
            transport.write(b"%x\r\n%b\r\n" % (len(lines), lines) if self._chunked else lines)

    def _encode(self, batch: Sequence[Shown | Bookmark]) -> bytes:
        frames = [*map(self._frame.of, batch)]
        self._sent.add(frames)
        return b"".join(frames)
