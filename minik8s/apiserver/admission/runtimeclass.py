"""RuntimeClass: a pod that names a class gets what the class says it costs and where it can run (KEP-688, KEP-894)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minik8s.api import quantity
from minik8s.api.kind import Object
from minik8s.api.resources import PODS, RUNTIMECLASSES
from minik8s.apiserver.admission.plugin import Quiet, creates, refused
from minik8s.apiserver.contract import Admission, Reader


class RuntimeClass(Quiet):
    """Fills in overhead, node selector and tolerations; nobody sets an overhead by hand."""

    name = "RuntimeClass"

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def handles(self, request: Admission) -> bool:
        return creates(request, PODS)

    async def admit(self, request: Admission) -> None:
        pod = request.object
        if pod is None or (chosen := self._chosen(request, pod)) is None:
            return
        spec = pod["spec"]
        if overhead := _overhead(chosen):
            _check_overhead(request, spec.get("overhead") or overhead, overhead)
            spec["overhead"] = overhead
        scheduling = chosen.get("scheduling") or {}
        for key, value in (scheduling.get("nodeSelector") or {}).items():
            found = spec.setdefault("nodeSelector", {}).setdefault(key, value)
            if found != value:
                ours, theirs = (
                    f"runtimeClass.scheduling.nodeSelector[{key}] = {value}",
                    f"pod.spec.nodeSelector[{key}] = {found}",
                )
                raise refused(request, f"conflict: {ours}; {theirs}")
        tolerations = spec.get("tolerations") or []
        if missing := [each for each in scheduling.get("tolerations") or () if each not in tolerations]:
            spec["tolerations"] = [*tolerations, *missing]

    async def validate(self, request: Admission) -> None:
        pod = request.object
        if pod is None:
            return
        chosen, overhead = self._chosen(request, pod), pod["spec"].get("overhead")
        if chosen is not None and (fixed := _overhead(chosen)):
            _check_overhead(request, overhead or {}, fixed)
        elif overhead is not None:
            raise refused(request, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")

    def _chosen(self, request: Admission, pod: Object) -> Mapping[str, Any] | None:
        if (name := pod["spec"].get("runtimeClassName")) is None:
            return None
        chosen = self._reader.get(RUNTIMECLASSES, "", name)
        if chosen is None:
            raise refused(request, f'pod rejected: RuntimeClass "{name}" not found')
        return chosen


def _overhead(runtime_class: Mapping[str, Any]) -> dict[str, str]:
    return dict((runtime_class.get("overhead") or {}).get("podFixed") or {})


def _check_overhead(request: Admission, found: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    if {name: quantity.parse(text) for name, text in found.items()} != {
        name: quantity.parse(text) for name, text in wanted.items()
    }:
        raise refused(request, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
