"""The contract (runtime/base.py) on every runtime that really runs containers: what the kubelet counts on. Each runtime's own ways are in
its own tests."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from runtime_bench import IMAGE, PATIENCE, Bench, log_text

from minik8s.runtime.base import (
    Dns,
    Mount,
    NamespaceMode,
    Namespaces,
    NotThere,
    Resources,
    RuntimeFailed,
    Security,
    State,
    Streams,
)

pytestmark = [pytest.mark.root, pytest.mark.e2e]


@pytest.fixture(params=["bench", "cri_bench"], ids=["embedded", "containerd"])
def any_bench(request: pytest.FixtureRequest) -> Bench:
    found: Bench = request.getfixturevalue(request.param)
    return found


async def gather(streams: Streams) -> tuple[bytes, bytes, int]:
    found = {1: bytearray(), 2: bytearray()}
    async with asyncio.timeout(10):
        async for stream, data in streams.output():
            found[stream] += data
        code = await streams.wait()
    await streams.close()
    return bytes(found[1]), bytes(found[2]), code


async def test_it_is_ready_and_has_a_name(any_bench: Bench) -> None:
    assert any_bench.runtime.name in ("minik8s", "containerd")
    assert (await any_bench.runtime.version())[0].isdigit()
    assert await any_bench.runtime.ready() == ""


async def test_a_pod_s_life(any_bench: Bench) -> None:
    """Statuses of sandbox and container from creation to removal; all that stops or removes may be done again."""
    runtime = any_bench.runtime
    pod = await any_bench.pod(labels={"a": "b"}, annotations={"c": "d"})
    container = await any_bench.create(pod, "echo out; echo err >&2; printf part; exit 3", labels={"e": "f"})
    sandbox = await runtime.sandbox(pod)
    assert (sandbox.ready, sandbox.labels, sandbox.annotations, sandbox.name) == (True, {"a": "b"}, {"c": "d"}, "pod")
    [found] = await runtime.containers(pod)
    assert (found.id, found.state, found.labels, found.image, found.sandbox_id) == (
        container,
        State.CREATED,
        {"e": "f"},
        IMAGE,
        pod,
    )
    await runtime.start_container(container)
    ended = await any_bench.ended(container)
    assert (ended.state, ended.exit_code, ended.reason, ended.message) == (State.EXITED, 3, "Error", "")
    assert ended.created_at < min(ended.started_at, ended.finished_at)
    lines = sorted(line.split(" ", 1)[1] for line in Path(ended.log_path).read_text().splitlines())
    assert lines == ["stderr F err", "stdout F out", "stdout P part"]
    assert [one.id for one in await runtime.containers()] == [container]
    await runtime.stop_sandbox(pod)
    assert not (await runtime.sandbox(pod)).ready
    assert [one.ready for one in await runtime.sandboxes()] == [False]
    for _ in range(2):
        await runtime.stop_container(container, 0)
        await runtime.remove_container(container)
    for _ in range(2):
        await runtime.stop_sandbox(pod)
        await runtime.remove_sandbox(pod)
    for call in (runtime.sandbox(pod), runtime.container(container), runtime.start_container(container)):
        with pytest.raises(NotThere):
            await call


async def test_commands_that_can_not_start(any_bench: Bench) -> None:
    """golden/node/answers/phases.json: exit code 128, StartError, runc's words."""
    pod = await any_bench.pod()
    container = await any_bench.create(pod, ["nosuch"])
    with pytest.raises(RuntimeFailed) as failed:
        await any_bench.runtime.start_container(container)
    found = await any_bench.runtime.container(container)
    assert failed.value.reason == "RunContainerError"
    for text in (str(failed.value), found.message):
        assert 'exec: "nosuch": executable file not found in $PATH' in text
    assert (found.state, found.exit_code, found.reason) == (State.EXITED, 128, "StartError")


async def test_who_a_process_is_and_what_it_may(any_bench: Bench) -> None:
    """golden/node: ns-drop-all-add, ns-no-escalation."""
    security = Security(
        run_as_user=1000,
        run_as_group=3000,
        supplemental_groups=[5000],
        drop_capabilities=["ALL"],
        add_capabilities=["NET_BIND_SERVICE", "CHOWN"],
        no_new_privs=True,
        readonly_rootfs=True,
        seccomp="RuntimeDefault",
    )
    script = "id -u; id -g; id -G; awk '/^(CapBnd|NoNewPrivs|Seccomp):/ {print $2}' /proc/self/status; touch /x"
    told = await any_bench.output(script, security=security)
    user, group, groups, *others = told.splitlines()
    assert (user, group, set(groups.split())) == ("1000", "3000", {"3000", "2000", "5000"})
    assert others == ["0000000000000401", "1", "2", "touch: /x: Read-only file system"]


async def test_what_the_host_hides(any_bench: Bench) -> None:
    """golden/node: ns-masked."""
    told = await any_bench.output(
        "grep -E ' /(sys|proc/sys) ' /proc/mounts | cut -d' ' -f2,4 | cut -d, -f1; cat /proc/keys | wc -c"
    )
    assert told == "/sys ro\n/proc/sys ro\n0\n"


async def test_names_and_files_of_the_pod(any_bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "a").write_text("A\n")
    told = await any_bench.output(
        "hostname; cat /etc/resolv.conf /data/a; echo $GREETING; pwd; touch /ro/b; echo B > /data/b",
        pod={"name": "web-0", "dns": Dns(["10.96.0.10"], ["default.svc.cluster.local"], ["ndots:5"])},
        mounts=[Mount("/data", str(tmp_path / "dir")), Mount("/ro", str(tmp_path / "dir"), readonly=True)],
        env=[("GREETING", "hello")],
        working_dir="/home",
    )
    names = ["web-0", "search default.svc.cluster.local", "nameserver 10.96.0.10", "options ndots:5"]
    assert sorted(told.splitlines()) == sorted([*names, "A", "hello", "/home", "touch: /ro/b: Read-only file system"])
    assert (tmp_path / "dir" / "b").read_text() == "B\n"


async def test_namespaces_and_sysctls(any_bench: Bench) -> None:
    told = await any_bench.output("cat /proc/sys/kernel/shm_rmid_forced", pod={"sysctls": {"kernel.shm_rmid_forced": "1"}})
    assert told == "1\n"
    told = await any_bench.output("hostname", pod={"name": "h", "namespaces": Namespaces(network=NamespaceMode.NODE)})
    assert told == Path("/proc/sys/kernel/hostname").read_text()
    shared = await any_bench.pod("shared", namespaces=Namespaces(pid=NamespaceMode.POD))
    await any_bench.start(shared, "sleep 300", "first")
    assert "sleep 300" in log_text(await any_bench.ended(await any_bench.start(shared, "ps -o args", "second")))


async def test_limits_hold_and_may_change(any_bench: Bench) -> None:
    ended = await any_bench.run("tail /dev/zero; exit $?", resources=Resources(memory_limit=8 << 20))
    async with asyncio.timeout(10):  # containerd hears of the end, and of its cause, by two events in either order
        while ended.reason != "OOMKilled":
            await asyncio.sleep(0.1)
            ended = await any_bench.runtime.container(ended.id)
    assert ended.exit_code == 137
    container = await any_bench.start(await any_bench.pod("b"), "sleep 300", resources=Resources(memory_limit=32 << 20))
    await any_bench.runtime.update_resources(container, Resources(memory_limit=64 << 20))
    command = ["sh", "-c", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max"]
    assert (await any_bench.runtime.exec_sync(container, command, 5)).stdout == b"67108864\n"


async def test_stop_asks_first(any_bench: Bench) -> None:
    pod = await any_bench.pod()
    polite = await any_bench.start(pod, "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done", "a")
    await any_bench.logged(polite, "up")
    await any_bench.runtime.stop_container(polite, 5)
    ended = await any_bench.runtime.container(polite)
    assert (ended.exit_code, log_text(ended)) == (5, "up\nbye\n")
    stubborn = await any_bench.start(pod, "trap '' TERM; sleep 300", "b")
    await any_bench.runtime.stop_container(stubborn, 0)
    assert (await any_bench.runtime.container(stubborn)).exit_code == 137


async def test_exec_sync(any_bench: Bench) -> None:
    runtime = any_bench.runtime
    container = await any_bench.start(await any_bench.pod(), "sleep 300")
    result = await runtime.exec_sync(container, ["sh", "-c", "echo out; echo err >&2; exit 3"], 5)
    assert (result.stdout, result.stderr, result.exit_code) == (b"out\n", b"err\n", 3)
    assert len((await runtime.exec_sync(container, ["head", "-c", "3000000", "/dev/zero"], 5)).stdout) == 3_000_000
    for seconds in (0.1, 1):
        with pytest.raises(TimeoutError):
            await runtime.exec_sync(container, ["sleep", "77"], seconds)
    await any_bench.succeeds(container, "! ps | grep -q '[s]leep 77'")
    with pytest.raises(RuntimeFailed, match="executable file not found"):
        await runtime.exec_sync(container, ["nosuch"], 5)
    with pytest.raises(NotThere):
        await runtime.exec_sync("nobody", ["true"], 5)


async def test_exec(any_bench: Bench) -> None:
    """Both outputs, the exit code, and that the end of stdin arrives; megabytes in and out with a slow reader."""
    container = await any_bench.start(await any_bench.pod(), "sleep 300")
    streams = await any_bench.runtime.exec(container, ["sh", "-c", "cat; echo err >&2; exit 7"], stdin=True, tty=False)
    await streams.write(b"hello ")
    await streams.write(b"world")
    await streams.close_stdin()
    assert await gather(streams) == (b"hello world", b"err\n", 7)
    streams = await any_bench.runtime.exec(container, ["wc", "-c"], stdin=True, tty=False)
    await streams.write(b"x" * 3_000_000)
    await streams.close_stdin()
    assert await gather(streams) == (b"3000000\n", b"", 0)
    streams = await any_bench.runtime.exec(container, ["head", "-c", "20000000", "/dev/zero"], stdin=False, tty=False)
    await asyncio.sleep(0.2)
    stdout, _, code = await gather(streams)
    assert (len(stdout), code) == (20_000_000, 0)


async def test_exec_with_a_terminal(any_bench: Bench) -> None:
    container = await any_bench.start(await any_bench.pod(), "sleep 300")
    streams = await any_bench.runtime.exec(container, ["sh"], stdin=True, tty=True)
    await streams.resize(132, 43)
    await asyncio.sleep(0.2)
    await streams.write(b"stty size; test -t 1 && echo terminal; exit 9\n")
    stdout, stderr, code = await gather(streams)
    assert b"43 132\r\n" in stdout
    assert b"terminal\r\n" in stdout
    assert (stderr, code) == (b"", 9)


async def test_an_exec_that_does_not_run(any_bench: Bench) -> None:
    """Told by the call or by `wait`: some runtimes know it only later."""
    container = await any_bench.start(await any_bench.pod(), "sleep 300")
    with pytest.raises(RuntimeFailed, match="executable file not found"):
        await gather(await any_bench.runtime.exec(container, ["nosuch"], stdin=False, tty=False))


async def test_attach(any_bench: Bench) -> None:
    script = "while read x; do echo got $x; done; echo end >&2; exit 4"
    container = await any_bench.start(await any_bench.pod(), script, stdin=True, stdin_once=True)
    streams = await any_bench.runtime.attach(container, stdin=True)
    await streams.write(b"one\ntwo\n")
    await streams.close_stdin()
    assert await gather(streams) == (b"got one\ngot two\n", b"end\n", 0)
    ended = await any_bench.ended(container)
    assert (ended.exit_code, sorted(log_text(ended).splitlines())) == (4, ["end", "got one", "got two"])


async def test_attach_to_a_terminal(any_bench: Bench) -> None:
    container = await any_bench.start(
        await any_bench.pod(), "stty -echo; echo up; read x; echo got $x; stty size; exit 6", stdin=True, tty=True
    )
    await any_bench.logged(container, "up")
    streams = await any_bench.runtime.attach(container, stdin=True)
    await streams.resize(91, 17)
    await asyncio.sleep(0.2)
    await streams.write(b"hello\n")
    assert (await gather(streams))[0] == b"got hello\r\n17 91\r\n"
    assert (await any_bench.ended(container)).exit_code == 6


async def test_port_forward(any_bench: Bench) -> None:
    pod = await any_bench.pod()
    container = await any_bench.start(pod, "nc -l -p 8080 -e sh -c 'read x; echo got $x; read x; echo got $x'")
    await any_bench.listens(container, 8080)
    streams = await any_bench.runtime.port_forward(pod, 8080)
    await streams.write(b"hello\nand more\n")
    assert await gather(streams) == (b"got hello\ngot and more\n", b"", 0)
    with pytest.raises(RuntimeFailed, match="connection refused"):
        await gather(await any_bench.runtime.port_forward(pod, 8080))


async def test_logs_can_be_rotated(any_bench: Bench) -> None:
    pod = await any_bench.pod()
    container = await any_bench.start(pod, "while read x; do echo $x; done", stdin=True, stdin_once=True)
    streams = await any_bench.runtime.attach(container, stdin=True)
    output = streams.output()
    await streams.write(b"one\n")
    await anext(output)
    log = any_bench.logs / "pod" / "c" / "0.log"
    log.rename(log.with_suffix(".old"))
    await any_bench.runtime.reopen_log(container)
    await streams.write(b"two\n")
    await anext(output)
    await streams.close()
    await any_bench.runtime.stop_container(container, 0)
    assert log.read_text().endswith(" stdout F two\n")
    assert log.with_suffix(".old").read_text().endswith(" stdout F one\n")


async def test_ends_are_told(any_bench: Bench) -> None:
    """And when they are told, the status says so."""
    pod = await any_bench.pod()
    container = await any_bench.start(pod, "sleep 0.3")
    async with asyncio.timeout(5):
        async for event in any_bench.runtime.events():
            if event.sandbox_id in ("", pod) and (await any_bench.runtime.container(container)).state is State.EXITED:
                break


async def test_stats(any_bench: Bench) -> None:
    pod = await any_bench.pod()
    container = await any_bench.start(pod, "while :; do :; done")
    await any_bench.ended(await any_bench.start(pod, "true", "over"))
    async with asyncio.timeout(PATIENCE):
        while not (found := (await any_bench.runtime.stats())[0]).cpu_ns > 50_000_000:
            await asyncio.sleep(0.05)
    assert found.container_id == container
    assert found.at > 1e9
    assert 0 < found.memory_working_set <= found.memory_usage


async def test_images(any_bench: Bench, busybox_archive: Path) -> None:
    runtime = any_bench.runtime
    found = await runtime.image(IMAGE)
    assert found
    assert found.tags == [IMAGE]
    assert (found.uid, found.username) == (0, "")
    assert await runtime.image(found.id) == found
    assert found.id in {image.id for image in await runtime.images()}
    await runtime.remove_image(IMAGE)
    await runtime.remove_image(IMAGE)
    assert await runtime.image(IMAGE) is None
    assert await runtime.import_image(str(busybox_archive)) == [IMAGE]
    assert await runtime.import_image(str(busybox_archive)) == [IMAGE]
    assert await any_bench.output("echo fine") == "fine\n"


async def test_pulls_that_fail(any_bench: Bench) -> None:
    with pytest.raises(RuntimeFailed, match="connection refused") as failed:
        await any_bench.runtime.pull_image("127.0.0.1:1/none:1")
    assert failed.value.reason == "ErrImagePull"


async def test_archives_that_are_none(any_bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"nothing")
    with pytest.raises(RuntimeFailed, match="failed to import"):
        await any_bench.runtime.import_image(str(tmp_path / "x.tar"))
