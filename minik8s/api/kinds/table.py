"""One line a kind: where its rules stand. A kind without a line has none of its own."""

from __future__ import annotations

from minik8s.api.kind import Kind
from minik8s.api.resources import Resource

KINDS: dict[tuple[str, str], Kind] = {}
"""(group, kind) -> its rules."""

PLAIN = Kind()


def rules_of(resource: Resource) -> Kind:
    """The rules of a resource's kind."""
    return KINDS.get((resource.group, resource.kind), PLAIN)
