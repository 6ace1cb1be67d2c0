"""The entries of metadata.managedFields: read from an object, written in upstream's order, never too many.

An entry belongs to a manager by name, operation and subresource; one of an update also by its version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from minik8s.api.kind import Frozen, Object
from minik8s.api.managed import fields
from minik8s.api.managed.fields import Fields

APPLY, UPDATE = "Apply", "Update"
MAX_UPDATERS = 10
ANCIENT = "ancient-changes"
MAX_NAME = 128  # bytes
MAX_SHARED = 4096  # bytes of JSON
UNKNOWN = "unknown"


class Manager(NamedTuple):
    """Whose fields they are. `version` is empty for those who apply: they have one entry, whatever version they apply."""

    name: str
    operation: str
    version: str = ""
    subresource: str = ""

    def __str__(self) -> str:
        """As messages name it: `"m" with subresource "scale" using v1`."""
        place = f' with subresource "{self.subresource}"' if self.subresource else ""
        return f'"{self.name}"{place}' + (f" using {self.version}" if self.operation == UPDATE else "")


@dataclass(frozen=True, slots=True)
class Owned:
    """The fields of a manager, in a version of the kind, and when it last changed something."""

    fields: Fields
    version: str
    time: str | None = None
    entry: Frozen | None = None  # the entry that says the same


Managers = dict[Manager, Owned]


def of_agent(user_agent: str) -> str:
    """The manager's name of a client that gives none: its User-Agent up to the first slash."""
    name = ""
    for letter in user_agent.partition("/")[0]:
        if letter.isprintable():
            if len((name + letter).encode()) > MAX_NAME:
                break
            name += letter
    return name


def read(entries: Sequence[Frozen], *, trusted: bool = True) -> Managers:
    """The managers of an object. Where entries come from a client, ValueError if one is malformed."""
    managers: Managers = {}
    for entry in entries:
        owned: Any = entry.get("fieldsV1") or {}
        if not trusted:
            _check(entry)
            owned = fields.read(owned)
        operation, version = entry["operation"], entry["apiVersion"]
        manager = Manager(
            entry.get("manager", ""), operation, version if operation == UPDATE else "", entry.get("subresource", "")
        )
        managers[manager] = Owned(owned, version, entry.get("time"), entry if trusted else None)
    return managers


def wanted(live: Frozen, new: Frozen, subresource: str) -> Managers:
    """Where an update begins: the entries that its object brings along if these are in order, else those of the live object. An empty list,
    or one empty entry, forgets all managers. Subresources bring no entries.
    """
    given = new.get("metadata", {}).get("managedFields")
    current = live.get("metadata", {}).get("managedFields") or ()
    if subresource or given is None or given is current:
        return read(current)
    if not given or (len(given) == 1 and not given[0]):
        return {}
    try:
        return read(given, trusted=given == current) or read(current)
    except ValueError:
        return read(current)


def written(managers: Managers) -> list[Object]:
    """The entries: those of Apply first, then the older ones (to the second), then by name."""
    ordered = sorted(managers.items(), key=lambda item: (item[0].operation, item[1].time or "", item[0].name, item[1].version))
    return [dict(owned.entry) if owned.entry is not None else _entry(manager, owned) for manager, owned in ordered]


def capped(managers: Managers) -> Managers:
    """Not more than ten updaters: the oldest are put together, for each version."""
    updaters = [manager for manager in managers if manager.operation == UPDATE]
    surplus = len(updaters) - MAX_UPDATERS
    if surplus <= 0:
        return managers
    managers = dict(managers)
    first: dict[str, Manager] = {}
    for manager in sorted(updaters, key=lambda each: (managers[each].time or "", each)):
        if surplus <= 0:
            break
        owned = managers[manager]
        if owned.version not in first:
            first[owned.version] = manager
            continue
        bucket = Manager(ANCIENT, UPDATE, owned.version)
        if bucket not in managers:
            managers[bucket] = managers.pop(first[owned.version])
        together = fields.union(managers[bucket].fields, owned.fields)
        if manager != bucket:
            del managers[manager]
        managers[bucket] = Owned(together, owned.version, owned.time)
        surplus -= 1
    return managers


def settle_times(new: Object, old: Frozen) -> None:
    """Takes new times back where nothing else changed: a repeated apply writes nothing."""
    entries, before = new["metadata"].get("managedFields"), old["metadata"].get("managedFields")
    if not entries or not before or entries == before or not same_but_times(entries, before):
        return
    rest, earlier = ({**each, "metadata": {**each["metadata"], "managedFields": None}} for each in (new, old))
    if rest == earlier:
        new["metadata"]["managedFields"] = before


def same_but_times(entries: Sequence[Frozen], others: Sequence[Frozen]) -> bool:
    return len(entries) == len(others) and all(
        {**a, "time": ""} == {**b, "time": ""} for a, b in zip(entries, others, strict=True)
    )


def kept(owned: Owned, left: Fields) -> Owned:
    """What a manager has when others took some of it."""
    return owned if left is owned.fields or left == owned.fields else replace(owned, fields=left, entry=None)


def _entry(manager: Manager, owned: Owned) -> Object:
    entry = {
        "manager": manager.name,
        "operation": manager.operation,
        "apiVersion": owned.version,
        "time": owned.time,
        "fieldsType": "FieldsV1",
        "fieldsV1": _common(owned.fields),
        "subresource": manager.subresource,
    }
    return {key: value for key, value in entry.items() if value or key == "fieldsV1"}


def _common(found: Fields) -> Fields:
    """In order; one set for all objects of one shape, if it is of usual size: 20,000 pods of a template hold theirs once."""
    text = orjson.dumps(found)
    return _shared(text) if len(text) <= MAX_SHARED else fields.ordered(found)


@lru_cache(maxsize=2048)
def _shared(text: bytes) -> Fields:
    return fields.ordered(orjson.loads(text))


def _check(entry: Mapping[str, Any]) -> None:
    if entry.get("operation") not in (APPLY, UPDATE):
        raise ValueError("operation must be `Apply` or `Update`")
    if not entry.get("apiVersion"):
        raise ValueError("apiVersion must not be empty")
    if entry.get("fieldsType") != "FieldsV1":
        raise ValueError("invalid fieldsType")
    if "time" in entry:
        datetime.fromisoformat(entry["time"])
