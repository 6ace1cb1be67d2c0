"""What every pod gets: a priority, and patience with a node that fails (Priority, DefaultTolerationSeconds). What none gets: more than its
node has (PodResize).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minik8s.api import quantity
from minik8s.api.kinds.classes import SYSTEM_CLASSES
from minik8s.api.kinds.node import topology_labels
from minik8s.api.kinds.pod.resources import total_requests
from minik8s.api.resources import NODES, PODS, PRIORITYCLASSES
from minik8s.apiserver.admission.plugin import Quiet, creates, refused, updates
from minik8s.apiserver.contract import Admission, Operation, Reader

NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"
PREEMPTS = "PreemptLowerPriority"


class Priority(Quiet):
    """Fills in `priority` and `preemptionPolicy` by the class that the pod names, or by the default one; nobody sets them by hand. The
    system's classes stay, and one class at most is the default.
    """

    name = "Priority"

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def handles(self, request: Admission) -> bool:
        if request.resource is PODS:
            return not request.subresource and request.operation in _WRITES
        return request.resource is PRIORITYCLASSES

    async def validate(self, request: Admission) -> None:
        if request.resource is not PRIORITYCLASSES:
            return
        if request.operation is Operation.DELETE and request.name in SYSTEM_CLASSES:
            raise refused(request, "this is a system priority class and cannot be deleted")
        if request.object is not None and request.object.get("globalDefault"):
            default = self._default()
            if default is not None and default["metadata"]["name"] != request.name:
                name = default["metadata"]["name"]
                raise refused(request, f"PriorityClass {name} is already marked as default. Only one default can exist")

    def _default(self) -> Mapping[str, Any] | None:
        """Where two were made at the same moment, the lower."""
        defaults = [each for each in self._reader.list(PRIORITYCLASSES) if each.get("globalDefault")]
        return min(defaults, key=lambda each: each.get("value", 0), default=None)

    async def admit(self, request: Admission) -> None:
        pod = request.object
        if pod is None or request.resource is not PODS:
            return
        spec = pod["spec"]
        if request.old is not None:
            for field in ("priority", "preemptionPolicy"):
                if field not in spec and field in request.old["spec"]:
                    spec[field] = request.old["spec"][field]
            return
        if name := spec.get("priorityClassName"):
            chosen = self._reader.get(PRIORITYCLASSES, "", name)
            if chosen is None:
                raise refused(request, f"no PriorityClass with name {name} was found")
        elif (chosen := self._default()) is not None:
            spec["priorityClassName"] = chosen["metadata"]["name"]
        found = chosen or {}
        for field, computed, words in (
            ("priority", found.get("value", 0), "integer value of priority"),
            ("preemptionPolicy", found.get("preemptionPolicy", PREEMPTS), "string value of PreemptionPolicy"),
        ):
            if spec.setdefault(field, computed) != computed:
                raise refused(
                    request,
                    f"the {words} ({spec[field]}) must not be provided in pod spec; "
                    f"priority admission controller computed {computed} from the given PriorityClass name",
                )


class DefaultTolerationSeconds(Quiet):
    """Pods stay for so many seconds on a node that is not ready or out of reach, unless they say otherwise."""

    name = "DefaultTolerationSeconds"

    def __init__(self, not_ready: int = 300, unreachable: int = 300) -> None:
        self._seconds = {NOT_READY: not_ready, UNREACHABLE: unreachable}

    def handles(self, request: Admission) -> bool:
        return request.resource is PODS and not request.subresource and request.operation in _WRITES

    async def admit(self, request: Admission) -> None:
        pod = request.object
        if pod is None:
            return
        tolerations = pod["spec"].get("tolerations") or []
        missing = [
            {"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}
            for taint, seconds in self._seconds.items()
            if not any(
                toleration.get("key", "") in ("", taint) and toleration.get("effect", "") in ("", "NoExecute")
                for toleration in tolerations
            )
        ]
        if missing:
            pod["spec"]["tolerations"] = [*tolerations, *missing]


class PodTopologyLabels(Quiet):
    """A pod that is made on a node has the node's zone and region as labels, as one that is bound to it does (KEP-4742)."""

    name = "PodTopologyLabels"

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def handles(self, request: Admission) -> bool:
        return creates(request, PODS)

    async def admit(self, request: Admission) -> None:
        pod = request.object
        name = pod["spec"].get("nodeName") if pod is not None else None
        node = self._reader.get(NODES, "", name) if name else None
        if pod is not None and node is not None and (labels := topology_labels(node)):
            pod["metadata"]["labels"] = (pod["metadata"].get("labels") or {}) | labels


class PodResize(Quiet):
    """A resize beyond what the pod's node has at all is refused at once; what others hold of it is the kubelet's to judge (KEP-1287)."""

    name = "PodResize"

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def handles(self, request: Admission) -> bool:
        return updates(request, PODS, "resize")

    async def validate(self, request: Admission) -> None:
        pod = request.object
        node = self._reader.get(NODES, "", pod["spec"].get("nodeName", "")) if pod is not None else None
        if pod is None or node is None:
            return
        allocatable, wanted = node.get("status", {}).get("allocatable") or {}, total_requests(pod["spec"])
        lacking = []
        for name in ("cpu", "memory"):
            has, asked = (quantity.parse(amounts.get(name, "0")) for amounts in (allocatable, wanted))
            if name in allocatable and asked > has:
                amounts = (asked.milli, has.milli) if name == "cpu" else (asked.value, has.value)
                lacking.append("{}, requested: {}, allocatable: {}".format(name, *amounts))
        if lacking:
            refusal = refused(request, f"node didn't have enough allocatable resources: {'; '.join(lacking)}")
            refusal.details = {**(refusal.details or {}), "causes": [{"reason": "NodeCapacity"}]}
            raise refusal


_WRITES = (Operation.CREATE, Operation.UPDATE)
