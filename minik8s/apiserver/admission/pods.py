"""What every pod gets: a priority, and patience with a node that fails (Priority, DefaultTolerationSeconds)."""

from __future__ import annotations

from minik8s.api.resources import PODS
from minik8s.apiserver.admission.plugin import Quiet, refused
from minik8s.apiserver.contract import Admission, Operation

NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"
SYSTEM_CLASSES = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}
PREEMPTS = "PreemptLowerPriority"


class Priority(Quiet):
    """Fills in `priority` and `preemptionPolicy` by the class that the pod names; nobody sets them by hand."""

    name = "Priority"

    def handles(self, request: Admission) -> bool:
        return request.resource is PODS and not request.subresource and request.operation in _WRITES

    async def admit(self, request: Admission) -> None:
        pod = request.object
        if pod is None:
            return
        spec = pod["spec"]
        if request.old is not None:
            for field in ("priority", "preemptionPolicy"):
                if field not in spec and field in request.old["spec"]:
                    spec[field] = request.old["spec"][field]
            return
        chosen, priority = spec.get("priorityClassName", ""), 0
        if chosen:
            if chosen not in SYSTEM_CLASSES:
                raise refused(request, f"no PriorityClass with name {chosen} was found")
            priority = SYSTEM_CLASSES[chosen]
        for field, computed, words in (
            ("priority", priority, "integer value of priority"),
            ("preemptionPolicy", PREEMPTS, "string value of PreemptionPolicy"),
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


_WRITES = (Operation.CREATE, Operation.UPDATE)
