"""Objects as text: the server's Tables in columns, and `-o yaml`, `json`, `name`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from minik8s.cli.kinds import Kind

FORMATS = ("wide", "yaml", "json", "name")
GAP = 3
LEAST = 6  # a column's least width


class Columns:
    """Lays a server's Tables out; the widths last, so that the rows of a watch stand under the first ones."""

    def __init__(self, *, wide: bool, namespaces: bool, headings: bool = True, prefix: str = "") -> None:
        self._wide = wide
        self._namespaces = namespaces
        self._headings = headings
        self._prefix = prefix
        self._columns: list[int] = []
        self._widths: list[int] = []

    def lines(self, table: Mapping[str, Any]) -> list[str]:
        """The table's rows, above the first ones the headings."""
        rows: list[list[str]] = []
        if not self._columns and "columnDefinitions" in table:
            definitions = table["columnDefinitions"]
            self._columns = [n for n, one in enumerate(definitions) if self._wide or not one.get("priority")]
            if self._headings:
                rows.append(
                    (["NAMESPACE"] if self._namespaces else []) + [definitions[n]["name"].upper() for n in self._columns]
                )
        rows += [self._row(row) for row in table.get("rows") or ()]
        for row in rows:
            self._widths += [LEAST] * (len(row) - len(self._widths))
            self._widths = [max(width, len(text) + GAP) for width, text in zip(self._widths, row, strict=True)]
        return ["".join([text.ljust(width) for text, width in zip(row, self._widths, strict=True)]).rstrip() for row in rows]

    def _row(self, row: Mapping[str, Any]) -> list[str]:
        cells = [_cell(row["cells"][n]) for n in self._columns]
        if self._prefix:
            cells[0] = f"{self._prefix}/{cells[0]}"
        return ([row["object"]["metadata"].get("namespace", "")] if self._namespaces else []) + cells


def text(form: str, kind: Kind, obj: Mapping[str, Any]) -> str:
    """One object as `yaml`, `json` or `name`, without the lists of who manages its fields."""
    if form == "name":
        return f"{kind.singular}/{obj['metadata']['name']}"
    return dump(form, without_managers(obj))


def dump(form: str, value: Mapping[str, Any]) -> str:
    if form == "json":
        return json.dumps(value, indent=4, ensure_ascii=False)
    import yaml

    class Dumper(yaml.CSafeDumper):
        """Texts of several lines as blocks."""

    def block(dumper: yaml.CSafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, block)
    return yaml.dump(value, Dumper=Dumper, allow_unicode=True, width=1000).rstrip("\n")


def without_managers(obj: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in obj.get("metadata", {}).items() if key != "managedFields"}
    return {**obj, "metadata": metadata}


def _cell(value: Any) -> str:
    if value is None:
        return "<none>"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value).split("\n", 1)[0]
