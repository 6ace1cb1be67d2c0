"""A volume that was enlarged: its file system is let grow by the node's driver, then the claim says so. Pure.

The volume itself was enlarged by the driver's external-resizer. Source: KEP-284, KEP-1790 (expansion); v1.PersistentVolumeClaimStatus.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minik8s.api import quantity

Object = Mapping[str, Any]
PENDING = ("Resizing", "FileSystemResizePending")


def wanted_size(volume: Object, claim: Object) -> int:
    """Bytes that the file system is to have; 0 where the claim has all that its volume gives."""
    given = quantity.parse(volume["spec"]["capacity"]["storage"])
    told = ((claim.get("status") or {}).get("capacity") or {}).get("storage")
    return given.value if told is not None and quantity.parse(told) < given else 0


def grown(volume: Object, claim: Object) -> dict[str, Any]:
    """The patch of the claim's status."""
    status = claim.get("status") or {}
    patch: dict[str, Any] = {
        "capacity": {"storage": volume["spec"]["capacity"]["storage"]},
        "conditions": [each for each in status.get("conditions") or () if each["type"] not in PENDING],
    }
    if "storage" in (status.get("allocatedResourceStatuses") or {}):
        patch["allocatedResourceStatuses"] = {"storage": None}
    return {"status": patch}
