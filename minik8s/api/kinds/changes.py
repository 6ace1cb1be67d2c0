"""What the hooks of updates share: fields that stay as they were, fields that may not change."""

from __future__ import annotations

from typing import Any

import orjson

from minik8s.api import names
from minik8s.api.errors import FieldError, forbidden, invalid
from minik8s.api.kind import Frozen, Object, thawed


def keep(new: Object, old: Frozen, *keys: str) -> None:
    """Puts the old object's values of these keys into the new one."""
    for key in keys:
        if key in old:
            new[key] = thawed(old[key])
        else:
            new.pop(key, None)


def clear_status(obj: Object) -> None:
    """For creations: the status is not who creates it to say."""
    obj["status"] = {}


def keep_status(new: Object, old: Frozen) -> None:
    """For updates of all but the status."""
    keep(new, old, "status")


def keep_all_but_status(new: Object, old: Frozen) -> None:
    """For updates of the status: the rest stays, metadata aside (the registry sees to it)."""
    keep(new, old, *((new.keys() | old.keys()) - {"status", "metadata", "apiVersion", "kind"}))


def immutable(new: Any, old: Any, path: str) -> list[FieldError]:
    """A field that keeps its first value; empty and absent are the same."""
    return [] if (new or None) == (old or None) else [invalid(path, new, names.IMMUTABLE)]


def immutable_when_marked(new: Frozen, old: Frozen, *keys: str) -> list[FieldError]:
    """ConfigMaps and Secrets with `immutable: true` (KEP-1412): neither the mark nor the data may change."""
    if not old.get("immutable"):
        return []
    changed = [] if new.get("immutable") else ["immutable"]
    changed += [key for key in keys if (new.get(key) or {}) != (old.get(key) or {})]
    return [forbidden(key, "field is immutable when `immutable` is set") for key in changed]


def difference(old: Frozen, new: Frozen) -> str:
    """The lines that differ, with some around them: what a message adds that forbids a change."""
    before, after = (orjson.dumps(o, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode() for o in (old, new))
    import difflib  # late: only errors need it

    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm=""))
    return "\n".join(lines[2:]) + "\n"
