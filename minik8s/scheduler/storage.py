"""Claims, volumes and storage classes as the scheduler sees them, and what a pod's claims mean for a node. Pure.

A claim that waits for its first consumer gets its volume here: a free one that the node reaches, else the node is told to its provisioner.
What was decided for pods that are under way is assumed (`assumed`), so that no two of them take one volume.
Source: KEP-490 (volume scheduling); upstream's volumebinding plugin for the reasons.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minik8s.api import quantity, storage
from minik8s.scheduler.capacities import Capacities
from minik8s.scheduler.shape import Use
from minik8s.scheduler.verdicts import FITS, Failure, Verdict

Object = Mapping[str, Any]
Key = tuple[str, str]

OUT_OF_REACH = (Failure("node(s) didn't match PersistentVolume's node affinity"),)
NONE_FREE = (Failure("node(s) didn't find available persistent volumes to bind"),)
NO_ROOM = (Failure("node(s) did not have enough free storage"),)
NO_VOLUME = (Failure("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"),)


@dataclass(frozen=True, slots=True)
class Plan:
    """What must happen before the pod may be bound: claims with the volumes they get, claims to be provisioned for `node`."""

    node: str
    bindings: Sequence[tuple[Object, Object]] = ()
    provisions: Sequence[Object] = ()

    def __bool__(self) -> bool:
        return bool(self.bindings or self.provisions)


class Storage:
    """By key; fed from informers."""

    def __init__(self) -> None:
        self.claims: dict[Key, Object] = {}
        self.volumes: dict[str, Object] = {}
        self.classes: dict[str, Object] = {}
        self.limits: dict[str, dict[str, int]] = {}  # by node and CSI driver: how many volumes (CSINode)
        self.drivers: dict[str, Object] = {}  # each a CSIDriver
        self.capacities = Capacities()
        self.assumed: dict[str, Plan] = {}  # by the pod's uid

    def set_limits(self, node: str, csi_node: Object | None) -> None:
        """Takes in a CSINode; None: it is gone."""
        drivers = (csi_node["spec"].get("drivers") or ()) if csi_node else ()
        limits = {str(d["name"]): int(d["allocatable"]["count"]) for d in drivers if (d.get("allocatable") or {}).get("count")}
        if limits:
            self.limits[node] = limits
        else:
            self.limits.pop(node, None)

    def driven(self, namespace: str, uses: Sequence[Use]) -> set[tuple[str, str]]:
        """The volumes of CSI drivers behind the claims, as (driver, handle); of one that is still to be made the claim's name."""
        found = set()
        for use in uses:
            claim = self.claims.get((namespace, use.name))
            volume = self.volumes.get(claim["spec"].get("volumeName", "")) if claim else None
            if volume is not None and (source := volume["spec"].get("csi")):
                found.add((str(source["driver"]), str(source["volumeHandle"])))
            elif claim is not None and not claim["spec"].get("volumeName"):
                chosen = self.classes.get(storage.class_of(claim)) or {}
                found.add((str(chosen.get("provisioner", "")), f"{namespace}/{use.name}"))
        return found

    def hopeless(self, namespace: str, uses: Sequence[Use]) -> str:
        """Why a pod with these claims fits no node at all; empty where it may fit one."""
        for use in uses:
            if problem := self._problem(namespace, use):
                return problem
        if any(not storage.is_bound(claim) and not self._is_delayed(claim) for claim in self._of(namespace, uses)):
            return "pod has unbound immediate PersistentVolumeClaims"
        return ""

    def judge(self, namespace: str, uses: Sequence[Use], node: str, labels: Mapping[str, str]) -> tuple[Verdict, Plan]:
        """What speaks against the node, and what to do where nothing does. For pods that are not hopeless."""
        bound: list[Object] = []
        unbound: list[Object] = []
        for claim in self._of(namespace, uses):
            (bound if storage.is_bound(claim) else unbound).append(claim)
        volumes = [self.volumes.get(claim["spec"]["volumeName"]) for claim in bound]
        verdict = OUT_OF_REACH if any(volume and not storage.reaches(volume, labels) for volume in volumes) else FITS
        missing = NO_VOLUME if None in volumes else FITS
        plan = self._plan(unbound, node, labels) if unbound else Plan(node)
        if isinstance(plan, Plan):
            return verdict + missing, plan
        return verdict + plan + missing, Plan(node)

    def is_for_one_pod(self, namespace: str, name: str) -> bool:
        """Whether the claim's mode is ReadWriteOncePod."""
        claim = self.claims.get((namespace, name))
        return claim is not None and storage.ONE_POD in (claim["spec"].get("accessModes") or ())

    # --- details ---

    def _of(self, namespace: str, uses: Sequence[Use]) -> Iterator[Object]:
        return (self.claims[namespace, use.name] for use in uses)

    def _problem(self, namespace: str, use: Use) -> str:
        claim = self.claims.get((namespace, use.name))
        if claim is None:
            missing = f'persistentvolumeclaim "{use.name}"'
            return f"waiting for ephemeral volume controller to create the {missing}" if use.owner else f"{missing} not found"
        if storage.phase_of(claim) == storage.LOST:
            lost = claim["spec"].get("volumeName", "")
            return f'persistentvolumeclaim "{use.name}" bound to non-existent persistentvolume "{lost}"'
        if "deletionTimestamp" in claim["metadata"]:
            return f'persistentvolumeclaim "{use.name}" is being deleted'
        if use.owner and not storage.is_made_for(claim, use.owner):
            return f"PVC {namespace}/{use.name} was not created for pod {namespace}/{use.pod} (pod is not owner)"
        return ""

    def _is_delayed(self, claim: Object) -> bool:
        return not claim["spec"].get("volumeName") and storage.is_delayed(self.classes.get(storage.class_of(claim)))

    def _plan(self, unbound: Sequence[Object], node: str, labels: Mapping[str, str]) -> Plan | Verdict:
        """Why not, where a claim would get no volume on the node."""
        taken = {v["metadata"]["name"]: _key(c) for plan in self.assumed.values() for c, v in plan.bindings}
        selected = {_key(claim): plan.node for plan in self.assumed.values() for claim in plan.provisions}
        bindings: list[tuple[Object, Object]] = []
        provisions = []
        for claim in sorted(unbound, key=_size):
            where = storage.notes_of(claim).get(storage.SELECTED_NODE) or selected.get(_key(claim))
            if where not in (None, node):
                return NONE_FREE
            others = {name for name, key in taken.items() if key != _key(claim)} | {v["metadata"]["name"] for _, v in bindings}
            volume = None
            if where is None:
                volume = storage.best_volume(
                    claim, self._volumes_for(claim, taken), taken=others, usable=lambda v: storage.reaches(v, labels)
                )
            if volume is not None:
                bindings.append((claim, volume))
            elif _key(claim) in taken.values() or not self._can_provision(claim, labels):
                return NONE_FREE
            elif not self._has_room(claim, labels):
                return NO_ROOM
            else:
                provisions.append(claim)
        return Plan(node, bindings, provisions)

    def _volumes_for(self, claim: Object, taken: Mapping[str, Key]) -> list[Object]:
        """Those of its class; the one alone that it is about to get."""
        mine = [self.volumes[name] for name, key in taken.items() if key == _key(claim) and name in self.volumes]
        return mine or [v for v in self.volumes.values() if storage.class_of(v) == storage.class_of(claim)]

    def _can_provision(self, claim: Object, labels: Mapping[str, str]) -> bool:
        chosen = self.classes.get(storage.class_of(claim))
        if chosen is None or chosen.get("provisioner") == storage.NO_PROVISIONER:
            return False
        terms = chosen.get("allowedTopologies") or ()
        return not terms or any(
            all(labels.get(each["key"]) in each["values"] for each in term.get("matchLabelExpressions") or ()) for term in terms
        )

    def _has_room(self, claim: Object, labels: Mapping[str, str]) -> bool:
        """Of a driver that tells it: whether it could make the volume where the node is (KEP-1472)."""
        name = storage.class_of(claim)
        driver = self.drivers.get(self.classes[name].get("provisioner", ""))
        if driver is None or not driver["spec"].get("storageCapacity"):
            return True
        return self.capacities.fit(name, _size(claim), labels)


def _key(obj: Object) -> Key:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _size(claim: Object) -> quantity.Quantity:
    return quantity.parse(((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage", "0"))
