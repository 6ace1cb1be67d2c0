"""The sandbox image that is made here."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from minik8s.base.clock import RealClock
from minik8s.base.host import architecture
from minik8s.runtime.cri.pause import NAME, archive, program
from minik8s.runtime.cri.runtime import CriRuntime
from minik8s.runtime.images.archive import extract


@pytest.mark.parametrize(("machine", "number"), [("amd64", 62), ("arm64", 183)])
def test_the_program_is_a_static_elf_file(machine: str, number: int) -> None:
    """elf(5): one loadable segment, readable and executable, that holds the whole file and the entry point."""
    content = program(machine)
    kind, found, _, entry, headers = struct.unpack_from("<HHIQQ", content, 16)
    segment, flags, offset, address, _, in_file, in_memory, _ = struct.unpack_from("<IIQQQQQQ", content, headers)
    assert (content[:5], kind, found) == (b"\x7fELF\x02", 2, number)
    assert (segment, flags, offset, in_file, in_memory) == (1, 5, 0, len(content), len(content))
    assert address < entry < address + len(content)
    assert len(content) < 512


def test_other_machines_are_refused() -> None:
    with pytest.raises(ValueError, match="no pause program for s390x"):
        program("s390x")


def test_the_archive_is_an_image_and_always_the_same(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(archive("registry.example/pause:3.9"))
    [image] = extract(tmp_path / "x.tar", tmp_path / "blobs")
    assert image.name == "registry.example/pause:3.9"
    assert archive() == archive(NAME)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare(1)")
@pytest.mark.skipif(architecture() not in ("amd64", "arm64"), reason="there is no program for this machine")
async def test_it_reaps_and_ends_as_pid_1(tmp_path: Path) -> None:
    """pid_namespaces(7): to pid 1 only signals that it waits for or handles arrive."""
    path = tmp_path / "pause"
    path.write_bytes(program(architecture()))
    path.chmod(0o755)
    outer = await asyncio.create_subprocess_exec("unshare", "--pid", "--fork", "--kill-child", str(path))
    children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
    while not (child := children.read_text().split()) or "pause" not in Path(f"/proc/{child[0]}/comm").read_text():
        await asyncio.sleep(0.01)
    pid = int(child[0])
    # An orphan: the shell in between ends at once, so that its child becomes pid 1's.
    joined = await asyncio.create_subprocess_exec("nsenter", "-t", str(pid), "-p", "sh", "-c", "sleep 0.1 &")
    await joined.wait()
    await asyncio.sleep(0.3)
    assert Path(f"/proc/{pid}/task/{pid}/children").read_text() == ""
    os.kill(pid, signal.SIGUSR1)
    os.kill(pid, signal.SIGTERM)
    async with asyncio.timeout(5):
        assert await outer.wait() == 0


async def test_a_runtime_that_does_not_say_which_it_wants() -> None:
    """containerd 2.x's verbose Status names no sandbox image; of a containerd of our own it is known."""
    imported = []

    class Client:
        async def call(self, method: str, request: object = None) -> Any:
            return (
                SimpleNamespace(info={"config": "{}"}) if method == "Status" else SimpleNamespace(image=SimpleNamespace(id=""))
            )

    async def import_pause(name: str) -> None:
        imported.append(name)

    runtime = CriRuntime(Client(), "containerd", RealClock(), True, None)  # type: ignore[arg-type]  # a stand-in
    runtime._import_pause = import_pause  # type: ignore[method-assign]
    assert await runtime.ensure_sandbox_image() == ""
    assert await runtime.ensure_sandbox_image(NAME) == NAME
    assert imported == [NAME]
