"""ResourceQuota: refuses what would use more of a namespace than its quotas allow.

What is used is derived from the objects in the cache, plus what writes under way hold (`reserve`): two creates at the same moment are
counted both, and nothing can leak. `api/usage.py` says what an object uses; a quota's status is its controller's. Updates are
judged where they use more than before.

Source: kubernetes.io "Resource Quotas".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from minik8s.api import quantity
from minik8s.api.errors import object_forbidden
from minik8s.api.kind import Frozen, Object
from minik8s.api.quantity import Quantity
from minik8s.api.resources import PODS, RESOURCEQUOTAS, Resource
from minik8s.api.usage import MEASURED, in_scope, usage_of
from minik8s.apiserver.contract import Reader
from minik8s.apiserver.request import Request
from minik8s.base.clock import Clock

Usage = Mapping[str, Quantity]
REMEMBERED = 20_000
"""Objects whose usage is kept rather than counted at each ask."""
# What each container must name where a quota counts it.
_COMPUTE = {f"{prefix}{name}" for prefix in ("", "requests.", "limits.") for name in ("cpu", "memory")}


class Quotas:
    """All quotas of one cluster."""

    def __init__(self, reader: Reader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock
        self._held: dict[str, tuple[Resource, Object]] = {}  # by uid: what writes under way make of it
        self._known: dict[str, tuple[str, Usage]] = {}  # by uid: (resourceVersion, what it uses)

    @contextmanager
    def reserve(self, request: Request, new: Object, old: Frozen | None) -> Iterator[None]:
        """Holds what `new` uses until the block, its write, is over. Forbidden where a quota doesn't allow it."""
        uid = new["metadata"]["uid"]
        if not self._judges(request) or not self._uses_more(request, new, old):
            yield
            return
        before = self._held.get(uid)
        self._held[uid] = (request.resource, new)
        try:
            yield
        finally:
            if before is None:
                self._held.pop(uid, None)
            else:
                self._held[uid] = before

    def _judges(self, request: Request) -> bool:
        return bool(request.namespace) and request.subresource == ("resize" if request.subresource else "")

    def _uses_more(self, request: Request, new: Object, old: Frozen | None) -> bool:
        """Whether a quota counts it at all. Forbidden if one is exceeded."""
        counted = False
        for quota in self._reader.list(RESOURCEQUOTAS, request.namespace):
            if not in_scope(quota, request.resource, new):
                continue
            hard = quota["spec"].get("hard") or {}
            before = self._usage(request.resource, old) if old is not None and in_scope(quota, request.resource, old) else {}
            more = {
                name: amount - before.get(name, quantity.ZERO)
                for name, amount in self._usage(request.resource, new, remember=False).items()
                if name in hard and amount > before.get(name, quantity.ZERO)
            }
            if old is None and request.resource is PODS and (missing := _unnamed(new, hard)):
                raise object_forbidden(
                    PODS, request.name or _name(new), f"failed quota: {_name(quota)}: must specify {missing}"
                )
            if more:
                counted = True
                self._check(request, quota, more, new)
        return counted

    def _check(self, request: Request, quota: Frozen, more: Usage, new: Object) -> None:
        hard = {name: quantity.parse(quota["spec"]["hard"][name]) for name in more}
        used = self._used(request, quota, more, new["metadata"]["uid"])
        exceeded = sorted(name for name in more if used[name] + more[name] > hard[name])
        if exceeded:
            shown = (",".join(f"{name}={amounts[name]}" for name in exceeded) for amounts in (more, used, hard))
            detail = "requested: {}, used: {}, limited: {}".format(*shown)
            raise object_forbidden(request.resource, _name(new), f"exceeded quota: {_name(quota)}, {detail}")

    def _used(self, request: Request, quota: Frozen, names: Usage, uid: str) -> dict[str, Quantity]:
        """What there is uses, together with the object as it was before, if it was."""
        resource, namespace = request.resource, request.namespace
        if resource not in MEASURED:
            return dict.fromkeys(names, quantity.of(self._number(resource, namespace, uid)))
        there = {obj["metadata"]["uid"]: obj for obj in self._reader.list(resource, namespace)}
        there |= {
            held: obj
            for held, (of, obj) in self._held.items()
            if held != uid and of.group_resource == resource.group_resource and obj["metadata"].get("namespace") == namespace
        }
        total = dict.fromkeys(names, quantity.ZERO)
        for obj in there.values():
            if in_scope(quota, resource, obj):
                usage = self._usage(resource, obj)
                for name in names:
                    if name in usage:
                        total[name] += usage[name]
        return total

    def _number(self, resource: Resource, namespace: str, uid: str) -> int:
        """How many there are, and are about to be."""
        coming = sum(
            of.group_resource == resource.group_resource
            and obj["metadata"].get("namespace") == namespace
            and held != uid
            and self._reader.get(resource, namespace, _name(obj)) is None
            for held, (of, obj) in self._held.items()
        )
        return self._reader.count(resource, namespace) + int(coming)

    def _usage(self, resource: Resource, obj: Frozen, *, remember: bool = True) -> Usage:
        metadata = obj["metadata"]
        version = metadata.get("resourceVersion", "")
        if not remember or not version or "deletionTimestamp" in metadata:
            return usage_of(resource, obj, self._clock.now())
        known = self._known.get(metadata["uid"])
        if known is None or known[0] != version:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            known = self._known[metadata["uid"]] = (version, usage_of(resource, obj, self._clock.now()))
        return known[1]


def _unnamed(pod: Frozen, hard: Mapping[str, str]) -> str:
    """What the quota wants each container to name, and which ones don't; empty where pod or containers say all of it."""
    spec: Mapping[str, Any] = pod["spec"]
    if spec.get("resources"):
        return ""
    wanted = _COMPUTE & set(hard)
    missing: dict[str, set[str]] = {}
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        resources = container.get("resources") or {}
        for name in wanted:
            kind, _, resource = name.rpartition(".")
            if resource not in (resources.get(kind or "requests") or {}):
                missing.setdefault(name, set()).add(container["name"])
    return "; ".join(f"{name} for: {','.join(sorted(missing[name]))}" for name in sorted(missing))


def _name(obj: Frozen) -> str:
    return str(obj["metadata"].get("name", ""))
