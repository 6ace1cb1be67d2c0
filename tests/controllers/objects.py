"""What the scenarios are made of: short manifests, and a recorder of every state that a kind goes through."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from minik8s.api.resources import Resource
from minik8s.client.informer import Informer, Informers
from minik8s.testing.cluster import Cluster

Object = Mapping[str, Any]


def template(app: str = "web", image: str = "nginx:1", simulate: str = "", **spec: Any) -> dict[str, Any]:
    """A pod template with one container; `simulate` tells the simulated runtime how it behaves."""
    metadata: dict[str, Any] = {"labels": {"app": app}}
    if simulate:
        metadata["annotations"] = {"minik8s.local/simulate": simulate}
    return {"metadata": metadata, "spec": {"containers": [{"name": "c", "image": image}]} | spec}


def workload(kind: str, name: str = "web", *, pods: Object | None = None, **spec: Any) -> dict[str, Any]:
    """An apps/v1 object whose selector is that of `template(name)`."""
    full = {"selector": {"matchLabels": {"app": name}}, "template": pods or template(name)} | spec
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": full}


def pod(name: str, labels: Mapping[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    full = {"containers": [{"name": "c", "image": "nginx:1"}]} | spec
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": dict(labels or {})}, "spec": full}


def config_map(name: str, *owners: Object, finalizers: tuple[str, ...] = (), block: bool = True) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name}
    if finalizers:
        metadata["finalizers"] = list(finalizers)
    if owners:
        metadata["ownerReferences"] = [reference(owner, block) for owner in owners]
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def reference(owner: Object, block: bool = True) -> dict[str, Any]:
    found = {"apiVersion": owner["apiVersion"], "kind": owner["kind"]}
    found |= {name: owner["metadata"][name] for name in ("name", "uid")}
    return found | ({"blockOwnerDeletion": True} if block else {})


def condition(obj: Object, kind: str) -> Object:
    return next((c for c in obj.get("status", {}).get("conditions", ()) if c["type"] == kind), {})


def conditions(obj: Object) -> list[tuple[str, str, str]]:
    return [(c["type"], c["status"], c.get("reason", "")) for c in obj.get("status", {}).get("conditions", ())]


def names(objects: list[Object]) -> list[str]:
    return sorted(obj["metadata"]["name"] for obj in objects)


async def events(cluster: Cluster, about: str) -> list[tuple[str, str]]:
    """(reason, message) of all events about an object, in their order."""
    found = [e for e in await cluster.all("events") if e["involvedObject"]["name"] == about]
    found.sort(key=lambda e: int(e["metadata"]["resourceVersion"]))
    return [(e["reason"], e["message"]) for e in found]


@asynccontextmanager
async def watched(cluster: Cluster, resource: Resource, check: Callable[[Informer], None]) -> AsyncIterator[Informer]:
    """Calls `check` with all objects of a kind after each change; its AssertionErrors are raised at the end."""
    informers = Informers(cluster.client, cluster.clock, Random(0), "watched")
    informer = informers.of(resource)
    failures: list[AssertionError] = []

    def changed(old: Object | None, new: Object | None) -> None:
        try:
            if informer.has_synced:
                check(informer)
        except AssertionError as error:
            failures.append(error)

    informer.on_change(changed)
    await informer.synced()
    try:
        yield informer
    finally:
        await informers.stop()
    if failures:
        raise failures[0]
