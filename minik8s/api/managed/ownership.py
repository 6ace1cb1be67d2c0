"""Who owns which fields of an object: what an apply makes of it, and what an update does to its managers (KEP-555).

    apply(live, config, "helm", context) -> the new object, with its managedFields      | Conflicts
    update(live, new, "kubectl", context) -> the managedFields of the new object

Both are pure. An apply gives its manager what it mentions, takes away what the same manager mentioned before and nobody else owns, and is
refused where it would change what another owns, unless forced. An update gives its manager what it changed. What the server resets on that
path (status of the object itself, spec of its status) belongs to nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from minik8s.api.errors import BadRequest, Conflict
from minik8s.api.kind import Frozen, Object
from minik8s.api.managed import entries, fields, migration, walks
from minik8s.api.managed.entries import APPLY, UNKNOWN, UPDATE, Manager, Managers, Owned
from minik8s.api.managed.fields import Fields, difference, intersection, union
from minik8s.api.managed.shapes import MismatchError, Shape

BEFORE_FIRST_APPLY = "before-first-apply"
Convert = Callable[[Frozen, str], tuple[Shape, Frozen] | None]
"""(object, version) -> its shape and the object in that version of the API; None if that is served no more."""

_NEVER_OWNED = fields.of(
    ("apiVersion",),
    ("kind",),
    ("metadata",),
    *(("metadata", name) for name in ("name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName")),
    *(("metadata", name) for name in ("generation", "managedFields", "resourceVersion")),
)


def _no_other_version(_: Frozen, __: str) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Context:
    """What a request knows besides its object: the type, the time (RFC 3339), the subresource, what may be owned (see `resets`)."""

    shape: Shape
    api_version: str
    now: str
    blank: Frozen  # the object before it is created
    ownable: Callable[[Fields], Fields]
    subresource: str = ""
    convert: Convert = _no_other_version


class Conflicts(Conflict):
    """409: the fields that others own, with a cause for each (reason FieldManagerConflict)."""

    def __init__(self, found: Mapping[Manager, Fields]) -> None:
        self.found = {manager: list(fields.paths(found[manager])) for manager in sorted(found)}
        causes = [
            {"reason": "FieldManagerConflict", "message": f"conflict with {manager}", "field": fields.shown(path)}
            for manager, paths in self.found.items()
            for path in paths
        ]
        if len(causes) == 1:
            text = f"Apply failed with 1 conflict: {causes[0]['message']}: {causes[0]['field']}"
        else:
            lines = [
                "\n- ".join([f"conflicts with {manager}:", *map(fields.shown, paths)]) for manager, paths in self.found.items()
            ]
            text = f"Apply failed with {len(causes)} conflicts: " + "\n".join(lines)
        super().__init__(text, {"causes": causes})

    def all_in(self, allowed: Fields) -> bool:
        return all(fields.has(allowed, path) for paths in self.found.values() for path in paths)

    def outside(self, allowed: Fields) -> Conflicts:
        """The conflicts that are not among the allowed ones."""
        left = {manager: [path for path in paths if not fields.has(allowed, path)] for manager, paths in self.found.items()}
        return Conflicts({manager: fields.of_labels(paths) for manager, paths in left.items() if paths})


# --- update --------------------------------------------------------------------------------------------------------------


def update(live: Frozen | None, new: Frozen, manager: str, context: Context) -> list[Object]:
    """The managedFields of `new`, by which a plain write (create without `live`) replaces `live`."""
    managers = entries.wanted(live or {}, new, context.subresource) if live is not None else {}
    if not managers and live is not None:
        return []  # nobody was tracked so far; an apply begins it
    try:
        return entries.written(_updated(live if live is not None else context.blank, new, managers, manager, context))
    except MismatchError:
        return []  # what doesn't fit its schema is nobody's; validation tells what is wrong with it


def _updated(live: Frozen, new: Frozen, managers: Managers, manager: str, context: Context) -> Managers:
    changes = _changes(live, new, context)
    managers = _without_taken(live, new, managers, changes, None, context)[0]
    mine = difference(changes.taken, _NEVER_OWNED)
    if mine:
        me = Manager(manager or UNKNOWN, UPDATE, context.api_version, context.subresource)
        if me in managers:
            mine = union(mine, managers[me].fields)
        managers[me] = Owned(mine, context.api_version, context.now)
    return entries.capped(managers)


# --- apply ---------------------------------------------------------------------------------------------------------------


def apply(live: Frozen | None, config: Frozen, manager: str, context: Context, *, force: bool = False) -> Object:
    """The new object, its managedFields set, still to be conformed and defaulted. Without `live`, the one to create.

    BadRequest where the config does not fit its type; Conflicts where it would change what others own and is not forced.
    """
    try:
        walks.check(context.shape, config)
    except walks.UnfitError as error:
        raise BadRequest(f"failed to create typed patch object ({_named(config)}): {error}") from None
    if (config.get("metadata") or {}).get("managedFields") is not None:
        raise BadRequest("metadata.managedFields must be nil")
    if manager != migration.KUBECTL:
        return _applied(live, config, manager, context, force)
    try:
        new = _applied(live, config, manager, context, force)
    except Conflicts as conflicts:
        allowed = migration.last_applied(live or {}, context.shape, context.api_version)
        if not conflicts.all_in(allowed):
            raise conflicts.outside(allowed) from None
        new = _applied(live, config, manager, context, True)
    migration.refresh(new, config)
    return new


def _applied(live: Frozen | None, config: Frozen, manager: str, context: Context, force: bool) -> Object:
    managers = entries.read((live or {}).get("metadata", {}).get("managedFields") or ())
    if live is None:
        live = context.blank
    elif not managers:
        managers = _updated(context.blank, live, {}, BEFORE_FIRST_APPLY, context)
    me = Manager(manager, APPLY, "", context.subresource)
    last = managers.get(me)
    mine = context.ownable(walks.mentioned(context.shape, config))
    managers = managers | {me: Owned(mine, context.api_version, last.time if last else None)}
    merged = walks.merge(context.shape, live, config)
    new = _pruned(merged, managers, last, mine, context)
    managers, conflicts = _without_taken(live, new, managers, _changes(live, new, context), me, context)
    if conflicts and not force:
        raise Conflicts(conflicts)
    if mine := difference(mine, _NEVER_OWNED):
        managers[me] = Owned(mine, context.api_version, managers[me].time if new == live else context.now)
    else:
        managers.pop(me, None)
    metadata = {key: value for key, value in new.get("metadata", {}).items() if key != "managedFields"}
    if managers:
        metadata["managedFields"] = entries.written(managers)
    return {**new, "metadata": metadata}


def _pruned(merged: Any, managers: Managers, last: Owned | None, mine: Fields, context: Context) -> Any:
    """The merged object without what its manager applied last time and nobody has now.

    Three steps: everything of last time goes; what somebody owns comes back; what is there but was not of last time comes back.
    """
    if last is None or (last.version == context.api_version and not difference(last.fields, mine)):
        return merged
    start = _in_version(merged, last.version, context)
    if start is None:
        return merged
    shape, whole = start
    pruned = walks.remove(shape, whole, walks.with_structs(shape, last.fields))
    owned: dict[str, Fields] = {}
    for each in managers.values():
        owned[each.version] = union(owned.get(each.version, fields.LEAF), each.fields)
    here = last.version
    for version in sorted(owned, key=lambda name: name != last.version):
        if (there := _in_version(whole, version, context, here)) and (less := _in_version(pruned, version, context, here)):
            shape, whole, pruned, here = there[0], there[1], less[1], version
            kept = union(_all(shape, pruned), walks.with_structs(shape, owned[version]))
            pruned = walks.remove(shape, whole, difference(_all(shape, whole), kept))
    if (there := _in_version(whole, last.version, context, here)) and (
        less := _in_version(pruned, last.version, context, here)
    ):
        shape, whole = there
        dropped = difference(_all(shape, whole), _all(shape, less[1]))
        pruned = walks.remove(shape, whole, intersection(dropped, walks.with_structs(shape, last.fields)))
        here = last.version
    back = _in_version(pruned, context.api_version, context, here)
    return merged if back is None else back[1]


def _all(shape: Shape, obj: Any) -> Fields:
    return walks.with_structs(shape, walks.mentioned(shape, obj))


# --- both ----------------------------------------------------------------------------------------------------------------


def _changes(live: Frozen, new: Frozen, context: Context) -> walks.Changes:
    return _ownable(walks.compare(context.shape, live, new), context)


def _ownable(found: walks.Changes, context: Context) -> walks.Changes:
    return walks.Changes(context.ownable(found.removed), context.ownable(found.modified), context.ownable(found.added))


def _without_taken(
    live: Frozen, new: Frozen, managers: Managers, changes: walks.Changes, me: Manager | None, context: Context
) -> tuple[Managers, dict[Manager, Fields]]:
    """(What the managers but `me` have left after the changes, what of theirs was changed to another value)."""
    by_version: dict[str, walks.Changes | None] = {context.api_version: changes}
    left: Managers = {}
    conflicts: dict[Manager, Fields] = {}
    for manager, owned in managers.items():
        if manager == me:
            left[manager] = owned
            continue
        if owned.version not in by_version:
            by_version[owned.version] = _changes_in(owned.version, live, new, context)
        found = by_version[owned.version]
        if found is None:  # a version that is served no more
            continue
        if common := intersection(owned.fields, found.taken):
            conflicts[manager] = common
        if rest := difference(owned.fields, union(found.taken, found.removed)):
            left[manager] = entries.kept(owned, rest)
    return left, conflicts


def _changes_in(version: str, live: Frozen, new: Frozen, context: Context) -> walks.Changes | None:
    was, now = _in_version(live, version, context), _in_version(new, version, context)
    if was is None or now is None:
        return None
    return _ownable(walks.compare(now[0], was[1], now[1]), context)


def _in_version(obj: Any, version: str, context: Context, has: str = "") -> tuple[Shape, Any] | None:
    """The object in a version, which is in `has` (the request's, if that is not said), and its shape."""
    if version == (has or context.api_version) == context.api_version:
        return context.shape, obj
    return context.convert(obj, version)


def _named(config: Frozen) -> str:
    metadata = config.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    group, _, version = str(config.get("apiVersion", "")).rpartition("/")
    name = metadata.get("name", "")
    name = name if isinstance(name, str) else ""
    return f"{metadata.get('namespace', '')}/{name}; {group}/{version}, Kind={config.get('kind', '')}"
