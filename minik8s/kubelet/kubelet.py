"""The kubelet: follows the pods bound to its node and keeps a worker for each; adopts what runs, clears away what nobody wants.

Promise: at start nothing that runs is restarted: sandboxes are found again by their labels and given to their pods' workers; sandboxes of
pods that are gone are stopped and removed once the pods are known. Runtime events wake the worker that holds the sandbox.
Limits: without the API server no new pods are learned of but static ones; the known ones are kept running.
Neighbours: `worker.py` for a pod's life, `node.py` for the node object, `server.py` for logs, exec and the like; `manifests.py` and
`mirrors.py` for static pods, `evictor.py` for a node that runs short.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from minik8s.api.resources import NODES, PODS, SERVICES
from minik8s.base.backoff import Backoff
from minik8s.base.clock import Clock
from minik8s.base.tasks import Owner
from minik8s.client.client import Client
from minik8s.client.events import WARNING, EventRecorder
from minik8s.client.informer import Informers
from minik8s.kubelet.actions import Actions
from minik8s.kubelet.admission import Rejection, Room, admit
from minik8s.kubelet.cgroups import Cgroups, gone
from minik8s.kubelet.configs import uid_of
from minik8s.kubelet.files import DiskFiles, Files
from minik8s.kubelet.images import Images
from minik8s.kubelet.inuse import InUse
from minik8s.kubelet.manifests import Manifests
from minik8s.kubelet.mirrors import Mirrors
from minik8s.kubelet.pod import (
    GRACE_PERIOD,
    NODE,
    Pod,
    is_critical,
    is_deleted,
    is_finished,
    is_host_network,
    is_mirror,
    is_static,
    key,
    started_at,
    uid,
)
from minik8s.kubelet.preemption import PREEMPTED, victims
from minik8s.kubelet.prober import Prober
from minik8s.kubelet.pullrecords import PullRecords
from minik8s.kubelet.resources import burstable_shares, pods_cgroup
from minik8s.kubelet.site import Site
from minik8s.kubelet.sources import Sources
from minik8s.kubelet.starter import Starter
from minik8s.kubelet.status import rejected
from minik8s.kubelet.statuses import Statuses
from minik8s.kubelet.stopper import Stopper
from minik8s.kubelet.userns import Ranges
from minik8s.kubelet.volumes import Volumes
from minik8s.kubelet.volumes.csi.node import CsiNode
from minik8s.kubelet.volumes.tokens import Tokens
from minik8s.kubelet.worker import Tools, Worker
from minik8s.runtime.base import Features, Runtime, RuntimeFailed, Sandbox

log = logging.getLogger(__name__)

BACKOFF = Backoff(initial=1, maximum=30)
WEIGHED_AFTER = 1.0  # seconds


class Kubelet:
    """One node's kubelet. `informers` may be shared with other parts of the agent."""

    def __init__(
        self,
        site: Site,
        runtime: Runtime,
        client: Client,
        informers: Informers,
        clock: Clock,
        rng: Random,
        *,
        cgroups: Cgroups | None = None,
        files: Files | None = None,
        manifests: Path | None = None,
        in_use: InUse | None = None,
    ) -> None:
        self.site, self.runtime, self.clock = site, runtime, clock
        self.features = Features()
        """What the runtime is able to do."""
        self._ranges = Ranges()
        self.pressures: Sequence[str] = ()
        """The kinds of pressure that the node is under, as `evictor.py` finds them."""
        self._stopped = self._synced = False
        self._owner = Owner("kubelet")
        self._weighing: asyncio.Task[Any] | None = None
        self._shares = 0
        self._workers: dict[str, Worker] = {}
        self._orphans: dict[str, list[Sandbox]] = {}
        self._pods = informers.of(PODS, fields=f"spec.nodeName={site.node}")
        self._services = informers.of(SERVICES)
        self._node = informers.of(NODES, fields=f"metadata.name={site.node}")
        self.events = EventRecorder(client, clock, rng, "kubelet", site.node)
        self._statuses = Statuses(client, clock)
        self._preempting: set[str] = set()  # pods that wait for others to make room
        self._static: Mapping[tuple[str, str], Pod] = {}
        self._mirrors = Mirrors(client, clock, self._statuses, self._pods, lambda: self._node.get("", site.node))
        self._manifests = Manifests(manifests, site.node, clock, self.keep) if manifests else None
        self._sources = Sources(client, clock, rng, self._volumes_changed)
        self._actions = Actions(runtime, clock)
        self._prober = Prober(self._actions, clock, rng, self.events, self._wake)
        records = PullRecords(site.layout.pulled if files is None else None)
        tokens = Tokens(client, clock, rng)
        self.in_use = in_use or InUse()
        self._csi = CsiNode(site, client, informers, tokens, clock, self.events, self.in_use, self._volumes_changed)
        if files is None:
            files = DiskFiles(site, Volumes(site, clock, rng, self._sources, tokens, self._csi.volumes, self._node_labels))
        self.files = files
        self._images = Images(runtime, clock, self.events, records)
        starter = Starter(
            runtime,
            clock,
            self.events,
            site,
            self._images,
            self._sources,
            files,
            self._actions,
            self._services.list,
            lambda: self.features,
            self._ranges,
        )
        self._tools = Tools(
            runtime,
            clock,
            client,
            self.events,
            site,
            self._statuses,
            starter,
            Stopper(runtime, clock, self.events, self._actions),
            files,
            self._prober,
            cgroups or Cgroups(),
            lambda: self.features,
        )

    async def start(self) -> None:
        """Adopts what runs, then follows pods and runtime in the background. Raises RuntimeFailed where the runtime is away."""
        self.events.start()
        self._tools.cgroups.create_classes(self.site.cgroup_root, pods_cgroup(self.site.together))
        self.features = await self.runtime.features()
        await self._images.forget_others()
        sandboxes = await self.runtime.sandboxes()
        self._ranges.take_over(sandboxes)
        for sandbox in [s for s in sandboxes if s.annotations.get(NODE) == self.site.node]:
            self._orphans.setdefault(uid_of(sandbox), []).append(sandbox)
        await self._csi.start()
        if self._manifests:
            await self._manifests.look()
            self._owner.start(self._manifests.run(), "manifests")
        self._node.on_change(lambda _, __: self._mirrors.look())
        self._pods.on_change(self._pod_changed)
        self._owner.start(self._mirrors.run(), "mirrors")
        self._owner.start(self._follow_runtime(), "runtime")
        self._owner.start(self._clear_away(), "orphans")

    async def stop(self) -> None:
        """Leaves all containers running."""
        self._stopped = True  # an informer that is shared lives on
        await self._owner.stop()
        await self._prober.stop()
        await self._csi.stop()
        await self._sources.stop()
        await self._statuses.stop()
        await self.events.stop()
        await self._actions.close()

    # --- for the node's HTTP API ---

    @property
    def cgroups(self) -> Cgroups:
        return self._tools.cgroups

    def pods(self) -> list[Pod]:
        return [w.pod for w in self._workers.values() if not w.gone]

    def workers(self) -> list[Worker]:
        return list(self._workers.values())

    def may_dial(self, address: str, _: int) -> bool:
        """Whether the server may be connected to that address through this node: its pods' and Services' alone."""
        sandboxes = (w.seen.sandbox for w in self._workers.values())
        if any(address in s.ips for s in sandboxes if s is not None):
            return True
        if any(address in self.site.host_ips and is_host_network(w.pod) for w in self._workers.values()):
            return True
        return any(address in (s["spec"].get("clusterIPs") or ()) for s in self._services.list())

    def worker(self, namespace: str, name: str) -> Worker | None:
        """The worker of a pod, by name (of several with that name the one that is not gone)."""
        found = [w for w in self._workers.values() if key(w.pod) == (namespace, name)]
        return next((w for w in found if not w.gone), found[0] if found else None)

    # --- following ---

    def _pod_changed(self, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> None:
        if self._stopped:
            return
        shown = new if new is not None else old
        if shown is not None and is_mirror(shown):
            self._mirrors.changed(new)
            return
        if new is None:
            if old is not None and (worker := self._workers.get(uid(old))):
                worker.vanish(old)
            return
        worker = self._workers.get(uid(new))
        if worker is not None:
            worker.update(new)
            self._resize()
            return
        if uid(new) not in self._orphans and not is_deleted(new) and not self._let_in(new):
            return
        if is_finished(new) and not is_deleted(new) and uid(new) not in self._orphans:
            return  # it ended long ago, and nothing of it is left here
        self._add(new)

    # --- static pods ---

    def keep(self, static: Mapping[tuple[str, str], Pod]) -> None:
        """These are the node's own pods now; what is none of them any more ends."""
        before, self._static = self._static, static
        known = {uid(pod): pod for pod in static.values()}
        for worker in list(self._workers.values()):
            if is_static(worker.pod) and uid(worker.pod) not in known:
                worker.vanish()
        old = {uid(pod) for pod in before.values()}
        for pod_uid, pod in known.items():
            if (running := self._workers.get(pod_uid)) is not None:
                if running.pod != pod:  # a manifest may bring its uid along
                    running.update(pod)
            elif pod_uid not in old:
                self._start_static(pod)
        self._mirrors.keep(static)

    def _start_static(self, pod: Pod) -> None:
        """Unless one of that name is still ending, which says so when it has."""
        if self._static.get(key(pod)) is not pod or any(key(w.pod) == key(pod) for w in self._workers.values()):
            return
        if uid(pod) in self._orphans or self._let_in(pod):
            self._add(pod)

    def _add(self, pod: Pod, *, gone: bool = False) -> None:
        sandboxes = tuple(s.id for s in self._orphans.pop(uid(pod), ()))
        worker = self._workers[uid(pod)] = Worker(pod, self._tools, self._owner, self._ended, sandboxes)
        if gone:
            worker.vanish()
        else:
            worker.wake()
            self._resize()

    def _let_in(self, pod: Pod) -> bool:
        if is_finished(pod):
            return True
        if started_at(pod) is not None:
            return True  # it was let in before the agent restarted
        if uid(pod) in self._preempting:
            return False
        rejection = admit(pod, room := self._room())
        if rejection is None:
            return True
        fits_otherwise = bool(rejection.needs) and admit(pod, replace(room, allocatable={})) is None
        if fits_otherwise and is_critical(pod) and self._make_room(pod, rejection):
            return False
        self.events.event(pod, WARNING, rejection.reason, rejection.message)
        self._statuses.set(pod, rejected(pod, rejection.reason, rejection.message, self.clock.now()))
        return False

    def _make_room(self, pod: Pod, rejection: Rejection) -> bool:
        """Whether others go for its sake: then it is looked at again."""
        active = {uid(w.pod): w for w in self._workers.values() if not w.is_ending and not is_finished(w.pod)}
        going = [active[uid(victim)] for victim in victims(pod, [w.pod for w in active.values()], rejection.needs)]
        for worker in going:
            self.events.event(worker.pod, WARNING, PREEMPTED.reason, PREEMPTED.message)
            worker.end(PREEMPTED)
        if going:
            self._preempting.add(uid(pod))
            self._owner.start(self._once_over(pod, going), "preemption")
        return bool(going)

    async def _once_over(self, pod: Pod, going: Sequence[Worker]) -> None:
        for worker in going:
            await worker.until_over()
        self._preempting.discard(uid(pod))
        if is_static(pod):
            self._start_static(pod)
        elif (now := self._pods.get(*key(pod))) and uid(now) == uid(pod):
            self._pod_changed(None, now)

    def _resize(self) -> None:
        """Resizes that wait for room are looked at again, the most urgent first: some pod has changed, or is gone."""
        self._weigh_soon()
        if not self._synced:
            return  # who else is here is not known yet
        waiting = [(urgency, w) for w in self._workers.values() if (urgency := w.resize_waits) is not None]
        for _, worker in sorted(waiting, key=lambda entry: entry[0]):
            worker.resize(self._room(without=uid(worker.pod)))

    def _room(self, without: str = "") -> Room:
        others = [w for pod_uid, w in self._workers.items() if pod_uid != without]
        return Room(
            self.site.node,
            self._node_labels(),
            self.site.allocatable,
            [w.pod for w in others if not (w.gone or w.is_over or is_finished(w.pod))],
            bool(self.features.groups_policy),
            self.pressures,
            self.site.unsafe_sysctls,
            self.site.apparmor,
            ((self._node.get("", self.site.node) or {}).get("spec") or {}).get("taints") or (),
        )

    def _node_labels(self) -> Mapping[str, str] | None:
        node = self._node.get("", self.site.node)
        return node["metadata"].get("labels") or {} if node else None

    def _ended(self, worker: Worker) -> None:
        """Nothing is left of the pod."""
        self._workers.pop(uid(worker.pod), None)
        self._ranges.release(uid(worker.pod))
        self._statuses.forget(uid(worker.pod))
        if (static := self._static.get(key(worker.pod))) and not self._stopped:
            self._start_static(static)
        self._resize()

    def _weigh_soon(self) -> None:
        """The class of burstable pods weighs as much as they: many changes are one."""
        if self._weighing is None and self.site.cgroup_root:
            self._weighing = self._owner.start(self._weigh(), "weights")

    async def _weigh(self) -> None:
        await self.clock.sleep(WEIGHED_AFTER)
        self._weighing = None
        shares = burstable_shares(worker.pod for worker in self._workers.values() if not worker.is_over)
        if shares != self._shares:
            self._shares = shares
            self._tools.cgroups.weigh(self.site.cgroup_root, "burstable", shares)

    def _wake(self, pod_uid: str) -> None:
        if (worker := self._workers.get(pod_uid)) and not self._stopped:
            worker.wake()

    def _volumes_changed(self, pod_uid: str) -> None:
        if (worker := self._workers.get(pod_uid)) and not self._stopped:
            worker.volumes_changed()

    async def _follow_runtime(self) -> None:
        failures = 0
        while True:
            try:
                async for event in self.runtime.events():
                    failures = 0
                    self._wake_holders(event.sandbox_id)
            except (RuntimeFailed, OSError) as error:
                log.warning("the runtime tells no events: %s", error)
            failures += 1
            await self.clock.sleep(BACKOFF.delay(failures))
            with contextlib.suppress(RuntimeFailed, OSError):  # it is away still: what it could before holds
                self.features = await self.runtime.features()
            self._wake_holders("")

    def _wake_holders(self, sandbox_id: str) -> None:
        for worker in list(self._workers.values()):
            if not sandbox_id or worker.holds(sandbox_id):
                worker.wake()

    async def _clear_away(self) -> None:
        """Once the pods are known: sandboxes and directories of those that are none."""
        await self._pods.synced()
        self._synced = True
        self._resize()
        for sandboxes in list(self._orphans.values()):
            log.info("pod %s/%s is gone: its sandbox goes too", sandboxes[0].namespace, sandboxes[0].name)
            self._add(_departed(sandboxes[0]), gone=True)
        known = {uid(pod) for pod in self._pods.list()} | self._workers.keys()
        for namespace, name, pod_uid in self._tools.files.left(known):
            log.info("pod %s/%s is gone: what it left on disk goes too", namespace, name)
            self._add(_gone(namespace, name, pod_uid), gone=True)
        await gone(self.clock, lambda: self._tools.cgroups.remove_others(self.site.cgroup_root, known | self._workers.keys()))


def _departed(sandbox: Sandbox) -> Pod:
    """What is known of a pod of which only a sandbox is left."""
    grace = sandbox.annotations.get(GRACE_PERIOD, "")
    return _gone(sandbox.namespace, sandbox.name, uid_of(sandbox), int(grace) if grace.isdecimal() else 30)


def _gone(namespace: str, name: str, pod_uid: str, grace: int = 0) -> Pod:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "uid": pod_uid},
        "spec": {"containers": [], "terminationGracePeriodSeconds": grace},
    }
