"""What kind of content it is, by how it begins (mimesniff.spec.whatwg.org)."""

from __future__ import annotations

import pytest

from minik8s.apiserver.sniffing import media_of


@pytest.mark.parametrize(
    ("beginning", "media"),
    [
        (b"hello\n", "text/plain; charset=utf-8"),
        ("grüß".encode(), "text/plain; charset=utf-8"),
        (b" \n<!doctype html><p>", "text/html; charset=utf-8"),
        (b"<h1>hi", "text/html; charset=utf-8"),
        (b"<harmless>", "text/plain; charset=utf-8"),
        (b"\x1b[1mbold", "text/plain; charset=utf-8"),
        (b"PK\x03\x04", "application/octet-stream"),
        (b"a" * 600 + b"\x00", "text/plain; charset=utf-8"),
    ],
)
def test_media(beginning: bytes, media: str) -> None:
    assert media_of(beginning) == media
