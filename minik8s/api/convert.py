"""One stored object, several API views: events of the core group and of events.k8s.io.

The core view is what is stored. Both functions give a new top level and share what is below it.
"""

from __future__ import annotations

from typing import Any

from minik8s.api.kind import Frozen, Object
from minik8s.api.resources import EVENTS_V1, Resource

_RENAMED = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_BACK = {theirs: ours for ours, theirs in _RENAMED.items()}
_OPTIONAL = ("reportingController", "reportingInstance", "note", "deprecatedCount")
_CORE_ALWAYS: dict[str, Any] = {
    "involvedObject": {},
    "source": {},
    "firstTimestamp": None,
    "lastTimestamp": None,
    "eventTime": None,
    "reportingComponent": "",
    "reportingInstance": "",
}
_NEW_ALWAYS: dict[str, Any] = {
    "eventTime": None,
    "regarding": {},
    "deprecatedSource": {},
    "deprecatedFirstTimestamp": None,
    "deprecatedLastTimestamp": None,
}


def to_stored(obj: Frozen, resource: Resource) -> Frozen:
    """An object of `resource` as it is stored."""
    return core_event(obj) if resource is EVENTS_V1 else obj


def to_served(obj: Frozen, resource: Resource) -> Frozen:
    """A stored object as `resource` serves it."""
    return new_event(obj) if resource is EVENTS_V1 else obj


def core_event(event: Frozen) -> Object:
    """An events.k8s.io/v1 Event as the core Event that is stored. A core Event stays as it is."""
    if event.get("apiVersion") == "v1":
        return dict(event)
    return _CORE_ALWAYS | {_BACK.get(key, key): value for key, value in event.items()} | {"apiVersion": "v1"}


def new_event(event: Frozen) -> Object:
    """A core Event as events.k8s.io/v1 shows it. An Event of that group stays as it is."""
    if event.get("apiVersion") == "events.k8s.io/v1":
        return dict(event)
    renamed = {_RENAMED.get(key, key): value for key, value in event.items()}
    shown = {key: value for key, value in renamed.items() if value or key not in _OPTIONAL}
    return _NEW_ALWAYS | shown | {"apiVersion": "events.k8s.io/v1"}
