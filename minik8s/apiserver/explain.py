"""Descriptions of types and fields, for `kubectl explain`: of a package (the extra `explain`, PyPI's kubernetes-validate), where it is
installed. Nothing is kept: they are read where a document of OpenAPI is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson

_FILE = "kubernetes-json-schema/v{level}.0-local/_definitions.json"


@lru_cache(maxsize=1)
def source(level: str) -> Path | None:
    """The file that has them for a level of the API (`1.36`); None where it is not installed."""
    found = find_spec("kubernetes_validate")
    if found is None or found.origin is None:
        return None
    file = Path(found.origin).parent / _FILE.format(level=level)
    return file if file.exists() else None


def edition(level: str) -> str:
    """What tells one file from another."""
    file = source(level)
    return f"{file.stat().st_size}" if file else ""


def described(
    schemas: Mapping[str, Mapping[str, Any]], level: str, *, beside_references: bool = False
) -> dict[str, Mapping[str, Any]]:
    """OpenAPI's schemas by name, with the descriptions that there are. What stands beside a `$ref` counts nothing in v3: it is
    wrapped there.
    """
    file = source(level)
    if file is None:
        return dict(schemas)
    definitions = orjson.loads(file.read_bytes())["$defs"]
    return {
        name: _with(schema, definitions[name], beside_references) if name in definitions else schema
        for name, schema in schemas.items()
    }


def _with(schema: Mapping[str, Any], told: Mapping[str, Any], beside: bool) -> Mapping[str, Any]:
    fields = told.get("properties") or {}
    found = {**schema, **_text(told)}
    if "properties" in schema:
        found["properties"] = {
            name: _field(field, _text(fields.get(name, {})), beside) for name, field in schema["properties"].items()
        }
    return found


def _field(schema: Mapping[str, Any], text: Mapping[str, str], beside: bool) -> Mapping[str, Any]:
    if text and "$ref" in schema and not beside:
        return {**text, "allOf": [schema]}
    return {**text, **schema}


def _text(told: Mapping[str, Any]) -> dict[str, str]:
    return {"description": told["description"]} if told.get("description") else {}
