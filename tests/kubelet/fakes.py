"""A runtime and an API server for the kubelet's tests: in memory, on the virtual clock, with a trace of what was asked of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from minik8s.api.call import Call
from minik8s.api.errors import AlreadyExists, Conflict, NotFound
from minik8s.api.resources import PODS, Resource
from minik8s.base.clock import Clock, rfc3339
from minik8s.client.transport import WatchEvent
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
)


class Trace:
    """What happened, each with its virtual second."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.now()
        self.lines: list[str] = []

    def __call__(self, text: str) -> None:
        self.lines.append(f"{self._clock.now() - self._began:g} {text}")


@dataclass
class Program:
    """What a container does, out of its command: `sleep 5`, `exit 3`, `trap 0` (exits so on SIGTERM), `stubborn`, `unstartable`."""

    seconds: float = float("inf")
    code: int = 0
    trap: int | None = None
    stubborn: bool = False
    unstartable: bool = False


def program(command: Sequence[str]) -> Program:
    text = " ".join(command)
    found = Program(stubborn="stubborn" in text, unstartable="unstartable" in text)
    if match := re.search(r"sleep ([\d.]+)", text):
        found.seconds = float(match[1])
    if match := re.search(r"exit (\d+)", text):
        found.code = int(match[1])
        found.seconds = found.seconds if "sleep" in text else 0.0
    if match := re.search(r"trap (\d+)", text):
        found.trap = int(match[1])
    return found


class FakeRuntime:
    """Fulfils the part of `runtime.base.Runtime` that the kubelet's core calls. Images `none/...` are not there and can't be pulled."""

    name = "fake"

    def __init__(self, clock: Clock, trace: Trace) -> None:
        self._clock, self._trace = clock, trace
        self.boxes: dict[str, Sandbox] = {}
        self.all: dict[str, Container] = {}
        self.configs: dict[str, ContainerConfig] = {}
        self.sandbox_configs: dict[str, SandboxConfig] = {}
        self.execs: dict[str, list[int]] = {}  # results of a command, in turn; the last one stays
        self.failing_sandboxes = 0
        self.sandbox_seconds = 0.0  # that making one takes
        self.lost_answers = 0  # so many sandboxes are made, but nobody is told
        self.unopenable = False  # logs
        self.unstoppable = 0  # so often stopping a sandbox has no effect
        self.pullable: set[str] = set()
        self.passwords: dict[str, str] = {}  # of images that need one
        self._present: set[str] = set()
        self._ended: dict[str, asyncio.Event] = {}
        self._listeners: list[asyncio.Queue[ContainerEvent]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._count = 0
        self.told_features = Features()

    async def features(self) -> Features:
        return self.told_features

    # --- sandboxes ---

    async def run_sandbox(self, config: SandboxConfig) -> str:
        if self.failing_sandboxes:
            self.failing_sandboxes -= 1
            self._trace("runtime: run sandbox fails")
            raise RuntimeFailed("no network yet")
        await self._clock.sleep(self.sandbox_seconds)
        if any((box.uid, box.attempt) == (config.uid, config.attempt) for box in self.boxes.values()):
            raise RuntimeFailed("failed to reserve sandbox name")
        sandbox_id = f"box{config.attempt}-{config.name}"
        handler = f" with {config.runtime_handler}" if config.runtime_handler else ""
        self._trace(f"runtime: run sandbox {config.attempt}{handler}")
        self.sandbox_configs[sandbox_id] = config
        self.boxes[sandbox_id] = Sandbox(
            sandbox_id,
            config.name,
            config.namespace,
            config.uid,
            config.attempt,
            True,
            self._clock.now(),
            ["10.0.0.9"],
            config.labels,
            config.annotations,
        )
        if self.lost_answers:
            self.lost_answers -= 1
            raise RuntimeFailed("the runtime ended")
        return sandbox_id

    async def stop_sandbox(self, sandbox_id: str) -> None:
        if box := self.boxes.get(sandbox_id):
            self._trace("runtime: stop sandbox")
            if self.unstoppable:
                self.unstoppable -= 1
                return
            self.boxes[sandbox_id] = replace(box, ready=False)

    async def remove_sandbox(self, sandbox_id: str) -> None:
        self._trace("runtime: remove sandbox")
        self.boxes.pop(sandbox_id, None)

    async def sandboxes(self) -> list[Sandbox]:
        return list(self.boxes.values())

    async def sandbox(self, sandbox_id: str) -> Sandbox:
        if sandbox_id not in self.boxes:
            raise NotThere("no such sandbox")
        return self.boxes[sandbox_id]

    def break_sandbox(self, sandbox_id: str) -> None:
        """As after a reboot: all that was in it has ended."""
        self.boxes[sandbox_id] = replace(self.boxes[sandbox_id], ready=False)
        for container in [c for c in self.all.values() if c.sandbox_id == sandbox_id and c.state is State.RUNNING]:
            self._finish(container.id, 137)
        self._tell(sandbox_id)

    # --- containers ---

    async def create_container(self, sandbox_id: str, config: ContainerConfig, sandbox: SandboxConfig) -> str:
        self._count += 1
        container_id = f"{config.name}-{config.attempt}"
        if container_id in self.all:
            container_id += f"-{self._count}"
        self.configs[container_id] = config
        self.all[container_id] = Container(
            container_id,
            sandbox_id,
            config.name,
            config.attempt,
            State.CREATED,
            config.image_name,
            config.image,
            self._clock.now() + self._count / 1e6,
            labels=config.labels,
            annotations=config.annotations,
        )
        self._ended[container_id] = asyncio.Event()
        return container_id

    async def start_container(self, container_id: str) -> None:
        config, now = self.configs[container_id], self._clock.now()
        does = program([*config.command, *config.args])
        if does.unstartable:
            self._trace(f"runtime: start {config.name} {config.attempt} fails")
            self._finish(container_id, 128, "StartError", "no such file")
            raise RuntimeFailed("no such file")
        self._trace(f"runtime: start {config.name} {config.attempt}")
        self.all[container_id] = replace(self.all[container_id], state=State.RUNNING, started_at=now)
        if does.seconds != float("inf"):
            self._spawn(self._run(container_id, does))

    async def _run(self, container_id: str, does: Program) -> None:
        await self._clock.sleep(does.seconds)
        self._finish(container_id, does.code)
        if container_id in self.all:  # nobody removed it meanwhile
            self._tell(self.all[container_id].sandbox_id)

    async def stop_container(self, container_id: str, grace: float) -> None:
        if container_id not in self.all:
            raise NotThere("no such container")
        does = program(self.configs[container_id].command)
        name = self.all[container_id].name
        self._trace(f"runtime: stop {name} within {grace:g}")
        if does.trap is not None:
            self._finish(container_id, does.trap)
        elif does.stubborn:
            try:
                async with self._clock.timeout(grace):
                    await self._ended[container_id].wait()
            except TimeoutError:
                self._finish(container_id, 137)
        else:
            self._finish(container_id, 143)
        self._tell(self.all[container_id].sandbox_id)

    def _finish(self, container_id: str, code: int, reason: str = "", message: str = "") -> None:
        container = self.all.get(container_id)
        if container is None or container.state is State.EXITED:
            return
        now = self._clock.now()
        self.all[container_id] = replace(
            container,
            state=State.EXITED,
            finished_at=now,
            exit_code=code,
            reason=reason or ("Completed" if code == 0 else "Error"),
            message=message,
        )
        self._ended[container_id].set()
        self._trace(f"runtime: {container.name} ends with {code}")

    async def update_resources(self, container_id: str, resources: Resources) -> None:
        limits = f"cpu {resources.cpu_quota} memory {resources.memory_limit >> 20}Mi"
        self._trace(f"runtime: resize {self.all[container_id].name} to {limits}")

    async def reopen_log(self, container_id: str) -> None:
        container, box = self.all[container_id], self.sandbox_configs[self.all[container_id].sandbox_id]
        if self.unopenable:
            raise RuntimeFailed("cannot reopen")
        self._trace(f"runtime: reopen log of {container.name}")
        path = Path(box.log_directory) / self.configs[container_id].log_path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    async def remove_container(self, container_id: str) -> None:
        self._trace(f"runtime: remove {container_id}")
        self.all.pop(container_id, None)

    async def containers(self, sandbox_id: str = "") -> list[Container]:
        return [c for c in self.all.values() if sandbox_id in ("", c.sandbox_id)]

    async def exec_sync(self, container_id: str, command: Sequence[str], timeout: float) -> ExecResult:
        text = " ".join(command)
        if match := re.fullmatch(r"sleep ([\d.]+)", text):
            async with self._clock.timeout(timeout or None):
                await self._clock.sleep(float(match[1]))
            return ExecResult(b"", b"", 0)
        results = self.execs.get(text, [0])
        code = results.pop(0) if len(results) > 1 else results[0]
        if code < 0:
            raise RuntimeFailed("cannot exec")
        return ExecResult(b"ill" if code else b"", b"", code)

    async def stats(self) -> list[Stats]:
        """A second of CPU for each second that it ran; 3 MB."""
        now = self._clock.now()
        running = [c for c in self.all.values() if c.state is State.RUNNING]
        return [Stats(c.id, now, int((now - c.started_at) * 1e9), 3_000_000, 2_000_000, 1_000_000, 4096) for c in running]

    async def image_usage(self) -> Mapping[str, Any]:
        return {"bytes": 5_000_000, "path": ""}

    # --- streams ---

    async def exec(self, container_id: str, command: Sequence[str], *, stdin: bool, tty: bool) -> FakeStreams:
        return FakeStreams(command, stdin, tty)

    async def attach(self, container_id: str, *, stdin: bool) -> FakeStreams:
        return FakeStreams(["cat"], stdin, False)

    async def port_forward(self, sandbox_id: str, port: int) -> FakeStreams:
        if port == 9:
            raise RuntimeFailed("connection refused")
        return FakeStreams(["cat"], True, False)

    # --- the rest ---

    async def image(self, reference: str) -> Image | None:
        if reference.startswith("none/") and reference not in self._present:
            return None
        return Image(f"id-of-{reference}", [reference], [], 1)

    async def images(self) -> list[Image]:
        return [image for reference in sorted(self._present) if (image := await self.image(reference))]

    async def pull_image(self, reference: str, auth: Auth | None = None) -> str:
        password = auth.password if auth else ""
        if reference not in self.pullable or self.passwords.get(reference, "") != password:
            self._trace(f"runtime: pull {reference} fails")
            raise RuntimeFailed("connection refused", "ErrImagePull")
        self._trace(f"runtime: pull {reference}")
        self._present.add(reference)
        return f"id-of-{reference}"

    async def ready(self) -> str:
        return ""

    async def events(self) -> AsyncIterator[ContainerEvent]:
        queue: asyncio.Queue[ContainerEvent] = asyncio.Queue()
        self._listeners.append(queue)
        while True:
            yield await queue.get()

    def _tell(self, sandbox_id: str) -> None:
        for queue in self._listeners:
            queue.put_nowait(ContainerEvent(sandbox_id))

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class FakeStreams:
    """`cat` echoes until its input ends; anything else says its words on both outputs and exits with the number of them.
    A resize is said, too.
    """

    def __init__(self, command: Sequence[str], stdin: bool, tty: bool) -> None:
        self.command, self.stdin, self.tty = command, stdin, tty
        self.queue: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()
        self.closed = False
        if command[0] != "cat":
            for stream, word in zip((1, 2), command, strict=False):
                self.queue.put_nowait((stream, word.encode()))
            self.queue.put_nowait(None)

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        while (item := await self.queue.get()) is not None:
            yield item

    async def write(self, data: bytes) -> None:
        self.queue.put_nowait((1, data))

    async def close_stdin(self) -> None:
        self.queue.put_nowait(None)

    async def resize(self, width: int, height: int) -> None:
        self.queue.put_nowait((1, f"{width}x{height}".encode()))

    async def wait(self) -> int:
        return 0 if self.command[0] == "cat" else len(self.command)

    async def close(self) -> None:
        self.closed = True


class FakeApi:
    """A transport to an API server that keeps objects and lets them be watched."""

    def __init__(self, clock: Clock, trace: Trace) -> None:
        self._clock, self._trace = clock, trace
        self.objects: dict[tuple[Resource, str, str], dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self._watchers: list[tuple[Call, asyncio.Queue[WatchEvent]]] = []
        self.version = 100

    def put(self, resource: Resource, obj: Mapping[str, Any]) -> dict[str, Any]:
        """Creates or replaces `obj` and tells the watchers."""
        self.version += 1
        meta = obj["metadata"]
        place = (resource, meta.get("namespace", ""), meta["name"])
        kind = "MODIFIED" if place in self.objects else "ADDED"
        stored = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            **obj,
            "metadata": {**meta, "resourceVersion": str(self.version)},
        }
        self.objects[place] = stored
        self._tell(resource, kind, stored)
        return stored

    def drop(self, resource: Resource, namespace: str, name: str) -> None:
        obj = self.objects.pop((resource, namespace, name))
        self.version += 1
        last = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.version)}}
        self._tell(resource, "DELETED", last)

    def change(self, resource: Resource, namespace: str, name: str, **metadata: Any) -> dict[str, Any]:
        """As an update of metadata."""
        obj = self.objects[resource, namespace, name]
        return self.put(resource, {**obj, "metadata": {**obj["metadata"], **metadata}})

    def delete_pod(self, namespace: str, name: str, grace: int) -> None:
        """As a user's DELETE with that grace period."""
        obj = self.objects[PODS, namespace, name]
        if grace == 0:
            obj["metadata"] = {**obj["metadata"], "deletionGracePeriodSeconds": 0}
            self.drop(PODS, namespace, name)
            return
        self.change(
            PODS,
            namespace,
            name,
            deletionTimestamp=rfc3339(self._clock.now() + grace),
            deletionGracePeriodSeconds=grace,
            generation=2,
        )

    async def request(self, call: Call) -> Any:
        place = (call.resource, call.namespace, call.name)
        match call.verb, call.subresource:
            case "list", _:
                items = [o for (r, ns, n), o in self.objects.items() if r is call.resource and _selected(call, ns, n)]
                return {"items": items, "metadata": {"resourceVersion": str(self.version)}}
            case "create", "token":
                return {
                    "status": {
                        "token": f"t0ken-{self._clock.monotonic():.0f}",
                        "expirationTimestamp": rfc3339(self._clock.now() + 3600),
                    }
                }
            case "create", _ if call.resource.plural == "events":
                return self._event(call.body)
            case "create", _:
                meta = call.body["metadata"]
                if (call.resource, meta.get("namespace", ""), meta["name"]) in self.objects:
                    raise AlreadyExists(f"{meta['name']} already exists")
                return self.put(call.resource, {**call.body, "metadata": {"uid": f"uid-{self.version}", **meta}})
            case "update", _:
                self._get(place)
                return self.put(call.resource, call.body)
            case "get", _:
                return self._get(place)
            case "patch", "status":
                return self._patch_status(place, call.body)
            case "patch", _ if call.resource.plural == "events":
                return call.body
            case "patch", _:
                meta = self._get(place)["metadata"]
                merged = {part: {**meta.get(part, {}), **values} for part, values in call.body["metadata"].items()}
                return self.change(*place, **merged)
            case "delete", _:
                return self._delete(place, call.body)
        raise AssertionError(call)

    @asynccontextmanager
    async def watch(self, call: Call) -> AsyncIterator[AsyncIterator[Sequence[WatchEvent]]]:
        queue: asyncio.Queue[WatchEvent] = asyncio.Queue()
        entry = (call, queue)
        self._watchers.append(entry)

        async def batches() -> AsyncIterator[Sequence[WatchEvent]]:
            while True:
                yield [await queue.get()]

        try:
            yield batches()
        finally:
            self._watchers.remove(entry)

    async def close(self) -> None:
        pass

    def _get(self, place: tuple[Resource, str, str]) -> dict[str, Any]:
        if place not in self.objects:
            raise NotFound(f"{place[2]} not found")
        return self.objects[place]

    def _event(self, event: dict[str, Any]) -> dict[str, Any]:
        if "reason" in event:
            self.events.append(event)
            where = event["involvedObject"].get("fieldPath", "")
            self._trace(f"event: {event['type']} {event['reason']}: {event['message']}" + (f" ({where})" if where else ""))
        return event

    def _patch_status(self, place: tuple[Resource, str, str], patch: dict[str, Any]) -> dict[str, Any]:
        obj = self._get(place)
        if "uid" in patch.get("metadata", {}) and patch["metadata"]["uid"] != obj["metadata"]["uid"]:
            raise Conflict("uid")
        status = dict(obj.get("status") or {})
        order = [c["type"] for c in patch["status"].get("$setElementOrder/conditions", [])]
        for name, value in patch["status"].items():
            if name == "conditions":
                merged = {c["type"]: c for c in status.get("conditions") or ()}
                for c in value:
                    if c.get("$patch") == "delete":
                        merged.pop(c["type"], None)
                        continue
                    merged[c["type"]] = {
                        k: v for k, v in {**merged.get(c["type"], {}), **c}.items() if v is not None or k == "lastProbeTime"
                    }
                status["conditions"] = sorted(
                    merged.values(), key=lambda c: order.index(c["type"]) if c["type"] in order else -1
                )
            elif name.startswith("$"):
                continue
            elif value is None:
                status.pop(name, None)
            else:
                status[name] = (
                    [v for v in value if not (isinstance(v, dict) and "$patch" in v)] if isinstance(value, list) else value
                )
        if place[0] is PODS:
            self._trace(f"status: {summary(status)}")
        return self.put(place[0], {**obj, "status": status})

    def _delete(self, place: tuple[Resource, str, str], options: dict[str, Any]) -> dict[str, Any]:
        obj = self._get(place)
        if options.get("preconditions", {}).get("uid") not in (None, obj["metadata"]["uid"]):
            raise Conflict("uid")
        self._trace("api: delete the pod")
        if obj["metadata"].get("finalizers"):
            return self.change(*place, deletionGracePeriodSeconds=0)
        self.drop(*place)
        return obj

    def _tell(self, resource: Resource, kind: str, obj: dict[str, Any]) -> None:
        for call, queue in self._watchers:
            meta = obj["metadata"]
            if call.resource is resource and _selected(call, meta.get("namespace", ""), meta["name"]):
                queue.put_nowait(WatchEvent(kind, obj))


def _selected(call: Call, namespace: str, name: str) -> bool:
    field, _, value = call.query.get("fieldSelector", "").partition("=")
    return call.namespace in ("", namespace) and (field != "metadata.name" or value == name)


def summary(status: Mapping[str, Any]) -> str:
    """A status in one line."""
    conditions = {c["type"]: c["status"] == "True" for c in status.get("conditions") or ()}
    parts = [status["phase"], "ready" if conditions.get("Ready") else "unready"]
    if conditions.get("PodReadyToStartContainers"):
        parts[1] += "+sandbox"
    if status.get("reason"):
        parts.append(f"({status['reason']})")
    for one in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        ((kind, detail),) = one["state"].items()
        text = {"running": "running", "waiting": detail.get("reason", "?"), "terminated": f"exit {detail.get('exitCode')}"}[
            kind
        ]
        flags = "".join(f for f, on in (("s", one.get("started")), ("r", one.get("ready"))) if on)
        restarts = f"#{one['restartCount']}" if one["restartCount"] else ""
        parts.append(f"{one['name']}{restarts}={text}{'/' + flags if flags else ''}")
    return " ".join(parts)
