"""Conditions of an object's status, which all kinds write alike. `kinds/conditions.py` validates them.

Source: the API conventions, "Typical status properties".
"""

from __future__ import annotations

from minik8s.api.kind import Frozen


def condition_of(obj: Frozen, kind: str) -> Frozen:
    """The condition of this type, empty where there is none."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return next((condition for condition in conditions if condition.get("type") == kind), {})


def is_true(obj: Frozen, kind: str) -> bool:
    """Whether the condition of this type holds."""
    return condition_of(obj, kind).get("status") == "True"
