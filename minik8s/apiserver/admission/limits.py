"""LimitRanger: what containers get by default in a namespace, and what containers, pods and claims may ask for there.

The rules of LimitRanges themselves are `api/kinds/quota.py`'s. Source: kubernetes.io "Limit Ranges".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from minik8s.api import quantity
from minik8s.api.kind import Object
from minik8s.api.kinds.pod.resources import is_pod_level, total_limits, total_requests
from minik8s.api.quantity import Quantity
from minik8s.api.resources import LIMITRANGES, PERSISTENTVOLUMECLAIMS, PODS
from minik8s.apiserver.admission.plugin import Quiet, refused
from minik8s.apiserver.contract import Admission, Operation, Reader

Amounts = Mapping[str, str]
ANNOTATION = "kubernetes.io/limit-ranger"


class LimitRanger(Quiet):
    """Applies the LimitRanges of the object's namespace."""

    name = "LimitRanger"

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def handles(self, request: Admission) -> bool:
        if request.operation not in (Operation.CREATE, Operation.UPDATE):
            return False
        if request.old is not None and "deletionTimestamp" in request.old["metadata"]:
            return False
        if request.resource is PODS:
            return request.subresource == ("" if request.operation is Operation.CREATE else "resize")
        return request.resource is PERSISTENTVOLUMECLAIMS and not request.subresource

    async def admit(self, request: Admission) -> None:
        if request.object is None or request.resource is not PODS:
            return
        for limits in self._limits(request):
            fill_in(request.object, limits)

    async def validate(self, request: Admission) -> None:
        if request.object is None:
            return
        for limits in self._limits(request):
            if errors := list(violations(request.object, limits)):
                raise refused(request, errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]")

    def _limits(self, request: Admission) -> list[list[Mapping[str, Any]]]:
        return [each["spec"].get("limits") or [] for each in self._reader.list(LIMITRANGES, request.namespace)]


def fill_in(pod: Object, limits: list[Mapping[str, Any]]) -> None:
    """Gives the pod's containers the requests and limits that they don't name, and says so in an annotation."""
    defaults: dict[str, dict[str, str]] = {"requests": {}, "limits": {}}
    for limit in limits:
        if limit.get("type") == "Container":
            defaults["requests"] |= limit.get("defaultRequest") or {}
            defaults["limits"] |= limit.get("default") or {}
    told = []
    for field, role in (("containers", "container"), ("initContainers", "init container")):
        for container in pod["spec"].get(field) or ():
            for kind in ("requests", "limits"):
                found = (container.get("resources") or {}).get(kind) or {}
                if missing := {name: amount for name, amount in defaults[kind].items() if name not in found}:
                    container.setdefault("resources", {})[kind] = found | missing
                    told.append(f"{', '.join(sorted(missing))} {kind[:-1]} for {role} {container['name']}")
    if told:
        annotations = pod["metadata"].setdefault("annotations", {})
        annotations[ANNOTATION] = f"LimitRanger plugin set: {'; '.join(told)}"


def violations(obj: Object, limits: list[Mapping[str, Any]]) -> Iterator[str]:
    """What in a pod or claim is outside of the limits."""
    spec = obj["spec"]
    for limit in limits:
        kind = limit.get("type", "")
        if kind == "PersistentVolumeClaim" and obj["kind"] == kind:
            requests = (spec.get("resources") or {}).get("requests") or {}
            for name, least in sorted((limit.get("min") or {}).items()):
                yield from _below(kind, name, least, requests, {})
            for name, most in sorted((limit.get("max") or {}).items()):
                yield from _request_above(kind, name, most, requests)
        elif kind == "Container" and obj["kind"] == "Pod":
            for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
                resources = container.get("resources") or {}
                yield from _outside(limit, resources.get("requests") or {}, resources.get("limits") or {})
        elif kind == "Pod" and obj["kind"] == kind:
            own = spec.get("resources") or {}
            yield from _outside(
                limit,
                total_requests(spec) | _pod_level(own.get("requests") or {}),
                total_limits(spec) | _pod_level(own.get("limits") or {}),
            )


def _pod_level(amounts: Amounts) -> dict[str, str]:
    return {name: amount for name, amount in amounts.items() if is_pod_level(name)}


def _outside(limit: Mapping[str, Any], requests: Amounts, limits: Amounts) -> Iterator[str]:
    kind = limit["type"]
    for name, least in sorted((limit.get("min") or {}).items()):
        yield from _below(kind, name, least, requests, limits)
    for name, most in sorted((limit.get("max") or {}).items()):
        yield from _above(kind, name, most, requests, limits)
    for name, ratio in sorted((limit.get("maxLimitRequestRatio") or {}).items()):
        yield from _ratio_above(kind, name, ratio, requests, limits)


def _below(kind: str, name: str, least: str, requests: Amounts, limits: Amounts) -> Iterator[str]:
    says = f"minimum {name} usage per {kind} is {least}"
    if name not in requests:
        yield f"{says}.  No request is specified"
    elif _of(requests, name) < quantity.parse(least):
        yield f"{says}, but request is {requests[name]}"
    elif name in limits and _of(limits, name) < quantity.parse(least):
        yield f"{says}, but limit is {limits[name]}"


def _request_above(kind: str, name: str, most: str, requests: Amounts) -> Iterator[str]:
    says = f"maximum {name} usage per {kind} is {most}"
    if name not in requests:
        yield f"{says}.  No request is specified"
    elif _of(requests, name) > quantity.parse(most):
        yield f"{says}, but request is {requests[name]}"


def _above(kind: str, name: str, most: str, requests: Amounts, limits: Amounts) -> Iterator[str]:
    says = f"maximum {name} usage per {kind} is {most}"
    if name not in limits:
        yield f"{says}.  No limit is specified"
    elif _of(limits, name) > quantity.parse(most):
        yield f"{says}, but limit is {limits[name]}"
    elif name in requests and _of(requests, name) > quantity.parse(most):
        yield f"{says}, but request is {requests[name]}"


def _ratio_above(kind: str, name: str, most: str, requests: Amounts, limits: Amounts) -> Iterator[str]:
    says = f"{name} max limit to request ratio per {kind} is {most}"
    if name not in requests or not _of(requests, name):
        yield f"{says}, but no request is specified or request is 0"
    elif name not in limits or not _of(limits, name):
        yield f"{says}, but no limit is specified or limit is 0"
    elif (ratio := _of(limits, name).nano / _of(requests, name).nano) > quantity.parse(most).nano / 10**9:
        yield f"{says}, but provided ratio is {ratio:f}"


def _of(amounts: Amounts, name: str) -> Quantity:
    return quantity.parse(amounts[name])
