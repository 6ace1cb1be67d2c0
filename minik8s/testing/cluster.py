"""A whole cluster in the test's process: the real API server on a memory store, the real controllers, scheduler and kubelets; only the
containers are simulated.

`running` composes it, `Cluster` is what a test holds. Neighbours: `plugin.py` makes fixtures of it, `server.py` gives the parts.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_network
from pathlib import Path
from random import Random
from typing import Any

import orjson
import yaml

from minik8s import KUBERNETES_VERSION
from minik8s.api import resources
from minik8s.api.conditions import is_true
from minik8s.api.errors import AlreadyExists, NotFound
from minik8s.api.resources import EVENTS, Resource
from minik8s.api.user import AUTHENTICATED, MASTERS, User
from minik8s.base.clock import Clock, parse_duration
from minik8s.base.pki import new_key
from minik8s.base.tasks import Owner
from minik8s.client.client import Client
from minik8s.controllers.manager import ControllerSettings
from minik8s.controllers.table import CONTROLLERS
from minik8s.controlplane import ControlPlane, Settings
from minik8s.kubelet.simulated import SimulatedNode, SimulatedNodes
from minik8s.store.memory import MemoryStore

Object = Mapping[str, Any]
Until = Callable[[Object | None], bool] | str
ROOT_CA = "no certificate: nobody connects to a cluster in a test's process\n"
ADMIN = User("minik8s-test", (MASTERS, AUTHENTICATED))


@dataclass(frozen=True, slots=True)
class Parts:
    """What a cluster has: how many simulated nodes, which controllers (None: all; names as in `controllers.table.CONTROLLERS`), a scheduler
    or none. The same seed makes the same choices.
    """

    nodes: int = 1
    controllers: Collection[str] | None = None
    scheduler: bool = True
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster. `client` may do everything; `client_as` acts for somebody else."""

    plane: ControlPlane
    client: Client
    clock: Clock
    _simulated: SimulatedNodes

    @property
    def nodes(self) -> dict[str, SimulatedNode]:
        """The simulated nodes by name."""
        return self._simulated.nodes

    async def add_node(self, name: str, labels: Mapping[str, str] | None = None) -> SimulatedNode:
        """One more node, registered; `await node.stop()` is as switching its machine off."""
        node = self._simulated.make(name, labels)
        await node.start()
        if self.plane.usage is not None:
            self.plane.usage.sources[name] = node.usage.summary
        return node

    def client_as(self, user: str, groups: Iterable[str] = ()) -> Client:
        return self.plane.client(User(user, (*groups, AUTHENTICATED)))

    async def apply(self, manifest: str | Path | Object | Iterable[Object]) -> list[Object]:
        """Creates what a manifest (YAML text, a file, objects) describes, or patches what is there; as the server has it then. What
        a CustomResourceDefinition defines is served before the next object's turn.
        """
        return [await self._apply_one(obj) for obj in _objects(manifest)]

    async def get(self, what: str, namespace: str = "default") -> Object | None:
        """`deployment/web`, `po/a`, `node/n`: the object, None where there is none."""
        resource, name = find(what, self._served)
        try:
            return await self.client.get(resource, name, namespace if resource.namespaced else "")
        except NotFound:
            return None

    async def all(self, what: str, namespace: str = "default", *, labels: str = "", fields: str = "") -> list[Object]:
        """All `pods`, `deploy`, ... of a namespace."""
        resource = find_resource(what, self._served)
        answer = await self.client.list(resource, namespace if resource.namespaced else "", labels=labels, fields=fields)
        return list(answer.get("items") or ())

    async def delete(self, what: str, namespace: str = "default", *, grace_period: int | None = None) -> None:
        resource, name = find(what, self._served)
        await self.client.delete(resource, name, namespace if resource.namespaced else "", grace_period=grace_period)

    async def wait_for(
        self, what: str, until: Until = "exists", *, namespace: str = "default", timeout: float | str = "5m"
    ) -> Object | None:
        """Waits until `what` (`deployment/web`) is as wanted and returns it. `until` is a function of the object (None while there is
        none), or `exists`, `gone`, `deleted`, a pod's phase, or a condition that is True: `Ready`, `Available`.

        TimeoutError after `timeout` of the cluster's time tells the object's status and its events.
        """
        resource, name = find(what, self._served)
        namespace = namespace if resource.namespaced else ""
        wanted = until if callable(until) else _named(until)
        seconds = parse_duration(timeout) if isinstance(timeout, str) else timeout
        obj: Object | None = None
        try:
            async with self.clock.timeout(seconds), aclosing(self._states(resource, name, namespace)) as states:
                async for obj in states:
                    if wanted(obj):
                        break
        except TimeoutError:
            shown = until if isinstance(until, str) else until.__name__
            raise TimeoutError(f"{what} was not {shown} within {timeout}\n{await self._story(obj, namespace, name)}") from None
        return obj

    async def _apply_one(self, obj: Object) -> Object:
        resource = self.plane.desk.catalogue.of(obj)
        if resource is None:
            raise LookupError(f"{obj.get('apiVersion')} {obj.get('kind')} is not served")
        meta = obj["metadata"]
        namespace = meta.get("namespace") or "default" if resource.namespaced else ""
        try:
            made = await self.client.create(resource, obj, namespace)
        except AlreadyExists:
            kind = "merge" if resource.custom is not None else "strategic"
            return await self.client.patch(resource, meta["name"], namespace, obj, kind=kind)
        if resource is resources.CUSTOMRESOURCEDEFINITIONS:
            await self.wait_for(f"crd/{meta['name']}", "Established", timeout=10)
        return made

    @property
    def _served(self) -> tuple[Resource, ...]:
        return self.plane.desk.catalogue.resources

    async def _states(self, resource: Resource, name: str, namespace: str) -> AsyncGenerator[Object | None, None]:
        """The object as it is and as it changes, for ever; None while there is none."""
        fields = f"metadata.name={name}"
        listed = await self.client.list(resource, namespace, fields=fields)
        yield next(iter(listed.get("items") or ()), None)
        version = listed["metadata"]["resourceVersion"]
        while True:
            async with self.client.watch(resource, namespace, fields=fields, resource_version=version) as batches:
                async for batch in batches:
                    for event in batch:
                        version = event.object["metadata"]["resourceVersion"]
                        if event.type != "BOOKMARK":
                            yield None if event.type == "DELETED" else event.object

    async def _story(self, obj: Object | None, namespace: str, name: str) -> str:
        """An object's status and what its events tell."""
        status = orjson.dumps(obj.get("status"), option=orjson.OPT_INDENT_2).decode() if obj else "it is not there"
        events = (await self.client.list(EVENTS, namespace)).get("items") or ()
        told = [
            f"{event.get('reason')}: {event.get('message')}" for event in events if event["involvedObject"].get("name") == name
        ]
        return "\n".join([status, *told])


@asynccontextmanager
async def running(clock: Clock, directory: Path, parts: Parts) -> AsyncIterator[Cluster]:
    """A cluster of these parts, ready: its nodes are Ready too."""
    rng = Random(parts.seed)  # noqa: S311 (a seeded test)
    names = CONTROLLERS.keys() if parts.controllers is None else parts.controllers
    settings = Settings(
        service_networks=[ip_network("10.96.0.0/16")],
        service_account_key=_service_account_key(),
        controller_settings=ControllerSettings(root_ca=ROOT_CA),
    )
    store = MemoryStore()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        plane = ControlPlane(store, clock, rng, settings)
        stack.push_async_callback(plane.caller.close)
        owner = Owner("cluster")
        stack.push_async_callback(owner.stop)
        await plane.start_api(owner)
        await plane.start_controllers(stack, {name: CONTROLLERS[name] for name in names})
        if parts.scheduler:
            await plane.start_scheduler(owner, stack)
        nodes = SimulatedNodes(plane.client, clock, rng, KUBERNETES_VERSION)
        stack.push_async_callback(nodes.stop)
        cluster = Cluster(plane, plane.client(ADMIN), clock, nodes)
        for number in range(parts.nodes):
            await cluster.add_node(f"node-{number}")
        for name in cluster.nodes:
            await cluster.wait_for(f"node/{name}", _takes_pods)
        yield cluster


def _takes_pods(node: Object | None) -> bool:
    """The node is Ready and the node controller, if there is one, has seen it."""
    return node is not None and not node["spec"].get("taints") and _named("Ready")(node)


def find(what: str, served: Sequence[Resource] = resources.RESOURCES) -> tuple[Resource, str]:
    """The resource and the name in `deployment/web`."""
    kind, slash, name = what.partition("/")
    if not slash or not name:
        raise LookupError(f"{what!r} is not KIND/NAME")
    return find_resource(kind, served), name


def find_resource(kind: str, served: Sequence[Resource] = resources.RESOURCES) -> Resource:
    """By plural, singular, short name or kind, as kubectl; `deployments.apps` too."""
    for resource in served:
        names = {resource.plural, resource.kind.lower(), resource.group_resource, *resource.short_names}
        if kind.lower() in names and resource.verbs:
            return resource
    raise LookupError(f"no kind {kind!r} is served")


def _named(until: str) -> Callable[[Object | None], bool]:
    if until == "exists":
        return lambda obj: obj is not None
    if until in ("gone", "deleted"):
        return lambda obj: obj is None

    def wanted(obj: Object | None) -> bool:
        return obj is not None and ((obj.get("status") or {}).get("phase") == until or is_true(obj, until))

    return wanted


def _objects(manifest: str | Path | Object | Iterable[Object]) -> list[Object]:
    if isinstance(manifest, Path):
        manifest = manifest.read_text()
    if isinstance(manifest, str):
        manifest = [obj for obj in yaml.load_all(manifest, Loader=yaml.CSafeLoader) if obj]
    if isinstance(manifest, Mapping):
        manifest = [manifest]
    return [one for obj in manifest for one in (obj["items"] if obj.get("kind") == "List" else [obj])]


@lru_cache(maxsize=1)
def _service_account_key() -> bytes:
    return new_key()
