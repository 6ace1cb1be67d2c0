"""`minik8s.local/host`, the machine's own file system as an image: for a first pod without any image, and for those who aren't root."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from runtime_bench import IMAGE, Bench, log_text

from minik8s.base.clock import RealClock
from minik8s.runtime.base import RuntimeFailed, State
from minik8s.runtime.embedded import link
from minik8s.runtime.embedded.runtime import EmbeddedRuntime

HOST = "minik8s.local/host"
pytestmark = pytest.mark.root


async def test_it_is_always_there(bench: Bench) -> None:
    found = await bench.runtime.image(HOST)
    assert found
    assert found.tags == ("minik8s.local/host:latest",)
    assert await bench.runtime.pull_image(HOST) == found.id
    await bench.runtime.remove_image(HOST)
    assert await bench.runtime.image(HOST) == found


async def test_it_is_the_host_without_its_secrets(bench: Bench, node_directory: Path) -> None:
    script = (
        f"cat /etc/os-release; ls -A /root /home {node_directory} /tmp /run; cat /etc/shadow; touch /usr/x /tmp/y && hostname"
    )
    told = await bench.output(script, image=HOST)
    listed = "/home:\n\n/root:\n\n/run:\n\n/tmp:\n"
    assert (
        told
        == Path("/etc/os-release").read_text()
        + f"ls: cannot access '{node_directory}': No such file or directory\n{listed}pod\n"
    )
    assert not Path("/usr/x").exists()


@pytest.fixture
async def plain(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """A node process of nobody's, as for a user who isn't root."""
    python = shutil.which("python3", path="/usr/bin")
    if os.geteuid() != 0 or not python:
        pytest.skip("needs root, to become another user, and a python3 that this user may run")
    directory = Path(tempfile.mkdtemp())

    async def start_node(where: Path) -> None:
        process = await asyncio.create_subprocess_exec(
            python,
            "-I",
            "-S",
            str(Path(link.__file__).with_name("node.py")),
            str(where),
            user=65534,
            group=65534,
            extra_groups=[],
        )
        assert await process.wait() == 0

    monkeypatch.setattr(link, "start_node", start_node)
    for name in ("", "e", "logs"):
        (directory / name).mkdir(exist_ok=True)
        os.chown(directory / name, 65534, 65534)
    tested = Bench(EmbeddedRuntime(directory / "e", RealClock()), directory / "logs")
    yield tested
    await tested.clear()
    await tested.runtime.shut_down()
    assert not list((directory / "e" / "containers").iterdir())
    assert (directory / "e" / "node.log").read_text() == ""
    await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)  # the node process may be emptying its trash still


async def test_plain_processes(plain: Bench, busybox_archive: Path) -> None:
    assert "no isolation" in await plain.runtime.describe()
    pod = await plain.pod()
    ended = await plain.ended(await plain.start(pod, "id -u; echo err >&2; pwd; exit 3", image=HOST, working_dir="/usr"))
    assert (ended.state, ended.exit_code, ended.reason) == (State.EXITED, 3, "Error")
    assert sorted(log_text(ended).split()) == ["/usr", "65534", "err"]
    container = await plain.create(pod, ["nosuch"], "none", image=HOST)
    with pytest.raises(RuntimeFailed, match='exec: "nosuch": executable file not found'):
        await plain.runtime.start_container(container)
    assert (await plain.runtime.container(container)).exit_code == 128
    for refused in (plain.runtime.import_image(str(busybox_archive)), plain.runtime.pull_image(IMAGE)):
        with pytest.raises(RuntimeFailed, match="images need root"):
            await refused


async def test_plain_processes_end_with_all_their_children(plain: Bench) -> None:
    pod = await plain.pod()
    container = await plain.start(pod, "trap 'exit 7' TERM; sleep 4711 & wait", image=HOST)
    result = await plain.runtime.exec_sync(container, ["sh", "-c", "echo $PATH; echo err >&2; exit 2"], 5)
    assert (result.stderr, result.exit_code) == (b"err\n", 2)
    await asyncio.sleep(0.1)
    await plain.runtime.stop_container(container, 5)
    assert (await plain.runtime.container(container)).exit_code == 7
    ps = await asyncio.create_subprocess_exec("pgrep", "-f", "sleep 4711", stdout=asyncio.subprocess.PIPE)
    assert (await ps.communicate())[0] == b""
    await plain.runtime.stop_sandbox(pod)
    assert not (await plain.runtime.sandbox(pod)).ready
