"""Is a schema one that a CustomResourceDefinition may have? Keywords, extensions, defaults, rules and what they cost.

`errors_of` says all that upstream says of `openAPIV3Schema`, in its words. Source: apiextensions.k8s.io/v1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from minik8s.api.errors import FieldError, forbidden, invalid, required, unsupported
from minik8s.api.structural import fieldpath, presets, spine
from minik8s.api.structural.nodes import (
    EMBEDDED,
    LIST_TYPE,
    MAP_KEYS,
    MAP_TYPE,
    META,
    PRESERVE,
    RULES,
    Node,
    items,
    ordered,
    properties,
    values,
)

if TYPE_CHECKING:
    from minik8s.api.structural.costs import Costs

TYPES = ("array", "boolean", "integer", "number", "object", "string")
REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
NO_UNIQUE = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
IN_MAPS = "inside additionalProperties applying to object metadata"
AT_ROOT = (
    *("description", "type", "format", "title", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "maxLength"),
    *("minLength", "pattern", "maxItems", "minItems", "uniqueItems", "multipleOf", "required", "items", "properties"),
    *("externalDocs", "example", PRESERVE, RULES),
)
"""What a schema's root may say where the status is checked on its own."""


@dataclass(frozen=True)
class Place:
    """What is known of the place in which a schema stands."""

    root: bool = False
    inside_meta: bool = False
    no_defaults: str | None = None  # why there may be none
    uncorrelated: str = ""  # the outermost path whose values can't be told from their old ones


@dataclass(slots=True)
class Found:
    """Errors of the schema come before those of its rules."""

    schema: list[FieldError] = field(default_factory=list)
    rules: list[FieldError] = field(default_factory=list)


def errors_of(root: Node, path: str, *, status: bool, known: bool = False) -> list[FieldError]:
    """What is wrong with the schema at this path. `status`: the subresource is served; `known`: the schema was accepted before, and is so
    again.
    """
    errors = _root_errors(root, path, status=status)
    if known:
        return errors
    said = spine.keywords(root)
    odd = spine.unsupported(root) if said & spine.UNSUPPORTED or "items" in said else ""
    wrong = [] if odd else spine.errors_of(root, path)
    if not odd and not wrong and "default" in said:
        wrong = presets.errors_of(root, path)
    errors += wrong
    costs = None
    if not odd and not wrong and RULES in said:
        from minik8s.api.structural.costs import Costs

        costs = Costs()
    found = Found()
    _of_node(root, path, Place(root=True), costs, found)
    errors += found.schema + found.rules
    if odd and not errors:
        errors.append(invalid(path, "", odd))
    return errors + (costs.total_errors(path) if costs else [])


def _root_errors(root: Node, path: str, *, status: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    if status:
        if root.get("type") and root["type"] != "object":
            detail = 'only "object" is allowed as the type at the root of the schema if the status subresource is enabled'
            errors.append(invalid(f"{path}.type", root["type"], detail))
        elif any(value for key, value in root.items() if key not in AT_ROOT):
            shown = " ".join(_go_name(key) for key in AT_ROOT)
            detail = f"only [{shown}] fields are allowed at the root of the schema if the status subresource is enabled"
            errors.append(invalid(path, ordered(root), detail))
    if root.get("nullable"):
        errors.append(forbidden(f"{path}.nullable", "nullable cannot be true at the root"))
    return errors


def _go_name(key: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in key.replace("-kubernetes", "").split("-"))


def _of_node(node: Node, path: str, place: Place, costs: Costs | None, found: Found) -> None:
    before = len(found.schema)
    found.schema += _keywords(node, path, place)
    inner = replace(place, root=False) if place.root else place
    if fields := properties(node):
        more = node.get("additionalProperties")
        if more is not None and more is not True:
            detail = "additionalProperties and properties are mutual exclusive"
            found.schema.append(forbidden(f"{path}.additionalProperties", detail))
        in_meta = place.root or node.get(EMBEDDED)
        for name, each in fields.items():
            place_of = _in_meta(name, place) if in_meta and name in META else inner
            _of_node(each, f"{path}.properties[{name}]", place_of, costs and costs.below(node, each), found)
    if node.keys() & _SPECIAL:
        _special(node, path, inner, costs, found)
        if node.get(RULES) and costs and len(found.schema) == before:
            found.rules += costs.errors_of(node, path, place)


def _special(node: Node, path: str, inner: Place, costs: Costs | None, found: Found) -> None:
    """What most schemas don't say."""
    if node.get("uniqueItems"):
        found.schema.append(forbidden(f"{path}.uniqueItems", NO_UNIQUE))
    others, item = values(node), items(node)
    if others is not None:
        place = replace(inner, no_defaults=IN_MAPS) if inner.inside_meta else inner
        _of_node(others, f"{path}.additionalProperties", place, costs and costs.below(node, others), found)
    for here, each in spine.combined(node, path):
        _of_node(each, here, inner, None, found)
    if item is not None:
        place = replace(inner, uncorrelated=path) if node.get(LIST_TYPE) != "map" and not inner.uncorrelated else inner
        _of_node(item, f"{path}.items", place, costs and costs.below(node, item), found)
    found.schema += _extensions(node, path)
    for i, rule in enumerate(node.get(RULES) or ()):
        found.schema += _rule(node, rule, f"{path}.{RULES}[{i}]")


_SPECIAL = {"uniqueItems", "additionalProperties", "items", "allOf", "anyOf", "oneOf", "not"} | {
    *(PRESERVE, LIST_TYPE, MAP_TYPE, MAP_KEYS, RULES)
}


def _in_meta(name: str, place: Place) -> Place:
    inner = replace(place, root=False, inside_meta=True)
    return replace(inner, no_defaults=f"in top-level {name}") if place.root else inner


_FORBIDDEN = {"id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"}


def _keywords(node: Node, path: str, place: Place) -> list[FieldError]:
    errors = []
    kind = node.get("type") or ""
    if kind and kind not in TYPES:
        errors.append(unsupported(f"{path}.type", kind, TYPES))
    if node.get("default") is not None and place.no_defaults is not None:
        errors.append(forbidden(f"{path}.default", f"must not be set {place.no_defaults}"))
    for key in sorted(node.keys() & _FORBIDDEN):
        if node.get(key) or (key in ("additionalItems", "dependencies", "$ref") and node.get(key) is not None):
            errors.append(forbidden(f"{path}.{key}", f"{key} is not supported"))
    if kind == "null":
        errors.append(forbidden(f"{path}.type", "type cannot be set to null, use nullable as an alternative"))
    if isinstance(node.get("items"), list) and node["items"]:
        errors.append(forbidden(f"{path}.items", "items must be a schema object and not an array"))
    if place.inside_meta and node.get(EMBEDDED):
        errors.append(forbidden(f"{path}.{EMBEDDED}", "must not be used inside of resource meta"))
    return errors


# --- extensions ------------------------------------------------------------------------------------------------------


def _extensions(node: Node, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    if node.get(PRESERVE) is False:
        errors.append(invalid(f"{path}.{PRESERVE}", False, "must be true or undefined"))
    for key, wanted, allowed in ((MAP_TYPE, "object", ("atomic", "granular")), (LIST_TYPE, "array", ("atomic", "set", "map"))):
        value, kind = node.get(key), node.get("type") or ""
        if value is None:
            continue
        if kind != wanted:
            detail = f"must be {wanted} if {key} is specified"
            errors.append(invalid(f"{path}.type", kind, detail) if kind else required(f"{path}.type", detail))
        elif value == "set":
            errors += _set_items(node, path)
        if value not in allowed:
            errors.append(unsupported(f"{path}.{key}", value, allowed))
    keys, list_type = node.get(MAP_KEYS) or (), node.get(LIST_TYPE)
    if keys and list_type != "map":
        detail = f"must be map if {MAP_KEYS} is non-empty"
        where = f"{path}.{LIST_TYPE}"
        errors.append(required(where, detail) if list_type is None else invalid(where, list_type, detail))
    if list_type == "map":
        errors += _map_keys(node, keys, path)
    if list_type in ("set", "map"):
        errors += _presence(node, keys, list_type, path)
    return errors


def _set_items(node: Node, path: str) -> list[FieldError]:
    """What can't be told apart by its own value can't be in a set."""
    item = items(node) or {}
    detail = "must be atomic as item of a list with x-kubernetes-list-type=set"
    if item.get("type") == "array" and item.get(LIST_TYPE) not in (None, "atomic"):
        return [invalid(f"{path}.items.{LIST_TYPE}", item[LIST_TYPE], detail)]
    if item.get("type") == "object" and item.get(MAP_TYPE) != "atomic":
        return [invalid(f"{path}.items.{MAP_TYPE}", item.get(LIST_TYPE), detail)]
    return []


def _map_keys(node: Node, keys: Any, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    scalar = "if parent array's x-kubernetes-list-type is map"
    if not keys:
        errors.append(required(f"{path}.{MAP_KEYS}", f"must not be empty if {LIST_TYPE} is map"))
    item = items(node)
    if node.get("items") is None:
        errors.append(required(f"{path}.items", f"must have a schema if {LIST_TYPE} is map"))
    elif item is None:
        errors.append(invalid(f"{path}.items", ordered(node["items"]), f"must only have a single schema if {LIST_TYPE} is map"))
    elif item.get("type") != "object":
        errors.append(invalid(f"{path}.items.type", item.get("type") or "", f"must be object {scalar}"))
    else:
        for i, key in enumerate(keys):
            known = properties(item).get(key)
            if known is None:
                errors.append(invalid(f"{path}.{MAP_KEYS}", list(keys), "entries must all be names of item properties"))
            elif known.get("type") in ("array", "object"):
                errors.append(invalid(f"{path}.items.properties[{key}].type", "object", f"must be a scalar type {scalar}"))
            if key in keys[:i]:
                errors.append(invalid(f"{path}.{MAP_KEYS}", list(keys), "must not contain duplicate entries"))
    return errors


def _presence(node: Node, keys: Any, list_type: str, path: str) -> list[FieldError]:
    """Items of sets and maps are there, and so are their keys."""
    item = items(node)
    if item is None:
        return []
    errors: list[FieldError] = []
    if item.get("nullable"):
        errors.append(forbidden(f"{path}.items.nullable", f"cannot be nullable when {LIST_TYPE} is {list_type}"))
    for key in keys if list_type == "map" else ():
        known, here = properties(item).get(key), f"{path}.items.properties[{key}]"
        if known is None:
            continue
        why = f"this property is in {MAP_KEYS}, so it"
        if key not in (item.get("required") or ()) and known.get("default") is None:
            errors.append(required(f"{here}.default", f"{why} must have a default or be a required property"))
        if known.get("nullable"):
            errors.append(forbidden(f"{here}.nullable", f"{why} cannot be nullable"))
    return errors


# --- rules -----------------------------------------------------------------------------------------------------------

_NEWLINE = re.compile(r"[\n\r]")


def _rule(node: Node, rule: Mapping[str, Any], path: str) -> list[FieldError]:
    """What is wrong with a rule besides its expressions."""
    errors: list[FieldError] = []
    text, message, expression = rule.get("rule", ""), rule.get("message", ""), rule.get("messageExpression", "")
    if not text.strip():
        errors.append(required(f"{path}.rule", "rule is not specified"))
    elif message and not message.strip():
        errors.append(invalid(f"{path}.message", message, "must be non-empty if specified"))
    elif _NEWLINE.search(message.strip()):
        errors.append(invalid(f"{path}.message", message, "must not contain line breaks"))
    elif _NEWLINE.search(text.strip()) and not message.strip():
        errors.append(required(f"{path}.message", "message must be specified if rule contains line breaks"))
    if expression and not expression.strip():
        errors.append(required(f"{path}.messageExpression", "messageExpression must be non-empty if specified"))
    if rule.get("reason") is not None and rule["reason"] not in REASONS:
        errors.append(unsupported(f"{path}.reason", rule["reason"], REASONS))
    return errors + _rule_path(node, rule.get("fieldPath", ""), f"{path}.fieldPath")


def _rule_path(node: Node, text: str, path: str) -> list[FieldError]:
    errors = []
    if text and not text.strip():
        errors.append(invalid(path, text, "must be non-empty if specified"))
    if _NEWLINE.search(text):
        errors.append(invalid(path, text, "must not contain line breaks"))
    if text:
        try:
            fieldpath.resolve(text, node)
        except fieldpath.FieldPathError:
            errors.append(invalid(path, text, "must be a valid path"))
    return errors
