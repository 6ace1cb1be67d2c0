"""Rights and times around devices. Rules: KEP-5018 (admin access), KEP-5589 (who may write a claim's status)."""

from random import Random
from typing import Any

import pytest

from minik8s.api.errors import Invalid
from minik8s.api.resources import RESOURCECLAIMS, RESOURCESLICES, Resource
from minik8s.api.user import AUTHENTICATED, MASTERS, User
from minik8s.apiserver.admission import admit, plugins
from minik8s.apiserver.authz import authorizer_for
from minik8s.apiserver.contract import Admission, Operation
from minik8s.testing.clock import VirtualClock

ADMIN = User("admin", (MASTERS, AUTHENTICATED))
DRIVER = User("driver", (AUTHENTICATED,))
ASKED = {"metadata": {"name": "c"}, "spec": {"devices": {"requests": [{"name": "r", "exactly": {"adminAccess": True}}]}}}
ALLOCATED = {
    "metadata": {"name": "c"},
    "spec": {},
    "status": {"allocation": {"devices": {"results": []}}, "devices": [{"driver": "d", "pool": "p", "device": "x"}]},
}


async def ask(
    shelf: Any, obj: Any, old: Any = None, user: User = ADMIN, resource: Resource = RESOURCECLAIMS, sub: str = ""
) -> str:
    chain = plugins(shelf, authorizer_for(shelf), VirtualClock(), Random(1))
    operation = Operation.UPDATE if old is not None else Operation.CREATE
    try:
        await admit(chain, Admission(user, operation, resource, sub, "ns" if resource.namespaced else "", "c", obj, old))
    except Invalid as error:
        return error.message
    return ""


@pytest.mark.parametrize(("labels", "refused"), [({}, True), ({"resource.kubernetes.io/admin-access": "true"}, False)])
async def test_admin_access_needs_a_namespace_that_allows_it(shelf: Any, labels: dict[str, str], refused: bool) -> None:
    shelf.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns", "labels": labels}})
    assert ("spec.devices.requests[0].adminAccess: Forbidden" in await ask(shelf, ASKED)) is refused


@pytest.mark.parametrize(("user", "fields"), [(ADMIN, []), (DRIVER, ["status.allocation", "status.devices"])])
async def test_the_status_of_a_claim_is_for_who_has_the_rights(shelf: Any, user: User, fields: list[str]) -> None:
    shelf.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}})
    told = await ask(shelf, ALLOCATED, {"metadata": {"name": "c"}, "spec": {}, "status": {}}, user, sub="status")
    assert [field for field in ("status.allocation", "status.devices") if f"{field}: Forbidden" in told] == fields


async def test_a_taint_counts_from_when_it_came(shelf: Any) -> None:
    taints = [{"key": "k", "effect": "NoSchedule"}, {"key": "l", "effect": "None", "timeAdded": "2020-01-01T00:00:00Z"}]
    obj = {"metadata": {"name": "s"}, "spec": {"devices": [{"name": "d", "taints": taints}]}}
    assert await ask(shelf, obj, resource=RESOURCESLICES) == ""
    assert taints[0]["timeAdded"] > taints[1]["timeAdded"] == "2020-01-01T00:00:00Z"
