"""Events from each kind of runtime, against gRPC servers in this process: one with CRI's events (containerd 1.7, CRI-O), one with
containerd's alone (1.6), one with neither."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from minik8s.base.clock import RealClock
from minik8s.runtime.base import ContainerEvent, RuntimeFailed
from minik8s.runtime.cri import changes
from minik8s.runtime.cri.runtime import CriRuntime, connect
from minik8s.runtime.cri.wire import CONTAINERD, CRI, EVENTS, RUNTIME, RUNTIME_SERVICE

RUNNING, EXITED = 1, 2
STARTED, STOPPED, DELETED = 1, 2, 3
SHORT = 0.02


@dataclass
class Fake:
    """A runtime of one sandbox `s` and the containers that a test names; `queue` is what its event stream sends."""

    path: Path
    events: str = ""  # "cri", "containerd" or none
    containers: dict[str, int] = field(default_factory=dict)
    lists: int = 0
    queue: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)
    server: Any = None

    async def start(self) -> None:
        self.server = grpc.aio.server()
        answers = {
            "Version": lambda: CRI["VersionResponse"](runtime_name="fake", runtime_version="1"),
            "ListPodSandbox": lambda: CRI["ListPodSandboxResponse"](items=[CRI["PodSandbox"](id="s")]),
            "ListContainers": self._list,
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                self._answer(answer), CRI[RUNTIME[name][0]].FromString, CRI[RUNTIME[name][1]].SerializeToString
            )
            for name, answer in answers.items()
        }
        if self.events == "cri":
            handlers["GetContainerEvents"] = grpc.unary_stream_rpc_method_handler(
                self._stream, CRI["Empty"].FromString, CRI["ContainerEventResponse"].SerializeToString
            )
        services = [grpc.method_handlers_generic_handler(RUNTIME_SERVICE, handlers)]
        if self.events == "containerd":
            subscribe = grpc.unary_stream_rpc_method_handler(
                self._stream, CONTAINERD[EVENTS["Subscribe"][0]].FromString, CONTAINERD["Envelope"].SerializeToString
            )
            services.append(
                grpc.method_handlers_generic_handler("containerd.services.events.v1.Events", {"Subscribe": subscribe})
            )
        self.server.add_generic_rpc_handlers(services)
        self.server.add_insecure_port(f"unix:{self.path}")
        await self.server.start()

    def tell(self, container: str, kind: int) -> None:
        status = CRI["PodSandboxStatus"](id="s")
        self.queue.put_nowait(
            CRI["ContainerEventResponse"](container_id=container, container_event_type=kind, pod_sandbox_status=status)
        )

    def exit(self, container: str, process: str = "") -> None:
        value = CONTAINERD["TaskExit"](container_id=container, id=process or container).SerializeToString()
        event = CONTAINERD["Any"](type_url="containerd.events.TaskExit", value=value)
        self.queue.put_nowait(CONTAINERD["Envelope"](namespace="k8s.io", topic="/tasks/exit", event=event))

    def _list(self) -> Any:
        self.lists += 1
        found = [CRI["Container"](id=key, pod_sandbox_id="s", state=state) for key, state in self.containers.items()]
        return CRI["ListContainersResponse"](containers=found)

    def _answer(self, answer: Any) -> Any:
        async def method(_request: Any, _context: Any) -> Any:
            return answer()

        return method

    async def _stream(self, _request: Any, _context: Any) -> AsyncIterator[Any]:
        while True:
            yield await self.queue.get()


@asynccontextmanager
async def faked(tmp_path: Path, events: str, **containers: int) -> AsyncIterator[tuple[Fake, CriRuntime]]:
    fake = Fake(tmp_path / "s", events, dict(containers))
    await fake.start()
    runtime = await connect(str(fake.path), RealClock())
    yield fake, runtime
    await runtime.close()
    await fake.server.stop(None)


class Follower:
    """A reader of events that a test can ask for the next, or that there is none."""

    def __init__(self, runtime: CriRuntime) -> None:
        self.events: Any = runtime.events()
        self.pending = asyncio.ensure_future(anext(self.events))

    async def begin(self) -> None:
        """Where a source turns out not to be there only once it began, the next begins too."""
        assert await self.next() == ContainerEvent("")
        await asyncio.sleep(5 * SHORT)
        if self.pending.done():
            assert await self.next() == ContainerEvent("")

    async def next(self, seconds: float = 5.0) -> ContainerEvent:
        async with asyncio.timeout(seconds):
            found: ContainerEvent = await self.pending
        self.pending = asyncio.ensure_future(anext(self.events))
        return found

    async def nothing(self) -> None:
        await asyncio.sleep(5 * SHORT)
        assert not self.pending.done()

    async def close(self) -> None:
        self.pending.cancel()
        with suppress(asyncio.CancelledError):
            await self.pending
        await self.events.aclose()


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "RELIST", SHORT)


async def test_cri_s_own_events(tmp_path: Path) -> None:
    """What the kubelet did itself (created, started) is not told it; nothing is listed."""
    async with faked(tmp_path, "cri") as (fake, runtime):
        follower = Follower(runtime)
        await follower.begin()
        fake.tell("a", STARTED)
        fake.tell("a", STOPPED)
        fake.tell("b", DELETED)
        assert await follower.next() == ContainerEvent("s", "a")
        assert await follower.next() == ContainerEvent("s", "b")
        await follower.nothing()
        assert fake.lists == 0
        await follower.close()


async def test_containerd_s_exits_are_told_once_cri_shows_them(tmp_path: Path) -> None:
    async with faked(tmp_path, "containerd", a=RUNNING, b=RUNNING) as (fake, runtime):
        follower = Follower(runtime)
        await follower.begin()
        fake.exit("a", process="an-exec")
        await follower.nothing()
        fake.exit("a")
        await follower.nothing()
        fake.containers["a"] = EXITED
        assert await follower.next() == ContainerEvent("s", "a")
        listed = fake.lists
        await follower.nothing()
        assert fake.lists == listed
        fake.exit("not-ours")
        del fake.containers["b"]
        fake.exit("b")
        await follower.nothing()
        await follower.close()


async def test_lists_where_there_are_no_events(tmp_path: Path) -> None:
    async with faked(tmp_path, "", a=RUNNING) as (fake, runtime):
        follower = Follower(runtime)
        await follower.begin()
        await follower.nothing()
        fake.containers["a"] = EXITED
        assert await follower.next() == ContainerEvent("s", "a")
        fake.containers["b"] = RUNNING
        assert await follower.next() == ContainerEvent("s", "b")
        del fake.containers["a"]
        assert await follower.next() == ContainerEvent("s", "a")
        await follower.close()


@pytest.mark.parametrize("events", ["cri", "containerd", ""])
async def test_after_a_restart_there_is_one_event_without_an_id(tmp_path: Path, events: str) -> None:
    async with faked(tmp_path, events, a=RUNNING) as (fake, runtime):
        follower = Follower(runtime)
        await follower.begin()
        await follower.nothing()
        await fake.server.stop(None)
        await asyncio.sleep(0.1)
        with pytest.raises(RuntimeFailed):
            await runtime.version()
        assert "container runtime is down" in await runtime.ready()
        fake.containers["a"] = EXITED
        await fake.start()
        assert await follower.next() == ContainerEvent("")
        await follower.nothing()
        assert await runtime.version() == "1"
        await follower.close()


def test_comparing() -> None:
    before = {"a": ("s", True), "b": ("s", True), "c": ("t", False)}
    now = {"a": ("s", False), "b": ("s", True), "d": ("u", True)}
    assert sorted((e.sandbox_id, e.container_id) for e in changes.compare(before, now)) == [("s", "a"), ("t", "c"), ("u", "d")]


async def test_a_runtime_that_takes_no_archives_says_so(tmp_path: Path) -> None:
    from minik8s.runtime.cri import pause

    (tmp_path / "x.tar").write_bytes(pause.archive())
    async with faked(tmp_path, "cri") as (_, runtime):
        with pytest.raises(RuntimeFailed, match="takes no image archives over its socket"):
            await runtime.import_image(str(tmp_path / "x.tar"))


async def test_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailed):
        await connect(str(tmp_path / "nothing"), RealClock())
