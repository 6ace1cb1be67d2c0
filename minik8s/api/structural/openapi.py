"""A version's schema as OpenAPI v3 publishes it: with apiVersion, kind and metadata, also in the resources embedded in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minik8s.api.kind import Frozen, thawed
from minik8s.api.structural.nodes import EMBEDDED, Node, items, properties, values

METADATA = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"


def published(root: Node | None, group: str, version: str, kind: str, selectable: Sequence[Frozen] = ()) -> dict[str, Any]:
    """The schema of the kind."""
    out: dict[str, Any] = {"type": "object"} if root is None else _typed(_node(root))
    out["x-kubernetes-group-version-kind"] = [{"group": group, "version": version, "kind": kind}]
    if selectable:
        paths = [each["jsonPath"].removeprefix(".") for each in selectable]
        out["x-kubernetes-selectable-fields"] = [{"fieldPath": path} for path in paths]
    return out


def _typed(node: dict[str, Any]) -> dict[str, Any]:
    node["properties"] = node.get("properties", {}) | {
        "apiVersion": {"type": "string", "description": "APIVersion defines which version of the API the object follows."},
        "kind": {"type": "string", "description": "Kind is the name of the object's type."},
        "metadata": {"allOf": [{"$ref": METADATA}], "description": "Standard object's metadata."},
    }
    return node


def _node(node: Node) -> dict[str, Any]:
    nested = ("properties", "additionalProperties", "items")
    out: dict[str, Any] = {key: thawed(value) for key, value in node.items() if key not in nested and value is not None}
    if fields := properties(node):
        out["properties"] = {name: _node(each) for name, each in fields.items()}
    others, each_item = values(node), items(node)
    if others is not None:
        out["additionalProperties"] = _node(others)
    elif isinstance(node.get("additionalProperties"), bool):
        out["additionalProperties"] = node["additionalProperties"]
    if each_item is not None:
        out["items"] = _node(each_item)
    return _typed(out) if node.get(EMBEDDED) else out
