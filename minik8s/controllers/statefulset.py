"""The StatefulSet controller: numbered pods that keep their name and their storage. `statefulset_rules.py` decides purely; this shell
makes claims and pods, deletes, and reports.

Limits: claims stay when pods or the set go, unless spec.persistentVolumeClaimRetentionPolicy says Delete for the set (whenDeleted).
Source: kubernetes.io "StatefulSets".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minik8s.api import selectors
from minik8s.api.errors import AlreadyExists, ApiError, NotFound
from minik8s.api.resources import CONTROLLERREVISIONS, PERSISTENTVOLUMECLAIMS, PODS, STATEFULSETS
from minik8s.client.events import NORMAL, WARNING
from minik8s.client.workqueue import Key, Reconciler
from minik8s.controllers import claims, history, owners
from minik8s.controllers import statefulset_rules as rules
from minik8s.controllers.manager import Context, enqueue, is_ending_namespace
from minik8s.controllers.pods import next_availability, wake_owners

Object = Mapping[str, Any]


def start(context: Context) -> list[Reconciler[Key]]:
    return [_Controller(context).reconciler]


class _Controller:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._sets, self._pods = context.informer(STATEFULSETS), context.informer(PODS)
        self._revisions, self._claims = context.informer(CONTROLLERREVISIONS), context.informer(PERSISTENTVOLUMECLAIMS)
        self._pods.add_index("controller", owners.by_controller)
        self._revisions.add_index("controller", owners.by_controller)
        self.reconciler: Reconciler[Key] = Reconciler("statefulset", self._reconcile, context.clock, workers=4)
        self._sets.on_change(enqueue(self.reconciler))
        self._pods.on_change(wake_owners(self.reconciler, self._sets))

    async def _reconcile(self, key: Key) -> float | None:
        stateful_set = self._sets.get(*key)
        if stateful_set is None:
            return None
        now = self._context.clock.now()
        update, revisions = await history.current(self._context, self._revisions, stateful_set, STATEFULSETS)
        told = stateful_set.get("status", {}).get("currentRevision")
        current = next((each for each in revisions if each["metadata"]["name"] == told), update)
        pods = await self._claim(stateful_set)
        plan = rules.decide(stateful_set, pods, update["metadata"]["name"], now)
        refused = await self._perform(stateful_set, plan, current, update)
        pods = await self._claim(stateful_set)
        await self._report(stateful_set, pods, current["metadata"]["name"], update["metadata"]["name"], now)
        live = {rules.revision_of(pod) for pod in pods} | {current["metadata"]["name"], update["metadata"]["name"]}
        await history.forget(self._context, stateful_set, revisions, live)
        if refused is not None:
            raise refused
        return next_availability(pods, stateful_set["spec"].get("minReadySeconds", 0), now)

    async def _claim(self, stateful_set: Object) -> list[Object]:
        selector = selectors.of_object(stateful_set["spec"].get("selector"))

        def of_the_set(pod: Object) -> bool:
            return rules.ordinal_of(stateful_set, pod) is not None

        return await claims.claimed(self._context, self._pods, stateful_set, STATEFULSETS, selector, adoptable=of_the_set)

    async def _perform(self, stateful_set: Object, plan: rules.Plan, current: Object, update: Object) -> ApiError | None:
        """The first refusal, after which nothing more is tried."""
        written: list[Object | None] = []
        try:
            for pod in plan.mend:
                await self._mend(stateful_set, pod)
            for ordinal in plan.create:
                name = rules.revision_for(stateful_set, ordinal, current["metadata"]["name"], update["metadata"]["name"])
                revision = current if name == current["metadata"]["name"] else update
                written.append(await self._create(stateful_set, revision, ordinal))
            for pod in plan.delete:
                written.append(await self._delete(stateful_set, pod))
        except ApiError as error:
            return None if is_ending_namespace(error) else error
        finally:
            await self._pods.caught_up(*filter(None, written))
        return None

    async def _create(self, stateful_set: Object, revision: Object, ordinal: int) -> Object:
        name, own = rules.name_of(stateful_set, ordinal), stateful_set["metadata"]["name"]
        try:
            await self._make_claims(stateful_set, ordinal)
            made = await self._context.client.create(PODS, rules.new_pod(stateful_set, revision, ordinal))
        except ApiError as error:
            text = f"create Pod {name} in StatefulSet {own} failed error: {error.message}"
            if not is_ending_namespace(error):
                self._context.events.event(stateful_set, WARNING, "FailedCreate", text)
            raise
        self._context.events.event(
            stateful_set, NORMAL, "SuccessfulCreate", f"create Pod {name} in StatefulSet {own} successful"
        )
        return made

    async def _make_claims(self, stateful_set: Object, ordinal: int) -> None:
        """The claims that the pod lacks."""
        policy = stateful_set["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
        for claim in rules.claims_of(stateful_set, ordinal).values():
            metadata = claim["metadata"]
            if self._claims.get(metadata["namespace"], metadata["name"]) is not None:
                continue
            if policy.get("whenDeleted") == "Delete":
                metadata["ownerReferences"] = [owners.reference_to(stateful_set, STATEFULSETS)]
            try:
                await self._context.client.create(PERSISTENTVOLUMECLAIMS, claim)
            except AlreadyExists:
                continue
            pod, own = rules.name_of(stateful_set, ordinal), stateful_set["metadata"]["name"]
            text = f"create Claim {metadata['name']} Pod {pod} in StatefulSet {own} success"
            self._context.events.event(stateful_set, NORMAL, "SuccessfulCreate", text)

    async def _mend(self, stateful_set: Object, pod: Object) -> None:
        """A pod that was adopted, or lost a claim or a label, is made whole."""
        ordinal = rules.ordinal_of(stateful_set, pod)
        if ordinal is not None:
            await self._make_claims(stateful_set, ordinal)
        metadata = pod["metadata"]
        wanted = rules.identity(metadata["name"])
        if any((metadata.get("labels") or {}).get(key) != value for key, value in wanted.items()):
            patch = {"metadata": {"uid": metadata["uid"], "labels": wanted}}
            changed = await self._context.client.patch(PODS, metadata["name"], metadata["namespace"], patch)
            await self._pods.caught_up(changed)

    async def _delete(self, stateful_set: Object, pod: Object) -> Object | None:
        metadata = pod["metadata"]
        try:
            answer = await self._context.client.delete(PODS, metadata["name"], metadata["namespace"], uid=metadata["uid"])
        except NotFound:
            return None
        text = f"delete Pod {metadata['name']} in StatefulSet {stateful_set['metadata']['name']} successful"
        self._context.events.event(stateful_set, NORMAL, "SuccessfulDelete", text)
        return answer

    async def _report(self, stateful_set: Object, pods: Sequence[Object], current: str, update: str, now: float) -> None:
        status = rules.status_of(stateful_set, pods, current, update, now)
        if status != stateful_set.get("status"):
            await self._context.write(self._sets, {**stateful_set, "status": status}, "status")
