"""What `kubectl get` shows of custom resources (additionalPrinterColumns), and what they can be selected by (selectableFields)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from minik8s.api.kind import AGE, NAME, Column, Frozen
from minik8s.api.printing import age, since
from minik8s.api.structural.jsonpath import JsonPath, JsonPathError
from minik8s.api.structural.nodes import float_text

Cells = Callable[[Frozen, float], list[Any]]
_AGE_ONLY: Sequence[Frozen] = (
    {"name": AGE.name, "type": "date", "description": AGE.description, "jsonPath": ".metadata.creationTimestamp"},
)


def columns(declared: Sequence[Frozen]) -> tuple[Sequence[Column], Cells]:
    """The columns of a version, and the function that fills them; the age alone where none are declared."""
    declared = declared or _AGE_ONLY
    headers = [NAME]
    cells: list[Callable[[Frozen, float], Any]] = []
    for each in declared:
        path = each.get("jsonPath", "")
        described = each.get("description") or f"Custom resource definition column (in JSONPath format): {path}"
        kind = each.get("type", "")
        headers.append(Column(each.get("name", ""), kind, each.get("format", ""), each.get("priority", 0), described))
        cells.append(age if path == ".metadata.creationTimestamp" and kind == "date" else _cell(path, kind))

    def row(obj: Frozen, now: float) -> list[Any]:
        return [obj["metadata"]["name"], *(cell(obj, now) for cell in cells)]

    return headers, row


def fields(declared: Sequence[Frozen]) -> Mapping[str, Callable[[Frozen], str]]:
    """Selectable fields by their names (`spec.colour`)."""
    return {each["jsonPath"].removeprefix("."): _selected(JsonPath(each["jsonPath"])) for each in declared}


def _selected(path: JsonPath) -> Callable[[Frozen], str]:
    def select(obj: Frozen) -> str:
        value = path.first(obj)
        return "" if value is None else text(value)

    return select


def _cell(path: str, kind: str) -> Callable[[Frozen, float], Any]:
    try:
        found = JsonPath(path)
    except JsonPathError:
        return lambda obj, now: None
    convert = _CELLS.get(kind)
    if convert is None:
        return lambda obj, now: None

    def cell(obj: Frozen, now: float) -> Any:
        value = found.first(obj)
        return None if value is None else convert(value, now)

    return cell


def text(value: Any) -> str:
    """A value as Go prints it; objects and lists as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return float_text(value)
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _date(value: Any, now: float) -> Any:
    if not isinstance(value, str):
        return None
    try:
        return since(value, now)
    except ValueError:
        return "<invalid>"


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


_CELLS: Mapping[str, Callable[[Any, float], Any]] = {
    "string": lambda value, now: text(value),
    "integer": lambda value, now: int(value) if _is_number(value) else None,
    "number": lambda value, now: value if _is_number(value) else None,
    "boolean": lambda value, now: value if type(value) is bool else None,
    "date": _date,
}
