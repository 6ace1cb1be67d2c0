"""Tells the API server the pods' statuses: the last one wins, what did not change is not written, nothing is lost to an outage.

Each pod has at most one status that waits and one that is being written. Source: the kubelet's status manager (a strategic merge patch
of `pods/status` that names the uid, so that a pod of the same name made anew is never written). That of a static pod waits until the API
shows a mirror of it, and is written there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from minik8s.api.errors import ApiError, Conflict, NotFound
from minik8s.api.resources import PODS
from minik8s.base.backoff import Backoff
from minik8s.base.clock import Clock
from minik8s.base.tasks import Owner
from minik8s.client.client import Client
from minik8s.kubelet.pod import Pod, is_static, key, uid
from minik8s.kubelet.status import OWN_CONDITIONS, TERMINAL

log = logging.getLogger(__name__)

Status = Mapping[str, Any]
BACKOFF = Backoff(initial=0.5, maximum=10)
WRITERS = 8


class Statuses:
    """The writer of one kubelet."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client, self._clock = client, clock
        self._owner = Owner("statuses")
        self._waiting: dict[str, tuple[Pod, Status]] = {}
        self._written: dict[str, Status] = {}
        self._idle: dict[str, asyncio.Event] = {}
        self._busy: set[str] = set()
        self._versions: dict[str, int] = {}
        self._mirrors: dict[str, Pod] = {}  # by the uids of static pods
        self._slots = asyncio.Semaphore(WRITERS)

    def told(self, pod: Pod) -> Status:
        """The status told last: ours, else the API's."""
        if waiting := self._waiting.get(uid(pod)):
            return waiting[1]
        shown = (self._mirrors.get(uid(pod)) or {}).get("status") or {}
        of_mirror = shown if shown.get("phase") not in TERMINAL else None  # a static pod may run again
        return self._written.get(uid(pod)) or of_mirror or pod.get("status") or {}

    def set(self, pod: Pod, status: Status) -> None:
        """Has `status` written soon, if it is news."""
        if self.told(pod) == status:
            return
        self._waiting[uid(pod)] = pod, status
        self._write_soon(pod)

    def mirrored(self, pod: Pod, mirror: Pod) -> None:
        """The API shows the static `pod` as `mirror`: its status is written there, and what was told before waits until then."""
        pod_uid = uid(pod)
        status = waiting[1] if (waiting := self._waiting.get(pod_uid)) else self._written.get(pod_uid)
        before = self._mirrors.get(pod_uid)
        self._mirrors[pod_uid] = mirror
        if before is not None and uid(before) == uid(mirror):
            self._compare(pod, mirror)
        elif status is not None:
            self._written.pop(pod_uid, None)
            self._versions.pop(pod_uid, None)
            self._waiting[pod_uid] = pod, status
            self._write_soon(pod)

    def _write_soon(self, pod: Pod) -> None:
        pod_uid = uid(pod)
        self._idle.setdefault(pod_uid, asyncio.Event()).clear()
        if pod_uid not in self._busy and (not is_static(pod) or pod_uid in self._mirrors):
            self._busy.add(pod_uid)
            self._owner.start(self._write_all(pod_uid), pod_uid)

    def reconcile(self, pod: Pod) -> None:
        """The API has `pod` now: where somebody else (the node controller) overwrote what we told, it is told again."""
        self._compare(pod, pod)

    def _compare(self, pod: Pod, shown: Pod) -> None:
        pod_uid = uid(pod)
        written = self._written.get(pod_uid)
        if written is None or pod_uid in self._busy or _version(shown) <= self._versions.get(pod_uid, 0):
            return
        told = shown.get("status") or {}
        if any(told.get(name) != written.get(name) for name in ("phase", "podIPs")) or _own(told) != _own(written):
            self._written[pod_uid] = told
            self.set(pod, written)

    async def flushed(self, pod: Pod) -> None:
        """Returns when the pod's last status is written."""
        idle = self._idle.get(uid(pod))
        if idle:
            await idle.wait()

    def forget(self, pod_uid: str) -> None:
        self._waiting.pop(pod_uid, None)
        self._written.pop(pod_uid, None)
        self._idle.pop(pod_uid, None)
        self._versions.pop(pod_uid, None)
        self._mirrors.pop(pod_uid, None)

    async def stop(self) -> None:
        await self._owner.stop()

    async def _write_all(self, pod_uid: str) -> None:
        failures = 0
        try:
            while pod_uid in self._waiting:
                pod, status = self._waiting[pod_uid]
                try:
                    async with self._slots:
                        await self._write(pod, status)
                except (NotFound, Conflict) as error:
                    log.debug("status of %s: %s", key(pod), error)
                except (ApiError, OSError) as error:
                    failures += 1
                    log.info("status of %s not written: %s", key(pod), error)
                    await self._clock.sleep(BACKOFF.delay(failures))
                    continue
                failures = 0
                latest = self._waiting.get(pod_uid)
                if latest is None:  # forgotten meanwhile
                    return
                self._written[pod_uid] = status
                if latest[1] is status:
                    del self._waiting[pod_uid]
        finally:
            self._busy.discard(pod_uid)
            if pod_uid in self._idle and pod_uid not in self._waiting:
                self._idle[pod_uid].set()

    async def _write(self, pod: Pod, status: Status) -> None:
        namespace, name = key(pod)
        shown = self._mirrors.get(uid(pod), pod)
        before = self._written.get(uid(pod)) or shown.get("status") or {}
        body = patch(shown, before, status)
        answer = await self._client.patch(PODS, name, namespace, body, kind="strategic", subresource="status")
        self._versions[uid(pod)] = _version(answer)


def patch(pod: Pod, before: Status, after: Status) -> dict[str, Any]:
    """The strategic merge patch from `before` to `after`. Conditions are merged by type, so that what others write there stays."""
    change: dict[str, Any] = {name: None for name in before if name not in after}
    change |= {name: value for name, value in after.items() if before.get(name) != value}
    if change.get("conditions") is not None:
        old = {c["type"]: c for c in before.get("conditions") or ()}
        news = [_nulled(old.get(c["type"], {}), c) for c in after["conditions"] if old.get(c["type"]) != c]
        gone = [kind for kind in old if kind in OWN_CONDITIONS and kind not in {c["type"] for c in after["conditions"]}]
        change["conditions"] = news + [{"$patch": "delete", "type": kind} for kind in gone]
        change["$setElementOrder/conditions"] = [{"type": c["type"]} for c in after["conditions"]]
    for addresses in ("podIPs", "hostIPs"):
        if addresses in change and change[addresses] is not None:
            change[addresses] = [{"$patch": "replace"}, *change[addresses]]
    return {"metadata": {"uid": uid(pod)}, "status": change}


def _nulled(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None for name in old if name not in new} | dict(new)


def _own(status: Status) -> dict[str, Any]:
    return {c["type"]: c["status"] for c in status.get("conditions") or () if c["type"] in OWN_CONDITIONS}


def _version(obj: Mapping[str, Any]) -> int:
    """Resource versions can be compared (KEP-5504)."""
    text = str(obj["metadata"].get("resourceVersion") or "0")
    return int(text) if text.isdecimal() else 0
