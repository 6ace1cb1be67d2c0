"""One exchange over HTTP: a request with what is known of it so far, and the answer that is an object.

All other answers (pages, streams, sockets) are aiohttp's own; their heads tell of flow and audit too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from email.utils import formatdate
from functools import lru_cache
from http.client import responses as PHRASES
from time import time
from typing import TYPE_CHECKING

from aiohttp import HttpVersion10, web

from minik8s.apiserver import forms
from minik8s.apiserver.request import readable

if TYPE_CHECKING:
    from minik8s.apiserver.audit import Trail
    from minik8s.apiserver.contract import Attributes
    from minik8s.apiserver.flowcontrol import Visit
    from minik8s.apiserver.flowcontrol.classify import Match
    from minik8s.apiserver.forms import Form
    from minik8s.apiserver.request import Request

AUDIT_ID = "Audit-Id"
"""Every answer has one, also where nothing is audited."""
WARNINGS_LIMIT, WARNING_CUT = 4096, 256
"""Characters of all warnings of an answer, and of each one that does not fit in."""


class Exchange(web.BaseRequest):
    """A request from outside. What is learned of it on its way serves its error, and the head of its answer."""

    ids: Iterator[str]
    request: Request | None = None
    flow: Match | None = None
    form: Form = forms.PLAIN
    asked: Attributes | None = None
    trail: Trail | None = None
    visit: Visit | None = None
    page: str = ""  # the path of a page that there is

    @property
    def target(self) -> str:
        """Path and query, as they came. (aiohttp's `path_qs` is written anew from its parts.)"""
        sent = self.raw_path
        return readable(sent if sent.startswith("/") else self.path_qs)

    @property
    def annotations(self) -> dict[str, str] | None:
        """The audit's, where there is one."""
        return None if self.trail is None else self.trail.annotations

    def head(self, status: int) -> dict[str, str]:
        """What the head of any answer holds; it is about to go out."""
        known = {} if self.flow is None else {**self.flow.headers}
        if (trail := self.trail) is not None:
            trail.started(status)
        known[AUDIT_ID] = trail.id if trail is not None else readable(self.headers.get(AUDIT_ID, "")) or next(self.ids)
        return known

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        """aiohttp calls it for answers of its own."""
        response.headers.update(self.head(response.status))


class Answer:
    """An object, encoded: head and body leave in one write. aiohttp takes it as it takes its own Response, which can do more and takes
    a tenth of a GET's time for it.
    """

    __slots__ = ("_headers", "_sent_to", "body", "keep_alive", "media", "status")

    def __init__(self, body: bytes, media: str, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> None:
        self.body, self.media, self.status = body, media, status
        self.keep_alive: bool | None = None
        self._headers = headers
        self._sent_to: Exchange | None = None

    async def prepare(self, http: Exchange) -> None:
        """Writes all of it, once."""
        if self._sent_to is not None:
            return
        self._sent_to = http
        self.keep_alive = keep_alive = http.keep_alive
        opening = _opening(http.version == HttpVersion10, keep_alive, self.status, self.media, int(time()))
        more = "".join([f"{name}: {_one_line(text)}\r\n" for name, text in (*self._headers, *http.head(self.status).items())])
        head = f"{opening}{more}Content-Length: {len(self.body)}\r\n\r\n".encode()
        await http.writer.write(head if http.method == "HEAD" else head + self.body)

    async def write_eof(self) -> None:
        """Returns once its client has taken most of it."""
        assert self._sent_to is not None
        await self._sent_to.writer.drain()


def warned(warnings: Iterable[str]) -> Iterator[tuple[str, str]]:
    """An answer's Warning headers; as upstream none with control characters, and not more in all than a client's head may be long."""
    left = WARNINGS_LIMIT
    for warning in dict.fromkeys(warnings):
        text = warning if len(warning) <= left else warning[:WARNING_CUT]
        if len(text) > left:
            return
        if text.isprintable():
            left -= len(text)
            yield "Warning", f'299 - "{_quoted(text)}"'


def size_of(response: Answer | web.StreamResponse) -> int:
    """Bytes of a body; 0 of a stream."""
    return len(response.body) if isinstance(response, Answer) else response.content_length or 0


@lru_cache(256)
def _opening(old: bool, keep_alive: bool, status: int, media: str, second: int) -> str:
    """The part of a head that many answers of a second share."""
    connection = "Connection: keep-alive\r\n" if old and keep_alive else "" if old or keep_alive else "Connection: close\r\n"
    line = f"HTTP/1.{0 if old else 1} {status} {PHRASES.get(status, '')}"
    return f"{line}\r\nContent-Type: {media}\r\nDate: {formatdate(second, usegmt=True)}\r\n{connection}"


def _one_line(text: str) -> str:
    """A header's value; ValueError where it would be more than that."""
    if "\n" in text or "\r" in text:
        raise ValueError("a header has one line")
    return text


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
