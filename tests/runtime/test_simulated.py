"""The simulated runtime keeps the contract of runtime/base.py, in no time."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from minik8s.runtime.base import ContainerConfig, NotThere, Runtime, RuntimeFailed, SandboxConfig, State
from minik8s.runtime.simulated import ANNOTATION, Behaviour, SimulatedRuntime, addresses, behaviour_of
from minik8s.testing.clock import VirtualClock


@pytest.fixture
async def runtime(clock: VirtualClock) -> AsyncIterator[SimulatedRuntime]:
    runtime = SimulatedRuntime(clock)
    yield runtime
    await runtime.close()


def sandbox(told: str = "", **annotations: str) -> SandboxConfig:
    annotations = {ANNOTATION: told, **annotations} if told else annotations
    return SandboxConfig("web", "shop", "uid-1", 0, "web", "/nowhere", "", annotations=annotations, labels={"a": "b"})


async def start(runtime: SimulatedRuntime, told: str = "", name: str = "c", config: SandboxConfig | None = None) -> str:
    config = config or sandbox(told)
    sandbox_id = await runtime.run_sandbox(config)
    image = await runtime.pull_image("nginx:1")
    container_id = await runtime.create_container(
        sandbox_id, ContainerConfig(name, 0, image, "nginx:1", log_path="c/0.log"), config
    )
    await runtime.start_container(container_id)
    return container_id


async def test_it_is_a_runtime(runtime: SimulatedRuntime) -> None:
    given: Runtime = runtime
    assert await given.ready() == ""


async def test_life(runtime: SimulatedRuntime, clock: VirtualClock) -> None:
    container_id = await start(runtime)
    status = await runtime.container(container_id)
    assert (status.state, status.image, status.labels) == (State.RUNNING, "nginx:1", {})
    box = await runtime.sandbox(status.sandbox_id)
    assert (box.ips, box.labels, box.ready) == (("10.128.0.1",), {"a": "b"}, True)
    await clock.advance("24h")
    assert (await runtime.container(container_id)).state is State.RUNNING
    await runtime.stop_container(container_id, 30)
    status = await runtime.container(container_id)
    assert (status.state, status.exit_code, status.reason, clock.monotonic()) == (State.EXITED, 143, "Error", 86400)
    await runtime.stop_sandbox(status.sandbox_id)
    await runtime.remove_sandbox(status.sandbox_id)
    assert not await runtime.containers()
    assert not await runtime.sandboxes()


@pytest.mark.parametrize(
    ("told", "seconds", "code", "reason"),
    [("run=10s", 10, 0, "Completed"), ("run=1m exit=3", 60, 3, "Error"), ("start=2s run=500ms", 2.5, 0, "Completed")],
)
async def test_ending_by_itself(
    runtime: SimulatedRuntime, clock: VirtualClock, told: str, seconds: float, code: int, reason: str
) -> None:
    container_id = await start(runtime, told)
    await clock.advance(100)
    status = await runtime.container(container_id)
    assert (status.state, status.exit_code, status.reason) == (State.EXITED, code, reason)
    assert status.finished_at - status.created_at == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("told", "grace", "code", "seconds"), [("stop=5s", 30, 143, 5), ("stop=60s", 30, 137, 30), ("run=1h stop=1s", 30, 0, 1)]
)
async def test_stopping(
    runtime: SimulatedRuntime, clock: VirtualClock, told: str, grace: float, code: int, seconds: float
) -> None:
    container_id = await start(runtime, told)
    await runtime.stop_container(container_id, grace)
    assert ((await runtime.container(container_id)).exit_code, clock.monotonic()) == (code, seconds)


@pytest.mark.parametrize("call", ["sandbox", "create", "start"])
async def test_failing(runtime: SimulatedRuntime, call: str) -> None:
    with pytest.raises(RuntimeFailed, match=f"simulated failure of the {call.replace('create', 'creation')}"):
        await start(runtime, f"fail={call}")


async def test_one_container_of_a_pod(runtime: SimulatedRuntime, clock: VirtualClock) -> None:
    config = sandbox("run=5s", **{f"{ANNOTATION}.slow": "run=50s"})
    quick, slow = await start(runtime, name="quick", config=config), await start(runtime, name="slow", config=config)
    await clock.advance(10)
    assert [(await runtime.container(i)).state for i in (quick, slow)] == [State.EXITED, State.RUNNING]


async def test_what_is_told_must_be_readable() -> None:
    assert behaviour_of({}, "c", Behaviour(run=1)) == Behaviour(run=1)
    for told in ("run", "walk=5s", "run=soon", "exit=-1", "cpu=much", "memory=1.5Gi"):
        with pytest.raises(RuntimeFailed, match=ANNOTATION):
            behaviour_of({ANNOTATION: told}, "c")


async def test_what_it_uses(runtime: SimulatedRuntime, clock: VirtualClock) -> None:
    await start(runtime, "cpu=250m memory=64Mi")
    await clock.advance(10)
    (used,) = await runtime.stats()
    assert (used.cpu_ns, used.memory_working_set) == (2_500_000_000, 64 << 20)
    assert behaviour_of({ANNOTATION: "cpu=2 memory=5"}, "c") == Behaviour(cpu=2000, memory=5)


async def test_events(runtime: SimulatedRuntime, clock: VirtualClock) -> None:
    seen = []

    async def follow() -> None:
        async for event in runtime.events():
            seen.append((event.container_id, clock.monotonic()))

    task = asyncio.create_task(follow())
    one = await start(runtime, "run=10s")
    two = await start(runtime)
    runtime.end(two, 137, "OOMKilled")
    await clock.advance(20)
    assert seen == [(one, 0), (two, 0), (two, 0), (one, 10)]
    assert (await runtime.container(two)).reason == "OOMKilled"
    task.cancel()


async def test_missed_events_become_one(runtime: SimulatedRuntime) -> None:
    for _ in range(1100):
        await start(runtime)
    event = await anext(runtime.events())
    assert event.sandbox_id == ""


async def test_exec_and_attach(runtime: SimulatedRuntime, clock: VirtualClock) -> None:
    container_id = await start(runtime, "exec=7 run=9s")
    assert (await runtime.exec_sync(container_id, ["ls"], 1)).exit_code == 7
    streams = await runtime.exec(container_id, ["sh"], stdin=False, tty=False)
    assert [chunk async for chunk in streams.output()] == []
    assert await streams.wait() == 7
    attached = await runtime.attach(container_id, stdin=False)
    assert await attached.wait() == 0
    assert clock.monotonic() == 9
    with pytest.raises(RuntimeFailed, match="not running"):
        await runtime.exec_sync(container_id, ["ls"], 1)


async def test_images(runtime: SimulatedRuntime) -> None:
    assert await runtime.image("a:1") is None
    image_id = await runtime.pull_image("a:1")
    for reference in ("a:1", image_id):
        found = await runtime.image(reference)
        assert found is not None
        assert found.tags == ("a:1",)
    await runtime.remove_image("a:1")
    assert not await runtime.images()
    with pytest.raises(RuntimeFailed, match="no such host"):
        await runtime.pull_image("registry.invalid/a:1")


async def test_a_log_where_one_is_asked_for(runtime: SimulatedRuntime, tmp_path: Path) -> None:
    config = SandboxConfig("p", "n", "u", 0, "p", str(tmp_path), "", annotations={ANNOTATION: "log=hello"})
    (tmp_path / "c").mkdir()
    await start(runtime, config=config)
    assert (tmp_path / "c" / "0.log").read_text() == "2026-01-01T00:00:00.000000Z stdout F hello\n"


async def test_idempotence(runtime: SimulatedRuntime) -> None:
    await runtime.stop_container("gone", 1)
    await runtime.remove_container("gone")
    await runtime.stop_sandbox("gone")
    await runtime.remove_sandbox("gone")
    with pytest.raises(NotThere):
        await runtime.container("gone")
    with pytest.raises(NotThere):
        await runtime.sandbox("gone")


async def test_nodes_share_addresses(clock: VirtualClock) -> None:
    shared = addresses("10.0.0.0/24")
    runtimes = [SimulatedRuntime(clock, shared) for _ in range(3)]
    ids = [await runtime.run_sandbox(sandbox()) for runtime in runtimes]
    ips = [(await runtime.sandbox(id_)).ips[0] for runtime, id_ in zip(runtimes, ids, strict=True)]
    assert ips == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
