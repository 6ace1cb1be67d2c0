"""Decisions as text: each file in `scenarios/` tells why, gives commands and shows the outcome.

Commands: `node NAME {...}` (capacity, labels, taints, images, `cordoned`), `remove-node NAME`, `pod NAME {...}` (requests, labels,
owner, any field of a pod's spec), `pods COUNT NAME {...}`, `on NODE NAME {...}` a pod that runs there already, `delete NAME`,
`claim NAME {...}`, `volume NAME {...}` (`at` one node alone), `storageclass NAME {...}`, `csinode NAME {driver: how many volumes}`,
`capacity CLASS {at, size}` (CSIStorageCapacity) of a driver that tells its room, `time SECONDS`, `namespace NAME
{labels}`, `schedule` decides for all pods that are due, `count` tells the pods on each node. With REWRITE=1 in the environment
the outcomes are written anew: read the diff.
"""

from pathlib import Path
from random import Random
from typing import Any

import pytest
from scenarios import play

from minik8s.api import storage
from minik8s.scheduler.decide import Bind, Decider
from minik8s.scheduler.queue import QueuedPod, SchedulingQueue
from minik8s.scheduler.shape import Shapes
from minik8s.scheduler.snapshot import Snapshot, check
from minik8s.scheduler.storage import Plan

FILES = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


class Room:
    """A scheduler without its shell."""

    def __init__(self) -> None:
        self.snapshot, self.queue, self.shapes, self.now = Snapshot(), SchedulingQueue(), Shapes(), 0.0
        self.decider = Decider(self.snapshot, Random(0))

    def node(self, name: str, given: dict[str, Any]) -> None:
        allocatable = {"cpu": "4", "memory": "8Gi", "pods": "10"} | {k: str(v) for k, v in given.get("capacity", {}).items()}
        images = [{"names": [image], "sizeBytes": size} for image, size in given.get("images", {}).items()]
        taints = [
            dict(zip(("key", "value", "effect"), taint.replace("=", ":").split(":"), strict=True))
            for taint in given.get("taints", [])
        ]
        self.snapshot.set_node(
            {
                "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name} | given.get("labels", {})},
                "spec": {"taints": taints, "unschedulable": given.get("cordoned", False)},
                "status": {"allocatable": allocatable, "images": images},
            }
        )
        self.reconsider()

    def remove_node(self, name: str, given: dict[str, Any]) -> None:
        self.snapshot.remove_node(name)

    def namespace(self, name: str, given: dict[str, Any]) -> None:
        self.snapshot.namespaces[name] = given

    def claim(self, name: str, given: dict[str, Any]) -> None:
        given = dict(given)
        notes = {storage.BIND_COMPLETED: "yes"} if given.get("volumeName") else {}
        notes |= {storage.SELECTED_NODE: given.pop("selected")} if "selected" in given else {}
        meta = {"name": name, "namespace": "default", "uid": name, "annotations": notes, "resourceVersion": "1"}
        meta |= {"deletionTimestamp": "now"} if given.pop("deleted", False) else {}
        owner = given.pop("owner", None)
        meta |= {"ownerReferences": [{"uid": owner, "controller": True}]} if owner else {}
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **given}
        self.snapshot.storage.claims["default", name] = {
            "metadata": meta,
            "spec": spec,
            "status": {"phase": spec.pop("phase", "")},
        }
        self.reconsider()

    def volume(self, name: str, given: dict[str, Any]) -> None:
        given = dict(given)
        at = given.pop("at", None)
        if at:
            terms = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [at]}]}]
            given["nodeAffinity"] = {"required": {"nodeSelectorTerms": terms}}
        spec = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": str(given.pop("size", "1Gi"))}, **given}
        self.snapshot.storage.volumes[name] = {"metadata": {"name": name}, "spec": spec, "status": {"phase": "Available"}}
        self.reconsider()

    def storageclass(self, name: str, given: dict[str, Any]) -> None:
        self.snapshot.storage.classes[name] = {"metadata": {"name": name}, **given}

    def csinode(self, name: str, given: dict[str, Any]) -> None:
        drivers = [{"name": driver, "nodeID": name, "allocatable": {"count": count}} for driver, count in given.items()]
        self.snapshot.storage.set_limits(name, {"spec": {"drivers": drivers}})

    def capacity(self, name: str, given: dict[str, Any]) -> None:
        store = self.snapshot.storage
        store.drivers[store.classes[name]["provisioner"]] = {"spec": {"storageCapacity": True}}
        topology = {"matchLabels": {"kubernetes.io/hostname": given["at"]}}
        metadata = {"namespace": "kube-system", "name": f"{name}-{given['at']}"}
        told = {"metadata": metadata, "storageClassName": name, "nodeTopology": topology, "capacity": given["size"]}
        store.capacities.change(None, told)
        self.reconsider()

    def make(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        given = dict(given)
        owner = given.pop("owner", None)
        requests = {key: str(value) for key, value in given.pop("requests", {}).items()}
        container = {
            "name": "c",
            "image": given.pop("image", ""),
            "ports": given.pop("ports", []),
            "resources": {"requests": requests},
        }
        meta = {"name": name, "namespace": given.pop("namespace", "default"), "uid": name, "labels": given.pop("labels", {})}
        if owner:
            meta["ownerReferences"] = [{"uid": owner, "controller": True}]
        given["volumes"] = [
            {"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in given.pop("claims", [])
        ] + given.get("volumes", [])
        return {"metadata": meta, "spec": {"containers": [container], **given}}

    def pod(self, name: str, given: dict[str, Any]) -> None:
        pod = self.make(name, given)
        key = (pod["metadata"]["namespace"], name)
        self.queue.add(QueuedPod(key, name, pod, self.shapes.of(pod), given.get("priority", 0), self.now))

    def pods(self, count: str, name: str, given: dict[str, Any]) -> None:
        for number in range(int(count)):
            self.pod(f"{name}{number}", given)

    def on(self, node: str, name: str, given: dict[str, Any]) -> None:
        self.snapshot.place(name, self.shapes.of(self.make(name, given)), node)

    def delete(self, name: str, given: dict[str, Any]) -> None:
        self.snapshot.displace(name)
        self.queue.remove((given.get("namespace", "default"), name))
        self.reconsider()

    def time(self, seconds: str, given: dict[str, Any]) -> None:
        self.now = float(seconds)

    def reconsider(self) -> None:
        for shape in self.queue.waiting_shapes():
            if self.decider.may_fit(shape):
                self.queue.move(shape, self.now)

    def schedule(self, given: dict[str, Any]) -> list[str]:
        shown = []
        for pod in self.queue.pop(self.now, 1000):
            instruction = self.decider.decide(pod)
            if isinstance(instruction, Bind):
                self.queue.remove(pod.key)
                shown.append(f"{pod.key[1]} -> {instruction.node}{planned(instruction.plan)}")
            else:
                self.queue.unschedulable(pod, self.now)
                shown.append(f"{pod.key[1]}: {instruction.message.replace(NO_PREEMPTION, '')}")
            check(self.snapshot)
        return shown or ["nothing due"]

    def count(self, given: dict[str, Any]) -> list[str]:
        return [f"{name}: {len(node.pods)}" for name, node in sorted(self.snapshot.nodes.items())]


def planned(plan: Plan) -> str:
    gets = [f"{claim['metadata']['name']} gets {volume['metadata']['name']}" for claim, volume in plan.bindings]
    made = [f"{claim['metadata']['name']} is to be provisioned" for claim in plan.provisions]
    return f" ({', '.join(gets + made)})" if plan else ""


NO_PREEMPTION = " no new claims to deallocate,"


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_scenario(file: Path) -> None:
    play(file, Room())
