"""Events from each kind of runtime, against gRPC servers in this process: one with CRI's events (containerd 1.7, CRI-O), one with
containerd's alone (1.6), one with neither."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from minik8s.base.backoff import Backoff
from minik8s.base.clock import RealClock
from minik8s.runtime.base import ContainerEvent, RuntimeFailed, State
from minik8s.runtime.cri import changes
from minik8s.runtime.cri.runtime import CriRuntime, connect
from minik8s.runtime.cri.wire import CONTAINERD, CRI, EVENTS, RUNTIME, RUNTIME_SERVICE

CREATED, RUNNING, EXITED = 0, 1, 2
STARTED, STOPPED, DELETED = 1, 2, 3
SHORT = 0.005
PATIENCE = 20.0


@dataclass
class Fake:
    """A runtime of one sandbox `s` and the containers that a test names; `queue` is what its event stream sends."""

    path: Path
    events: str = ""  # "cri", "cri-off" (CRI-O's way to say so), "containerd" or none
    containers: dict[str, int] = field(default_factory=dict)
    lists: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    queue: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)
    server: Any = None

    async def start(self) -> None:
        self.server = grpc.aio.server()
        answers = {
            "Version": partial(self._same, CRI["VersionResponse"](runtime_name="fake", runtime_version="1")),
            "ListPodSandbox": partial(self._same, CRI["ListPodSandboxResponse"](items=[CRI["PodSandbox"](id="s")])),
            "ListContainers": self._list,
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                answer, CRI[RUNTIME[name][0]].FromString, CRI[RUNTIME[name][1]].SerializeToString
            )
            for name, answer in answers.items()
        }
        if self.events.startswith("cri"):
            handlers["GetContainerEvents"] = grpc.unary_stream_rpc_method_handler(
                self._stream if self.events == "cri" else self._nothing,
                CRI["Empty"].FromString,
                CRI["ContainerEventResponse"].SerializeToString,
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

    async def listed(self, times: int) -> None:
        """Returns once containers were listed so often from now on."""
        wanted = self.lists + times
        async with asyncio.timeout(PATIENCE), self.changed:
            await self.changed.wait_for(lambda: self.lists >= wanted)

    async def _list(self, _request: Any, _context: Any) -> Any:
        async with self.changed:
            self.lists += 1
            self.changed.notify_all()
        found = [CRI["Container"](id=key, pod_sandbox_id="s", state=state) for key, state in self.containers.items()]
        return CRI["ListContainersResponse"](containers=found)

    async def _same(self, answer: Any, _request: Any, _context: Any) -> Any:
        return answer

    async def _nothing(self, _request: Any, _context: Any) -> AsyncIterator[Any]:
        for never in ():
            yield never

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
    """A reader of events that a test can ask for the next, or whether there was one."""

    def __init__(self, fake: Fake, runtime: CriRuntime) -> None:
        self._fake, self._events = fake, runtime.events()
        self._told: asyncio.Queue[tuple[ContainerEvent, int]] = asyncio.Queue()
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        async for event in self._events:
            self._told.put_nowait((event, self._fake.lists))

    async def begin(self) -> None:
        """Where a source turns out not to be there only once it began, the next begins too; each but CRI's with a list."""
        while True:
            event, lists = await self._next()
            assert event == ContainerEvent("")
            if lists == {"cri": 0, "cri-off": 2, "containerd": 1, "": 2}[self._fake.events]:
                return

    async def next(self) -> ContainerEvent:
        return (await self._next())[0]

    async def after_gaps(self) -> ContainerEvent:
        """The next that has an id."""
        while not (found := await self.next()).sandbox_id:
            pass
        return found

    async def nothing(self) -> None:
        """Nothing is told, although the state was looked at twice from now on."""
        await self._fake.listed(2)
        assert self._told.empty()

    async def _next(self) -> tuple[ContainerEvent, int]:
        async with asyncio.timeout(PATIENCE):
            return await self._told.get()

    async def close(self) -> None:
        self._reading.cancel()
        with suppress(asyncio.CancelledError):
            await self._reading


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "RELIST", SHORT)
    monkeypatch.setattr(changes, "SETTLE", Backoff(initial=SHORT, maximum=SHORT))


async def test_cri_s_own_events(tmp_path: Path) -> None:
    """What the kubelet did itself (created, started) is not told it; nothing is listed."""
    async with faked(tmp_path, "cri") as (fake, runtime):
        follower = Follower(fake, runtime)
        await follower.begin()
        fake.tell("a", STARTED)
        fake.tell("a", STOPPED)
        fake.tell("b", DELETED)
        assert await follower.next() == ContainerEvent("s", "a")
        assert await follower.next() == ContainerEvent("s", "b")
        assert fake.lists == 0
        await follower.close()


@pytest.mark.parametrize("before", [CREATED, RUNNING])
async def test_containerd_s_exits_are_told_once_cri_shows_them(tmp_path: Path, before: int) -> None:
    """A process may end before CRI has seen it run (golden node case np-onfailure-once)."""
    async with faked(tmp_path, "containerd", a=before, b=RUNNING, c=RUNNING) as (fake, runtime):
        follower = Follower(fake, runtime)
        await follower.begin()
        fake.exit("a")
        await follower.nothing()
        fake.containers["a"] = EXITED
        assert await follower.next() == ContainerEvent("s", "a")
        listed = fake.lists
        fake.exit("c", process="an-exec")
        fake.exit("not-ours")
        await fake.listed(1)
        del fake.containers["b"]
        fake.exit("b")
        await fake.listed(1)
        assert fake.lists == listed + 2, "nothing is listed while nothing is waited for"
        fake.containers["c"] = EXITED
        fake.exit("c")
        assert await follower.next() == ContainerEvent("s", "c")
        await follower.close()


async def test_an_event_may_be_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evented PLEG's own relist (KEP-3386)."""
    monkeypatch.setattr(changes, "LOOK_AT_ALL", 10 * SHORT)
    async with faked(tmp_path, "cri", a=RUNNING) as (fake, runtime):
        follower = Follower(fake, runtime)
        await follower.begin()
        assert await follower.next() == ContainerEvent("")
        fake.tell("a", STOPPED)
        assert await follower.after_gaps() == ContainerEvent("s", "a")
        await follower.close()


@pytest.mark.parametrize("events", ["", "cri-off"])
async def test_lists_where_there_are_no_events(tmp_path: Path, events: str) -> None:
    async with faked(tmp_path, events, a=RUNNING, quick=CREATED) as (fake, runtime):
        follower = Follower(fake, runtime)
        await follower.begin()
        await follower.nothing()
        fake.containers["a"] = EXITED
        assert await follower.next() == ContainerEvent("s", "a")
        fake.containers["b"] = RUNNING
        assert await follower.next() == ContainerEvent("s", "b")
        fake.containers["quick"] = EXITED
        assert await follower.next() == ContainerEvent("s", "quick")
        del fake.containers["a"]
        assert await follower.next() == ContainerEvent("s", "a")
        await follower.close()


@pytest.mark.parametrize("events", ["cri", "containerd", ""])
async def test_after_a_restart_there_is_an_event_without_an_id(tmp_path: Path, events: str) -> None:
    async with faked(tmp_path, events, a=RUNNING) as (fake, runtime):
        follower = Follower(fake, runtime)
        await follower.begin()
        await fake.server.stop(None)
        with pytest.raises(RuntimeFailed):
            await runtime.version()
        assert "container runtime is down" in await runtime.ready()
        await fake.start()
        assert await follower.next() == ContainerEvent("")
        fake.containers["a"] = EXITED
        fake.tell("a", STOPPED) if events == "cri" else fake.exit("a")
        assert await follower.after_gaps() == ContainerEvent("s", "a")
        assert await runtime.version() == "1"
        await follower.close()


def test_comparing() -> None:
    new, runs, ended = State.CREATED, State.RUNNING, State.EXITED
    before = {"a": ("s", runs), "b": ("s", runs), "c": ("t", ended), "e": ("v", new)}
    now = {"a": ("s", ended), "b": ("s", runs), "d": ("u", runs), "e": ("v", ended)}
    told = sorted((event.sandbox_id, event.container_id) for event in changes.compare(before, now))
    assert told == [("s", "a"), ("t", "c"), ("u", "d"), ("v", "e")]


async def test_a_runtime_that_takes_no_archives_says_so(tmp_path: Path) -> None:
    from minik8s.runtime.cri import pause

    (tmp_path / "x.tar").write_bytes(pause.archive())
    async with faked(tmp_path, "cri") as (_, runtime):
        with pytest.raises(RuntimeFailed, match="takes no image archives over its socket"):
            await runtime.import_image(str(tmp_path / "x.tar"))


async def test_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailed):
        await connect(str(tmp_path / "nothing"), RealClock())
