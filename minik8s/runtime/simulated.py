"""The runtime that does nothing, at the speed and with the failures it is told: for tests, and for thousands of nodes in one process.

Containers "run" until they are stopped or their time is over; nothing is executed, nothing listens, nothing is on disk (but a
log, where one is asked for). A pod tells how its containers behave by the annotation `minik8s.local/simulate`, for one container
`minik8s.local/simulate.NAME`, as words: `start=2s run=10s exit=1 stop=5s exec=1 log=hello fail=start cpu=250m memory=64Mi`, see
`Behaviour`. An image whose registry is under `.invalid` (RFC 2606) can't be pulled.

Cost: a container is one small object; only one that ends by itself has a task while it runs.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from ipaddress import ip_network
from itertools import count
from pathlib import Path
from typing import Any

from minik8s.base.clock import Clock, parse_duration, rfc3339_micro
from minik8s.base.tasks import Owner
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
)

ANNOTATION = "minik8s.local/simulate"
EVENTS = 1024
"""Events kept for who follows them; on more, one says to look at everything."""
KILLED, TERMINATED = 137, 143


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a container behaves; times in seconds.

    `run` None: until it is stopped. `stop`: from the stop signal to the end, then with 143 if it was to run for ever, else `exit`;
    longer than the grace period, it is killed (137). `exec`: the exit code of every exec. `fail`: the call that fails, `sandbox`,
    `create` or `start`. `cpu` and `memory`: what it uses while it runs, in thousandths of a core and in bytes.
    """

    start: float = 0.0
    run: float | None = None
    exit: int = 0
    stop: float = 0.0
    exec: int = 0
    log: str = ""
    fail: str = ""
    cpu: int = 0
    memory: int = 0


FOREVER = Behaviour()
Told = Mapping[str, str]


def behaviour_of(annotations: Told, container: str, default: Behaviour = FOREVER) -> Behaviour:
    """What a pod's annotations say of one container. RuntimeFailed where they can't be read."""
    text = annotations.get(f"{ANNOTATION}.{container}", annotations.get(ANNOTATION, ""))
    told: dict[str, Any] = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        if name not in _READ or not equals:
            raise RuntimeFailed(f"annotation {ANNOTATION}: {word!r} is not one of {', '.join(f'{n}=' for n in _READ)}")
        told[name] = _READ[name](value)
    return replace(default, **told)


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise RuntimeFailed(f"annotation {ANNOTATION}: {error}") from None


def _code(text: str) -> int:
    if not re.fullmatch(r"\d{1,3}", text):
        raise RuntimeFailed(f"annotation {ANNOTATION}: {text!r} is not an exit code")
    return int(text)


def _amount(units: Mapping[str, int]) -> Callable[[str], int]:
    """Reads a whole number with one of these units behind it."""

    def read(text: str) -> int:
        match = re.fullmatch(rf"(\d{{1,12}})({'|'.join(units)})", text)
        if match is None:
            raise RuntimeFailed(f"annotation {ANNOTATION}: {text!r} is not an amount")
        return int(match[1]) * units[match[2]]

    return read


_READERS: Mapping[str, Callable[[str], Any]] = {
    "start": _seconds,
    "run": _seconds,
    "stop": _seconds,
    "exit": _code,
    "exec": _code,
    "cpu": _amount({"m": 1, "": 1000}),
    "memory": _amount({"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "": 1}),
}
_READ = {field.name: _READERS.get(field.name, str) for field in fields(Behaviour)}


def addresses(network: str = "10.128.0.0/9") -> Iterator[str]:
    """Pod addresses, each once; runtimes of one cluster share one iterator."""
    return map(str, ip_network(network).hosts())


class SimulatedRuntime:
    """Fulfils `runtime.base.Runtime`. `pull` is what pulling an image takes, in seconds."""

    name = "simulated"

    def __init__(
        self, clock: Clock, pod_addresses: Iterator[str] | None = None, *, default: Behaviour = FOREVER, pull: float = 0.0
    ) -> None:
        self._clock = clock
        self._addresses = pod_addresses or addresses()
        self._default = default
        self._pull = pull
        self._ids = count(1)
        self._sandboxes: dict[str, Sandbox] = {}
        self._containers: dict[str, _Simulated] = {}
        self._images: dict[str, Image] = {}
        self._events: asyncio.Queue[ContainerEvent] = asyncio.Queue(EVENTS)
        self._owner = Owner("simulated")

    async def version(self) -> str:
        return "1.0"

    async def ready(self) -> str:
        return ""

    async def features(self) -> Features:
        return Features(True, [Handler(recursive_readonly=True, user_namespaces=True)])

    # --- sandboxes ---

    async def run_sandbox(self, config: SandboxConfig) -> str:
        if behaviour_of(config.annotations, "", self._default).fail == "sandbox":
            raise RuntimeFailed("simulated failure of the sandbox")
        sandbox_id = self._id()
        host_network = config.namespaces.network == "NODE"
        self._sandboxes[sandbox_id] = Sandbox(
            id=sandbox_id,
            name=config.name,
            namespace=config.namespace,
            uid=config.uid,
            attempt=config.attempt,
            ready=True,
            created_at=self._clock.now(),
            ips=() if host_network else (next(self._addresses),),
            labels=config.labels,
            annotations=config.annotations,
        )
        return sandbox_id

    async def stop_sandbox(self, sandbox_id: str) -> None:
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None or not sandbox.ready:
            return
        for one in self._of(sandbox_id):
            self._end(one, KILLED)
        self._sandboxes[sandbox_id] = replace(sandbox, ready=False)
        self._tell(ContainerEvent(sandbox_id))

    async def remove_sandbox(self, sandbox_id: str) -> None:
        await self.stop_sandbox(sandbox_id)
        for one in self._of(sandbox_id):
            del self._containers[one.status.id]
        self._sandboxes.pop(sandbox_id, None)

    async def sandboxes(self) -> Sequence[Sandbox]:
        return list(self._sandboxes.values())

    async def sandbox(self, sandbox_id: str) -> Sandbox:
        if sandbox_id not in self._sandboxes:
            raise NotThere(f"no sandbox {sandbox_id}")
        return self._sandboxes[sandbox_id]

    # --- containers ---

    async def create_container(self, sandbox_id: str, config: ContainerConfig, sandbox: SandboxConfig) -> str:
        await self.sandbox(sandbox_id)
        behaviour = behaviour_of(sandbox.annotations, config.name, self._default)
        if behaviour.fail == "create":
            raise RuntimeFailed("simulated failure of the creation", "CreateContainerError")
        container_id = self._id()
        status = Container(
            id=container_id,
            sandbox_id=sandbox_id,
            name=config.name,
            attempt=config.attempt,
            state=State.CREATED,
            image=config.image_name,
            image_id=config.image,
            created_at=self._clock.now(),
            log_path=str(Path(sandbox.log_directory) / config.log_path) if config.log_path else "",
            labels=config.labels,
            annotations=config.annotations,
        )
        self._containers[container_id] = _Simulated(status, behaviour)
        return container_id

    async def start_container(self, container_id: str) -> None:
        one = self._found(container_id)
        await self._clock.sleep(one.behaviour.start)
        if one.behaviour.fail == "start":
            now = self._clock.now()
            one.status = replace(
                one.status, state=State.EXITED, finished_at=now, exit_code=128, reason="StartError", message="simulated failure"
            )
            one.ended.set()
            raise RuntimeFailed("simulated failure of the start", "RunContainerError")
        one.status = replace(one.status, state=State.RUNNING, started_at=self._clock.now())
        if one.behaviour.log and one.status.log_path:
            line = f"{rfc3339_micro(self._clock.now())} stdout F {one.behaviour.log}\n"
            await asyncio.to_thread(_append, Path(one.status.log_path), line)
        if one.behaviour.run is not None:
            self._owner.start(self._run(one, one.behaviour.run), container_id)
        self._tell(ContainerEvent(one.status.sandbox_id, container_id))

    async def stop_container(self, container_id: str, grace: float) -> None:
        one = self._containers.get(container_id)
        if one is None or one.status.state is not State.RUNNING:
            return
        behaviour = one.behaviour
        try:
            async with self._clock.timeout(min(behaviour.stop, grace)):
                await one.ended.wait()
        except TimeoutError:
            obeyed = TERMINATED if behaviour.run is None else behaviour.exit
            self._end(one, KILLED if behaviour.stop > grace else obeyed)

    async def remove_container(self, container_id: str) -> None:
        one = self._containers.pop(container_id, None)
        if one is not None:
            self._end(one, KILLED)

    async def containers(self, sandbox_id: str = "") -> Sequence[Container]:
        return [one.status for one in (self._of(sandbox_id) if sandbox_id else self._containers.values())]

    async def container(self, container_id: str) -> Container:
        return self._found(container_id).status

    async def update_resources(self, container_id: str, resources: Resources) -> None:
        self._found(container_id)

    async def reopen_log(self, container_id: str) -> None:
        self._found(container_id)

    def end(self, container_id: str, exit_code: int, reason: str = "") -> None:
        """For tests: the container's process ends now. `reason` e.g. OOMKilled."""
        self._end(self._found(container_id), exit_code, reason)

    # --- exec and its kin ---

    async def exec_sync(self, container_id: str, command: Sequence[str], timeout: float) -> ExecResult:
        return ExecResult(b"", b"", self._running(container_id).behaviour.exec)

    async def exec(self, container_id: str, command: Sequence[str], *, stdin: bool, tty: bool) -> Streams:
        over = asyncio.Event()
        over.set()
        return _Silence(over, self._running(container_id).behaviour.exec)

    async def attach(self, container_id: str, *, stdin: bool) -> Streams:
        return _Silence(self._running(container_id).ended, 0)

    async def port_forward(self, sandbox_id: str, port: int) -> Streams:
        raise RuntimeFailed(f"nothing listens on port {port} of a simulated pod")

    async def stats(self) -> Sequence[Stats]:
        now = self._clock.now()
        running = [one for one in self._containers.values() if one.status.state is State.RUNNING]
        return [
            Stats(
                container_id=one.status.id,
                at=now,
                cpu_ns=int(one.behaviour.cpu * 1_000_000 * (now - one.status.started_at)),
                memory_usage=one.behaviour.memory,
                memory_working_set=one.behaviour.memory,
            )
            for one in running
        ]

    async def events(self) -> AsyncIterator[ContainerEvent]:
        while True:
            yield await self._events.get()

    # --- images ---

    async def images(self) -> Sequence[Image]:
        return list(self._images.values())

    async def image(self, reference: str) -> Image | None:
        return self._images.get(reference) or next((image for image in self._images.values() if image.id == reference), None)

    async def pull_image(self, reference: str, auth: Auth | None = None) -> str:
        await self._clock.sleep(self._pull)
        if reference.partition("/")[0].partition(":")[0].endswith(".invalid"):
            raise RuntimeFailed(f'failed to pull image "{reference}": no such host', "ErrImagePull")
        digest = f"sha256:{hashlib.sha256(reference.encode()).hexdigest()}"
        repository = reference.partition("@")[0]
        self._images[reference] = Image(digest, (reference,), (f"{repository}@{digest}",), size=1_000_000)
        return digest

    async def remove_image(self, reference: str) -> None:
        image = await self.image(reference)
        self._images = {name: other for name, other in self._images.items() if other is not image}

    async def import_image(self, archive: str) -> Sequence[str]:
        raise RuntimeFailed("the simulated runtime imports no images: it has them all")

    async def image_usage(self) -> Mapping[str, Any]:
        return {"bytes": sum(image.size for image in self._images.values()), "path": ""}

    async def close(self) -> None:
        await self._owner.stop()

    # --- details ---

    def _id(self) -> str:
        return f"{next(self._ids):064x}"

    def _found(self, container_id: str) -> _Simulated:
        if container_id not in self._containers:
            raise NotThere(f"no container {container_id}")
        return self._containers[container_id]

    def _running(self, container_id: str) -> _Simulated:
        one = self._found(container_id)
        if one.status.state is not State.RUNNING:
            raise RuntimeFailed(f"container {container_id} is not running")
        return one

    def _of(self, sandbox_id: str) -> list[_Simulated]:
        return [one for one in self._containers.values() if one.status.sandbox_id == sandbox_id]

    async def _run(self, one: _Simulated, seconds: float) -> None:
        try:
            async with self._clock.timeout(seconds):
                await one.ended.wait()
        except TimeoutError:
            self._end(one, one.behaviour.exit)

    def _end(self, one: _Simulated, exit_code: int, reason: str = "") -> None:
        if one.status.state is not State.RUNNING:
            return
        reason = reason or ("Completed" if exit_code == 0 else "Error")
        one.status = replace(one.status, state=State.EXITED, finished_at=self._clock.now(), exit_code=exit_code, reason=reason)
        one.ended.set()
        self._tell(ContainerEvent(one.status.sandbox_id, one.status.id))

    def _tell(self, event: ContainerEvent) -> None:
        if self._events.full():
            while not self._events.empty():
                self._events.get_nowait()
            event = ContainerEvent("")
        self._events.put_nowait(event)


class _Simulated:
    __slots__ = ("behaviour", "ended", "status")

    def __init__(self, status: Container, behaviour: Behaviour) -> None:
        self.status = status
        self.behaviour = behaviour
        self.ended = asyncio.Event()


class _Silence:
    """Streams of a process that says nothing until it is over."""

    def __init__(self, over: asyncio.Event, exit_code: int) -> None:
        self._over = over
        self._exit_code = exit_code

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        await self._over.wait()
        nothing: tuple[tuple[int, bytes], ...] = ()
        for chunk in nothing:
            yield chunk

    async def write(self, data: bytes) -> None:
        """Nobody reads."""

    async def close_stdin(self) -> None:
        """Nobody reads."""

    async def resize(self, width: int, height: int) -> None:
        """Nobody looks."""

    async def wait(self) -> int:
        await self._over.wait()
        return self._exit_code

    async def close(self) -> None:
        self._over = asyncio.Event()
        self._over.set()


def _append(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(line)
