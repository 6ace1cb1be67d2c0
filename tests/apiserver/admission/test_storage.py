"""Which claims may grow. Words of the golden cases sto-bind and sto-expand."""

import asyncio
from typing import Any

import pytest

from minik8s.api.errors import Forbidden
from minik8s.api.resources import PERSISTENTVOLUMECLAIMS
from minik8s.api.user import User
from minik8s.apiserver.admission.storage import PersistentVolumeClaimResize
from minik8s.apiserver.contract import Admission, Operation

NO_GROWTH = (
    'persistentvolumeclaims "c" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions '
    "the pvc must support resize"
)


def claim(size: str, chosen: str | None = None, phase: str = "Bound") -> dict[str, Any]:
    spec = {"resources": {"requests": {"storage": size}}} | ({"storageClassName": chosen} if chosen else {})
    return {"metadata": {"name": "c", "namespace": "ns"}, "spec": spec, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("old", "new", "refusal"),
    [
        pytest.param(claim("1Gi", "grows"), claim("2Gi", "grows"), "", id="its class allows it"),
        pytest.param(claim("2Gi", "fixed"), claim("1Gi", "fixed"), "", id="shrinking is validation's matter"),
        pytest.param(claim("1Gi", "fixed"), claim("1024Mi", "fixed"), "", id="the same size"),
        pytest.param(claim("1Gi", "fixed"), claim("2Gi", "fixed"), NO_GROWTH, id="its class does not"),
        pytest.param(claim("1Gi"), claim("2Gi"), NO_GROWTH, id="no class"),
        pytest.param(claim("1Gi", "gone"), claim("2Gi", "gone"), NO_GROWTH, id="its class is gone"),
        pytest.param(
            claim("1Gi", "grows", "Pending"),
            claim("2Gi", "grows", "Pending"),
            'persistentvolumeclaims "c" is forbidden: Only bound persistent volume claims can be expanded',
            id="not bound",
        ),
    ],
)
def test_growth(shelf: Any, old: dict[str, Any], new: dict[str, Any], refusal: str) -> None:
    for name, grows in (("grows", True), ("fixed", False)):
        made = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}}
        shelf.put(made | {"allowVolumeExpansion": grows})
    plugin = PersistentVolumeClaimResize(shelf)
    request = Admission(User("jane"), Operation.UPDATE, PERSISTENTVOLUMECLAIMS, "", "ns", "c", new, old)
    assert plugin.handles(request)
    if not refusal:
        asyncio.run(plugin.validate(request))
        return
    with pytest.raises(Forbidden) as error:
        asyncio.run(plugin.validate(request))
    assert error.value.message == refusal
