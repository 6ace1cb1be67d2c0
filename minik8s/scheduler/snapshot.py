"""The cluster as the scheduler sees it: nodes with the pods on them, kept current change by change.

Invariants (`check` verifies them):
1. A node's sums (requested, scored, ports, owners) are those of its pods.
2. Each pod is on exactly one node; `pods` finds it by uid.
3. `zone_owners` counts, for each owner, the pods in each zone.
4. `guarded` are exactly the pods with required anti-affinity, by shape.
5. `claim_users` counts, for each claim (namespace, name), the pods that use it.
6. Every change of a node gets a sequence number of its own, kept as its `changed`; `improved_since` gives each node that, after one,
   may fit what it didn't before. A pod that comes only takes.

Pods may be on a node that does not exist (yet, or any more); such a node is not `present` and nobody is placed there.
Neighbours: `scheduler.py` feeds it from informers and assumes placements in it; `candidates.py` reads it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from minik8s.scheduler.shape import ANY_IP, Shape, amounts, normal_image
from minik8s.scheduler.storage import Storage

Object = Mapping[str, Any]

ZONE = "topology.kubernetes.io/zone"
REGION = "topology.kubernetes.io/region"


@dataclass(frozen=True, slots=True)
class PlacedPod:
    """A pod on a node, confirmed by the API or assumed."""

    uid: str
    shape: Shape
    node: str
    terminating: bool = False


class NodeState:
    """A node and the sums of what is on it."""

    __slots__ = (
        "allocatable",
        "changed",
        "cpu",
        "images",
        "labels",
        "memory",
        "name",
        "owners",
        "pods",
        "ports",
        "present",
        "requested",
        "revision",
        "room",
        "scored_cpu",
        "scored_memory",
        "taints",
        "unschedulable",
        "zone",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.present = False
        self.changed = 0
        self.revision = 0  # rises when what follows from the Node object changes
        self.labels: Mapping[str, str] = {}
        self.taints: tuple[Object, ...] = ()
        self.unschedulable = False
        self.allocatable: Mapping[str, int] = {}
        self.cpu = self.memory = self.room = 0  # of `allocatable`; the last is how many pods it takes
        self.images: Mapping[str, int] = {}
        self.zone = ""
        self.pods: dict[str, PlacedPod] = {}
        self.requested: Counter[str] = Counter()
        self.scored_cpu = 0
        self.scored_memory = 0
        self.ports: dict[tuple[str, int], Counter[str]] = {}
        self.owners: Counter[str] = Counter()

    def _count(self, shape: Shape, sign: int) -> None:
        for name, amount in shape.requests.items():
            self.requested[name] += sign * amount
        self.scored_cpu += sign * shape.scored_cpu
        self.scored_memory += sign * shape.scored_memory
        for port in shape.ports:
            taken = self.ports.setdefault((port.protocol, port.port), Counter())
            taken[port.ip] += sign
            if not taken[port.ip]:
                del taken[port.ip]
        if shape.owner:
            self.owners[shape.owner] += sign
            if not self.owners[shape.owner]:
                del self.owners[shape.owner]

    def port_taken(self, protocol: str, port: int, ip: str) -> bool:
        """Whether a pod has that port on that address; `0.0.0.0` is all addresses."""
        taken = self.ports.get((protocol, port))
        if taken is None:
            return False
        return any(ip in (ANY_IP, other) or other == ANY_IP for other in taken)


class Snapshot:
    """All nodes. Synchronous: whoever reads it sees one moment."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeState] = {}
        self.present = 0
        self.pods: dict[str, PlacedPod] = {}
        self.zone_owners: dict[str, Counter[str]] = {}
        self.guarded: dict[Shape, dict[str, PlacedPod]] = {}
        self.image_nodes: Counter[str] = Counter()
        self.storage = Storage()
        self.claim_users: Counter[tuple[str, str]] = Counter()
        self.namespaces: dict[str, Mapping[str, str]] = {}
        self.sequence = 0
        self.forgotten = 0  # changes up to here may be missing from `_improved`
        self._improved: OrderedDict[str, int] = OrderedDict()

    # --- nodes ---

    def set_node(self, obj: Object) -> bool:
        """Takes in a Node; False where nothing of it matters to scheduling (a heartbeat)."""
        node = self._node(obj["metadata"]["name"])
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        labels, taints = obj["metadata"].get("labels") or {}, tuple(spec.get("taints") or ())
        unschedulable = bool(spec.get("unschedulable"))
        allocatable = amounts(status.get("allocatable") or {})
        images = {
            normal_image(name): int(image.get("sizeBytes") or 0)
            for image in status.get("images") or ()
            for name in image["names"]
        }
        new = (labels, taints, unschedulable, allocatable, images)
        if node.present and new == (node.labels, node.taints, node.unschedulable, node.allocatable, node.images):
            return False
        self.present += not node.present
        self._move(node, zone_of(labels))
        self._count_images(node.images, -1)
        self._count_images(images, 1)
        node.labels, node.taints, node.unschedulable, node.allocatable, node.images = new
        node.cpu, node.memory, node.room = (allocatable.get(name, 0) for name in ("cpu", "memory", "pods"))
        node.present = True
        node.revision += 1
        self._improve(node)
        return True

    def remove_node(self, name: str) -> None:
        node = self.nodes.get(name)
        if node is None or not node.present:
            return
        self.present -= 1
        self._count_images(node.images, -1)
        node.images = {}
        node.present = False
        node.revision += 1
        self._improve(node)
        self._drop_if_empty(node)

    # --- pods ---

    def place(self, uid: str, shape: Shape, node_name: str, *, terminating: bool = False) -> bool:
        """A pod is (or is assumed to be) on a node. False where that was known."""
        pod = PlacedPod(uid, shape, node_name, terminating)
        if (known := self.pods.get(uid)) is not None:
            if known == pod:
                return False
            self.displace(uid)
        node = self._node(node_name)
        self.pods[uid] = node.pods[uid] = pod
        node._count(shape, 1)
        if shape.anti_affinity:
            self.guarded.setdefault(shape, {})[uid] = pod
        if shape.owner:
            self.zone_owners.setdefault(shape.owner, Counter())[node.zone] += 1
        for use in shape.claims:
            self.claim_users[shape.namespace, use.name] += 1
        self.sequence += 1
        node.changed = self.sequence
        return True

    def displace(self, uid: str) -> bool:
        """The pod is gone. False where it was not known."""
        pod = self.pods.pop(uid, None)
        if pod is None:
            return False
        node = self.nodes[pod.node]
        del node.pods[uid]
        node._count(pod.shape, -1)
        if pod.shape.anti_affinity:
            self.guarded[pod.shape].pop(uid)
            if not self.guarded[pod.shape]:
                del self.guarded[pod.shape]
        if pod.shape.owner:
            self._count_zone(pod.shape.owner, node.zone, -1)
        for use in pod.shape.claims:
            self.claim_users[pod.shape.namespace, use.name] -= 1
            if not self.claim_users[pod.shape.namespace, use.name]:
                del self.claim_users[pod.shape.namespace, use.name]
        self.storage.assumed.pop(uid, None)
        self._improve(node)
        self._drop_if_empty(node)
        return True

    # --- changes ---

    def improved_since(self, sequence: int) -> Iterator[str]:
        """The names of nodes improved after `sequence`, the newest first."""
        for name, improved in reversed(self._improved.items()):
            if improved <= sequence:
                return
            yield name

    def _improve(self, node: NodeState) -> None:
        self.sequence += 1
        node.changed = self._improved[node.name] = self.sequence
        self._improved.move_to_end(node.name)
        if len(self._improved) > 2 * len(self.nodes) + 100:  # names of nodes long gone
            self._improved = OrderedDict(item for item in self._improved.items() if item[0] in self.nodes)
            self.forgotten = self.sequence

    # --- details ---

    def _node(self, name: str) -> NodeState:
        node = self.nodes.get(name)
        if node is None:
            node = self.nodes[name] = NodeState(name)
        return node

    def _drop_if_empty(self, node: NodeState) -> None:
        if not node.present and not node.pods:
            del self.nodes[node.name]

    def _move(self, node: NodeState, zone: str) -> None:
        if node.zone != zone:
            for owner, count in node.owners.items():
                self._count_zone(owner, node.zone, -count)
                self.zone_owners.setdefault(owner, Counter())[zone] += count
            node.zone = zone

    def _count_images(self, images: Mapping[str, int], change: int) -> None:
        for name in images:
            self.image_nodes[name] += change
            if not self.image_nodes[name]:
                del self.image_nodes[name]

    def _count_zone(self, owner: str, zone: str, change: int) -> None:
        counts = self.zone_owners[owner]
        counts[zone] += change
        if not counts[zone]:
            del counts[zone]
        if not counts:
            del self.zone_owners[owner]


def zone_of(labels: Mapping[str, str]) -> str:
    """A zone's name is unique within its region only; "" where the node says nothing."""
    region, zone = labels.get(REGION, ""), labels.get(ZONE, "")
    return f"{region}/{zone}" if region or zone else ""


def check(snapshot: Snapshot) -> None:
    """Verifies the invariants above; AssertionError where one is broken. For tests."""
    assert sum(len(node.pods) for node in snapshot.nodes.values()) == len(snapshot.pods), "2"
    assert snapshot.present == sum(node.present for node in snapshot.nodes.values())
    zones: dict[str, Counter[str]] = {}
    for node in snapshot.nodes.values():
        fresh = NodeState(node.name)
        for uid, pod in node.pods.items():
            assert snapshot.pods[uid] is pod, "2"
            fresh._count(pod.shape, 1)
            if pod.shape.owner:
                zones.setdefault(pod.shape.owner, Counter())[node.zone] += 1
        assert +fresh.requested == +node.requested, "1"
        assert (fresh.scored_cpu, fresh.scored_memory, fresh.owners) == (node.scored_cpu, node.scored_memory, node.owners), "1"
        assert {k: v for k, v in fresh.ports.items() if v} == {k: v for k, v in node.ports.items() if v}, "1"
        assert 0 < node.changed <= snapshot.sequence, "6"
    assert len({node.changed for node in snapshot.nodes.values()}) == len(snapshot.nodes), "6"
    assert zones == snapshot.zone_owners, "3"
    users = Counter((pod.shape.namespace, use.name) for pod in snapshot.pods.values() for use in pod.shape.claims)
    assert users == snapshot.claim_users, "5"
    guarded = {uid for pods in snapshot.guarded.values() for uid in pods}
    assert guarded == {uid for uid, pod in snapshot.pods.items() if pod.shape.anti_affinity}, "4"
