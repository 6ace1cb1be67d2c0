"""What a containerd that was killed as it started a sandbox leaves (seen of 1.6): a shim that it does not know. Here: other programs."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from runtime_bench import wait_for

from minik8s.runtime.cri import shims
from minik8s.runtime.embedded.linux import start_time

PARENT = """
import subprocess
child = subprocess.Popen(["sleep", "300"], stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
child.wait()
"""


async def shim(
    sandbox: str, socket: str = "/x/containerd.sock", bundle: Path | None = None
) -> tuple[asyncio.subprocess.Process, int]:
    """A process with a shim's command line, working in a bundle, and the pid of its child."""
    arguments = ["-namespace", "k8s.io", "-id", sandbox, "-address", socket]
    process = await asyncio.create_subprocess_exec(
        "/usr/bin/containerd-shim-runc-v2",
        "-c",
        PARENT,
        *arguments,
        executable=sys.executable,
        stdout=asyncio.subprocess.PIPE,
        cwd=bundle,
        env={"PYTHONHOME": sys.base_prefix, "PATH": os.defpath},
    )
    assert process.stdout
    return process, int(await process.stdout.readline())


async def test_lost_shims_end_with_what_they_parent(tmp_path: Path) -> None:
    """And with their bundles, which containerd would load again."""
    work, bundle = tmp_path / "root" / "k8s.io" / "lost", tmp_path / "state" / "k8s.io" / "lost"
    for directory in (work, bundle / "rootfs", tmp_path / "state" / "k8s.io" / "other"):
        directory.mkdir(parents=True)
    (bundle / "address").write_text("unix:///x")
    (bundle / "work").symlink_to(work)
    lost, child = await shim("lost", bundle=bundle)
    others = [await shim("runs", bundle=tmp_path), await shim("lost", "/y/containerd.sock")]
    assert await asyncio.to_thread(shims.end_lost, "/x/containerd.sock", {"lost", "gone"}) == ["lost"]
    assert await lost.wait() == -9
    wait_for(lambda: not start_time(child))
    assert not bundle.exists()
    assert not work.exists()
    assert (tmp_path / "state" / "k8s.io" / "other").exists()
    for process, pid in others:
        assert process.returncode is None
        assert Path(f"/proc/{pid}").exists()
        os.kill(pid, 9)
        await process.wait()
