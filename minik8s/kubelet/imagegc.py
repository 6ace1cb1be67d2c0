"""Removes images that nobody uses when the disk they are on fills up, those first that were used the longest time ago.

Promise: from `high` percent of the disk on, as many go as bring it below `low`; an image in use, one that its runtime has pinned, and one
that came less than `MIN_AGE` seconds ago stays. The disk is looked at every PERIOD seconds; who needs room at once (`evictor.py`) has all
unused ones removed. Limits: what was used before the agent started counts as used at its start.
Source: KubeletConfiguration imageGCHighThresholdPercent and its kin; the event's words are upstream's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from minik8s.base.clock import Clock
from minik8s.client.events import WARNING, EventRecorder
from minik8s.kubelet.machine import Disk, disk_of
from minik8s.kubelet.pod import Pod
from minik8s.runtime.base import Container, Image, Runtime, RuntimeFailed

log = logging.getLogger(__name__)

PERIOD, MIN_AGE = 300.0, 120.0


@dataclass(frozen=True, slots=True)
class Policy:
    """Percent of the disk: from where on images are removed, and down to where."""

    high: int = 85
    low: int = 80


@dataclass(frozen=True, slots=True)
class Known:
    """Since when an image is there, and when it was last seen in use (0: never)."""

    since: float
    used: float = 0.0


class ImageCollector:
    """Of one kubelet. `pods` are those of the node, `disk` reads the numbers of the file system of a path."""

    def __init__(
        self,
        runtime: Runtime,
        clock: Clock,
        events: EventRecorder,
        node: Mapping[str, Any],
        pods: Callable[[], Iterable[Pod]],
        policy: Policy,
        disk: Callable[[str], Disk] | None = None,
    ) -> None:
        self._runtime, self._clock, self._events, self._node = runtime, clock, events, node
        self._pods, self._disk, self._policy = pods, disk or disk_of, policy
        self._turn = asyncio.Lock()
        self._known: dict[str, Known] = {}

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                await self.collect()
            except (RuntimeFailed, OSError) as error:
                log.warning("images not collected: %s", error)
            await self._clock.sleep(PERIOD)

    async def free(self) -> None:
        """Removes all that nobody uses."""
        await self.collect(everything=True)

    async def collect(self, *, everything: bool = False) -> None:
        """Looks once; removes what is too much, or `everything` that nobody uses."""
        async with self._turn:
            await self._collect(everything)

    async def _collect(self, everything: bool) -> None:
        now = self._clock.now()
        images = {image.id: image for image in await self._runtime.images()}
        used = in_use(images.values(), await self._runtime.containers(), self._pods())
        self._known = noticed(self._known, images, used, now)
        path = str((await self._runtime.image_usage())["path"])
        disk = self._disk(path) if path else Disk()
        wanted = excess(disk, self._policy)
        if not wanted and not everything:
            return
        freed = 0
        for image_id in removable(self._known, used, now):
            if freed >= wanted and not everything:
                break
            if not images[image_id].size:
                continue  # the embedded runtime's image of the host itself
            log.info("image %s is removed: the disk is %d%% full", image_id, disk.used_percent)
            await self._runtime.remove_image(image_id)
            self._known.pop(image_id)
            freed += images[image_id].size
        if freed < wanted:
            text = (
                f"Insufficient free disk space on the node's image filesystem ({disk.used_percent}% of {_size(disk.capacity)} used). "
                f"Failed to free sufficient space by deleting unused images (freed {freed} bytes). "
                "Investigate disk usage, as it could be used by active images, logs, volumes, or other data."
            )
            self._events.event(self._node, WARNING, "FreeDiskSpaceFailed", text)


def in_use(images: Iterable[Image], containers: Iterable[Container], pods: Iterable[Pod]) -> set[str]:
    """The ids of images that containers were made of, or pods mount or name."""
    names = {name for c in containers for name in (c.image_id, c.image)}
    for pod in pods:
        spec = pod["spec"]
        names |= {c["image"] for part in ("containers", "initContainers", "ephemeralContainers") for c in spec.get(part) or ()}
        names |= {v["image"].get("reference", "") for v in spec.get("volumes") or () if v.get("image")}
    return {image.id for image in images if names & _names_of(image)}


def noticed(known: Mapping[str, Known], images: Collection[str], used: Collection[str], now: float) -> dict[str, Known]:
    """What is known of the images that are there by now."""
    found = {image: known.get(image) or Known(now) for image in images}
    return found | {image: replace(found[image], used=now) for image in used}


def excess(disk: Disk, policy: Policy) -> int:
    """Bytes that have to go."""
    if not disk.capacity or disk.used_percent < policy.high:
        return 0
    return max(disk.capacity * (100 - policy.low) // 100 - disk.available, 0)


def removable(known: Mapping[str, Known], used: Collection[str], now: float) -> list[str]:
    """Images that may go, in the order in which they do."""
    idle = [(k.used, k.since, image) for image, k in known.items() if image not in used and now - k.since >= MIN_AGE]
    return [image for _, _, image in sorted(idle)]


def _names_of(image: Image) -> set[str]:
    """All ways in which a pod or a runtime may name it; `docker.io/library/a:latest` is `a`, too."""
    names = {image.id, *image.tags, *image.digests}
    for prefix in ("docker.io/", "docker.io/library/"):
        names |= {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
    return names | {name.removesuffix(":latest") for name in names}


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.1f} {unit}" if unit != "B" else f"{size} B"
        size /= 1024
    return f"{size:.1f} TiB"
