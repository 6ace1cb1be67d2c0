"""Which kind of content an answer has whose sender did not say so, by how it begins.

Source: mimesniff.spec.whatwg.org, as far as text is told from what is not; what the server of upstream's proxies does.
"""

from __future__ import annotations

import re

LOOKED_AT = 512  # bytes
_HTML = re.compile(
    rb"[\t\n\x0c\r ]*<(?:!DOCTYPE HTML|HTML|HEAD|SCRIPT|IFRAME|H1|DIV|FONT|TABLE|A|STYLE|TITLE|B|BODY|BR|P|!--)[ >]",
    re.IGNORECASE,
)
_BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")


def media_of(beginning: bytes) -> str:
    """The Content-Type for an answer that begins so."""
    seen = beginning[:LOOKED_AT]
    if _HTML.match(seen):
        return "text/html; charset=utf-8"
    return "application/octet-stream" if _BINARY.search(seen) else "text/plain; charset=utf-8"
