"""NFS volumes, mounted by the machine's own `mount`, as it knows the helper for NFS that negotiates versions (nfs-common, nfs-utils).

Source: v1.NFSVolumeSource; upstream's mount_linux.go for the message.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from minik8s.base import children
from minik8s.base.clock import Clock
from minik8s.kubelet.volumes import mounting
from minik8s.kubelet.volumes.payload import Missing

TIMEOUT = 120.0


async def mount(source: Mapping[str, Any], options: Sequence[str], path: Path, clock: Clock, program: str = "mount") -> None:
    """Makes `path` show what the server exports; nothing where it does already. Raises Missing."""
    if await asyncio.to_thread(mounting.is_mounted, path):
        return
    await asyncio.to_thread(path.mkdir, parents=True, exist_ok=True, mode=0o750)
    given = [*(["ro"] if source.get("readOnly") else []), *options]
    words = ["-t", "nfs", *(["-o", ",".join(given)] if given else [])]
    what = f"{_host(source['server'])}:{source['path']}"
    try:
        output, code = await _run(clock, program, *words, "--", what, str(path))
    except FileNotFoundError:
        output, code = f'exec: "{program}": executable file not found in $PATH', "1"
    if code != "0":
        with contextlib.suppress(OSError):
            path.rmdir()
        arguments = " ".join([*words, what, str(path)])
        raise Missing(
            f"mount failed: exit status {code}\nMounting command: {program}\nMounting arguments: {arguments}\nOutput: {output.strip()}"
        )


async def _run(clock: Clock, *command: str) -> tuple[str, str]:
    """What it said, and its exit status; it is killed where it takes too long."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with clock.timeout(TIMEOUT), clock.hold():
            output, _ = await children.communicate(process)
        return output.decode(errors="replace"), str(process.returncode)
    except TimeoutError:
        return f"no answer within {TIMEOUT:g} s", "-1"


def _host(server: str) -> str:
    """An IPv6 address stands in brackets."""
    return f"[{server}]" if ":" in server and not server.startswith("[") else server
