"""Objects in files: YAML or JSON, several documents, Lists unfolded; `-` is the standard input."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from minik8s.api import yaml
from minik8s.cli import CommandError

SUFFIXES = (".yaml", ".yml", ".json")


def read(names: Sequence[str]) -> list[dict[str, Any]]:
    """The objects of files and folders, in order. CommandError says where what is wrong."""
    found: list[dict[str, Any]] = []
    for name in names:
        for source, data in _files(name):
            for number, document in enumerate(re.split(rb"^---(?=\s|$)", data, flags=re.MULTILINE), 1):
                found += _objects(document, f"{source}, document {number}")
    if not found:
        raise CommandError(f"no objects in {', '.join(names)}")
    return found


def _objects(document: bytes, where: str) -> Iterator[dict[str, Any]]:
    try:
        obj, _ = yaml.parse(document)
    except ValueError as error:
        raise CommandError(f"{where}: {error}") from None
    if obj is None:
        return
    if not isinstance(obj, dict):
        raise CommandError(f"{where}: not an object with apiVersion, kind and metadata")
    for one in obj.get("items") or () if str(obj.get("kind", "")).endswith("List") and "items" in obj else (obj,):
        metadata = one.get("metadata") if isinstance(one, dict) else None
        for field, value in (("apiVersion", obj.get("apiVersion")), ("kind", obj.get("kind"))):
            if not isinstance(value, str):
                raise CommandError(f"{where}: {field} is missing")
        if not isinstance(metadata, dict):
            raise CommandError(f"{where}: metadata is missing")
        yield one


def _files(name: str) -> Iterator[tuple[str, bytes]]:
    if name == "-":
        yield "the standard input", sys.stdin.buffer.read()
        return
    path = Path(name)
    try:
        if path.is_dir():
            yield from ((str(file), file.read_bytes()) for file in sorted(path.iterdir()) if file.suffix in SUFFIXES)
        else:
            yield name, path.read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read {error.filename}: {error.strerror}") from None
