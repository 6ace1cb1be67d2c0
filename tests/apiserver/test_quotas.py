"""ResourceQuotas at the front desk. Rules: kubernetes.io "Resource Quotas"; wordings are upstream's, as golden holds them."""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from minik8s.api.call import PATCH_TYPES, Call
from minik8s.api.errors import Forbidden
from minik8s.api.resources import CONFIGMAPS, PERSISTENTVOLUMECLAIMS, PODS, RESOURCEQUOTAS, SERVICES, Resource
from minik8s.api.user import ANONYMOUS
from minik8s.apiserver.frontdesk import FrontDesk
from minik8s.base.tasks import Owner
from minik8s.store.memory import MemoryStore
from minik8s.testing.clock import VirtualClock


class Desk:
    """A namespace behind a front desk."""

    def __init__(self, desk: FrontDesk) -> None:
        self.desk = desk

    async def create(self, resource: Resource, name: str, dry_run: str = "", **fields: Any) -> Any:
        query = {"dryRun": dry_run} if dry_run else {}
        body = {"metadata": {"name": name}, **fields}
        return await self.desk.handle(ANONYMOUS, Call("create", resource, "a", query=query, body=body))

    async def patch(self, resource: Resource, name: str, spec: Any) -> Any:
        call = Call("patch", resource, "a", name, body={"spec": spec}, content_type=PATCH_TYPES["merge"])
        return await self.desk.handle(ANONYMOUS, call)

    async def quota(self, name: str, hard: dict[str, str], **spec: Any) -> None:
        await self.create(RESOURCEQUOTAS, name, spec={"hard": hard, **spec})

    async def pod(self, name: str, cpu: str = "", memory: str = "", **spec: Any) -> Any:
        resources = ({"requests": {"cpu": cpu}} if cpu else {}) | ({"limits": {"memory": memory}} if memory else {})
        return await self.create(PODS, name, spec={"containers": [{"name": "c", "image": "i", "resources": resources}], **spec})


@pytest.fixture
async def desk(clock: VirtualClock) -> AsyncIterator[Desk]:
    owner = Owner("test")
    desk = FrontDesk(MemoryStore(), clock, random.Random(1), [ipaddress.ip_network("10.43.0.0/24")])
    await desk.start(owner)
    yield Desk(desk)
    await owner.stop()


async def test_creates_at_the_same_moment_are_all_counted(desk: Desk) -> None:
    await desk.quota("counts", {"count/configmaps": "3"})
    outcomes = await asyncio.gather(*(desk.create(CONFIGMAPS, f"c{i}") for i in range(10)), return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, Forbidden)]
    assert len(refused) == 7
    assert refused[0].message.endswith(
        "exceeded quota: counts, requested: count/configmaps=1, used: count/configmaps=3, limited: count/configmaps=3"
    )


async def test_what_failed_or_was_tried_or_is_gone_is_not_counted(desk: Desk) -> None:
    await desk.quota("counts", {"configmaps": "1"})
    await desk.create(CONFIGMAPS, "tried", dry_run="All")
    await desk.create(CONFIGMAPS, "x")
    with pytest.raises(Forbidden):
        await desk.create(CONFIGMAPS, "y", dry_run="All")
    await desk.desk.handle(ANONYMOUS, Call("delete", CONFIGMAPS, "a", "x"))
    await desk.create(CONFIGMAPS, "z")


async def test_containers_name_what_a_quota_counts_and_pods_share_it(desk: Desk) -> None:
    await desk.quota("compute", {"pods": "4", "requests.cpu": "1", "limits.memory": "1Gi"}, scopes=["NotBestEffort"])
    await desk.pod("besteffort")
    with pytest.raises(Forbidden, match=r"failed quota: compute: must specify limits\.memory for: c"):
        await desk.pod("half", cpu="100m")
    await desk.pod("one", cpu="600m", memory="512Mi")
    with pytest.raises(Forbidden, match=r"requested: requests\.cpu=600m, used: requests\.cpu=600m, limited: requests\.cpu=1"):
        await desk.pod("two", cpu="600m", memory="512Mi")
    await desk.pod("three", cpu="400m", memory="512Mi")


async def test_an_update_is_judged_by_what_it_uses_more(desk: Desk) -> None:
    await desk.quota("ports", {"services.nodeports": "1"})
    await desk.create(SERVICES, "x", spec={"type": "NodePort", "ports": [{"port": 80}]})
    await desk.create(SERVICES, "y", spec={"ports": [{"port": 80}]})
    with pytest.raises(Forbidden, match=r"services\.nodeports=1, used: services\.nodeports=1"):
        await desk.patch(SERVICES, "y", {"type": "NodePort"})
    await desk.patch(SERVICES, "x", {"sessionAffinity": "ClientIP"})


async def test_claims_share_storage(desk: Desk) -> None:
    await desk.quota("storage", {"requests.storage": "3Gi"})

    async def claim(name: str, storage: str) -> None:
        spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": storage}}}
        await desk.create(PERSISTENTVOLUMECLAIMS, name, spec=spec)

    await claim("one", "2Gi")
    with pytest.raises(
        Forbidden, match=r"requested: requests\.storage=2Gi, used: requests\.storage=2Gi, limited: requests\.storage=3Gi"
    ):
        await claim("two", "2Gi")
