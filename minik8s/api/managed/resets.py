"""What the server resets, so that nobody owns it: status in a write of an object, most else in a write of its status or of another
subresource.

Source: the strategies' reset fields of upstream's registries; the conformance of `kubectl get --show-managed-fields` hangs on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

from minik8s.api.managed import fields
from minik8s.api.managed.fields import Fields

_STATUS = (("status",),)
_SPEC = (("spec",),)
_SPEC_AND_METADATA = (("spec",), ("metadata",))
_NOT_METADATA_TOO = {"", "apps", "autoscaling", "batch", "networking.k8s.io", "policy", "certificates.k8s.io"}
"""Groups in which a write of the status may write metadata."""
_OF_PATH: Mapping[tuple[str, str, str], tuple[tuple[str, ...], ...]] = {
    ("", "Pod", "status"): (("spec",), ("metadata", "deletionTimestamp"), ("metadata", "ownerReferences")),
    ("apps", "Deployment", "status"): (("spec",), ("metadata", "labels")),
    ("networking.k8s.io", "ServiceCIDR", "status"): _SPEC_AND_METADATA,
    ("certificates.k8s.io", "CertificateSigningRequest", ""): (("spec",), ("status",)),
    ("certificates.k8s.io", "CertificateSigningRequest", "status"): (("spec",), ("status", "conditions")),
    ("certificates.k8s.io", "CertificateSigningRequest", "approval"): (("spec",), ("status", "certificate")),
}


_ALONE: Mapping[tuple[str, str, str], Fields] = {
    ("", "Pod", "ephemeralcontainers"): {"f:spec": {"f:ephemeralContainers": {}}},
    ("", "Pod", "resize"): {
        "f:spec": {
            "f:containers": {fields.ANY: {"f:resources": {}, "f:resizePolicy": {}}},
            "f:initContainers": {fields.ANY: {"f:resources": {}, "f:resizePolicy": {}}},
        }
    },
}
"""Subresources in which all but this is reset."""


@cache
def of(group: str, kind: str, subresource: str, has_status: bool) -> Callable[[Fields], Fields]:
    """What of some fields may be owned by who writes the kind, or a subresource of it."""
    if alone := _ALONE.get((group, kind, subresource)):
        return lambda found: fields.within(found, alone)
    reset = _OF_PATH.get((group, kind, subresource))
    if reset is None and not has_status:
        return lambda found: found
    if reset is None and subresource == "status":
        reset = _SPEC if group in _NOT_METADATA_TOO else _SPEC_AND_METADATA
    return _without(*(_STATUS if reset is None else reset))


def without(*names: str) -> Callable[[Fields], Fields]:
    """What of some fields may be owned, where these are reset."""
    return _without(*((name,) for name in names))


def _without(*paths: tuple[str, ...]) -> Callable[[Fields], Fields]:
    gone = fields.of(*paths)
    return lambda found: fields.without(found, gone)
