"""One stored object, several API views: events of the core group and of events.k8s.io, autoscalers of autoscaling/v1 and v2.

The core view of an event is what is stored, and v2 of an autoscaler (`convert_autoscaler`). All functions give a new top level and
share what is below it; an object that is in the wanted view already stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minik8s.api.convert_autoscaler import new_view, old_view
from minik8s.api.kind import Frozen, Object
from minik8s.api.resources import EVENTS_V1, HORIZONTALPODAUTOSCALERS_V1, Resource

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
    return _VIEWS[resource][0](obj) if resource in _VIEWS else obj


def to_served(obj: Frozen, resource: Resource) -> Frozen:
    """A stored object as `resource` serves it."""
    return _VIEWS[resource][1](obj) if resource in _VIEWS else obj


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


_VIEWS: dict[Resource, tuple[Callable[[Frozen], Object], Callable[[Frozen], Object]]] = {
    EVENTS_V1: (core_event, new_event),
    HORIZONTALPODAUTOSCALERS_V1: (new_view, old_view),
}
"""Row with `stored_as` -> (what makes the stored view, what makes its own)."""
