"""Events, as the core group and as events.k8s.io show them. The core view is what is stored (`api/convert.py`); the hooks of the
newer group take its own view, and their errors name the fields of the core one, as upstream's do.
"""

from __future__ import annotations

from collections.abc import Callable

from minik8s.api.convert import core_event
from minik8s.api.errors import FieldError, invalid, required
from minik8s.api.kind import NAME, Column, Frozen, Kind
from minik8s.api.kinds import checks
from minik8s.api.kinds.changes import immutable
from minik8s.api.printing import since

MISMATCH = "does not match event.namespace"
UNSET = "needs to be unset"
IMMUTABLE = [
    *("involvedObject", "reason", "message", "source", "firstTimestamp", "lastTimestamp", "count", "reason", "type"),
    *("eventTime", "action", "related", "reportingComponent", "reportingInstance"),
]  # in upstream's order, which names the reason twice


def validate(event: Frozen) -> list[FieldError]:
    return _common(event, "reportingComponent")


def validate_new(event: Frozen) -> list[FieldError]:
    return _common(core_event(event), "reportingController")


def validate_new_create(event: Frozen) -> list[FieldError]:
    """What events.k8s.io asks of a new Event besides."""
    core = core_event(event)
    source = core.get("source") or {}
    errors = _series(core)
    if not core.get("eventTime"):
        errors.append(required("eventTime"))
    if core.get("type", "") not in ("Normal", "Warning"):
        errors.append(invalid("type", "", f"has invalid value: {core.get('type', '')}"))
    errors += [invalid(key, "", UNSET) for key in ("firstTimestamp", "lastTimestamp", "count") if core.get(key)]
    if source.get("component") or source.get("host"):
        errors.append(invalid("source", "", UNSET))
    return errors


def validate_new_update(new: Frozen, old: Frozen) -> list[FieldError]:
    new, old = core_event(new), core_event(old)
    errors = _series(new) if new.get("series") != old.get("series") else []
    for key in IMMUTABLE:
        path = "reportingController" if key == "reportingComponent" else key
        errors += immutable(new.get(key), old.get(key), path)
    return errors


def row(event: Frozen, now: float) -> list[object]:
    event = core_event(event)
    involved, source, series = event.get("involvedObject") or {}, event.get("source") or {}, event.get("series")
    first = since(event.get("firstTimestamp") or event.get("eventTime"), now)
    last = since(event["lastTimestamp"], now) if event.get("lastTimestamp") else first
    count = event.get("count") or 1
    if series:
        last, count = since(series.get("lastObservedTime"), now), series.get("count", 0)
    origin = source.get("component") or event.get("reportingComponent", "")
    instance = source.get("host") or event.get("reportingInstance", "")
    return [
        last,
        event.get("type", ""),
        event.get("reason", ""),
        "/".join(filter(None, (involved.get("kind", "").lower(), involved.get("name")))),
        involved.get("fieldPath", ""),
        f"{origin}, {instance}" if instance else origin,
        event.get("message", "").strip(),
        first,
        count,
        event["metadata"]["name"],
    ]


def _common(event: Frozen, reporter: str) -> list[FieldError]:
    """What both groups ask of an Event; `reporter` is their name for its source. Events with an eventTime are of the new style."""
    namespace, involved = event["metadata"].get("namespace", ""), (event.get("involvedObject") or {}).get("namespace", "")
    if not event.get("eventTime"):
        fits = namespace == involved or (not involved and namespace == "default")
        return [] if fits else [invalid("involvedObject.namespace", involved, MISMATCH)]
    errors: list[FieldError] = []
    if not involved and namespace not in ("default", "kube-system"):
        errors.append(invalid("involvedObject.namespace", involved, MISMATCH))
    component = event.get("reportingComponent", "")
    if not component:
        errors.append(required(reporter))
    errors += checks.qualified_name(component, reporter)
    for key in ("reportingInstance", "action", "reason"):
        errors += [] if event.get(key) else [required(key)]
        errors += _short(key, event.get(key, ""), 128)
    return errors + _short("message", event.get("message", ""), 1024)


def _short(path: str, text: str, limit: int) -> list[FieldError]:
    return [invalid(path, "", f"can have at most {limit} characters")] if len(text.encode()) > limit else []


def _series(event: Frozen) -> list[FieldError]:
    series = event.get("series")
    if series is None:
        return []
    few = series.get("count", 0) < 2
    errors = [invalid("series.count", "", "should be at least 2")] if few else []
    return errors + ([] if series.get("lastObservedTime") else [required("series.lastObservedTime")])


def _involved(key: str) -> Callable[[Frozen], str]:
    return lambda event: (core_event(event).get("involvedObject") or {}).get(key, "")


def _field(key: str) -> Callable[[Frozen], str]:
    return lambda event: core_event(event).get(key) or ""


def _source(event: Frozen) -> str:
    return (event.get("source") or {}).get("component") or event.get("reportingComponent") or ""


REFERENCE = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
COLUMNS = (
    Column("Last Seen", description="When it was last seen."),
    Column("Type", description="Normal or Warning."),
    Column("Reason", description="A short, machine understandable reason."),
    Column("Object", description="What it is about."),
    Column("Subobject", priority=1, description="Which part of the object it is about."),
    Column("Source", priority=1, description="Who reports it."),
    Column("Message", description="A description for people."),
    Column("First Seen", priority=1, description="When it was first seen."),
    Column("Count", priority=1, description="How often it was seen."),
    Column(NAME.name, format=NAME.format, priority=1, description=NAME.description),
)
EVENT = Kind(
    validate=validate,
    columns=COLUMNS,
    row=row,
    fields={f"involvedObject.{key}": _involved(key) for key in REFERENCE}
    | {key: _field(key) for key in ("reason", "reportingComponent", "type")}
    | {"source": _source},
)
NEW_EVENT = Kind(
    validate=validate_new,
    validate_create=validate_new_create,
    validate_update=validate_new_update,
    columns=COLUMNS,
    row=row,
    fields={f"regarding.{key}": _involved(key) for key in REFERENCE}
    | {"reason": _field("reason"), "type": _field("type"), "reportingController": _field("reportingComponent")},
)
