"""Objects within objects (x-kubernetes-embedded-resource): what they must have of apiVersion, kind and metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minik8s.api import names, schema
from minik8s.api.errors import FieldError, invalid, required
from minik8s.api.structural.nodes import EMBEDDED, Node, Path, Visit, ordered, shown, visitor


def compiled(root: Node) -> Visit | None:
    """Checks all embedded resources; None if the schema has none."""
    return visitor(root, lambda node: validate if node.get(EMBEDDED) else None)


def validate(value: Any, path: Path, errors: list[FieldError]) -> None:
    """What is wrong with an embedded resource's type and metadata."""
    if not isinstance(value, Mapping):
        return
    for key, check in (("apiVersion", _api_version), ("kind", _kind)):
        here = shown((path, key))
        if key not in value:
            errors.append(required(here))
        elif not isinstance(value[key], str):
            errors.append(invalid(here, ordered(value[key]), "must be a string"))
        elif not value[key]:
            errors.append(invalid(here, "", "must not be empty"))
        else:
            errors += [invalid(here, value[key], text) for text in check(value[key])]
    if "metadata" in value:
        errors += _metadata(value["metadata"], shown((path, "metadata")))


def _api_version(value: str) -> list[str]:
    return [f"unexpected GroupVersion string: {value}"] if value.count("/") > 1 else []


def _kind(value: str) -> list[str]:
    found = names.dns_label_1035(value.lower())
    return ["may have mixed case, but should otherwise match: " + ",".join(found)] if found else []


def _metadata(value: Any, here: str) -> list[FieldError]:
    try:
        metadata, _ = schema.conform_metadata(value, here)
    except schema.UnfitError as error:
        return [invalid(here, ordered(value), str(error))]
    metadata["name"] = metadata.get("name") or "unnamed"
    return names.validate_metadata({"metadata": metadata}, "path", bool(metadata.get("namespace")), here, builtin=False)
