"""Images made here, and short words for what tests do with a runtime. The fixtures are in conftest.py."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import platform
import subprocess
import tarfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from minik8s.runtime.base import Container, ContainerConfig, SandboxConfig, Security
from minik8s.runtime.embedded.cgroups import Cgroups
from minik8s.runtime.embedded.linux import start_time
from minik8s.runtime.embedded.runtime import EmbeddedRuntime

BUSYBOX = Path("/bin/busybox")
IMAGE = "minik8s.test/busybox:1"
CGROUP = f"/minik8s-test-{os.getpid()}"
PATIENCE = 30.0

Entry = tuple[str, bytes | None, dict[str, Any]]  # name, content (None: as the fields say), fields of TarInfo


def tar(entries: list[Entry]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content, fields in entries:
            info = tarfile.TarInfo(name)
            info.mode = 0o644
            for key, value in fields.items():
                setattr(info, key, value)
            if content is not None:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content) if content is not None else None)
    return out.getvalue()


def directory(name: str, mode: int = 0o755, **fields: Any) -> Entry:
    return name, None, {"type": tarfile.DIRTYPE, "mode": mode, **fields}


def link(name: str, target: str) -> Entry:
    return name, None, {"type": tarfile.SYMTYPE, "linkname": target}


def sha(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def config_of(layers: list[bytes], config: dict[str, Any] | None = None) -> bytes:
    """The image configuration for uncompressed layers."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    return json.dumps(
        {
            "architecture": machine,
            "os": "linux",
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": [sha(x) for x in layers]},
        }
    ).encode()


def docker_archive(name: str, layers: list[bytes], config: dict[str, Any] | None = None) -> bytes:
    content = config_of(layers, config)
    config_name = f"{sha(content)[7:]}.json"
    names = [f"{sha(layer)[7:]}.tar" for layer in layers]
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": names}]).encode()
    files = [("manifest.json", manifest), (config_name, content), *zip(names, layers, strict=True)]
    return tar([(file, data, {}) for file, data in files])


def busybox_layer() -> bytes:
    if not BUSYBOX.exists():
        pytest.skip("needs a static busybox (Debian: busybox-static)")
    applets = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout.split()
    return tar(
        [
            *(directory(name) for name in ("bin", "etc", "proc", "sys", "dev", "home", "var")),
            directory("root", 0o700),
            directory("tmp", 0o1777),
            directory("home/user", uid=1000, gid=1000),
            ("bin/busybox", BUSYBOX.read_bytes(), {"mode": 0o755}),
            *(link(f"bin/{applet}", "busybox") for applet in applets if applet != "busybox"),
            ("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n", {}),
            ("etc/group", b"root:x:0:\nuser:x:1000:\nextra:x:2000:user\n", {}),
        ]
    )


@dataclass(frozen=True)
class Counted:
    """What a test could leave behind on the machine, others' things on it apart. A network namespace lives by a process, a descriptor
    or a mount, so it is counted with these."""

    mounts: tuple[str, ...]
    cgroups: tuple[str, ...]
    processes: int
    descriptors: int

    @staticmethod
    def now(node: int, directory: Path) -> Counted:
        mounts = [line for line in Path("/proc/1/mountinfo").read_text().splitlines() if str(directory) in line]
        groups = [
            str(path) for where in set(Cgroups().mounts.values()) for path in Path(where + CGROUP).glob("*") if path.is_dir()
        ]
        children = Path(f"/proc/{node}/task/{node}/children").read_text().split()
        return Counted(tuple(mounts), tuple(groups), len(children), len(list(Path(f"/proc/{node}/fd").iterdir())))


@dataclass
class Bench:
    """A runtime under test, and short words for what tests do with it."""

    runtime: EmbeddedRuntime
    logs: Path
    sandboxes: dict[str, SandboxConfig] = field(default_factory=dict)
    cgroup: str = CGROUP

    async def pod(self, name: str = "pod", **fields: Any) -> str:
        config = SandboxConfig(
            name, "default", f"uid-{name}", 0, name, str(self.logs / name), f"{self.cgroup}/{name}", **fields
        )
        sandbox_id = await self.runtime.run_sandbox(config)
        self.sandboxes[sandbox_id] = config
        return sandbox_id

    async def create(self, sandbox_id: str, script: str | list[str], name: str = "c", image: str = IMAGE, **fields: Any) -> str:
        command = ["sh", "-c", script] if isinstance(script, str) else script
        found = await self.runtime.image(image)
        assert found
        sandbox = self.sandboxes[sandbox_id]
        fields.setdefault("security", Security(namespaces=sandbox.namespaces))
        config = ContainerConfig(name, 0, found.id, image, command=command, log_path=f"{name}/0.log", **fields)
        return await self.runtime.create_container(sandbox_id, config, sandbox)

    async def start(self, sandbox_id: str, script: str | list[str], name: str = "c", **fields: Any) -> str:
        container_id = await self.create(sandbox_id, script, name, **fields)
        await self.runtime.start_container(container_id)
        return container_id

    async def ended(self, container_id: str) -> Container:
        async with asyncio.timeout(10):
            events = self.runtime.events()
            pending = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            while (found := await self.runtime.container(container_id)).finished_at == 0:
                await asyncio.wait([pending], timeout=0.5)
                if pending.done():
                    pending = asyncio.ensure_future(anext(events))
            pending.cancel()
            await asyncio.wait([pending])
            await events.aclose()
            return found

    async def run(self, script: str | list[str], *, pod: dict[str, Any] | None = None, **fields: Any) -> Container:
        """A pod of one container, until it ended."""
        sandbox_id = await self.pod(**pod or {})
        return await self.ended(await self.start(sandbox_id, script, **fields))

    async def output(self, script: str, **fields: Any) -> str:
        """What such a container wrote."""
        return log_text(await self.run(f"exec 2>&1; {script}", **fields))

    async def logged(self, container_id: str, text: str) -> None:
        """Returns once the container has written it."""
        async with asyncio.timeout(PATIENCE):
            while text not in log_text(await self.runtime.container(container_id)):
                await asyncio.sleep(0.01)

    async def succeeds(self, container_id: str, script: str) -> None:
        """Returns once a script that is run in the container, again and again, ends with 0."""
        async with asyncio.timeout(PATIENCE):
            while (await self.runtime.exec_sync(container_id, ["sh", "-c", script], PATIENCE)).exit_code:
                await asyncio.sleep(0.01)

    async def listens(self, container_id: str, port: int) -> None:
        await self.succeeds(container_id, f"cat /proc/net/tcp /proc/net/tcp6 | grep -q ':{port:04X} .* 0A '")

    async def clear(self) -> None:
        for sandbox in await self.runtime.sandboxes():
            await self.runtime.remove_sandbox(sandbox.id)

    def user(self, **fields: Any) -> Security:
        return replace(Security(), **fields)


def log_text(container: Container) -> str:
    lines = [line.split(" ", 3) for line in Path(container.log_path).read_bytes().decode().split("\n")[:-1]]
    return "".join(line[3] + ("\n" if line[2] == "F" else "") for line in lines)


async def end_node(runtime: EmbeddedRuntime) -> None:
    """Ends the node process alone, and takes its cgroup away."""
    hello = await runtime._link.call("hello")
    await runtime.shut_down()
    wait_for(lambda: not start_time(hello["pid"]))
    for where in [*Path("/sys/fs/cgroup").glob(f"*{hello['cgroup']}"), *Path("/sys/fs/cgroup").glob(f"*{CGROUP}")]:
        wait_for(lambda where=where: removed(where))


def removed(where: Path) -> bool:
    try:
        where.rmdir()
    except OSError:
        return False
    return True


def wait_for(condition: Any, seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)
