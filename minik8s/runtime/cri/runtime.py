"""Containers through any CRI socket: containerd, CRI-O. Passes the contract's calls on (runtime/base.py), one call for one.

Limits are CRI's: exec_sync's timeout is in whole seconds (rounded up); closing an exec ends its stdin and terminal, but no process;
`stop_signal` is the image's where the runtime is older than the field (containerd 1.6); `pids_limit` is the pod's cgroup's, which the
kubelet sets; Unmasked proc needs a runtime that knows it.

Neighbours: wire (messages), convert (data), client (calls), changes (events), shims (what a killed runtime left), streaming (exec, attach,
port-forward), importing.
"""

from __future__ import annotations

import asyncio
import logging
import math
import stat
import tempfile
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from minik8s.base.clock import Clock
from minik8s.base.tasks import Owner
from minik8s.runtime.base import (
    Auth,
    Container,
    ContainerConfig,
    ContainerEvent,
    ExecResult,
    Features,
    Image,
    NotThere,
    Resources,
    RuntimeFailed,
    Sandbox,
    SandboxConfig,
    State,
    Stats,
    Streams,
)
from minik8s.runtime.cri import changes, convert, importing, pause, shims, streaming
from minik8s.runtime.cri.client import TIMEOUT, Client, timed_out, whole_text
from minik8s.runtime.cri.hosts import is_beyond
from minik8s.runtime.cri.wire import CRI
from minik8s.runtime.images.reference import InvalidReference, Reference, parse
from minik8s.runtime.images.registry import Registries

log = logging.getLogger(__name__)

_SETTLED = 2.0
"""Seconds after its end from which a container's status is final (an OOM may be told a moment later than the exit)."""

_NO_IMAGE_MOUNTS = 'failed to mkdir ""'
"""What a containerd before 2.1 says of a mount without a path: it does not know the field that names the image."""

_CONDITIONS = {"RuntimeReady": "container runtime not ready", "NetworkReady": "container runtime network not ready"}
_PULL_REASONS = ("RegistryUnavailable", "SignatureValidationFailed")


async def connect(socket: str, clock: Clock, *, host_ports: bool = True, registries: Registries | None = None) -> CriRuntime:
    """The runtime behind a unix socket. Raises RuntimeFailed where none answers.

    `host_ports` False: the runtime opens no host ports, since the network room does. Through `registries` images are pulled that the
    runtime, set up by their settings, can't.
    """
    client = Client(socket, clock)
    try:
        found = await client.call("Version", CRI["VersionRequest"](), timeout=10.0)
    except BaseException:
        await client.close()
        raise
    return CriRuntime(client, found.runtime_name, clock, host_ports, registries)


class CriRuntime:
    """Fulfils `base.Runtime`. Made by `connect`."""

    def __init__(self, client: Client, name: str, clock: Clock, host_ports: bool, registries: Registries | None) -> None:
        self.name = name
        self._registries = registries
        self._client, self._clock = client, clock
        self._host_ports = host_ports
        self._busy = asyncio.Event()  # something may run: changes.py
        self._busy.set()
        self._known: dict[str, Container] = {}  # statuses that hold while the state that the list shows is the same
        self._sandbox_image = ""
        self._tasks = Owner("cri")

    async def version(self) -> str:
        found = await self._client.call("Version", CRI["VersionRequest"]())
        return convert.version(found.runtime_version)

    async def ready(self) -> str:
        try:
            found = await self._client.call("Status", CRI["VerboseRequest"]())
        except RuntimeFailed as error:
            return f"container runtime is down: {error}"
        told = {condition.type: condition for condition in found.status.conditions}
        for kind, words in _CONDITIONS.items():
            if kind not in told:
                return f"{words}: {kind} is not reported"
            if not told[kind].status:
                return f"{words}: {kind}=false reason:{told[kind].reason} message:{told[kind].message}"
        return ""

    async def features(self) -> Features:
        """A containerd whose directory nobody else may enter (as in our own data directory) can't have user namespaces: containers are
        made there by their own root."""
        found = await self._client.call("Status", CRI["VerboseRequest"](verbose=True))
        features = convert.features(found)
        state = convert.state_directory(found.info)
        if not state or await asyncio.to_thread(_may_be_entered, Path(state)):
            return features
        return replace(features, handlers=[replace(handler, user_namespaces=False) for handler in features.handlers])

    async def ensure_sandbox_image(self, known: str = "") -> str:
        """Imports a pause image of our own under the name that the runtime's configuration wants, if it has none; that name.

        Needs no network. Where the runtime takes no archives (CRI-O), it will pull the image itself, which the log says. `known` is the
        name where the runtime doesn't say which it wants (containerd 2.x); empty where nobody knows it.
        """
        found = await self._client.call("Status", CRI["VerboseRequest"](verbose=True))
        name = self._sandbox_image = convert.sandbox_image(found.info) or known
        if name and await self.image(name) is None:
            try:
                await self._import_pause(name)
            except (RuntimeFailed, ValueError) as error:
                log.warning("the runtime has to pull its sandbox image %s: %s", name, error)
        return name

    # ------------------------------------------------------------------ sandboxes

    async def run_sandbox(self, config: SandboxConfig) -> str:
        request = CRI["RunPodSandboxRequest"](
            config=convert.sandbox_config(config, host_ports=self._host_ports), runtime_handler=config.runtime_handler
        )
        try:
            answer = await self._client.call("RunPodSandbox", request, timeout=2 * TIMEOUT)
        except RuntimeFailed as error:
            raise RuntimeFailed(whole_text(error), "CreatePodSandboxError") from error
        self._busy.set()
        return str(answer.pod_sandbox_id)

    async def stop_sandbox(self, sandbox_id: str) -> None:
        await self._client.call_if_there("StopPodSandbox", CRI["PodSandboxId"](pod_sandbox_id=sandbox_id))

    async def remove_sandbox(self, sandbox_id: str) -> None:
        await self._client.call_if_there("RemovePodSandbox", CRI["PodSandboxId"](pod_sandbox_id=sandbox_id))
        self._forget(sandbox_id, ())

    async def sandboxes(self) -> Sequence[Sandbox]:
        return [convert.sandbox(one) for one in (await self._client.call("ListPodSandbox")).items]

    async def sandbox(self, sandbox_id: str) -> Sandbox:
        found = await self._client.call("PodSandboxStatus", CRI["PodSandboxId"](pod_sandbox_id=sandbox_id))
        return convert.sandbox(found.status)

    # ------------------------------------------------------------------ containers

    async def create_container(self, sandbox_id: str, config: ContainerConfig, sandbox: SandboxConfig) -> str:
        request = CRI["CreateContainerRequest"](
            pod_sandbox_id=sandbox_id,
            config=convert.container_config(config),
            sandbox_config=convert.sandbox_config(sandbox, host_ports=self._host_ports),
        )
        try:
            if config.log_path:  # CRI-O wants its directory to be there
                Path(sandbox.log_directory, config.log_path).parent.mkdir(parents=True, exist_ok=True)
            return str((await self._client.call("CreateContainer", request)).container_id)
        except OSError as error:
            raise RuntimeFailed(str(error)) from error
        except RuntimeFailed as error:
            if _NO_IMAGE_MOUNTS in str(error) and any(mount.image for mount in config.mounts):
                raise RuntimeFailed(f"{self.name} mounts no images: image volumes need containerd 2.1 or CRI-O 1.31") from error
            raise

    async def start_container(self, container_id: str) -> None:
        try:
            await self._client.call("StartContainer", CRI["ContainerId"](container_id=container_id))
        except NotThere:
            raise
        except RuntimeFailed as error:
            raise RuntimeFailed(str(error), "RunContainerError") from error
        self._busy.set()

    async def stop_container(self, container_id: str, grace: float) -> None:
        seconds = math.ceil(max(grace, 0))
        request = CRI["StopContainerRequest"](container_id=container_id, timeout=seconds)
        await self._client.call_if_there("StopContainer", request, timeout=TIMEOUT + seconds)

    async def remove_container(self, container_id: str) -> None:
        await self._client.call_if_there("RemoveContainer", CRI["ContainerId"](container_id=container_id))
        self._known.pop(container_id, None)

    async def containers(self, sandbox_id: str = "") -> Sequence[Container]:
        wanted = CRI["ContainerFilter"](pod_sandbox_id=sandbox_id)
        listed = (await self._client.call("ListContainers", CRI["ListContainersRequest"](filter=wanted))).containers
        self._forget(sandbox_id, {one.id for one in listed})
        found = await asyncio.gather(*(self._status_of(one) for one in listed))
        return [container for container in found if container]

    async def container(self, container_id: str) -> Container:
        known = self._known.get(container_id)
        answer = await self._client.call("ContainerStatus", CRI["ContainerStatusRequest"](container_id=container_id))
        return convert.container(answer.status, known.sandbox_id if known else await self._sandbox_of(container_id))

    async def update_resources(self, container_id: str, resources: Resources) -> None:
        request = CRI["UpdateContainerResourcesRequest"](container_id=container_id, linux=convert.resources(resources))
        await self._client.call("UpdateContainerResources", request)

    async def reopen_log(self, container_id: str) -> None:
        await self._client.call("ReopenContainerLog", CRI["ContainerId"](container_id=container_id))

    # ------------------------------------------------------------------ streams

    async def exec_sync(self, container_id: str, command: Sequence[str], timeout: float) -> ExecResult:
        seconds = math.ceil(timeout)
        request = CRI["ExecSyncRequest"](container_id=container_id, cmd=command, timeout=seconds)
        try:
            # The runtime keeps the time and kills; a call that we break off may leave a process that was just starting.
            answer = await self._client.call("ExecSync", request, timeout=TIMEOUT + seconds if seconds else None)
        except RuntimeFailed as error:
            if seconds and timed_out(error):
                raise TimeoutError(str(error)) from error
            raise type(error)(whole_text(error)) from error
        return ExecResult(answer.stdout, answer.stderr, answer.exit_code)

    async def exec(self, container_id: str, command: Sequence[str], *, stdin: bool, tty: bool) -> Streams:
        request = CRI["ExecRequest"](container_id=container_id, cmd=command, tty=tty, stdin=stdin, stdout=True, stderr=not tty)
        answer = await self._client.call("Exec", request)
        return await streaming.command(answer.url, self._clock, stdin=stdin, tty=tty, must_tell=True)

    async def attach(self, container_id: str, *, stdin: bool) -> Streams:
        found = await self._client.call(
            "ContainerStatus", CRI["ContainerStatusRequest"](container_id=container_id, verbose=True)
        )
        tty = convert.has_terminal(found.info)
        request = CRI["AttachRequest"](container_id=container_id, stdin=stdin, tty=tty, stdout=True, stderr=not tty)
        answer = await self._client.call("Attach", request)
        return await streaming.command(answer.url, self._clock, stdin=stdin, tty=tty, must_tell=False)

    async def port_forward(self, sandbox_id: str, port: int) -> Streams:
        answer = await self._client.call("PortForward", CRI["PortForwardRequest"](pod_sandbox_id=sandbox_id, port=[port]))
        return await streaming.port(answer.url, port, self._clock)

    # ------------------------------------------------------------------ what is going on

    async def stats(self) -> Sequence[Stats]:
        found = (convert.stats(one) for one in (await self._client.call("ListContainerStats")).stats)
        return [one for one in found if one.at]  # what does not run has none

    async def events(self) -> AsyncIterator[ContainerEvent]:
        async for event in changes.follow(self._client, self._clock, self._busy):
            if not event.sandbox_id and self.name == "containerd":
                self._tasks.start(self._end_lost_shims(), "lost-shims")
            yield event

    # ------------------------------------------------------------------ images

    async def images(self) -> Sequence[Image]:
        """Without the runtime's own (sandbox and pinned images), which nobody may collect."""
        found = (await self._client.call("ListImages")).images
        return [convert.image(one, {}) for one in found if not one.pinned and self._sandbox_image not in one.repo_tags]

    async def image(self, reference: str) -> Image | None:
        request = CRI["ImageRequest"](image=CRI["ImageSpec"](image=reference), verbose=True)
        try:
            found = await self._client.call("ImageStatus", request)
        except NotThere:
            return None
        return convert.image(found.image, found.info) if found.image.id else None

    async def pull_image(self, reference: str, auth: Auth | None = None) -> str:
        if self._registries and (name := _parsed(reference)) and is_beyond(self._registries.settings, name):
            *_, by_digest = names = await importing.pull(self._client, self._registries, name, auth, self._clock)
            for each in names:
                await self._listed(each)
            found = await self.image(by_digest)
            return found.id if found else by_digest
        request = CRI["PullImageRequest"](image=CRI["ImageSpec"](image=reference), auth=convert.auth_config(auth))
        try:
            answer = await self._client.call("PullImage", request, timeout=None)
        except RuntimeFailed as error:
            reason = next((word for word in _PULL_REASONS if str(error).startswith(word)), "ErrImagePull")
            raise RuntimeFailed(str(error), reason) from error
        return str(answer.image_ref)

    async def remove_image(self, reference: str) -> None:
        await self._client.call_if_there("RemoveImage", CRI["ImageRequest"](image=CRI["ImageSpec"](image=reference)))

    async def import_image(self, archive: str) -> Sequence[str]:
        names = await importing.import_archive(self._client, Path(archive), self._clock)
        for name in names:
            await self._listed(name)
        return names

    async def image_usage(self) -> Mapping[str, Any]:
        found = (await self._client.call("ImageFsInfo")).image_filesystems
        path = next((one.fs_id.mountpoint for one in found), "")
        return {"bytes": sum(one.used_bytes.value for one in found), "path": path}

    async def close(self) -> None:
        await self._tasks.stop()
        await self._client.close()
        if self._registries:
            await self._registries.close()

    # ------------------------------------------------------------------ inside

    async def _end_lost_shims(self) -> None:
        """Of sandboxes in which nothing runs, and whose own process doesn't."""
        try:
            now = await changes.states(self._client)
        except RuntimeFailed:
            return  # it is away again, and there will be another event
        lost = {sandbox for sandbox, _ in now.values()} - {sandbox for sandbox, state in now.values() if state is State.RUNNING}
        if lost and (ended := await asyncio.to_thread(shims.end_lost, self._client.socket, lost)):
            log.warning("ended the shims of %s, which the runtime had lost", ", ".join(ended))

    def _forget(self, sandbox_id: str, left: Collection[str]) -> None:
        """All containers (of one sandbox) but those left."""
        for gone in [key for key, known in self._known.items() if key not in left and sandbox_id in ("", known.sandbox_id)]:
            del self._known[gone]

    async def _status_of(self, listed: Any) -> Container | None:
        """None: it was removed meanwhile."""
        known = self._known.get(listed.id)
        if known and known.state is convert.state(listed.state) and known.state in (State.RUNNING, State.EXITED):
            return known
        try:
            answer = await self._client.call("ContainerStatus", CRI["ContainerStatusRequest"](container_id=listed.id))
        except NotThere:
            return None
        found = convert.container(answer.status, listed.pod_sandbox_id)
        if found.state is not State.EXITED or found.finished_at + _SETTLED < self._clock.now():
            self._known[listed.id] = found
        return found

    async def _sandbox_of(self, container_id: str) -> str:
        listed = (await self._client.call("ListContainers", CRI["ListContainersRequest"]())).containers
        return next((str(one.pod_sandbox_id) for one in listed if one.id == container_id), "")

    async def _import_pause(self, name: str) -> None:
        path = await asyncio.to_thread(_temporary, pause.archive(name))
        try:
            await self.import_image(str(path))
        finally:
            path.unlink()

    async def _listed(self, name: str) -> None:
        """Returns when CRI knows an image that containerd was given: it hears of it by an event."""
        for failures in range(1, 12):
            if await self.image(name):
                return
            await self._clock.sleep(changes.SETTLE.delay(failures))
        raise RuntimeFailed(f"containerd has the image {name}, but its CRI part does not list it")


def _may_be_entered(directory: Path) -> bool:
    """By any user, as far as it is there."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in directory.parents if parent.exists())


def _temporary(content: bytes) -> Path:
    with tempfile.NamedTemporaryFile(prefix="minik8s-pause-", suffix=".tar", delete=False) as file:
        file.write(content)
    return Path(file.name)


def _parsed(reference: str) -> Reference | None:
    """None where it is no name: the runtime says so."""
    try:
        return parse(reference)
    except InvalidReference:
        return None
