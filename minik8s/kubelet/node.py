"""The node object: registers the node, keeps its status and its lease.

Promise: the lease is renewed four times in its duration (every 10 s), which is what says that the node lives; the status is written when
something in it changed, else every 5 minutes. A node that was there before (a restart) keeps what others wrote in it.
Sources: KEP-589 (node leases), the kubelet's nodestatus and kubelet_node_status.go; golden/node nw-node.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from minik8s.api.errors import AlreadyExists, ApiError, Conflict, NotFound
from minik8s.api.resources import LEASES, NODES
from minik8s.base.backoff import Backoff
from minik8s.base.clock import Clock, rfc3339, rfc3339_micro
from minik8s.base.tasks import Owner
from minik8s.client.client import Client
from minik8s.kubelet.inuse import InUse
from minik8s.kubelet.machine import Machine
from minik8s.kubelet.thresholds import DISK, MEMORY, PIDS
from minik8s.runtime.base import Features, Image, Runtime, RuntimeFailed

log = logging.getLogger(__name__)

Object = dict[str, Any]

LEASE_NAMESPACE = "kube-node-lease"
LEASE_SECONDS = 40
RENEWALS = 4  # in a lease's duration
REPORT = 300.0
DECLARED_FEATURES = (
    "ExtendWebSocketsToKubelet",
    "InPlacePodLevelResourcesVerticalScaling",
    "InPlacePodVerticalScalingInitContainers",
    "RestartAllContainersOnContainerExits",
)
"""What this kubelet can that not every one of its version can (KEP-5328)."""
MAX_IMAGES = 50
BACKOFF = Backoff(initial=0.2, maximum=7)
KUBELET_PORT = 10250


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What the agent was told about its node."""

    name: str
    addresses: Sequence[str]  # internal ones, the first is the main one
    machine: Machine
    version: str  # of the kubelet: `v1.36.0+minik8s`
    pressure: Callable[[], Collection[str]] = tuple  # the kinds of pressure that it is under; a simulated node never is
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Mapping[str, str]] = ()
    provider_id: str = ""
    lease_seconds: int = LEASE_SECONDS
    annotations: Mapping[str, str] = field(default_factory=dict)


class NodeReporter:
    """`in_use`: the attachable volumes that its pods use, told at once when they change."""

    def __init__(self, config: NodeConfig, runtime: Runtime, client: Client, clock: Clock, in_use: InUse | None = None) -> None:
        self._config, self._runtime, self._client, self._clock = config, runtime, client, clock
        self._in_use = in_use or InUse()
        self._owner = Owner("node")
        self._told: Object = {}
        self._told_at = 0.0
        self._uid = ""
        self._lease: Mapping[str, Any] | None = None

    async def start(self) -> None:
        """Registers the node (tries until it succeeds), then keeps it alive in the background."""
        failures = 0
        while True:
            try:
                await self._register()
                await self._renew()
                break
            except (ApiError, OSError) as error:
                failures += 1
                log.info("node %s not registered yet: %s", self._config.name, error)
                await self._clock.sleep(BACKOFF.delay(failures))
        self._owner.start(self._beat(), "heartbeat")

    async def stop(self) -> None:
        """The lease runs out by itself."""
        await self._owner.stop()

    async def _beat(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with self._clock.timeout(self._config.lease_seconds / RENEWALS):
                    await self._in_use.changed.wait()
            self._in_use.changed.clear()
            for step in (self._renew, self._report):
                try:
                    await step()
                except (ApiError, OSError, RuntimeFailed) as error:
                    log.warning("node %s: %s", self._config.name, error)

    # --- registration and status ---

    async def _register(self) -> None:
        now = self._clock.now()
        status = _timed(await self._status(), {}, now)
        wanted = node_object(self._config, status)
        try:
            node = await self._client.create(NODES, wanted)
        except AlreadyExists:
            node = await self._client.get(NODES, self._config.name)
            meta = {"labels": wanted["metadata"]["labels"], "annotations": wanted["metadata"]["annotations"]}
            have = node["metadata"]
            if any((have.get(part) or {}).get(k) != v for part, values in meta.items() for k, v in values.items()):
                node = await self._client.patch(NODES, self._config.name, "", {"metadata": meta})
            self._told = dict(node.get("status") or {})
            await self._report()
        else:
            self._told, self._told_at = status, now
        self._uid = str(node["metadata"].get("uid", ""))

    async def _report(self) -> None:
        now = self._clock.now()
        status = _timed(await self._status(), self._told, now)
        changed = {name: value for name, value in status.items() if _timeless(self._told.get(name)) != _timeless(value)}
        if not changed and now - self._told_at < REPORT:
            return
        changed["conditions"] = status["conditions"]
        if "addresses" in changed:
            changed["addresses"] = [{"$patch": "replace"}, *changed["addresses"]]
        try:
            await self._client.patch(NODES, self._config.name, "", {"status": changed}, kind="strategic", subresource="status")
        except NotFound:  # somebody deleted the node: it is here, so it registers again
            self._lease = None
            await self._client.create(NODES, node_object(self._config, status))
        self._told, self._told_at = status, now

    async def _status(self) -> Object:
        problem = await self._problem()
        images = [] if problem else await self._runtime.images()
        short = self._config.pressure()
        version = await self._runtime.version() if not problem else "unknown"
        told = {} if problem else features_status(await self._runtime.features())
        names = self._in_use.names()
        used = {"volumesInUse": names} if names or self._told.get("volumesInUse") else {}
        return node_status(self._config, f"{self._runtime.name}://{version}", problem, short, images) | told | used

    async def _problem(self) -> str:
        try:
            return await self._runtime.ready()
        except (RuntimeFailed, OSError) as error:
            return f"container runtime is down: {error}"

    # --- the lease ---

    async def _renew(self) -> None:
        for attempt in range(1, 6):
            try:
                await self._renew_once()
                return
            except (Conflict, AlreadyExists):
                self._lease = None
            except NotFound:
                self._lease = None
                await self._clock.sleep(BACKOFF.delay(attempt))
        raise OSError("the node's lease cannot be renewed")

    async def _renew_once(self) -> None:
        lease = self._lease
        name = self._config.name
        if lease is None:
            try:
                lease = await self._client.get(LEASES, name, LEASE_NAMESPACE)
            except NotFound:
                self._lease = await self._client.create(LEASES, lease_object(self._config, self._uid, self._clock.now()))
                return
        spec = {**lease["spec"], **lease_spec(self._config, self._clock.now())}
        self._lease = await self._client.update(LEASES, {**lease, "spec": spec})


# --- the objects -----------------------------------------------------------------------------------------------------


def node_object(config: NodeConfig, status: Mapping[str, Any]) -> Object:
    architecture = config.machine.architecture
    spec: Object = {}
    if config.taints:
        spec["taints"] = [dict(taint) for taint in config.taints]
    if config.provider_id:
        spec["providerID"] = config.provider_id
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": config.name,
            "labels": {
                "beta.kubernetes.io/arch": architecture,
                "beta.kubernetes.io/os": "linux",
                "kubernetes.io/arch": architecture,
                "kubernetes.io/hostname": config.name,
                "kubernetes.io/os": "linux",
                **config.labels,
            },
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true", **config.annotations},
        },
        "spec": spec,
        "status": dict(status),
    }


def node_status(
    config: NodeConfig, runtime_version: str, problem: str, short: Collection[str], images: Sequence[Image]
) -> Object:
    """Conditions still without their times."""
    machine = config.machine
    return {
        "capacity": {name: str(q) for name, q in machine.capacity.items()},
        "allocatable": {name: str(q) for name, q in machine.allocatable.items()},
        "conditions": conditions(problem, short),
        "addresses": [
            *({"type": "InternalIP", "address": address} for address in config.addresses),
            {"type": "Hostname", "address": config.name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
        "nodeInfo": {
            "machineID": machine.machine_id,
            "systemUUID": machine.system_uuid,
            "bootID": machine.boot_id,
            "kernelVersion": machine.kernel,
            "osImage": machine.os_image,
            "containerRuntimeVersion": runtime_version,
            "kubeletVersion": config.version,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": machine.architecture,
        },
        "images": [
            {"names": [*image.digests, *image.tags], "sizeBytes": image.size}
            for image in sorted(images, key=lambda i: i.size, reverse=True)[:MAX_IMAGES]
            if image.digests or image.tags
        ],
        "declaredFeatures": list(DECLARED_FEATURES),
    }


def features_status(found: Features) -> Object:
    """`features` and `runtimeHandlers`, as far as the runtime tells of them."""
    told: Object = {}
    if found.groups_policy is not None:
        told["features"] = {"supplementalGroupsPolicy": found.groups_policy}
    if found.handlers:
        told["runtimeHandlers"] = [
            {
                "name": one.name,
                "features": {"recursiveReadOnlyMounts": one.recursive_readonly, "userNamespaces": one.user_namespaces},
            }
            for one in found.handlers
        ]
    return told


def conditions(problem: str, short: Collection[str]) -> list[Object]:
    """In upstream's words and order; `problem` empty for a node that is ready."""
    table = [
        (
            MEMORY,
            MEMORY in short,
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ),
        (
            DISK,
            DISK in short,
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ),
        (
            PIDS,
            PIDS in short,
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ),
        (
            "Ready",
            not problem,
            ("KubeletReady", "kubelet is posting ready status"),
            ("KubeletNotReady", problem),
        ),
    ]
    result = []
    for kind, true, if_true, if_false in table:
        reason, message = if_true if true else if_false
        result.append({"type": kind, "status": "True" if true else "False", "reason": reason, "message": message})
    return result


def lease_object(config: NodeConfig, uid: str, now: float) -> Object:
    name = config.name
    meta: Object = {"name": name, "namespace": LEASE_NAMESPACE}
    if uid:
        meta["ownerReferences"] = [{"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}]
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": lease_spec(config, now)}


def lease_spec(config: NodeConfig, now: float) -> Object:
    return {"holderIdentity": config.name, "leaseDurationSeconds": config.lease_seconds, "renewTime": rfc3339_micro(now)}


def _timed(status: Object, told: Mapping[str, Any], now: float) -> Object:
    """With the conditions' times: of this heartbeat, and since when each is as it is."""
    before = {c["type"]: c for c in told.get("conditions") or ()}

    def since(condition: Object) -> str:
        old = before.get(condition["type"], {})
        same = old.get("status") == condition["status"] and old.get("lastTransitionTime")
        return str(same or rfc3339(now))

    times = [{"lastHeartbeatTime": rfc3339(now), "lastTransitionTime": since(c)} for c in status["conditions"]]
    return status | {"conditions": [c | t for c, t in zip(status["conditions"], times, strict=True)]}


def _timeless(value: Any) -> Any:
    """Conditions without the times of their heartbeats, in the order of their types."""
    if isinstance(value, list) and value and isinstance(value[0], Mapping) and "lastTransitionTime" in value[0]:
        bare = [{k: v for k, v in c.items() if k != "lastHeartbeatTime"} for c in value]
        return sorted(bare, key=lambda c: str(c["type"]))
    return value
