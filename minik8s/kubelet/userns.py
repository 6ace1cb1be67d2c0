"""Which users and groups of the host a pod with `hostUsers: false` gets: a range of 65,536 of its own, while it has a sandbox (KEP-127).

Nothing is stored: a sandbox's annotation tells its range, and the kubelet reads it there when it starts. Files of volumes keep the ids
that the pod sees (the runtimes map mounts), so a pod may get another range with its next sandbox.
"""

from __future__ import annotations

from collections.abc import Iterable

from minik8s.kubelet.configs import uid_of
from minik8s.kubelet.pod import USERS
from minik8s.runtime.base import IdMap, Sandbox

LENGTH = 1 << 16
LAST = (1 << 16) - 2
"""The last range; range 0 is the host's own, and in the one after it lies an id that stands for none."""


class Ranges:
    def __init__(self) -> None:
        self._of: dict[str, int] = {}

    def take_over(self, sandboxes: Iterable[Sandbox]) -> None:
        """What the runtime's sandboxes have, those of other nodes' pods too."""
        for sandbox in sandboxes:
            if (first := sandbox.annotations.get(USERS, "")).isdecimal():
                self._of[uid_of(sandbox)] = int(first) // LENGTH

    def get(self, pod_uid: str) -> IdMap:
        """The pod's range, ever the same. ValueError where all are taken."""
        if pod_uid not in self._of:
            taken = set(self._of.values())
            free = next((number for number in range(1, LAST + 1) if number not in taken), 0)
            if not free:
                raise ValueError("could not find an empty slot to allocate a user namespace")
            self._of[pod_uid] = free
        return IdMap(self._of[pod_uid] * LENGTH, LENGTH)

    def release(self, pod_uid: str) -> None:
        self._of.pop(pod_uid, None)
