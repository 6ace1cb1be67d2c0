"""Printer columns and the JSONPath that they are written in (client-go's jsonpath, additionalPrinterColumns)."""

from __future__ import annotations

from typing import Any

import pytest

from minik8s.api.structural.columns import columns, fields, text
from minik8s.api.structural.jsonpath import JsonPath, JsonPathError

OBJ: dict[str, Any] = {
    "metadata": {"name": "a", "annotations": {"x.y/z": "note"}, "creationTimestamp": "2026-01-02T03:04:05Z"},
    "spec": {"n": 3, "f": 1.5, "big": 1000000.0, "s": "text", "b": True, "o": {"b": 1, "a": 2}, "l": [1, 2, 3], "t": "later"},
    "status": {"conditions": [{"type": "Ready", "status": "True", "n": 2}, {"type": "Odd", "status": "False", "n": 5}]},
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.n", [3]),
        (".spec.none.deeper", []),
        (r".metadata.annotations.x\.y/z", ["note"]),
        (".metadata.annotations['x.y/z']", ["note"]),
        (".spec.l[1]", [2]),
        (".spec.l[-1]", [3]),
        (".spec.l[0:2]", [1, 2]),
        (".spec.l[::2]", [1, 3]),
        (".spec.l[0,2]", [1, 3]),
        (".spec.l[*]", [1, 2, 3]),
        (".status.conditions[*].type", ["Ready", "Odd"]),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.type == 'Odd')].n", [5]),
        (".status.conditions[?(@.n>2)].type", ["Odd"]),
        (".status.conditions[?(@.none)].type", []),
        (".status..n", [2, 5]),
        (".spec.o.*", [1, 2]),
        (".", [OBJ]),
    ],
)
def test_paths(path: str, found: list[Any]) -> None:
    assert list(JsonPath(path).find(OBJ)) == found


@pytest.mark.parametrize("path", ["spec", ".l[", ".l[x]", ".l[::0]", ".l[?(@.a==b)]"])
def test_what_is_no_path(path: str) -> None:
    with pytest.raises(JsonPathError):
        JsonPath(path)


@pytest.mark.parametrize(
    ("kind", "path", "cell"),
    [
        ("string", ".spec.s", "text"),
        ("string", ".spec.n", "3"),
        ("string", ".spec.b", "true"),
        ("string", ".spec.big", "1e+06"),
        ("string", ".spec.f", "1.5"),
        ("string", ".spec.o", '{"a":2,"b":1}'),
        ("string", ".spec.l", "[1,2,3]"),
        ("integer", ".spec.f", 1),
        ("integer", ".spec.s", None),
        ("number", ".spec.n", 3),
        ("boolean", ".spec.b", True),
        ("boolean", ".spec.s", None),
        ("date", ".metadata.creationTimestamp", "10s"),
        ("date", ".spec.t", "<invalid>"),
        ("string", ".spec.none", None),
        ("odd", ".spec.s", None),
    ],
)
def test_cells(kind: str, path: str, cell: Any) -> None:
    headers, row = columns([{"name": "C", "type": kind, "jsonPath": path, "priority": 1}])
    assert [header.name for header in headers] == ["Name", "C"]
    assert headers[1].priority == 1
    assert row(OBJ, 1767323055.0) == ["a", cell]


def test_without_columns_there_is_the_age() -> None:
    headers, row = columns(())
    assert [(header.name, header.type) for header in headers] == [("Name", "string"), ("Age", "date")]
    assert row(OBJ, 1767323055.0) == ["a", "10s"]


def test_fields_to_select_by() -> None:
    found = fields([{"jsonPath": path} for path in (".spec.s", ".spec.n", ".spec.b", ".spec.none")])
    assert {name: value(OBJ) for name, value in found.items()} == {
        "spec.s": "text",
        "spec.n": "3",
        "spec.b": "true",
        "spec.none": "",
    }


@pytest.mark.parametrize(
    ("value", "shown"), [(0.5, "0.5"), (1234567.5, "1.2345675e+06"), (-0.00001, "-1e-05"), (0.0001, "0.0001"), (1e22, "1e+22")]
)
def test_floats_are_shown_as_go_shows_them(value: float, shown: str) -> None:
    assert text(value) == shown
