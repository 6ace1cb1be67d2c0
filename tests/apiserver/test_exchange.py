"""Answers that are objects, byte by byte. Source: RFC 9110 and 9112."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import parsedate_to_datetime
from pathlib import Path
from time import time

import pytest

from minik8s.apiserver.exchange import WARNING_CUT, Answer, warned
from tests.helpers.desks import desk_at

PATH = "/api/v1/namespaces/a/configmaps"
Ask = Callable[[bytes], Awaitable[tuple[str, dict[str, str], bytes, bool]]]


@pytest.fixture
async def ask(tmp_path: Path) -> AsyncIterator[Ask]:
    """Sends bytes, and reads (first line, headers, body, whether the server ended the connection)."""

    path = tmp_path / "api.sock"

    async def asked(sent: bytes) -> tuple[str, dict[str, str], bytes, bool]:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(sent)
        line, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = dict(each.split(": ", 1) for each in rest)
        body = b"" if sent.startswith(b"HEAD") else await reader.readexactly(int(headers["Content-Length"]))
        try:
            async with asyncio.timeout(0.1):
                more = await reader.read()
        except TimeoutError:
            return line, headers, body, False
        finally:
            writer.close()
        assert not more
        return line, headers, body, True

    async with desk_at(path):
        yield asked


async def test_an_answer_of_http_1_1_leaves_the_connection_open(ask: Ask) -> None:
    line, headers, body, ended = await ask(f"GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert (line, ended) == ("HTTP/1.1 200 OK", False)
    assert headers["Content-Type"] == "application/json"
    assert abs(parsedate_to_datetime(headers["Date"]).timestamp() - time()) < 5
    assert "Connection" not in headers
    assert "Audit-Id" in headers
    assert body.startswith(b"{")


@pytest.mark.parametrize(
    ("version", "sent", "told", "ended"),
    [("1.1", "close", "close", True), ("1.0", "", None, True), ("1.0", "keep-alive", "keep-alive", False)],
)
async def test_who_closes_is_told(ask: Ask, version: str, sent: str, told: str | None, ended: bool) -> None:
    connection = f"Connection: {sent}\r\n" if sent else ""
    line, headers, _, closed = await ask(f"GET {PATH} HTTP/{version}\r\nHost: x\r\n{connection}\r\n".encode())
    assert (line, headers.get("Connection"), closed) == (f"HTTP/{version} 200 OK", told, ended)


async def test_a_head_has_the_length_and_no_body(ask: Ask) -> None:
    _, headers, _, ended = await ask(f"HEAD {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    _, full, body, _ = await ask(f"GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert headers["Content-Length"] == full["Content-Length"] == str(len(body))
    assert not ended


async def test_an_error_is_a_whole_answer_too(ask: Ask) -> None:
    line, headers, body, ended = await ask(f"GET {PATH}/x HTTP/1.1\r\nHost: x\r\nAudit-Id: mine\r\n\r\n".encode())
    assert (line, headers["Audit-Id"], ended) == ("HTTP/1.1 404 Not Found", "mine", False)
    assert b'"reason":"NotFound"' in body


async def test_an_absolute_target_and_what_is_no_utf8(ask: Ask) -> None:
    line, *_ = await ask(f"GET http://x{PATH} HTTP/1.1\r\nHost: x\r\nAudit-Id: ".encode() + b"\xff\r\n\r\n")
    assert line == "HTTP/1.1 200 OK"


class Written:
    """The part of a request that an answer writes to."""

    version, keep_alive, method = (1, 1), True, "GET"

    def __init__(self) -> None:
        self.writer, self.sent = self, b""

    def head(self, _: int) -> dict[str, str]:
        return {}

    async def write(self, data: bytes) -> None:
        self.sent += data


@pytest.mark.parametrize(("status", "line"), [(201, b"HTTP/1.1 201 Created\r\n"), (499, b"HTTP/1.1 499 \r\n")])
async def test_the_first_line_and_once_only(status: int, line: bytes) -> None:
    """A webhook's refusal may have a code without a name."""
    http, answer = Written(), Answer(b"{}", "application/json", status, [("A", "b")])
    for _ in range(2):
        await answer.prepare(http)  # type: ignore[arg-type]  # as much as it needs of one
    assert http.sent.startswith(line)
    assert http.sent.endswith(b"A: b\r\nContent-Length: 2\r\n\r\n{}")


@pytest.mark.parametrize("text", ["a\r\nSet-Cookie: x", "a\nb", "a\rb"])
async def test_a_header_is_one_line(text: str) -> None:
    http = Written()
    with pytest.raises(ValueError, match="one line"):
        await Answer(b"", "text/plain", 200, [("A", text)]).prepare(http)  # type: ignore[arg-type]
    assert http.sent == b""


def test_warnings_are_quoted_cut_and_told_once() -> None:
    assert [*warned(['a "b" \\', 'a "b" \\', "x\ny"])] == [("Warning", '299 - "a \\"b\\" \\\\"')]
    long = [str(i) * 3000 for i in range(1, 4)]
    assert [len(text) for _, text in warned(long)] == [3000 + 8, WARNING_CUT + 8, WARNING_CUT + 8]
