"""Writes `unicode.json.gz`, the characters of Unicode's categories and scripts: `python -m minik8s.api.generate_unicode`.

Looked up one by one, as the standard library has them, they take a tenth of a second: too long for a server's event loop. A script's are
its letters, found by their names. A value is a list of numbers, gap and length in turn. A test keeps the file equal to its source, where
that is of the same version.
"""

from __future__ import annotations

import gzip
import re
import sys
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

FILE = Path(__file__).with_name("unicode.json.gz")
_SCRIPT = re.compile(r"([A-Z]+(?: [A-Z]+)?)(?: CAPITAL| SMALL)? (?:LETTER|SYLLABLE|UNIFIED IDEOGRAPH)\b")
_NOT_ALONE = {"CAPITAL", "SMALL", "MODIFIER", "SUBSCRIPT", "SUPERSCRIPT", "FULLWIDTH", "HALFWIDTH", "FINAL", "EPIGRAPHIC"}
_OTHER_NAMES = {"CJK": "Han"}


def generate() -> dict[str, Any]:
    """`version` and, by name, who is in it: `Lu`, `Old_Italic`."""
    letters = {
        code: name for code in range(sys.maxunicode + 1) if chr(code).isalpha() and (name := unicodedata.name(chr(code), ""))
    }
    matches = map(_SCRIPT.match, letters.values())
    scripts = {match[1] for match in matches if match and _NOT_ALONE.isdisjoint(match[1].split())}
    found: dict[str, list[int]] = {}
    for code in range(sys.maxunicode + 1):
        found.setdefault(unicodedata.category(chr(code)), []).append(code)
    for code, name in letters.items():
        words = name.split()
        for script in scripts.intersection((" ".join(words[:2]), words[0])):
            found.setdefault(_OTHER_NAMES.get(script) or script.title().replace(" ", "_"), []).append(code)
    return {"version": unicodedata.unidata_version} | {name: _runs(codes) for name, codes in sorted(found.items())}


def _runs(codes: Iterable[int]) -> list[int]:
    out: list[int] = []
    end = 0
    for code in codes:
        if out and code == end:
            out[-1] += 1
        else:
            out += (code - end, 1)
        end = code + 1
    return out


if __name__ == "__main__":
    FILE.write_bytes(gzip.compress(orjson.dumps(generate()), mtime=0))
