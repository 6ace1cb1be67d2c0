"""Rotates the logs of running containers: one that has grown too large is renamed, and its runtime goes on in a new file.

    0.log, 0.log.20260102-150405 (the one before), 0.log.20260102-150210.gz, ...

Promise: at most `files` of them a container, the old ones compressed; who follows a log misses nothing (`logs.py`). Every PERIOD seconds
the sizes of running containers' logs are looked at, by one timer for the whole node: who writes them tells nobody.
Source: KubeletConfiguration containerLogMaxSize, containerLogMaxFiles, containerLogMonitorInterval; file names are upstream's.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from minik8s.kubelet.kubelet import Kubelet
from minik8s.kubelet.logs import rotated_logs
from minik8s.runtime.base import RuntimeFailed, State

log = logging.getLogger(__name__)

PERIOD = 10.0


@dataclass(frozen=True, slots=True)
class Policy:
    """Bytes from which a log is rotated, and how many files a container may have, 2 at least."""

    size: int = 10 << 20
    files: int = 5


class Rotation:
    """Of one kubelet."""

    def __init__(self, kubelet: Kubelet, policy: Policy) -> None:
        self._kubelet, self._policy = kubelet, policy

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._kubelet.clock.sleep(PERIOD)
            await self.look()

    async def look(self) -> None:
        """Rotates what is too large now."""
        layout = self._kubelet.site.layout
        for worker in self._kubelet.workers():
            for container in worker.seen.containers:
                if container.state is not State.RUNNING:
                    continue
                path = layout.log(worker.pod, container.name, container.attempt)
                try:
                    if not path.exists():  # somebody took it away: it goes on in a new one
                        await self._kubelet.runtime.reopen_log(container.id)
                    elif path.stat().st_size >= self._policy.size:
                        await self._rotate(container.id, path)
                except (OSError, RuntimeFailed) as error:
                    log.warning("log %s not rotated: %s", path, error)

    async def _rotate(self, container_id: str, path: Path) -> None:
        clock = self._kubelet.clock
        async with clock.hold():
            await asyncio.to_thread(_tidy, path, self._policy.files - 2)
        rotated = path.with_name(f"{path.name}.{time.strftime('%Y%m%d-%H%M%S', time.gmtime(clock.now()))}")
        path.rename(rotated)
        try:
            await self._kubelet.runtime.reopen_log(container_id)
        except BaseException:
            rotated.rename(path)  # so that it is written to, and tried again
            raise


def _tidy(path: Path, keep: int) -> None:
    """Leaves the latest `keep` rotated files, compressed."""
    for unfinished in path.parent.glob(f"{path.name}.*.tmp"):
        unfinished.unlink()
    old = rotated_logs(path)
    for excess in old[: max(len(old) - keep, 0)]:
        excess.unlink()
    for plain in old[max(len(old) - keep, 0) :]:
        if plain.suffix != ".gz":
            _compress(plain)


def _compress(path: Path) -> None:
    fresh = path.with_name(f"{path.name}.tmp")
    with path.open("rb") as source, fresh.open("xb") as file, gzip.GzipFile("", "wb", 6, file) as target:
        fresh.chmod(path.stat().st_mode & 0o777)
        shutil.copyfileobj(source, target)
    fresh.rename(path.with_name(f"{path.name}.gz"))
    path.unlink()
