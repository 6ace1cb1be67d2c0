"""What outlives whom: containers outlive the agent and even the node process (design.md, "Who parents the containers")."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from runtime_bench import CGROUP, IMAGE, Bench, Counted, end_node, log_text, removed, wait_for

from minik8s.base.clock import RealClock
from minik8s.runtime.base import NamespaceMode, Namespaces, RuntimeFailed, State
from minik8s.runtime.embedded.linux import start_time
from minik8s.runtime.embedded.runtime import EmbeddedRuntime

pytestmark = pytest.mark.root


@pytest.fixture
async def own(tmp_path: Path, busybox_archive: Path) -> AsyncIterator[Bench]:
    """A runtime with a node process that the test may kill."""
    if os.geteuid() != 0:
        pytest.skip("needs root: namespaces, mounts and cgroups are made")
    runtime = EmbeddedRuntime(tmp_path / "e", RealClock())
    await runtime.import_image(str(busybox_archive))
    tested = Bench(runtime, tmp_path / "logs")
    yield tested
    await tested.clear()
    await end_node(tested.runtime)
    counted = Counted.now(os.getpid(), tmp_path / "e")
    assert (counted.mounts, counted.cgroups) == ((), ())


async def again(bench: Bench, directory: Path) -> EmbeddedRuntime:
    """The agent ends without a word, another one starts."""
    await bench.runtime.close()
    bench.runtime = EmbeddedRuntime(directory, RealClock())
    return bench.runtime


async def test_what_ends_while_no_agent_is_there(own: Bench, tmp_path: Path) -> None:
    pod = await own.pod(labels={"app": "x"})
    runs = await own.start(pod, "sleep 300", "runs")
    ends = await own.start(pod, "sleep 0.3; echo last words; exit 42", "ends")
    node = (await own.runtime._link.call("hello"))["pid"]
    runtime = await again(own, tmp_path / "e")
    await asyncio.sleep(0.5)
    assert (await runtime._link.call("hello"))["pid"] == node, "the same node process is found again"
    assert (await runtime.sandbox(pod)).ready
    assert (await runtime.container(runs)).state is State.RUNNING
    ended = await runtime.container(ends)
    assert (ended.state, ended.exit_code, ended.reason, log_text(ended)) == (State.EXITED, 42, "Error", "last words\n")
    assert (await runtime.image(IMAGE)) is not None


async def test_the_node_process_is_killed(own: Bench, tmp_path: Path) -> None:
    """Its containers run on, and their output waits for the next one; only of what ends between the two is the exit code lost."""
    pod = await own.pod()
    runs = await own.start(pod, "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done", "runs")
    ends = await own.start(pod, "trap 'echo bye; exit 42' TERM; while :; do sleep 0.05; done", "ends")
    gone = await own.start(pod, "sleep 0.3; exit 1", "gone")
    node = (await own.runtime._link.call("hello"))["pid"]
    events = own.runtime.events()
    told = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0.1)
    await own.runtime.close()
    os.kill(node, signal.SIGKILL)
    wait_for(lambda: not start_time(node))
    told.cancel()
    await asyncio.sleep(0.5)
    runtime = await again(own, tmp_path / "e")
    assert (await runtime._link.call("hello"))["pid"] != node
    assert (await runtime.sandbox(pod)).ready
    assert (await runtime.container(runs)).state is State.RUNNING
    lost = await runtime.container(gone)
    assert (lost.state, lost.exit_code, lost.reason) == (State.EXITED, 255, "Unknown")
    await runtime.stop_container(ends, 5)
    stopped = await runtime.container(ends)
    assert (stopped.exit_code, stopped.reason, log_text(stopped)) == (42, "Error", "bye\n")
    assert (await runtime.exec_sync(runs, ["echo", "hello"], 5)).stdout == b"hello\n"
    await runtime.stop_container(runs, 0)
    lines = log_text(await runtime.container(runs)).split()
    numbers = [int(number) for number in lines[1::2]]
    assert numbers == list(range(1, len(numbers) + 1)), "no line is lost or repeated"
    assert len(numbers) > 10
    await runtime.remove_sandbox(pod)


async def test_a_node_process_that_dies_is_replaced(own: Bench) -> None:
    pod = await own.pod()
    container = await own.start(pod, "sleep 300")
    events = own.runtime.events()
    first = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0.05)
    node = (await own.runtime._link.call("hello"))["pid"]
    os.kill(node, signal.SIGKILL)
    async with asyncio.timeout(5):
        event = await first
    assert (event.sandbox_id, event.container_id) == ("", ""), "look at all: something may have been missed"
    assert (await own.runtime.container(container)).state is State.RUNNING
    await events.aclose()


async def test_after_a_reboot(own: Bench, tmp_path: Path) -> None:
    """Another boot id: all has ended, whoever has the pids now."""
    pod = await own.pod()
    lost = await own.start(pod, "sleep 300", "lost")
    known = await own.start(pod, "exit 3", "known")
    await own.ended(known)
    node = (await own.runtime._link.call("hello"))["pid"]
    await own.runtime.close()
    stranger = await asyncio.create_subprocess_exec("sleep", "300")
    strange = {"boot": "the one before", "pid": stranger.pid, "starttime": start_time(stranger.pid)}
    records = {path: json.loads(path.read_text()) for path in (tmp_path / "e").glob("*/*/record.json")}
    for pid in (node, *(record["pid"] for record in records.values() if record["pid"])):
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda pid=pid: not start_time(pid))
    for path, record in records.items():
        path.write_text(json.dumps({**record, **strange}))
    runtime = await again(own, tmp_path / "e")
    assert not (await runtime.sandbox(pod)).ready
    found = {one.name: one for one in await runtime.containers(pod)}
    assert (found["lost"].state, found["lost"].exit_code, found["lost"].reason) == (State.EXITED, 255, "Unknown")
    assert (found["known"].state, found["known"].exit_code, found["known"].reason) == (State.EXITED, 3, "Error")
    assert {one.id for one in found.values()} == {lost, known}
    await runtime.remove_sandbox(pod)
    assert stranger.returncode is None
    stranger.kill()
    await stranger.wait()


async def test_an_agent_that_ends_before_a_sandbox_has_its_address(own: Bench, tmp_path: Path) -> None:
    """It is nobody's to run in, and what it has of an address is taken back."""
    begun, detached = asyncio.Event(), []

    async def attach(sandbox_id: str, netns: str) -> list[str]:
        begun.set()
        await asyncio.sleep(60)
        return []

    async def detach(sandbox_id: str, netns: str) -> None:
        detached.append(sandbox_id)

    await own.runtime.close()
    own.runtime = EmbeddedRuntime(tmp_path / "e", RealClock(), attach=attach, detach=detach)
    making = asyncio.ensure_future(own.pod())
    await begun.wait()
    making.cancel()
    await asyncio.wait([making])
    await own.runtime.close()
    own.runtime = EmbeddedRuntime(tmp_path / "e", RealClock(), attach=attach, detach=detach)
    [left] = await own.runtime.sandboxes()
    assert not left.ready
    assert not (await own.runtime.sandbox(left.id)).ready
    await own.runtime.remove_sandbox(left.id)
    assert detached == [left.id]
    assert not await own.runtime.sandboxes()
    ready = await own.pod("host", namespaces=Namespaces(network=NamespaceMode.NODE))
    assert (await own.runtime.sandbox(ready)).ready


async def test_who_reads_too_slowly_is_told_to_look_at_all(own: Bench, tmp_path: Path) -> None:
    """An agent that starts many pods asks for more than it reads: its line stays."""
    await own.pod("first", annotations={"long": "x" * 100_000})
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "e/node.sock"), limit=1 << 18)
    writer.write(b'{"id": 0, "call": "watch"}\n' + b'{"id": 1, "call": "list", "sandbox": ""}\n' * 60)
    await writer.drain()
    await own.pod("second")
    await own.pod("third")
    events = []
    async with asyncio.timeout(20):
        while (event := json.loads(await reader.readline()).get("event", {"sandbox": "an answer"})) != {
            "sandbox": "",
            "container": "",
        }:
            events.append(event)
    assert len(events) >= 60
    fourth = await own.pod("fourth")
    assert json.loads(await reader.readline())["event"]["sandbox"] == fourth
    writer.close()


async def test_a_full_disk(tmp_path: Path, busybox_archive: Path) -> None:
    """What ends is told all the same, and nothing hangs."""
    if os.geteuid() != 0:
        pytest.skip("needs root: a small file system is mounted")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "small", small], check=True)
    full = Bench(EmbeddedRuntime(small / "e", RealClock()), small / "logs")
    try:
        await full.runtime.import_image(str(busybox_archive))
        pod = await full.pod()
        ends = await full.start(pod, "read x; yes | head -c 100000; exit 3", "ends", stdin=True)
        stopped = await full.start(pod, "sleep 300", "stopped")
        with pytest.raises(OSError, match="No space left"):
            (small / "filler").write_bytes(bytes(9 << 20))
        streams = await full.runtime.attach(ends, stdin=True)
        await streams.write(b"go\n")
        assert (await full.ended(ends)).exit_code == 3
        await full.runtime.stop_container(stopped, 0)
        assert (await full.runtime.container(stopped)).exit_code == 137
        with pytest.raises(RuntimeFailed, match="No space left"):
            await full.pod("more")
        (small / "filler").unlink()
        assert log_text(await full.ended(await full.start(pod, "echo again", "again"))) == "again\n"
    finally:
        (small / "filler").unlink(missing_ok=True)
        await full.clear()
        await end_node(full.runtime)
        subprocess.run(["umount", "-l", small], check=True)


async def test_one_node_process_a_directory(own: Bench, tmp_path: Path) -> None:
    await own.runtime.ready()
    process = await asyncio.create_subprocess_exec(
        "python3", "-I", "-S", "minik8s/runtime/embedded/node.py", str(tmp_path / "e"), stderr=asyncio.subprocess.PIPE
    )
    _, error = await process.communicate()
    assert process.returncode == 1
    assert error.decode() == f"a node process already runs on {tmp_path / 'e'}\n"


async def test_the_node_process_ends_when_nobody_needs_it(own: Bench, tmp_path: Path) -> None:
    pod = await own.pod()
    hello = await own.runtime._link.call("hello")
    assert list(Path("/sys/fs/cgroup").glob(f"*{hello['cgroup']}"))
    runtime = await again(own, tmp_path / "e")
    await asyncio.sleep(6)  # the node process' own time
    assert (await runtime._link.call("hello"))["pid"] == hello["pid"], "it has a pod"
    await runtime.remove_sandbox(pod)
    await runtime.close()
    await asyncio.to_thread(wait_for, lambda: not start_time(hello["pid"]), 30)
    assert not list(Path("/sys/fs/cgroup").glob(f"*{hello['cgroup']}"))
    runtime = await again(own, tmp_path / "e")
    assert await runtime.sandboxes() == []


async def test_all_ends_when_its_directory_is_deleted(tmp_path: Path, busybox_archive: Path) -> None:
    """A cluster is removed by removing its data directory: no agent comes back to what ran there."""
    if os.geteuid() != 0:
        pytest.skip("needs root: namespaces, mounts and cgroups are made")
    runtime = EmbeddedRuntime(tmp_path / "e", RealClock())
    await runtime.import_image(str(busybox_archive))
    bench = Bench(runtime, tmp_path / "logs")
    container = await bench.start(await bench.pod(), "sleep 300")
    hello = await runtime._link.call("hello")
    pid = next(one["pid"] for one in (await runtime._list())["containers"] if one["id"] == container)
    await runtime.close()
    shutil.rmtree(tmp_path / "e")
    await asyncio.to_thread(wait_for, lambda: not start_time(pid), 30)
    await asyncio.to_thread(wait_for, lambda: not start_time(hello["pid"]), 30)
    for group in (hello["cgroup"], f"{CGROUP}/pod"):
        assert not list(Path("/sys/fs/cgroup").glob(f"*{group}"))
    assert all(removed(group) for group in Path("/sys/fs/cgroup").glob(f"*{CGROUP}"))
