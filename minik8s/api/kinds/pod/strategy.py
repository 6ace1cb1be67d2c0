"""What happens to a pod before it is stored: what the API sets and drops at creation, at updates and in the subresources
`status`, `ephemeralcontainers` and `resize`; how long a deleted pod has; which fields select pods.

Each `prepare_*` is given a private copy and changes it in place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minik8s.api.kind import Frozen, Object
from minik8s.api.kinds.pod.pod_annotations import APP_ARMOR, app_armor_profile
from minik8s.api.kinds.pod.resources import qos_class
from minik8s.api.kinds.pod.validation_scheduling import PREFERRED, REQUIRED
from minik8s.api.kinds.pod.validation_security import all_containers

# --- creation and updates --------------------------------------------------------------------------------------------


def prepare_create(pod: Object) -> None:
    """A new pod is Pending, whatever its creator says of its status."""
    spec = pod["spec"]
    status: Object = {"phase": "Pending", "qosClass": qos_class(spec)}
    pod["status"] = status
    drop_disabled(spec)
    if spec.get("schedulingGates"):
        status["conditions"] = [_gated_condition(pod["metadata"].get("creationTimestamp"))]
    labels = pod["metadata"].get("labels") or {}
    _merge_label_keys(spec, labels)
    if notes := pod["metadata"].get("annotations"):
        _copy_app_armor(notes, spec)


def prepare_update(pod: Object, old: Frozen) -> None:
    pod["status"] = old.get("status", {})
    drop_disabled(pod["spec"], old["spec"])


def prepare_status(pod: Object, old: Frozen) -> None:
    """An update of the status changes that, and metadata but for the owners; the class of service can't get lost."""
    pod["spec"] = old["spec"]
    metadata, before = pod["metadata"], old["metadata"]
    metadata.pop("deletionTimestamp", None)
    for key in ("deletionTimestamp", "ownerReferences"):
        if key in before:
            metadata[key] = before[key]
        else:
            metadata.pop(key, None)
    status, was = pod.setdefault("status", {}), old.get("status") or {}
    if not status.get("qosClass") and "qosClass" in was:
        status["qosClass"] = was["qosClass"]
    _keep_observed(status, was)


def graceful(pod: Frozen, asked: int | None) -> int:
    """How many seconds a deleted pod has to end: none where it doesn't run, or not yet."""
    spec = pod.get("spec") or {}
    period = spec.get("terminationGracePeriodSeconds") or 0 if asked is None else asked
    if not spec.get("nodeName") or (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    return int(period) if period >= 0 else 1


def _gated_condition(now: str | None) -> Object:
    return {
        "type": "PodScheduled",
        "status": "False",
        "lastProbeTime": None,
        "lastTransitionTime": now,
        "reason": "SchedulingGated",
        "message": "Scheduling is blocked due to non-empty scheduling gates",
    }


def _keep_observed(status: Object, was: Frozen) -> None:
    """`observedGeneration`s that are left out stay as they were (KEP-5067)."""
    if not status.get("observedGeneration") and was.get("observedGeneration"):
        status["observedGeneration"] = was["observedGeneration"]
    generations: dict[str, list[int]] = {}
    for condition in was.get("conditions") or ():
        generations.setdefault(condition.get("type", ""), []).append(condition.get("observedGeneration", 0))
    for condition in status.get("conditions") or ():
        before = generations.get(condition.get("type", ""))
        kept = before.pop(0) if before else 0
        if kept and not condition.get("observedGeneration"):
            condition["observedGeneration"] = kept


# --- what creation derives -------------------------------------------------------------------------------------------


def _merge_label_keys(spec: Object, labels: Frozen) -> None:
    """`matchLabelKeys` become part of the selectors, with the pod's own values (KEP-3633, KEP-3243)."""
    affinity = spec.get("affinity") or {}
    terms = [
        term
        for kind in ("podAffinity", "podAntiAffinity")
        for term in (
            *((affinity.get(kind) or {}).get(REQUIRED) or ()),
            *(w.get("podAffinityTerm") or {} for w in (affinity.get(kind) or {}).get(PREFERRED) or ()),
        )
    ]
    for term in (*terms, *(spec.get("topologySpreadConstraints") or ())):
        selector = term.get("labelSelector")
        if selector is None:
            continue
        for field, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")):
            added = [
                {"key": key, "operator": operator, "values": [labels[key]]} for key in term.get(field) or () if key in labels
            ]
            if added:
                selector["matchExpressions"] = [*(selector.get("matchExpressions") or ()), *added]


def _copy_app_armor(notes: Frozen, spec: Object) -> None:
    """The profile that only an annotation names becomes the container's field (KEP-24)."""
    if (spec.get("os") or {}).get("name") == "windows":
        return
    of_pod = (spec.get("securityContext") or {}).get("appArmorProfile")
    for key in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(key) or ():
            note = notes.get(APP_ARMOR + container.get("name", ""))
            context = container.get("securityContext") or {}
            if note is None or context.get("appArmorProfile") is not None:
                continue
            profile = app_armor_profile(note)
            if profile is not None and profile != of_pod:
                container["securityContext"] = context | {"appArmorProfile": profile}


# --- fields whose feature gates are off ------------------------------------------------------------------------------


def drop_disabled(spec: Object, old: Frozen | None = None) -> None:
    """Drops the fields of features that are off by default at this level, unless the `old` spec has them."""
    old = old or {}
    if "schedulingGroup" not in old:
        spec.pop("schedulingGroup", None)
    _drop_from_projections(spec, old)
    for container in _with_stop_signal(spec):
        if not _with_stop_signal(old):
            lifecycle = {key: value for key, value in container.pop("lifecycle").items() if key != "stopSignal"}
            if lifecycle:
                container["lifecycle"] = lifecycle


def _with_stop_signal(spec: Frozen) -> list[Any]:
    return [c for c, _ in all_containers(spec, "") if "lifecycle" in c and "stopSignal" in c["lifecycle"]]


def _drop_from_projections(spec: Object, old: Frozen) -> None:
    for source in _projections(spec):
        for key in source.keys() & {"clusterTrustBundle", "podCertificate"}:
            if not any(key in other for other in _projections(old)):
                del source[key]


def _projections(spec: Frozen) -> list[Any]:
    return [source for volume in spec.get("volumes") or () for source in (volume.get("projected") or {}).get("sources") or ()]


# --- subresources ----------------------------------------------------------------------------------------------------


def prepare_ephemeral(pod: Object, old: Frozen) -> None:
    """Of an update through `ephemeralcontainers`, these alone count."""
    containers = (pod.get("spec") or {}).get("ephemeralContainers")
    _keep_all_but_spec(pod, old)
    spec = {key: value for key, value in old["spec"].items() if key != "ephemeralContainers"}
    pod["spec"] = spec | ({"ephemeralContainers": containers} if containers else {})


def prepare_resize(pod: Object, old: Frozen) -> None:
    """Of an update through `resize`, resources and resize policies alone count. Containers that were added, taken away, renamed or
    put in another order stay so, for validation to refuse.
    """
    spec, was = pod["spec"], old["spec"]
    if any(len(spec.get(key) or ()) != len(was.get(key) or ()) for key in ("containers", "initContainers")):
        return
    resized = {key: _resized(spec[key], was[key]) for key in ("containers", "initContainers") if spec.get(key)}
    _keep_all_but_spec(pod, old)
    pod["spec"] = {key: value for key, value in was.items() if key != "resources"} | resized
    if "resources" in spec:
        pod["spec"]["resources"] = spec["resources"]


def _resized(new: list[Object], old: list[Frozen]) -> list[Object]:
    if [c.get("name") for c in new] != [c.get("name") for c in old]:
        return new
    changeable = ("resources", "resizePolicy")
    return [
        {k: v for k, v in before.items() if k not in changeable} | {k: after[k] for k in changeable if k in after}
        for after, before in zip(new, old, strict=True)
    ]


def _keep_all_but_spec(pod: Object, old: Frozen) -> None:
    """Status and metadata stay as they were, but for managedFields."""
    pod["status"] = old.get("status", {})
    metadata = pod["metadata"]
    kept = {key: metadata[key] for key in ("managedFields", "resourceVersion") if key in metadata}
    metadata.clear()
    metadata.update({**old["metadata"], **kept})


# --- field selectors -------------------------------------------------------------------------------------------------


def _spec_field(key: str) -> Callable[[Frozen], str]:
    return lambda pod: (pod.get("spec") or {}).get(key) or ""


def _status_field(key: str) -> Callable[[Frozen], str]:
    return lambda pod: (pod.get("status") or {}).get(key) or ""


def _host_network(pod: Frozen) -> str:
    return "true" if (pod.get("spec") or {}).get("hostNetwork") else "false"


def pod_ip(pod: Frozen) -> str:
    """The pod's first address, empty before it has one."""
    status = pod.get("status") or {}
    addresses = status.get("podIPs")
    return (addresses[0].get("ip") or "") if addresses else (status.get("podIP") or "")


FIELDS: dict[str, Callable[[Frozen], str]] = {
    "spec.nodeName": _spec_field("nodeName"),
    "spec.host": _spec_field("nodeName"),  # what it was once called
    "spec.restartPolicy": _spec_field("restartPolicy"),
    "spec.schedulerName": _spec_field("schedulerName"),
    "spec.serviceAccountName": _spec_field("serviceAccountName"),
    "spec.hostNetwork": _host_network,
    "status.phase": _status_field("phase"),
    "status.podIP": pod_ip,
    "status.podIPs": lambda _: "",  # may be asked for, but no pod has it
    "status.nominatedNodeName": _status_field("nominatedNodeName"),
}
