"""Exec, attach and port-forward through the node process, on the real kernel."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from runtime_bench import Bench, log_text

from minik8s.runtime.base import RuntimeFailed, Streams

pytestmark = pytest.mark.root


async def gather(streams: Streams) -> tuple[bytes, bytes, int]:
    found = {1: bytearray(), 2: bytearray()}
    async with asyncio.timeout(10):
        async for stream, data in streams.output():
            found[stream] += data
        code = await streams.wait()
    await streams.close()
    return bytes(found[1]), bytes(found[2]), code


async def test_exec_sync(bench: Bench) -> None:
    container = await bench.start(await bench.pod(), "sleep 300")
    result = await bench.runtime.exec_sync(container, ["sh", "-c", "echo out; echo err >&2; exit 3"], 5)
    assert (result.stdout, result.stderr, result.exit_code) == (b"out\n", b"err\n", 3)
    result = await bench.runtime.exec_sync(container, ["head", "-c", "3000000", "/dev/zero"], 5)
    assert len(result.stdout) == 3_000_000
    with pytest.raises(TimeoutError):
        await bench.runtime.exec_sync(container, ["sleep", "77"], 0.1)
    await bench.succeeds(container, "! ps | grep -q '[s]leep 77'")


async def test_exec_s_failures(bench: Bench) -> None:
    """golden/node/answers/probes.json has runc's words."""
    container = await bench.start(await bench.pod(), "sleep 300")
    for command, message in [
        (["nosuch"], 'exec: "nosuch": executable file not found in $PATH'),
        (["/no/such"], 'exec: "/no/such": stat /no/such: no such file or directory'),
    ]:
        with pytest.raises(RuntimeFailed) as failed:
            await bench.runtime.exec_sync(container, command, 5)
        assert message in str(failed.value)
    with pytest.raises(RuntimeFailed, match="not found"):
        await bench.runtime.exec_sync("nobody", ["true"], 5)
    await bench.runtime.stop_container(container, 0)
    with pytest.raises(RuntimeFailed, match="is in EXITED state"):
        await bench.runtime.exec_sync(container, ["true"], 5)


async def test_exec_is_the_container_s_user(bench: Bench) -> None:
    security = bench.user(run_as_user=1000, supplemental_groups=[5000], drop_capabilities=["KILL"])
    pod = await bench.pod()
    container = await bench.start(pod, "sleep 300", security=security, env=[("GREETING", "hello")], working_dir="/home/user")
    script = "id; pwd; echo $GREETING $HOME; grep CapBnd /proc/self/status; cmp /proc/1/cgroup /proc/self/cgroup"
    result = await bench.runtime.exec_sync(container, ["sh", "-c", script], 5)
    lines = result.stdout.decode().split("\n")
    assert lines[:4] == [
        "uid=1000(user) gid=1000(user) groups=1000(user),2000(extra),5000",
        "/home/user",
        "hello /home/user",
        "CapBnd:\t00000000a80425db",
    ]
    assert result.exit_code == 0


async def test_exec_reads_stdin_to_its_end(bench: Bench) -> None:
    container = await bench.start(await bench.pod(), "sleep 300")
    streams = await bench.runtime.exec(container, ["sh", "-c", "wc -c; echo done >&2"], stdin=True, tty=False)
    await streams.write(b"x" * 500_000)
    await streams.close_stdin()
    assert await gather(streams) == (b"500000\n", b"done\n", 0)


async def test_exec_waits_for_a_slow_reader(bench: Bench) -> None:
    """An endless writer must not fill the node process: it stops when nobody takes its output."""
    container = await bench.start(await bench.pod(), "sleep 300")
    streams = await bench.runtime.exec(container, ["sh", "-c", "head -c 50000000 /dev/zero"], stdin=False, tty=False)
    await asyncio.sleep(0.3)
    pid = (await bench.runtime._link.call("hello"))["pid"]
    with open(f"/proc/{pid}/status") as file:
        peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    assert peak < 40_000
    stdout, _, code = await gather(streams)
    assert (len(stdout), code) == (50_000_000, 0)


async def test_exec_with_a_terminal(bench: Bench) -> None:
    container = await bench.start(await bench.pod(), "sleep 300")
    streams = await bench.runtime.exec(container, ["sh"], stdin=True, tty=True)
    await streams.resize(132, 43)
    await streams.write(b"stty size; tty; test -t 1 && echo terminal; exit 9\n")
    stdout, stderr, code = await gather(streams)
    assert b"43 132\r\n" in stdout
    assert b"/dev/pts/0\r\n" in stdout
    assert b"terminal\r\n" in stdout
    assert (stderr, code) == (b"", 9)


async def test_a_new_size_as_the_program_ends(bench: Bench) -> None:
    """It finds a terminal that is closed, and takes neither the exit code nor another's terminal."""
    container = await bench.start(await bench.pod(), "sleep 300")
    for code in range(10):
        streams = await bench.runtime.exec(container, ["sh", "-c", f"echo x; exit {code}"], stdin=True, tty=True)
        gathering = asyncio.ensure_future(gather(streams))
        while not gathering.done():
            await streams.resize(80, 25)
            await asyncio.sleep(0)
        assert await gathering == (b"x\r\n", b"", code)


async def test_closing_an_exec_kills_it(bench: Bench) -> None:
    container = await bench.start(await bench.pod(), "sleep 300")
    streams = await bench.runtime.exec(container, ["sleep", "4242"], stdin=False, tty=False)
    await streams.close()
    await bench.succeeds(container, "! ps | grep -q '[s]leep 4242'")


async def test_attach(bench: Bench) -> None:
    container = await bench.start(
        await bench.pod(), "while read x; do echo got $x; done; echo end >&2; exit 4", stdin=True, stdin_once=True
    )
    first = await bench.runtime.attach(container, stdin=False)
    streams = await bench.runtime.attach(container, stdin=True)
    await streams.write(b"one\ntwo\n")
    await streams.close_stdin()
    assert await gather(streams) == (b"got one\ngot two\n", b"end\n", 0)
    assert (await gather(first))[0] == b"got one\ngot two\n"
    ended = await bench.ended(container)
    assert (ended.exit_code, log_text(ended)) == (4, "got one\ngot two\nend\n")


async def test_attach_to_a_terminal(bench: Bench) -> None:
    container = await bench.start(
        await bench.pod(), "stty -echo; echo up; read x; echo got $x; tty; test -c /dev/console && exit 6", stdin=True, tty=True
    )
    await bench.logged(container, "up")
    streams = await bench.runtime.attach(container, stdin=True)
    await streams.write(b"hello\n")
    stdout, _, _ = await gather(streams)
    assert stdout == b"got hello\r\n/dev/pts/0\r\n"
    ended = await bench.ended(container)
    assert (ended.exit_code, log_text(ended)) == (6, "up\ngot hello\n/dev/pts/0\n")


async def test_port_forward(bench: Bench) -> None:
    pod = await bench.pod()
    container = await bench.start(pod, "nc -l -p 8080 -e sh -c 'read x; echo got $x; cat'")
    await bench.listens(container, 8080)
    streams = await bench.runtime.port_forward(pod, 8080)
    await streams.write(b"hello\nand more")
    await streams.close_stdin()
    stdout, _, code = await gather(streams)
    assert (stdout, code) == (b"got hello\nand more", 0)
    await bench.ended(container)
    with pytest.raises(RuntimeFailed, match="failed to connect to localhost:8080 inside the sandbox: connection refused"):
        await bench.runtime.port_forward(pod, 8080)


async def test_logs_can_be_rotated(bench: Bench) -> None:
    pod = await bench.pod()
    container = await bench.start(pod, "while read x; do echo $x; done", stdin=True, stdin_once=True)
    streams = await bench.runtime.attach(container, stdin=True)
    output = streams.output()
    await streams.write(b"one\n")
    await anext(output)
    log = bench.logs / "pod" / "c" / "0.log"
    log.rename(log.with_suffix(".old"))
    await bench.runtime.reopen_log(container)
    await streams.write(b"two\n")
    await anext(output)
    assert log.read_text().endswith(" stdout F two\n")
    assert log.with_suffix(".old").read_text().endswith(" stdout F one\n")
    with contextlib.suppress(StopAsyncIteration):
        await streams.close_stdin()
        await anext(output)
    await streams.close()
