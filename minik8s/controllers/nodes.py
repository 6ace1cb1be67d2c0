"""Node lifecycle: a node that stops sending heartbeats becomes NotReady, is tainted, and its pods leave after what they tolerate.

`health` and `taints` decide purely. Three reconcilers: node health, pods on tainted nodes, and the addresses of nodes (`ipam`).
Source: kubernetes.io "Nodes" (heartbeats, taints by condition, eviction), KEP-3902 (taint eviction).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from minik8s.api.conditions import condition_of, is_true
from minik8s.api.errors import NotFound
from minik8s.api.kind import Object as Mutable
from minik8s.api.resources import LEASES, NODES, PODS
from minik8s.api.taints import tolerates
from minik8s.base.clock import parse_time, rfc3339
from minik8s.client.events import NORMAL
from minik8s.client.workqueue import Key, Reconciler
from minik8s.controllers.manager import Context, enqueue, key_of
from minik8s.controllers.pods import by_node

Object = Mapping[str, Any]
LEASE_NAMESPACE = "kube-node-lease"
NOT_READY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"
CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
_TAINT_OF = {
    ("Ready", "False"): NOT_READY,
    ("Ready", "Unknown"): UNREACHABLE,
    ("MemoryPressure", "True"): "node.kubernetes.io/memory-pressure",
    ("DiskPressure", "True"): "node.kubernetes.io/disk-pressure",
    ("PIDPressure", "True"): "node.kubernetes.io/pid-pressure",
    ("NetworkUnavailable", "True"): "node.kubernetes.io/network-unavailable",
}
_MANAGED = {*_TAINT_OF.values(), "node.kubernetes.io/unschedulable"}


def health(node: Object, silent: bool, now: float) -> Mutable | None:
    """The node's status with its conditions Unknown, where it is silent and they are not so yet; else None."""
    if not silent:
        return None
    status = node.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    changed = False
    for kind in CONDITIONS:
        old = conditions.get(kind)
        if old is not None and old["status"] == "Unknown":
            continue
        reason = "NodeStatusUnknown" if old is not None else "NodeStatusNeverUpdated"
        message = "Kubelet stopped posting node status." if old is not None else "Kubelet never posted node status."
        heartbeat = old["lastHeartbeatTime"] if old and old.get("lastHeartbeatTime") else node["metadata"]["creationTimestamp"]
        conditions[kind] = {
            "type": kind,
            "status": "Unknown",
            "lastHeartbeatTime": heartbeat,
            "lastTransitionTime": rfc3339(now),
            "reason": reason,
            "message": message,
        }
        changed = True
    return {**status, "conditions": list(conditions.values())} if changed else None


def taints(node: Object, now: float) -> list[Mutable]:
    """The taints that the node should have: what its conditions ask for, and all that others gave it."""
    current = node["spec"].get("taints") or []
    wanted = {
        (_TAINT_OF[c["type"], c["status"]], "NoSchedule") for c in _conditions(node) if (c["type"], c["status"]) in _TAINT_OF
    }
    if not _conditions(node):
        wanted.add((NOT_READY, "NoSchedule"))
    wanted |= {(key, "NoExecute") for key, _ in wanted if key in (NOT_READY, UNREACHABLE)} if _conditions(node) else set()
    if node["spec"].get("unschedulable"):
        wanted.add(("node.kubernetes.io/unschedulable", "NoSchedule"))
    kept = [taint for taint in current if taint["key"] not in _MANAGED or (taint["key"], taint["effect"]) in wanted]
    have = {(taint["key"], taint["effect"]) for taint in kept}
    added = [{"key": key, "effect": effect, "timeAdded": rfc3339(now)} for key, effect in sorted(wanted - have)]
    return kept + added


def eviction_time(pod: Object, node: Object, seen: float) -> float | None:
    """When the pod has to leave its node for NoExecute taints: 0 for at once, None for never. Tolerated seconds count from the taint's
    time, or from `seen` where it has none.
    """
    tolerations = pod["spec"].get("tolerations") or ()
    times: list[float] = []
    for taint in node["spec"].get("taints") or ():
        if taint["effect"] != "NoExecute":
            continue
        tolerating = [toleration for toleration in tolerations if tolerates(toleration, taint)]
        if not tolerating:
            return 0.0
        limits = [t["tolerationSeconds"] for t in tolerating if t.get("tolerationSeconds") is not None]
        if limits:
            added = parse_time(taint["timeAdded"]) if taint.get("timeAdded") else seen
            times.append(added + max(0, min(limits)))
    return min(times, default=None)


def zone_of(node: Object) -> str:
    """`REGION::ZONE`, empty where the node's labels name neither."""
    labels = node["metadata"].get("labels") or {}
    region, zone = (labels.get(f"topology.kubernetes.io/{name}", "") for name in ("region", "zone"))
    return f"{region}::{zone}" if region or zone else ""


def is_evicting(node: Object) -> bool:
    return any(taint["effect"] == "NoExecute" for taint in node["spec"].get("taints") or ())


def start(context: Context) -> list[Reconciler[Key]]:
    return [_health(context), _evictions(context), *_ipam(context)]


def _health(context: Context) -> Reconciler[Key]:
    nodes, leases = context.informer(NODES), context.informer(LEASES)
    pods = context.informer(PODS)
    pods.add_index("node", by_node)
    grace = context.settings.node_monitor_grace_period
    heard: dict[str, tuple[str, float]] = {}  # by our own clock: nodes' clocks may differ
    client = context.client
    evictions = context.metrics.counter(
        "node_collector_evictions_total", "Nodes whose pods began to be evicted, by zone.", ("zone",)
    )

    def silent_since(node: Object) -> float:
        """How many seconds the node has said nothing, as this process saw it."""
        name, now = node["metadata"]["name"], context.clock.monotonic()
        lease = leases.get(LEASE_NAMESPACE, name)
        mark = f"{lease['spec'].get('renewTime') if lease else ''}/{_heartbeats(node)}"
        known, at = heard.get(name, ("", 0.0))
        if known != mark:
            at = now
            heard[name] = mark, at
        return now - at

    async def reconcile(key: Key) -> float | None:
        node = nodes.get(*key)
        if node is None:
            heard.pop(key[1], None)
            return None
        now, silence = context.clock.now(), silent_since(node)
        status = health(node, silence >= grace, now)
        if status is not None:
            node = await context.write(nodes, {**node, "status": status}, "status")
            context.events.event(node, NORMAL, "NodeNotReady", f"Node {key[1]} status is now: NodeNotReady")
        if not is_true(node, "Ready"):
            await _mark_not_ready(key[1])
        wanted = taints(node, now)
        if wanted != (node["spec"].get("taints") or []):
            if not is_evicting(node) and any(taint["effect"] == "NoExecute" for taint in wanted):
                evictions.add((zone_of(node),), 1)
            spec = {name: value for name, value in node["spec"].items() if name != "taints"}
            node = await context.write(nodes, {**node, "spec": spec | ({"taints": wanted} if wanted else {})})
        return None if silence >= grace else grace - silence

    async def _mark_not_ready(name: str) -> None:
        """Pods of a node that is not ready are not ready either: Services leave them."""
        for pod in list(pods.indexed("node", name)):
            ready = condition_of(pod, "Ready")
            if ready.get("status") != "True":
                continue
            change = {"type": "Ready", "status": "False", "lastTransitionTime": rfc3339(context.clock.now())}
            patch = {"status": {"conditions": [change]}}
            metadata = pod["metadata"]
            try:
                await client.patch(PODS, metadata["name"], metadata["namespace"], patch, kind="strategic", subresource="status")
            except NotFound:
                continue
            context.events.event(pod, "Warning", "NodeNotReady", "Node is not ready")

    reconciler: Reconciler[Key] = Reconciler("node-lifecycle", reconcile, context.clock, workers=4)
    nodes.on_change(enqueue(reconciler))

    def lease_changed(old: Object | None, new: Object | None) -> None:
        """A renewal needs no work but for a node that was given up: the next look is due after the grace period anyway."""
        lease = new or old
        if lease is None or lease["metadata"]["namespace"] != LEASE_NAMESPACE:
            return
        name = lease["metadata"]["name"]
        node = nodes.get("", name)
        if node is not None:
            silent_since(node)
            if not is_true(node, "Ready"):
                reconciler.add(("", name))

    leases.on_change(lease_changed)
    return reconciler


def _evictions(context: Context) -> Reconciler[Key]:
    nodes, pods = context.informer(NODES), context.informer(PODS)
    pods.add_index("node", by_node)
    waiting: dict[str, float] = {}  # pods (uid) on tainted nodes, since when

    async def reconcile(key: Key) -> float | None:
        pod = pods.get(*key)
        if pod is None or "deletionTimestamp" in pod["metadata"]:
            return None
        node, uid = nodes.get("", pod["spec"].get("nodeName", "")), pod["metadata"]["uid"]
        if node is None or not is_evicting(node):
            waiting.pop(uid, None)
            return None
        due = eviction_time(pod, node, waiting.setdefault(uid, context.clock.now()))
        if due is None:
            return None
        wait = due - context.clock.now()
        if wait > 0:
            return wait
        context.events.event(pod, NORMAL, "TaintManagerEviction", f"Marking for deletion Pod {key[0]}/{key[1]}")
        reason = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}
        reason |= {
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": rfc3339(context.clock.now()),
        }
        patch = {"status": {"conditions": [reason]}}
        try:
            await context.client.patch(PODS, key[1], key[0], patch, kind="strategic", subresource="status")
            await context.client.delete(PODS, key[1], key[0], uid=pod["metadata"]["uid"])
        except NotFound:
            return None
        return None

    reconciler: Reconciler[Key] = Reconciler("taint-eviction", reconcile, context.clock, workers=8)

    def node_changed(old: Object | None, new: Object | None) -> None:
        if new is None or (old is not None and old["spec"].get("taints") == new["spec"].get("taints")):
            return
        if is_evicting(new) or (old is not None and is_evicting(old)):
            for pod in pods.indexed("node", new["metadata"]["name"]):
                reconciler.add(key_of(pod))

    def pod_changed(old: Object | None, new: Object | None) -> None:
        if new is None:
            waiting.pop(old["metadata"]["uid"] if old is not None else "", None)
        elif new["spec"].get("nodeName") and (old is None or _may_stay(old) != _may_stay(new)):
            reconciler.add(key_of(new))

    nodes.on_change(node_changed)
    pods.on_change(pod_changed)
    return reconciler


def _ipam(context: Context) -> list[Reconciler[Key]]:
    """Gives each node a part of the cluster's network. What is taken is read off the nodes."""
    nodes = context.informer(NODES)
    settings = context.settings
    if not settings.cluster_cidr:
        return []
    network = ipaddress.ip_network(settings.cluster_cidr)

    async def reconcile(key: Key) -> float | None:
        node = nodes.get(*key)
        if node is None or node["spec"].get("podCIDR"):
            return None
        taken = [other["spec"]["podCIDR"] for other in nodes.list() if other["spec"].get("podCIDR")]
        cidr = free_cidr(network, settings.node_cidr_mask, taken)
        if cidr is None:
            context.events.event(node, NORMAL, "CIDRNotAvailable", f"Node {key[1]} status is now: CIDRNotAvailable")
            return None
        patch = {"spec": {"podCIDR": cidr, "podCIDRs": [cidr]}}
        changed = await context.client.patch(NODES, key[1], "", patch, kind="strategic")
        await nodes.caught_up(changed)
        return None

    reconciler: Reconciler[Key] = Reconciler("node-ipam", reconcile, context.clock, workers=1)

    def changed(old: Object | None, new: Object | None) -> None:
        """What a node that goes leaves free is for those that wait."""
        for node in [new] if new is not None else nodes.list():
            if not node["spec"].get("podCIDR"):
                reconciler.add(key_of(node))

    nodes.on_change(changed)
    return [reconciler]


def free_cidr(network: ipaddress.IPv4Network | ipaddress.IPv6Network, mask: int, taken: Sequence[str]) -> str | None:
    """The first subnet that nobody has."""
    used = set(taken)
    return next((str(subnet) for subnet in network.subnets(new_prefix=mask) if str(subnet) not in used), None)


def _conditions(node: Object) -> Sequence[Object]:
    return node.get("status", {}).get("conditions") or ()


def _may_stay(pod: Object) -> tuple[Any, ...]:
    """What decides about a pod on a tainted node."""
    return pod["spec"].get("nodeName"), pod["spec"].get("tolerations")


def _heartbeats(node: Object) -> str:
    return ",".join(c.get("lastHeartbeatTime") or "" for c in _conditions(node) if c["status"] != "Unknown")
