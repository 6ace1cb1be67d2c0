"""What a pod needs of the API: a static pod may need nothing, since it runs where no API is.

Source: kubernetes.io "Create static Pods"; the PreventStaticPodAPIReferences feature.
"""

from __future__ import annotations

from collections.abc import Iterator

from minik8s.api.kind import Frozen

_OF_VOLUMES = {
    "csi": "csidrivers (via CSI volumes)",
    "glusterfs": "endpoints (via glusterFS volumes)",
    "persistentVolumeClaim": "persistentvolumeclaims",
    "ephemeral": "persistentvolumeclaims (via ephemeral volumes)",
}
_OF_PROJECTED = {
    "serviceAccountToken": "serviceaccounts (via projected volumes)",
    "clusterTrustBundle": "clustertrustbundles",
    "podCertificate": "podcertificates",
}
_WITH_SECRETS = ("azureFile", "cephfs", "cinder", "csi", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos", "secret")


def api_reference(spec: Frozen) -> str:
    """The first kind of object of the API that a pod's spec refers to, as messages name it; empty where there is none."""
    if spec.get("serviceAccountName"):
        return "serviceaccounts"
    if any(_secrets(spec)):
        return "secrets"
    if any(_config_maps(spec)):
        return "configmaps"
    if spec.get("resourceClaims"):
        return "resourceclaims"
    return next(_of_volumes(spec), "")


def _variables(spec: Frozen, ref: str, key_ref: str) -> Iterator[bool]:
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(field) or ():
            yield from (bool(source.get(ref)) for source in container.get("envFrom") or ())
            yield from (bool((variable.get("valueFrom") or {}).get(key_ref)) for variable in container.get("env") or ())


def _secrets(spec: Frozen) -> Iterator[bool]:
    yield bool(spec.get("imagePullSecrets"))
    yield from _variables(spec, "secretRef", "secretKeyRef")
    for volume in spec.get("volumes") or ():
        for kind in _WITH_SECRETS:
            source = volume.get(kind) or {}
            yield bool(source.get("secretName") or source.get("secretRef") or source.get("nodePublishSecretRef"))
        yield from (bool(source.get("secret")) for source in (volume.get("projected") or {}).get("sources") or ())


def _config_maps(spec: Frozen) -> Iterator[bool]:
    yield from _variables(spec, "configMapRef", "configMapKeyRef")
    for volume in spec.get("volumes") or ():
        yield bool(volume.get("configMap"))
        yield from (bool(source.get("configMap")) for source in (volume.get("projected") or {}).get("sources") or ())


def _of_volumes(spec: Frozen) -> Iterator[str]:
    for volume in spec.get("volumes") or ():
        yield from (text for kind, text in _OF_VOLUMES.items() if volume.get(kind))
        for source in (volume.get("projected") or {}).get("sources") or ():
            yield from (text for kind, text in _OF_PROJECTED.items() if source.get(kind))
