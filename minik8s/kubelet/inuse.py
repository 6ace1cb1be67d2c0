"""Which attachable volumes a node uses: told in its Node's `volumesInUse`, so that nobody detaches what is still mounted."""

from __future__ import annotations

import asyncio


class InUse:
    """By their unique names, and by the pods that have them. `changed` is set when there is something new to tell."""

    def __init__(self) -> None:
        self._pods: dict[str, set[str]] = {}
        self.changed = asyncio.Event()

    def names(self) -> list[str]:
        return sorted(self._pods)

    def add(self, name: str, pod_uid: str) -> None:
        if name not in self._pods:
            self._pods[name] = set()
            self.changed.set()
        self._pods[name].add(pod_uid)

    def release(self, pod_uid: str) -> None:
        """The pod has none any more."""
        for name, pods in list(self._pods.items()):
            pods.discard(pod_uid)
            if not pods:
                del self._pods[name]
                self.changed.set()
