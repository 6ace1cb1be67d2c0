"""Brings one container up: image, environment, mounts, create, start, postStart hook. And makes sandboxes.

Promise: a StartFailed says why not, with the reason that `state.waiting` shows; the events are written. Creating and starting are
never left halfway when the caller is cancelled.
Neighbours: `configs.py` for what the runtime is told; `worker.py` is the only caller.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from minik8s.api.resources import RUNTIMECLASSES, SECRETS, Resource
from minik8s.base.clock import Clock, rfc3339
from minik8s.client.events import NORMAL, WARNING, EventRecorder
from minik8s.kubelet.actions import Actions, HookFailed, Target
from minik8s.kubelet.configs import Ingredients, container_config, sandbox_config, with_recursion
from minik8s.kubelet.downward import Surroundings
from minik8s.kubelet.env import ConfigError, environment, references
from minik8s.kubelet.files import Files
from minik8s.kubelet.images import Images, StartFailed
from minik8s.kubelet.lifecycle import MIN_GRACE, Start
from minik8s.kubelet.pod import ContainerSpec, Pod, Role, field_path, find_container, grace_period, is_host_network, key, uid
from minik8s.kubelet.site import Site
from minik8s.kubelet.sources import Sources
from minik8s.kubelet.userns import Ranges
from minik8s.runtime.base import Features, Handler, IdMap, Runtime, RuntimeFailed, Sandbox, SandboxConfig

log = logging.getLogger(__name__)

T = TypeVar("T")


class Starter:
    """`services` gives the Services that environments speak of, `features` what the runtime is able to do, `ranges` pods' users."""

    def __init__(
        self,
        runtime: Runtime,
        clock: Clock,
        events: EventRecorder,
        site: Site,
        images: Images,
        sources: Sources,
        files: Files,
        actions: Actions,
        services: Callable[[], Iterable[Mapping[str, Any]]],
        features: Callable[[], Features],
        ranges: Ranges,
    ) -> None:
        self._runtime, self._clock, self._events, self._site = runtime, clock, events, site
        self._images, self._sources, self._files, self._actions = images, sources, files, actions
        self._services, self._features, self._ranges = services, features, ranges

    async def run_sandbox(self, pod: Pod, attempt: int) -> str:
        """The new sandbox's id. StartFailed where there is none."""
        if pod["spec"].get("resourceClaims"):  # it would run without its devices
            text = "Failed to prepare dynamic resources: device claims (spec.resourceClaims) are not supported by this node"
            self._events.event(pod, WARNING, "FailedPrepareDynamicResources", text)
            raise StartFailed("CreatePodSandboxError", text)
        try:
            config = await self._sandbox_config(pod, attempt)
            self._files.prepare(pod)
            return await whole(self._runtime.run_sandbox(config))
        except (ValueError, RuntimeFailed, OSError) as error:
            text = f"Failed to create pod sandbox: {error}"
            self._events.event(pod, WARNING, "FailedCreatePodSandBox", text)
            raise StartFailed("CreatePodSandboxError", text) from error

    async def start(self, pod: Pod, step: Start, sandbox: Sandbox, target_id: str = "") -> None:
        """Starts the container that `step` names. Raises StartFailed."""
        found = find_container(pod, step.name)
        assert found is not None
        role, container = found
        path = field_path(role, step.name)
        secrets = await self._pull_secrets(pod)
        try:
            volumes = await self._image_volumes(pod, container, secrets)
            asked, policy = container.get("image", ""), container.get("imagePullPolicy", "")
            image = await self._images.ensure(pod, asked, policy, path, secrets)
        except StartFailed as error:
            self._events.event(pod, WARNING, "Failed", f"Error: {error.reason}", field_path=path)
            raise
        try:
            config = await self._sandbox_config(pod, sandbox.attempt)
            env = await self._environment(pod, container, sandbox)
            mounts = await self._files.mounts(pod, container, step.attempt, sandbox, env, volumes)
            mounts = with_recursion(container, mounts, possible=self._able(config.runtime_handler).recursive_readonly)
            found_out = Ingredients(image, env, mounts, target_id, config.namespaces.users, self._files.devices(pod, container))
            wanted = container_config(pod, role, container, step.attempt, found_out, self._site)
        except (ConfigError, ValueError, OSError) as error:
            raise self._failed(pod, path, "CreateContainerConfigError", str(error)) from error
        await whole(self._create_and_start(pod, path, sandbox, wanted, config))
        hook = (container.get("lifecycle") or {}).get("postStart")
        if hook:
            await self._post_start(pod, role, container, sandbox, hook)

    async def _create_and_start(self, pod: Pod, path: str, sandbox: Sandbox, wanted: Any, config: SandboxConfig) -> None:
        try:
            container_id = await self._runtime.create_container(sandbox.id, wanted, config)
        except RuntimeFailed as error:
            raise self._failed(pod, path, "CreateContainerError", str(error)) from error
        self._events.event(pod, NORMAL, "Created", "Container created", field_path=path)
        try:
            await self._runtime.start_container(container_id)
        except RuntimeFailed as error:
            raise self._failed(pod, path, "RunContainerError", str(error)) from error
        self._events.event(pod, NORMAL, "Started", "Container started", field_path=path)

    async def _post_start(
        self, pod: Pod, role: Role, container: ContainerSpec, sandbox: Sandbox, hook: Mapping[str, Any]
    ) -> None:
        """A container whose hook fails is killed."""
        name = container["name"]
        path = field_path(role, name)
        current = next((c for c in await self._runtime.containers(sandbox.id) if c.name == name), None)
        if current is None:
            return
        try:
            await self._actions.hook(hook, Target(container, current.id, self.address(pod, sandbox)))
        except HookFailed as error:
            self._events.event(pod, WARNING, "FailedPostStartHook", "PostStartHook failed", field_path=path)
            self._events.event(pod, NORMAL, "Killing", "FailedPostStartHook", field_path=path)
            await self._runtime.stop_container(current.id, max(grace_period(pod), MIN_GRACE))
            raise StartFailed("PostStartHookError", str(error)) from error

    def address(self, pod: Pod, sandbox: Sandbox | None) -> str:
        """Where the pod's ports are."""
        ips = self._site.host_ips if is_host_network(pod) or sandbox is None else sandbox.ips
        return next(iter(ips), "127.0.0.1")

    def surroundings(self, pod: Pod, sandbox: Sandbox | None) -> Surroundings:
        ips = self._site.host_ips if is_host_network(pod) else sandbox.ips if sandbox else ()
        return Surroundings(ips, self._site.host_ips, self._site.allocatable, rfc3339(self._clock.now()))

    async def _sandbox_config(self, pod: Pod, attempt: int) -> SandboxConfig:
        """ValueError where there can be none."""
        handler = await self._runtime_handler(pod)
        config = sandbox_config(pod, attempt, self._site, self._files.host_dns(), self._users(pod, handler))
        return replace(config, runtime_handler=handler)

    def _users(self, pod: Pod, handler: str) -> IdMap | None:
        """The pod's own users, where it wants some. ValueError where it can't have them."""
        if pod["spec"].get("hostUsers") is not False:
            return None
        if not self._able(handler).user_namespaces:
            who = f'RuntimeClass handler "{handler}"' if handler else "runtime"
            raise ValueError(f"can't set `spec.hostUsers: false`, {who} does not support user namespaces")
        return self._ranges.get(uid(pod))

    def _able(self, handler: str) -> Handler:
        return self._features().handler(handler) or Handler(handler)

    def _failed(self, pod: Pod, path: str, reason: str, message: str) -> StartFailed:
        self._events.event(pod, WARNING, "Failed", f"Error: {message}", field_path=path)
        return StartFailed(reason, message)

    async def _runtime_handler(self, pod: Pod) -> str:
        """What the runtime calls the pod's RuntimeClass (KEP-585). ValueError where there is no such class."""
        name = pod["spec"].get("runtimeClassName")
        if not name:
            return ""
        found = await self._sources.get(uid(pod), RUNTIMECLASSES, "", name)
        if found is None:
            raise ValueError(f'runtimeclass.node.k8s.io "{name}" not found')
        return str(found["handler"])

    async def _pull_secrets(self, pod: Pod) -> list[Mapping[str, Any]]:
        named = [entry["name"] for entry in pod["spec"].get("imagePullSecrets") or () if entry.get("name")]
        found = [await self._sources.get(uid(pod), SECRETS, key(pod)[0], name) for name in named]
        return [secret for secret in found if secret is not None]

    async def _image_volumes(self, pod: Pod, container: ContainerSpec, secrets: Iterable[Mapping[str, Any]]) -> dict[str, str]:
        """The ids of the images that the container mounts as volumes, by the volumes' names."""
        mounted = {mount["name"] for mount in container.get("volumeMounts") or ()}
        sources = {v["name"]: v["image"] for v in pod["spec"].get("volumes") or () if v.get("image") and v["name"] in mounted}
        return {
            name: (await self._images.ensure(pod, source.get("reference", ""), source.get("pullPolicy", ""), "", secrets)).id
            for name, source in sources.items()
        }

    async def _environment(self, pod: Pod, container: ContainerSpec, sandbox: Sandbox) -> dict[str, str]:
        found: dict[tuple[Resource, str], Mapping[str, Any] | None] = {}
        for resource, name in references(container):
            found[resource, name] = await self._sources.get(uid(pod), resource, key(pod)[0], name)
        return environment(
            pod,
            container,
            lambda resource, name: found[resource, name],
            self._services(),
            self.surroundings(pod, sandbox),
            lambda volume, path: self._files.read(pod, volume, path),
        )


async def whole(work: Awaitable[T]) -> T:
    """Awaits `work` to its end also when the caller is cancelled meanwhile; the cancellation goes on then."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            log.info("what was no longer waited for failed: %s", error)
        raise
