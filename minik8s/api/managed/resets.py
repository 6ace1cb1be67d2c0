"""What the server resets, so that nobody owns it: status in a write of an object, most else in a write of its status.

Source: the strategies' reset fields of upstream's registries; the conformance of `kubectl get --show-managed-fields` hangs on them.
"""

from __future__ import annotations

from collections.abc import Mapping
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


@cache
def of(group: str, kind: str, subresource: str, has_status: bool) -> Fields:
    """The fields that a write of the kind, or of a subresource of it, leaves as they were."""
    found = _OF_PATH.get((group, kind, subresource))
    if found is None and not has_status:
        found = ()
    elif found is None and subresource == "status":
        found = _SPEC if group in _NOT_METADATA_TOO else _SPEC_AND_METADATA
    return fields.of(*(_STATUS if found is None else found))
