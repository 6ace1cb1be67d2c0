"""Whether the Service behind an APIService can answer, as far as objects tell: pure. What passes here is still to be asked itself."""

from __future__ import annotations

from collections.abc import Sequence

from minik8s.api.conditions import condition_of
from minik8s.api.kind import Frozen, Object
from minik8s.api.kinds.apiservice import AVAILABLE, condition

Verdict = tuple[str, str, str]
"""Status, reason and message of the Available condition."""

PASSED: Verdict = ("True", "Passed", "all checks passed")
LOCAL: Verdict = ("True", "Local", "Local APIServices are always available")


def judge(service_ref: Frozen, service: Frozen | None, slices: Sequence[Frozen]) -> Verdict | None:
    """What speaks against it; None where nothing does."""
    name, namespace, port = service_ref["name"], service_ref["namespace"], service_ref.get("port", 443)
    shown = f'service/{name} in "{namespace}"'
    if service is None:
        return "False", "ServiceNotFound", f"{shown} is not present"
    if service["spec"].get("type", "ClusterIP") != "ClusterIP":
        return None
    ports = [each.get("name", "") for each in service["spec"].get("ports") or () if each["port"] == port]
    if not ports:
        return "False", "ServicePortError", f"{shown} is not listening on port {port}"
    if not slices:
        return "False", "EndpointsNotFound", f"cannot find endpointslices for {shown}"
    if not any(_answers(endpoint_slice, ports[0]) for endpoint_slice in slices):
        told = f'endpointslices for {shown} have no addresses with port name "{ports[0]}"'
        return "False", "MissingEndpoints", told
    return None


def failed(url: str, cause: str) -> Verdict:
    """The server behind it did not answer the question what it serves."""
    return "False", "FailedDiscoveryCheck", f"failing or missing response from {url}: {cause}"


def changed(obj: Frozen, verdict: Verdict, now: str) -> Object | None:
    """The APIService with this verdict; None where it says so already. The time of the transition is kept while the status is."""
    status, reason, message = verdict
    old = condition_of(obj, AVAILABLE)
    if old and (old["status"], old.get("reason", ""), old.get("message", "")) == verdict:
        return None
    since = (old.get("lastTransitionTime") if old.get("status") == status else None) or now
    told = condition(status, reason, message, since)
    conditions = [told if each is old else each for each in (obj.get("status") or {}).get("conditions") or ()]
    return {**obj, "status": {"conditions": conditions if old else [*conditions, told]}}


def _answers(endpoint_slice: Frozen, port_name: str) -> bool:
    ready = any((each.get("conditions") or {}).get("ready", True) for each in endpoint_slice.get("endpoints") or ())
    return ready and any(
        each.get("name", "") == port_name and each.get("port") is not None for each in endpoint_slice.get("ports") or ()
    )
