"""The defaults of pods and of pod templates (API reference: core/v1 PodSpec and what it holds).

`default_pod_spec` is what every PodSpec gets; `default_pod` adds what only a real pod gets. Both fill in place and may be run again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from minik8s.api.kind import Object
from minik8s.api.kinds.pod.resources import (
    is_huge_page,
    is_overcommittable,
    is_pod_level,
    round_resources,
    total_limits,
    total_requests,
)

FILE_MODE = 0o644
HOUR = 3600


def default_pod(pod: Object) -> None:
    """All defaults of a Pod, in place."""
    spec = pod.setdefault("spec", {})
    default_pod_spec(spec)
    for container in (*spec["containers"], *spec.get("initContainers", ())):
        resources = container["resources"]
        if limits := resources.get("limits"):
            resources["requests"] = limits | resources.get("requests", {})
        if spec.get("hostNetwork"):
            for port in container.get("ports", ()):
                if not port.get("hostPort"):
                    port["hostPort"] = port.get("containerPort", 0)
    if spec.get("resources"):
        _default_pod_level_resources(spec, spec["resources"])
    spec.setdefault("enableServiceLinks", True)
    if spec["terminationGracePeriodSeconds"] < 0:
        spec["terminationGracePeriodSeconds"] = 1
    if status := pod.get("status"):
        _pair_addresses(status)
        _round_status(status)


def default_pod_spec(spec: Object) -> None:
    """The defaults that pods and pod templates share, in place."""
    for key, value in _SPEC.items():
        if not spec.get(key):
            spec[key] = value
    spec.setdefault("securityContext", {})
    spec.setdefault("terminationGracePeriodSeconds", 30)
    _default_service_account(spec)
    for volume in spec.get("volumes", ()):
        _default_volume(volume)
    if spec.get("containers") is None:
        spec["containers"] = []
    for container in spec["containers"]:
        _default_container(container)
    for container in spec.get("initContainers", ()):
        _default_container(container)
    for container in spec.get("ephemeralContainers", ()):
        _default_container(container)
    if "overhead" in spec:
        round_resources(spec["overhead"])
    if "resources" in spec:
        _round(spec["resources"])


@lru_cache(maxsize=4096)
def pull_policy(image: str) -> str:
    """The default pull policy of an image reference: Always where its tag is `latest`, said or not, else IfNotPresent."""
    match = _IMAGE.fullmatch(image)
    if match is None:  # not a reference at all: validation or the kubelet will say so
        return "IfNotPresent"
    tag, digest = match.groups()
    return "Always" if tag == "latest" or not (tag or digest) else "IfNotPresent"


_PART = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_IMAGE = re.compile(rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*(?::([\w][\w.-]{{0,127}}))?(?:@([A-Za-z][\w+.-]*:[0-9a-fA-F]{{32,}}))?")
_SPEC = {"restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler"}
_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}


def _default_service_account(spec: Object) -> None:
    """`serviceAccount` is the deprecated name of `serviceAccountName`: both are always shown."""
    name = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if name:
        spec["serviceAccountName"] = spec["serviceAccount"] = name


# --- containers ------------------------------------------------------------------------------------------------------


def _default_container(container: Object) -> None:
    if not container.get("imagePullPolicy"):
        container["imagePullPolicy"] = pull_policy(container.get("image", ""))
    if not container.get("terminationMessagePath"):
        container["terminationMessagePath"] = "/dev/termination-log"
    if not container.get("terminationMessagePolicy"):
        container["terminationMessagePolicy"] = "File"
    _round(container.setdefault("resources", {}))
    for port in container.get("ports", ()):
        if not port.get("protocol"):
            port["protocol"] = "TCP"
    for variable in container.get("env", ()):
        if source := variable.get("valueFrom"):
            _default_value_source(source)
    for key in ("livenessProbe", "readinessProbe", "startupProbe"):
        if (probe := container.get(key)) is not None:
            _default_probe(probe)
    if lifecycle := container.get("lifecycle"):
        for key in ("postStart", "preStop"):
            if (handler := lifecycle.get(key)) is not None:
                _default_http_get(handler)


def _default_value_source(source: Object) -> None:
    _default_field_refs(source)
    if (ref := source.get("fileKeyRef")) is not None:
        ref.setdefault("optional", False)


def _default_field_refs(source: Object) -> None:
    if (ref := source.get("fieldRef")) is not None and not ref.get("apiVersion"):
        ref["apiVersion"] = "v1"
    if (ref := source.get("resourceFieldRef")) is not None:
        ref.setdefault("divisor", "0")


def _default_probe(probe: Object) -> None:
    for key, value in _PROBE.items():
        if not probe.get(key):
            probe[key] = value
    _default_http_get(probe)
    if (grpc := probe.get("grpc")) is not None:
        grpc["service"] = grpc.get("service") or ""


def _default_http_get(handler: Object) -> None:
    if (http := handler.get("httpGet")) is not None:
        if not http.get("path"):
            http["path"] = "/"
        if not http.get("scheme"):
            http["scheme"] = "HTTP"


# --- volumes ---------------------------------------------------------------------------------------------------------


def _default_volume(volume: Object) -> None:
    sources = [key for key in volume if key != "name"]
    if not sources:
        volume["emptyDir"] = {}
    for key in sources:
        if (default := VOLUMES.get(key)) and (source := volume[key]) is not None:
            default(source)


def _with(**values: Any) -> Callable[[Object], None]:
    """Defaults that count where the field is absent or empty."""

    def default(source: Object) -> None:
        for key, value in values.items():
            if source.get(key) in (None, ""):
                source[key] = value

    return default


def _default_downward_api(source: Object) -> None:
    source.setdefault("defaultMode", FILE_MODE)
    _default_downward_items(source)


def _default_downward_items(source: Object) -> None:
    for item in source.get("items", ()):
        _default_field_refs(item)


def _default_projected(source: Object) -> None:
    source.setdefault("defaultMode", FILE_MODE)
    for projection in source.get("sources") or ():
        if downward := projection.get("downwardAPI"):
            _default_downward_items(downward)
        if (token := projection.get("serviceAccountToken")) is not None:
            token.setdefault("expirationSeconds", HOUR)


def _default_image(source: Object) -> None:
    if not source.get("pullPolicy"):
        source["pullPolicy"] = pull_policy(source.get("reference", ""))


def _default_ephemeral(source: Object) -> None:
    if template := source.get("volumeClaimTemplate"):
        claim = template.setdefault("spec", {})
        claim.setdefault("volumeMode", "Filesystem")
        _round(claim.setdefault("resources", {}))


VOLUMES: dict[str, Callable[[Object], None]] = {
    "hostPath": lambda source: source.setdefault("type", ""),
    "secret": _with(defaultMode=FILE_MODE),
    "configMap": _with(defaultMode=FILE_MODE),
    "downwardAPI": _default_downward_api,
    "projected": _default_projected,
    "image": _default_image,
    "ephemeral": _default_ephemeral,
    "iscsi": _with(iscsiInterface="default"),
    "rbd": _with(pool="rbd", user="admin", keyring="/etc/ceph/keyring"),
    "azureDisk": _with(cachingMode="ReadWrite", fsType="ext4", readOnly=False, kind="Shared"),
    "scaleIO": _with(storageMode="ThinProvisioned", fsType="xfs"),
}


# --- resources -------------------------------------------------------------------------------------------------------


def _round(requirements: Object) -> None:
    for key in ("limits", "requests"):
        if amounts := requirements.get(key):
            round_resources(amounts)


def _pair_addresses(status: Object) -> None:
    """`podIP` is the first of `podIPs`; where they differ it is the one that counts."""
    address, addresses = status.get("podIP"), status.get("podIPs")
    if address and (not addresses or addresses[0].get("ip") != address):
        status["podIPs"] = [{"ip": address}]
    elif addresses and not address:
        status["podIP"] = addresses[0].get("ip", "")


def _round_status(status: Object) -> None:
    for key in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        for container in status.get(key, ()):
            if amounts := container.get("allocatedResources"):
                round_resources(amounts)
            _round(container.get("resources") or {})
    if amounts := status.get("allocatedResources"):
        round_resources(amounts)
    _round(status.get("resources") or {})


def _default_pod_level_resources(spec: Object, resources: Object) -> None:
    """KEP-2837: what the pod leaves unsaid follows from its containers, then from its own limits."""
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    if not limits and not requests:
        return
    huge_pages = {name: amount for name, amount in total_limits(spec).items() if is_huge_page(name) and name not in requests}
    if limits := huge_pages | limits:
        resources["limits"] = limits
        asked = {n: a for n, a in total_requests(spec).items() if is_pod_level(n) and is_overcommittable(n)}
        allowed = {n: a for n, a in limits.items() if is_pod_level(n)}
        resources["requests"] = allowed | asked | requests
