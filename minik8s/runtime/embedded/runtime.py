"""The embedded runtime: containers from Linux namespaces, cgroups and overlayfs, with nothing installed.

This part lives in the agent and decides; the node process (node.py) performs and remembers, so that containers outlive the agent.
Without root (or where namespaces are refused) containers are plain processes of the agent's user, of the image `minik8s.local/host`
alone; `describe` says so. Pods' addresses come from the `attach` function that the network room gives; without it a pod has its
loopback. Needs Linux 5.4.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from minik8s.base import diskusage
from minik8s.base.clock import Clock
from minik8s.runtime.base import (
    Auth,
    Container,
    ContainerConfig,
    ContainerEvent,
    ExecResult,
    Features,
    Handler,
    Image,
    NotThere,
    Resources,
    RuntimeFailed,
    Sandbox,
    SandboxConfig,
    State,
    Stats,
    Streams,
    User,
)
from minik8s.runtime.embedded import specs
from minik8s.runtime.embedded.cgroups import Cgroups
from minik8s.runtime.embedded.link import NodeLink
from minik8s.runtime.images.manifests import BadImage
from minik8s.runtime.images.reference import HOST_IMAGE, InvalidReference, parse
from minik8s.runtime.images.registry import Registries
from minik8s.runtime.images.store import HOST, ImageStore, StoredImage

Attach = Callable[[str, str], Awaitable[Sequence[str]]]
Detach = Callable[[str, str], Awaitable[None]]
"""Both get a sandbox's id and its network namespace's path; to detach is idempotent, and the path empty where the namespace is gone."""

_LONGEST_OUTPUT = 16 << 20  # of exec_sync, as CRI bounds it
_EVENTS = 1024
_IMAGES_NEED_ROOT = f"images need root: without it containers are plain processes on the host's file system, image {HOST_IMAGE}"
_STATES = {"CREATED": State.CREATED, "STARTING": State.CREATED, "RUNNING": State.RUNNING, "EXITED": State.EXITED}


class EmbeddedRuntime:
    """`directory` is its own (below the agent's data directory); `hidden` are paths that containers of the host image must not see,
    `host_ips` the node's addresses, which plain processes share.
    """

    name = "minik8s"

    def __init__(
        self,
        directory: Path,
        clock: Clock,
        *,
        attach: Attach | None = None,
        detach: Detach | None = None,
        hidden: Sequence[str] = (),
        host_ips: Sequence[str] = (),
        registries: Registries | None = None,
    ) -> None:
        self._directory, self._clock, self._attach, self._detach = directory.resolve(), clock, attach, detach
        self._host_ips = list(host_ips)
        self._hidden = [*hidden, str(self._directory)]
        self._watchers: set[asyncio.Queue[ContainerEvent]] = set()
        self._link = NodeLink(self._directory, clock, self._changed)
        self._cgroups = Cgroups()
        self._images = ImageStore(self._directory / "images")
        self._registries = registries or Registries()
        self._pulls: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def version(self) -> str:
        return metadata.version("minik8s")

    async def ready(self) -> str:
        try:
            await self._link.call("hello")
        except (RuntimeFailed, OSError) as error:
            return str(error)
        return ""

    async def features(self) -> Features:
        hello = await self._link.call("hello")
        return Features(not hello["plain"], [Handler("", hello["recursive_readonly"], hello["users"])])

    async def describe(self) -> str:
        """For the start's output: what isolates the containers."""
        hello = await self._link.call("hello")
        if hello["plain"]:
            return (
                "plain processes with this user's full power, no isolation (not root): only the image minik8s.local/host runs"
            )
        limited = "cgroups" if hello["cgroups"] else "no cgroups: limits are not enforced"
        return f"Linux namespaces, overlayfs, {limited}"

    # ------------------------------------------------------------------ sandboxes

    async def run_sandbox(self, config: SandboxConfig) -> str:
        sandbox_id = secrets.token_hex(32)
        host_resolv_conf = _read("/etc/resolv.conf")
        meta = {
            "name": config.name, "namespace": config.namespace, "uid": config.uid, "attempt": config.attempt,
            "labels": dict(config.labels), "annotations": dict(config.annotations),
        }  # fmt: skip
        plain = await self._is_plain()
        spec = specs.sandbox_spec(config, host_resolv_conf, plain=plain)
        routed = bool(self._attach) and not (plain or spec["host_network"])
        await self._link.call("run_sandbox", sandbox=sandbox_id, spec=spec, meta={**meta, "routed": routed})
        if plain:
            await self._link.call("set_ips", sandbox=sandbox_id, ips=self._host_ips)
        elif self._attach and routed:
            try:
                ips = await self._attach(sandbox_id, await self._netns(sandbox_id))
                await self._link.call("set_ips", sandbox=sandbox_id, ips=list(ips))
            except OSError as error:
                await self.remove_sandbox(sandbox_id)
                raise RuntimeFailed(f'failed to setup network for sandbox "{sandbox_id}": {error}') from error
        return sandbox_id

    async def stop_sandbox(self, sandbox_id: str) -> None:
        found = next(iter((await self._list(sandbox_id))["sandboxes"]), None)
        if found is None:
            return
        if self._detach:
            await self._detach(sandbox_id, _netns_path(found) if found["ready"] else "")
        await self._link.call("stop_sandbox", sandbox=sandbox_id)

    async def remove_sandbox(self, sandbox_id: str) -> None:
        await self.stop_sandbox(sandbox_id)
        await self._link.call("remove_sandbox", sandbox=sandbox_id)

    async def sandboxes(self) -> Sequence[Sandbox]:
        return [_sandbox(one) for one in (await self._list())["sandboxes"]]

    async def sandbox(self, sandbox_id: str) -> Sandbox:
        for one in (await self._list(sandbox_id))["sandboxes"]:
            return _sandbox(one)
        raise NotThere(f"sandbox {sandbox_id!r} not found")

    # ------------------------------------------------------------------ containers

    async def create_container(self, sandbox_id: str, config: ContainerConfig, sandbox: SandboxConfig) -> str:
        await self._link.call("hello")
        plain = bool(self._link.hello["plain"])
        image = self._stored(config.image)
        if plain and not image.is_host:
            raise RuntimeFailed(
                "images need root: a plain process runs on the host's own file system, image minik8s.local/host",
                "CreateContainerError",
            )
        volumes = {mount.image: self._stored(mount.image) for mount in config.mounts if mount.image}
        spec = specs.container_spec(
            config,
            sandbox,
            image,
            files=self._directory / "sandboxes" / sandbox_id,
            layers_dir=self._images.layers,
            volumes=volumes,
            hidden=self._hidden,
            plain=plain,
        )
        meta = {
            "name": config.name, "attempt": config.attempt, "image": config.image_name,
            "image_id": image.digests[0] if image.digests else image.id, "labels": dict(config.labels),
            "annotations": dict(config.annotations), "log_path": spec["log_path"],
            "layers": [*image.layers, *(layer for volume in volumes.values() for layer in volume.layers)],
        }  # fmt: skip
        container_id = secrets.token_hex(32)
        await self._link.call("create", container=container_id, sandbox=sandbox_id, spec=spec, meta=meta)
        return container_id

    async def start_container(self, container_id: str) -> None:
        try:
            await self._link.call("start", container=container_id)
        except NotThere:
            raise
        except RuntimeFailed as error:
            raise RuntimeFailed(str(error), "RunContainerError") from None

    async def stop_container(self, container_id: str, grace: float) -> None:
        await self._link.call("stop", container=container_id, grace=grace)

    async def remove_container(self, container_id: str) -> None:
        await self._link.call("remove", container=container_id)

    async def containers(self, sandbox_id: str = "") -> Sequence[Container]:
        return [_container(one) for one in (await self._list(sandbox_id))["containers"]]

    async def container(self, container_id: str) -> Container:
        for one in await self.containers():
            if one.id == container_id:
                return one
        raise NotThere(f"container {container_id!r} not found")

    async def update_resources(self, container_id: str, resources: Resources) -> None:
        await self._link.call("update", container=container_id, resources=specs.resources(resources))

    async def reopen_log(self, container_id: str) -> None:
        await self._link.call("reopen_log", container=container_id)

    # ------------------------------------------------------------------ streams

    async def exec_sync(self, container_id: str, command: Sequence[str], timeout: float) -> ExecResult:
        streams = await self.exec(container_id, command, stdin=False, tty=False)
        gathered = {1: bytearray(), 2: bytearray()}
        try:
            async with self._clock.timeout(timeout or None):
                async for stream, data in streams.output():
                    room = _LONGEST_OUTPUT - len(gathered[stream])
                    gathered[stream] += data[:room]
                code = await streams.wait()
        finally:
            await streams.close()
        return ExecResult(bytes(gathered[1]), bytes(gathered[2]), code)

    async def exec(self, container_id: str, command: Sequence[str], *, stdin: bool, tty: bool) -> Streams:
        spec = {"args": list(command), "stdin": stdin, "tty": tty}
        return await self._link.session("exec", container=container_id, spec=spec)

    async def attach(self, container_id: str, *, stdin: bool) -> Streams:
        return await self._link.session("attach", container=container_id, stdin=stdin)

    async def port_forward(self, sandbox_id: str, port: int) -> Streams:
        return await self._link.session("port_forward", sandbox=sandbox_id, port=port)

    # ------------------------------------------------------------------ what is going on

    async def stats(self) -> Sequence[Stats]:
        now = self._clock.now()
        running = [one for one in (await self._list())["containers"] if one["state"] == "RUNNING"]
        used = {one["id"]: usage for one in running if (usage := self._cgroups.usage(one["cgroup"]))}
        trees = [self._directory / "containers" / one / "upper" for one in used]
        written = await asyncio.to_thread(lambda: [diskusage.tree(each) for each in trees])
        return [Stats(one, now, *usage, *files) for (one, usage), files in zip(used.items(), written, strict=True)]

    async def events(self) -> AsyncIterator[ContainerEvent]:
        await self._link.call("hello")
        queue: asyncio.Queue[ContainerEvent] = asyncio.Queue(_EVENTS)
        self._watchers.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._watchers.discard(queue)

    # ------------------------------------------------------------------ images

    async def images(self) -> Sequence[Image]:
        return [_image(image) for image in self._images.images()]

    async def image(self, reference: str) -> Image | None:
        found = self._find(reference)
        return _image(found) if found else None

    async def remove_image(self, reference: str) -> None:
        self._find(reference)
        self._images.remove(reference)
        await self._collect()

    async def pull_image(self, reference: str, auth: Auth | None = None) -> str:
        try:
            name = parse(reference)
        except InvalidReference as error:
            raise RuntimeFailed(f'couldn\'t parse image name "{reference}": {error}', "InvalidImageName") from None
        if str(name) in HOST.tags:
            return HOST.id
        if await self._is_plain():
            raise RuntimeFailed(f'failed to pull image "{name}": {_IMAGES_NEED_ROOT}', "ErrImagePull")
        async with self._pulls.setdefault(str(name), asyncio.Lock()):  # a second pull then finds all layers there
            incoming = self._images.incoming()
            try:
                target = await self._registries.pull(name, auth, incoming, self._images)
                return await self._images.add(str(name), target, incoming)
            except BadImage as error:
                raise RuntimeFailed(f'failed to pull and unpack image "{name}": {error}', "ErrImagePull") from None
            finally:
                await self._images.discard(incoming)

    async def import_image(self, archive: str) -> Sequence[str]:
        if await self._is_plain():
            raise RuntimeFailed(f"failed to import {archive}: {_IMAGES_NEED_ROOT}")
        try:
            return await self._images.import_archive(Path(archive))
        except BadImage as error:
            raise RuntimeFailed(f"failed to import {archive}: {error}") from None

    async def image_usage(self) -> Mapping[str, Any]:
        return {"bytes": self._images.bytes_used(), "path": str(self._images.root)}

    async def close(self) -> None:
        await self._link.close()
        await self._registries.close()

    async def shut_down(self) -> None:
        """`close`, and the node process ends too; even then what it parents runs on, and is adopted by the next."""
        await self._link.shut_down()
        await self._registries.close()

    # ------------------------------------------------------------------ inside

    def _changed(self, sandbox_id: str, container_id: str) -> None:
        for queue in self._watchers:
            if queue.full():  # the reader looks at all again, which is what it would have learned
                while not queue.empty():
                    queue.get_nowait()
                sandbox_id = container_id = ""
            queue.put_nowait(ContainerEvent(sandbox_id, container_id))

    async def _is_plain(self) -> bool:
        return bool((await self._link.call("hello"))["plain"])

    async def _list(self, sandbox_id: str = "") -> Mapping[str, Any]:
        """All, or what is of one sandbox."""
        return await self._link.call("list", sandbox=sandbox_id)

    async def _netns(self, sandbox_id: str) -> str:
        for one in (await self._list(sandbox_id))["sandboxes"]:
            return _netns_path(one)
        raise NotThere(f"sandbox {sandbox_id!r} not found")

    def _find(self, reference: str) -> StoredImage | None:
        try:
            return self._images.find(reference)
        except InvalidReference as error:
            raise RuntimeFailed(f'couldn\'t parse image name "{reference}": {error}', "InvalidImageName") from None

    def _stored(self, reference: str) -> StoredImage:
        if found := self._find(reference):
            return found
        raise NotThere(f"image {reference!r} not found")

    async def _collect(self) -> None:
        containers = (await self._list())["containers"]
        await self._images.collect({layer for one in containers for layer in one["meta"]["layers"]})


def _sandbox(one: Mapping[str, Any]) -> Sandbox:
    """One that is to have an address is not ready without: the agent that made it ended before it gave it one."""
    meta = {key: value for key, value in one["meta"].items() if key != "routed"}
    ready = one["ready"] and (bool(one["ips"]) or not one["meta"].get("routed"))
    return Sandbox(id=one["id"], ready=ready, created_at=one["created_at"], ips=one["ips"], **meta)


def _container(one: Mapping[str, Any]) -> Container:
    meta = {key: value for key, value in one["meta"].items() if key != "layers"}
    same = ("id", "sandbox_id", "created_at", "started_at", "finished_at", "exit_code", "reason", "message", "pid")
    who = one["user"] and User(one["user"]["uid"], one["user"]["gid"], one["user"]["groups"])
    return Container(state=_STATES[one["state"]], user=who, **{key: one[key] for key in same}, **meta)


def _image(image: StoredImage) -> Image:
    name_or_uid = str(image.config.get("User") or "").partition(":")[0]
    uid = int(name_or_uid) if name_or_uid.isdigit() else None
    return Image(
        id=image.id,
        tags=image.tags,
        digests=image.digests,
        size=image.size,
        uid=uid if name_or_uid else 0,
        username="" if uid is not None else name_or_uid,
        volumes=sorted(image.config.get("Volumes") or ()),
        stop_signal=image.config.get("StopSignal") or "",
    )


def _netns_path(one: Mapping[str, Any]) -> str:
    return f"/proc/{one['pid']}/ns/net"


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except FileNotFoundError:
        return ""
