"""The defaults that a schema declares must themselves be what it allows: known fields only, right types, passing its rules."""

from __future__ import annotations

from typing import Any

from minik8s.api import schema
from minik8s.api.errors import FieldError, invalid
from minik8s.api.kind import thawed
from minik8s.api.structural import embedded, pruning, schemas
from minik8s.api.structural.nodes import EMBEDDED, META, RULES, Node, items, ordered, properties, rooted
from minik8s.api.structural.spine import keywords

Steps = tuple[Any, Any] | None
"""The way from an object to a value in it: (way to the holder, field, or None for an element)."""
_TYPED = {"apiVersion": "validation/v1", "kind": "Validation"}


def errors_of(root: Node, path: str) -> list[FieldError]:
    """What is wrong with the defaults of a resource's schema."""
    errors: list[FieldError] = []
    resource = {**root, EMBEDDED: True}
    _visit(resource, resource, path, None, False, errors)
    return errors


def _visit(node: Node, root: Node, path: str, steps: Steps, inside_meta: bool, errors: list[FieldError]) -> None:
    embeds = bool(node.get(EMBEDDED))
    if embeds:
        inside_meta, steps, root = False, None, node
    if node.get("default") is not None:
        found = _in_meta(node, root, path, steps) if inside_meta else _unpruned(node, path)
        errors += found or _rule_errors(node, f"{path}.default", root=node is root)
    if (each := items(node)) is not None:
        _visit(each, root, f"{path}.items", (steps, None), inside_meta, errors)
    for name, field in properties(node).items():
        meta = inside_meta or (embeds and name in META)
        _visit(field, root, f"{path}.properties[{name}]", (steps, name), meta, errors)


def _around(value: Any, steps: Steps) -> Any:
    """The smallest object in which a value stands where its schema does."""
    while steps is not None:
        value = [value] if steps[1] is None else {steps[1]: value}
        steps = steps[0]
    return {**_TYPED, **value} if isinstance(value, dict) else value


def _in_meta(node: Node, root: Node, path: str, steps: Steps) -> list[FieldError]:
    """A default within apiVersion, kind or metadata must make these valid."""
    default, here = node["default"], f"{path}.default"
    wrong: list[FieldError] = []
    try:
        whole, _ = pruning.value(root, _around(thawed(default), steps))
        embedded.validate(whole, None, wrong)
        told = str(wrong[0]) if len(wrong) == 1 else f"[{', '.join(map(str, wrong))}]"
    except schema.UnfitError as error:
        wrong, told = [invalid("", "", "")], str(error)
    if wrong:
        return [invalid(here, ordered(default), f"must result in valid metadata: {told}")]
    return schema_errors(node, default, here)


def _unpruned(node: Node, path: str) -> list[FieldError]:
    default, here = node["default"], f"{path}.default"
    errors: list[FieldError] = []
    try:
        _, unknown = pruning.value(node, default)
    except schema.UnfitError as error:
        return [invalid(here, ordered(default), str(error))]
    if unknown:
        errors.append(invalid(here, ordered(default), "must not have unknown fields"))
    wrong: list[FieldError] = []
    if check := embedded.compiled(node):
        check(default, rooted(here), wrong)
    return errors + (wrong or schema_errors(node, default, here))


def schema_errors(node: Node, value: Any, path: str) -> list[FieldError]:
    """What a value at this path has against its schema."""
    found: list[FieldError] = []
    schemas.compiled(node)(value, None, found, schemas.UNRELATED)
    return [FieldError(error.type, _under(path, error.field), error.message) for error in found]


def _under(path: str, field: str) -> str:
    return path if field in ("", schemas.NOWHERE) else f"{path}.{field}"


def _rule_errors(node: Node, path: str, *, root: bool) -> list[FieldError]:
    """What the rules say of a default, as an unchanged value and as a new one."""
    if RULES not in keywords(node):
        return []
    from minik8s.api.structural import rules

    ruled, default = rules.compiled(node, root=root), node["default"]
    if ruled is None:
        return []
    unchanged = rules.tried(ruled, default, default, rooted(path), ratcheting=False).errors
    return unchanged or rules.tried(ruled, default, None, rooted(path)).errors
