"""The wire facts of all messages of the API, and how their fields are called in JSON.

`fields.tsv.gz` has a line for each message and, below it, one for each field: name, number, label, type. Labels: `a` a value that is
always written, `o` one that may be missing (a pointer in Go), `r` repeated, `m` a map with string keys. A struct that Go embeds
has a field of its own on the wire and none in JSON: the schema tells them apart.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from minik8s.api import schema

MAGIC = b"k8s\0"
"""What every body begins with, before its `runtime.Unknown`."""
MACHINERY = "apimachinery.pkg."
EXTENSIONS = "apiextensions-apiserver.pkg.apis.apiextensions.v1."
CHOICES: Mapping[str, str] = {
    f"{EXTENSIONS}JSONSchemaPropsOrArray": "jSONSchemas",
    f"{EXTENSIONS}JSONSchemaPropsOrBool": "allows",
    f"{EXTENSIONS}JSONSchemaPropsOrStringArray": "property",
}
"""Messages that are, in JSON, the value of one of their two fields: `schema`, or this one."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its name in JSON (empty for an embedded struct), number, label, and its type: a scalar's name or a message's."""

    name: str
    number: int
    label: str
    type: str


def message_of(api_version: str, kind: str) -> str:
    """The message of a kind; LookupError where there is none."""
    group, _, version = api_version.rpartition("/")
    if group == "meta.k8s.io" and kind.startswith("PartialObjectMetadata"):
        name = f"{MACHINERY}apis.meta.{version}.{kind}"
        return name if name in _facts() else f"{MACHINERY}apis.meta.v1.{kind}"
    if kind == "DeleteOptions":  # which every group has
        return f"{MACHINERY}apis.meta.v1.{kind}"
    name = schema.definition(group, version, kind)
    _facts()[name]
    return name


@cache
def fields_of(message: str) -> tuple[Field, ...]:
    """A message's fields, by their numbers."""
    package = message.rpartition(".")[0]
    return tuple(
        Field(
            _json_name(message, name),
            int(number),
            label,
            kind if kind in SCALARS or "." in kind else f"{package}.{kind}",
        )
        for name, number, label, kind in _facts()[message]
    )


SCALARS = frozenset(("bool", "int32", "int64", "double", "string", "bytes"))


def is_list(message: str) -> bool:
    """Whether the message is a Go slice with a name of its own, of strings."""
    return not _has_schema(message) and [name for name, *_ in _facts()[message]] == ["items"]


def _json_name(message: str, field: str) -> str:
    """How JSON calls a field; empty for an embedded struct."""
    if not _has_schema(message):
        return field
    known = schema.type_of(message).fields
    if field in known:
        return field
    return next((name for name in known if name.lower().translate(_NO_MARKS) == field.lower()), "")


_NO_MARKS = {ord("-"): None, ord("$"): None}  # JSON schema's own names: $ref, x-kubernetes-int-or-string


def _has_schema(message: str) -> bool:
    try:
        return bool(schema.type_of(message).fields)
    except LookupError:
        return False


@cache
def _facts() -> Mapping[str, list[list[str]]]:
    messages: dict[str, list[list[str]]] = {}
    current: list[list[str]] = []
    text = gzip.decompress(Path(__file__).with_name("fields.tsv.gz").read_bytes()).decode()
    for line in text.splitlines():
        if line.startswith("\t"):
            current.append(line[1:].split("\t"))
        else:
            current = messages[line] = []
    return messages
