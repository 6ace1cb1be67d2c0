"""Generic ephemeral volumes: each gets a claim of its own, made from its template, owned by the pod, and collected with it.

Limits: a claim of that name which is somebody else's is never taken; the pod waits and an Event says why.
Source: kubernetes.io "Ephemeral Volumes" ("Generic ephemeral volumes"), KEP-1698.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from minik8s.api.errors import ApiError
from minik8s.api.resources import PERSISTENTVOLUMECLAIMS, PODS
from minik8s.api.storage import claim_name
from minik8s.client.events import WARNING
from minik8s.client.workqueue import Key, Reconciler, Retry
from minik8s.controllers.manager import Context, is_ending_namespace, key_of
from minik8s.controllers.owners import controller_uid, reference_to

Object = Mapping[str, Any]


def ephemeral_volumes(pod: Object) -> Iterator[Object]:
    return (volume for volume in pod["spec"].get("volumes") or () if volume.get("ephemeral"))


def claim_for(pod: Object, volume: Object) -> dict[str, Any]:
    """The claim of an ephemeral volume."""
    template = volume["ephemeral"]["volumeClaimTemplate"]
    given = {key: value for key, value in (template.get("metadata") or {}).items() if key in ("labels", "annotations")}
    named = {"name": claim_name(pod, volume), "namespace": pod["metadata"]["namespace"]}
    metadata = {**given, **named, "ownerReferences": [reference_to(pod, PODS)]}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": template["spec"]}


def start(context: Context) -> list[Reconciler[Key]]:
    pods, claims = context.informer(PODS), context.informer(PERSISTENTVOLUMECLAIMS)
    pods.add_index(
        "ephemeral", lambda pod: [f"{pod['metadata']['namespace']}/{claim_name(pod, v)}" for v in ephemeral_volumes(pod)]
    )

    async def reconcile(key: Key) -> float | None:
        pod = pods.get(*key)
        if pod is None or "deletionTimestamp" in pod["metadata"]:
            return None
        for volume in ephemeral_volumes(pod):
            await provide(pod, volume)
        return None

    async def provide(pod: Object, volume: Object) -> None:
        """Makes the volume's claim unless it is there; Retry if it can't be."""
        namespace, name = pod["metadata"]["namespace"], claim_name(pod, volume)
        there = claims.get(namespace, name)
        try:
            if there is None:
                await claims.caught_up(await context.client.create(PERSISTENTVOLUMECLAIMS, claim_for(pod, volume)))
                return
        except ApiError as error:
            if is_ending_namespace(error):
                return
            why = f"create PVC {name}: {error}"
        else:
            if controller_uid(there) == pod["metadata"]["uid"]:
                return
            why = f"PVC {namespace}/{name} was not created for pod {namespace}/{pod['metadata']['name']} (pod is not owner)"
        context.events.event(pod, WARNING, "FailedBinding", f"ephemeral volume {volume['name']}: {why}")
        raise Retry(why)

    reconciler: Reconciler[Key] = Reconciler("ephemeral-volume", reconcile, context.clock, workers=2)

    def pod_came(old: Object | None, new: Object | None) -> None:
        """A pod's volumes never change."""
        if old is None and new is not None and any(ephemeral_volumes(new)):
            reconciler.add(key_of(new))

    def claim_changed(old: Object | None, new: Object | None) -> None:
        """One that goes is made anew while its pod is there."""
        if old is not None and new is None:
            for pod in pods.indexed("ephemeral", "/".join(key_of(old))):
                reconciler.add(key_of(pod))

    pods.on_change(pod_came)
    claims.on_change(claim_changed)
    return [reconciler]
