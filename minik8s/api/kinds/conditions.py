"""The rules of metav1.Condition, for kinds whose upstream checks the conditions of a status."""

from __future__ import annotations

import re
from collections.abc import Sequence

from minik8s.api import names
from minik8s.api.errors import FieldError, duplicate, invalid, too_long
from minik8s.api.kind import Frozen
from minik8s.api.kinds import checks

REASON = re.compile(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?")
LONGEST_REASON, LONGEST_MESSAGE = 1024, 32 * 1024


def validate_conditions(conditions: Sequence[Frozen], path: str) -> list[FieldError]:
    """Each type once, each condition complete."""
    errors: list[FieldError] = []
    seen: set[str] = set()
    for i, condition in enumerate(conditions):
        kind = condition.get("type", "")
        errors += [duplicate(f"{path}[{i}].type", kind)] if kind in seen else []
        errors += _condition(condition, f"{path}[{i}]")
        seen.add(kind)
    return errors


def _condition(condition: Frozen, path: str) -> list[FieldError]:
    reason, seen = condition.get("reason", ""), condition.get("observedGeneration", 0)
    errors = list(checks.qualified_name(condition.get("type", ""), f"{path}.type"))
    errors += checks.one_of(condition.get("status", ""), f"{path}.status", ("False", "True", "Unknown"))
    if seen < 0:
        errors.append(invalid(f"{path}.observedGeneration", seen, "must be greater than or equal to zero"))
    errors += checks.needed(condition, ("lastTransitionTime", "reason"), path)
    if reason and not REASON.fullmatch(reason):
        rule = "a condition reason must start with a letter, go on with letters, digits or '_,:', and not end with ',' or ':'"
        errors.append(invalid(f"{path}.reason", reason, names.pattern_error(rule, REASON.pattern, "MyName", "ReasonA:ReasonB")))
    if len(reason) > LONGEST_REASON:
        errors.append(too_long(f"{path}.reason", LONGEST_REASON))
    if len(condition.get("message", "")) > LONGEST_MESSAGE:
        errors.append(too_long(f"{path}.message", LONGEST_MESSAGE))
    return errors
