"""The Deployment controller: moves pods from old ReplicaSets to the one of the current template, never below or above what the strategy
allows, and reports how far it is.

`rollout.py` decides and `rollout_status.py` reports, purely; this shell claims ReplicaSets, performs what was decided and writes the
status. One reconcile makes one step (as far as scaling goes): the ReplicaSets' own changes bring it back for the next.

Source: kubernetes.io "Deployments".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minik8s.api import selectors
from minik8s.api.errors import AlreadyExists, ApiError, Conflict, NotFound
from minik8s.api.kind import Object as Mutable
from minik8s.api.resources import DEPLOYMENTS, PODS, REPLICASETS
from minik8s.client.events import NORMAL, WARNING
from minik8s.client.workqueue import Key, Reconciler, Retry
from minik8s.controllers import claims, owners, rollout, rollout_status
from minik8s.controllers.manager import Context, enqueue, is_ending_namespace, key_of

Object = Mapping[str, Any]


def start(context: Context) -> list[Reconciler[Key]]:
    return [_Controller(context).reconciler]


class _Controller:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._deployments = context.informer(DEPLOYMENTS)
        self._sets = context.informer(REPLICASETS)
        self._pods = context.informer(PODS)
        self._sets.add_index("controller", owners.by_controller)
        self._pods.add_index("controller", owners.by_controller)
        self.reconciler: Reconciler[Key] = Reconciler("deployment", self._reconcile, context.clock, workers=8)
        self._deployments.on_change(enqueue(self.reconciler))
        self._sets.on_change(self._set_changed)
        self._pods.on_change(self._pod_changed)

    def _set_changed(self, old: Object | None, new: Object | None) -> None:
        for replica_set in filter(None, (old, new)):
            reference = owners.controller_of(replica_set)
            namespace = replica_set["metadata"]["namespace"]
            if reference is not None:
                if reference["kind"] == "Deployment":
                    self.reconciler.add((namespace, reference["name"]))
            elif replica_set is new:
                for deployment in self._deployments.list(namespace):
                    if selectors.of_object(deployment["spec"].get("selector")).matches(replica_set["metadata"].get("labels")):
                        self.reconciler.add(key_of(deployment))

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        """A pod that is gone may be what a Recreate rollout waits for."""
        if new is not None or old is None:
            return
        reference = owners.controller_of(old)
        if reference is not None and reference["kind"] == "ReplicaSet":
            replica_set = self._sets.get(old["metadata"]["namespace"], reference["name"])
            owner = owners.controller_of(replica_set) if replica_set else None
            if owner is not None and owner["kind"] == "Deployment":
                self.reconciler.add((old["metadata"]["namespace"], owner["name"]))

    async def _reconcile(self, key: Key) -> float | None:
        deployment = self._deployments.get(*key)
        if deployment is None:
            return None
        sets = await self._claim(deployment)
        step, refused = rollout.Step(rolls=False), None
        if "deletionTimestamp" not in deployment["metadata"]:
            pods_left = self._has_pods(rollout.old_sets(deployment, sets))
            step = rollout.decide(deployment, sets, old_pods_left=pods_left)
            refused = await self._perform(deployment, step)
            if step.changes:
                sets = await self._claim(deployment)
        await self._report(deployment, sets, step, refused)
        if refused is not None:
            raise refused
        return rollout_status.next_check(deployment, sets, self._context.clock.now())

    async def _claim(self, deployment: Object) -> list[Object]:
        selector = selectors.of_object(deployment["spec"].get("selector"))
        return await claims.claimed(self._context, self._sets, deployment, DEPLOYMENTS, selector)

    def _has_pods(self, sets: Sequence[Object]) -> bool:
        """Whether a pod of these sets still runs (a Recreate waits for them)."""
        return any(rs.get("status", {}).get("replicas", 0) for rs in sets) or any(
            pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")
            for rs in sets
            for pod in self._pods.indexed("controller", rs["metadata"]["uid"])
        )

    async def _perform(self, deployment: Object, step: rollout.Step) -> ApiError | None:
        """Writes a step and waits until the informer holds it; why a new ReplicaSet was refused, if so."""
        client = self._context.client
        written = []
        if step.create is not None:
            try:
                written.append(await self._create(deployment, step.create))
            except ApiError as error:
                if isinstance(error, Conflict) or is_ending_namespace(error):
                    raise
                message = f'Failed to create new replica set "{step.create["metadata"]["name"]}": {error.message}'
                self._context.events.event(deployment, WARNING, "ReplicaSetCreateError", message)
                return error
        for scale in step.scale:
            written.append(await self._scale(deployment, scale))
        for replica_set in step.delete:
            target = replica_set["metadata"]
            version = target["resourceVersion"]
            try:
                await client.delete(
                    REPLICASETS, target["name"], target["namespace"], uid=target["uid"], resource_version=version
                )
            except NotFound:
                continue
        await self._sets.caught_up(*written)
        return None

    async def _create(self, deployment: Object, wanted: Mutable) -> Object:
        """Makes the ReplicaSet. Where another has its name, collisionCount rises and the next try has another name."""
        name, namespace = wanted["metadata"]["name"], wanted["metadata"]["namespace"]
        try:
            made = await self._context.client.create(REPLICASETS, wanted)
        except AlreadyExists:
            existing = await self._context.client.get(REPLICASETS, name, namespace)
            if owners.controller_uid(existing) == deployment["metadata"]["uid"] and rollout.same_template(deployment, existing):
                return existing
            status = deployment.get("status", {})
            await self._write_status(deployment, {**status, "collisionCount": status.get("collisionCount", 0) + 1})
            raise Retry(f"the name {name} is taken") from None
        replicas = wanted["spec"]["replicas"]
        if replicas:
            self._say(deployment, f"Scaled up replica set {name} from 0 to {replicas}")
        return made

    async def _scale(self, deployment: Object, scale: rollout.Scale) -> Object:
        replica_set = scale.replica_set
        changed = await self._context.client.update(REPLICASETS, scale.result)
        before, after = replica_set["spec"].get("replicas", 1), scale.result["spec"]["replicas"]
        if before != after:
            direction = "up" if after > before else "down"
            name = replica_set["metadata"]["name"]
            self._say(deployment, f"Scaled {direction} replica set {name} from {before} to {after}")
        return changed

    def _say(self, deployment: Object, text: str) -> None:
        self._context.events.event(deployment, NORMAL, "ScalingReplicaSet", text)

    async def _report(self, deployment: Object, sets: Sequence[Object], step: rollout.Step, refused: ApiError | None) -> None:
        status = rollout_status.status_of(deployment, sets, self._context.clock.now(), step, refused)
        annotations = deployment["metadata"].get("annotations") or {}
        revision = "" if refused else step.revision or annotations.get(rollout.REVISION, "")
        if status != deployment.get("status") or (revision and annotations.get(rollout.REVISION) != revision):
            await self._write_status(deployment, status, revision)

    async def _write_status(self, deployment: Object, status: Object, revision: str = "") -> None:
        """The revision goes with the status: so written, an annotation does not count as a new generation."""
        changed: Mutable = {**deployment, "status": status}
        if revision:
            metadata = deployment["metadata"]
            changed["metadata"] = {
                **metadata,
                "annotations": {**(metadata.get("annotations") or {}), rollout.REVISION: revision},
            }
        await self._context.write(self._deployments, changed, "status")
