"""kr8s (PyPI): objects that know their verbs, conditions that are waited for, custom kinds."""

from __future__ import annotations

import asyncio

import kr8s
import pytest
from kr8s.asyncio.objects import APIObject, ConfigMap, Deployment, Pod, new_class

from .common import configmap, deployment, widget

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.filterwarnings("ignore:Kubernetes version:UserWarning"),
]  # of versions it has not met


async def test_objects(kubeconfig: str, namespace: str) -> None:
    api = await kr8s.asyncio.api(kubeconfig=kubeconfig, namespace=namespace)
    one = await ConfigMap(configmap("a", x="1"), namespace=namespace, api=api)
    await one.create()
    await one.patch({"data": {"y": "2"}})
    await one.label(team="core")
    await one.annotate({"note": "hello"})
    found = [obj async for obj in api.get("cm", namespace=namespace, label_selector={"team": "core"})]
    assert [(obj.name, dict(obj.data)) for obj in found] == [("a", {"x": "1", "y": "2"})]
    await one.delete()
    assert not await one.exists()
    with pytest.raises(kr8s.NotFoundError):
        await one.refresh()


async def test_a_deployment_is_awaited_and_scaled(kubeconfig: str, namespace: str) -> None:
    api = await kr8s.asyncio.api(kubeconfig=kubeconfig, namespace=namespace)
    web = await Deployment(deployment("web", 2), namespace=namespace, api=api)
    await web.create()
    await web.wait("condition=Available", timeout=20)
    assert await web.ready()
    pods = [pod async for pod in api.get("pods", namespace=namespace, label_selector="app=web")]
    assert len(pods) == 2
    assert isinstance(pods[0], Pod)
    assert await pods[0].ready()
    await web.scale(1)
    await web.delete(propagation_policy="Foreground")
    await web.wait("delete", timeout=20)


async def test_custom_kinds_and_watches(kubeconfig: str, namespace: str) -> None:
    api = await kr8s.asyncio.api(kubeconfig=kubeconfig, namespace=namespace)
    kind = new_class("Widget", "clients.example.com/v1", namespaced=True, scalable=True)

    async def first() -> tuple[str, APIObject]:
        async for event, obj in api.watch("widgets.clients.example.com", namespace=namespace):
            return event, obj
        raise AssertionError

    watching = asyncio.create_task(first())
    made = await kind(widget("w", replicas=1), namespace=namespace, api=api)
    await made.create()
    event, seen = await asyncio.wait_for(watching, 20)
    assert (event, seen.name, seen.spec.color) == ("ADDED", "w", "red")
    await made.patch({"status": {"phase": "Good"}}, subresource="status")
    await made.wait("jsonpath='{.status.phase}'=Good", timeout=10)
    assert made.status.phase == "Good"
    assert {"widgets", "pods"} <= {resource["name"] for resource in await api.api_resources()}
    assert (await api.version())["minor"] == "36"
    assert (await api.whoami()) == "minik8s-admin"
