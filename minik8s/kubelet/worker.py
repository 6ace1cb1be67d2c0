"""One pod's worker: looks at what the runtime holds, asks `lifecycle.decide` for the next step, does it, looks again.

Promise: the steps of a pod happen one after the other; what is seen is told to the API (`statuses`), in a quick sequence only where it
comes to. The task ends when there is nothing to
do and nothing to wait for; `wake` starts it again. When a pod is deleted, or its grace period gets shorter, a step that may take long
(pull, hook, stop) is given up, and the next decision sees the deletion.
Neighbours: `kubelet.py` owns the workers; `starter.py`, `stopper.py`, `prober.py`, `volumes` do the work.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from minik8s.api.errors import ApiError, Conflict, NotFound
from minik8s.api.resources import PODS
from minik8s.base.clock import Clock, rfc3339
from minik8s.base.tasks import Owner
from minik8s.client.client import Client
from minik8s.client.events import NORMAL, WARNING, EventRecorder
from minik8s.kubelet import backoffs, lifecycle
from minik8s.kubelet.admission import Room
from minik8s.kubelet.allocation import Grant
from minik8s.kubelet.backoffs import Crash, Failure
from minik8s.kubelet.cgroups import Cgroups, gone
from minik8s.kubelet.configs import cgroup_parent, uid_of
from minik8s.kubelet.files import Files
from minik8s.kubelet.images import StartFailed
from minik8s.kubelet.lifecycle import Facts, Instruction, Plan, Seen, Stop, Verdict, Waiting, decide
from minik8s.kubelet.pod import (
    ContainerSpec,
    Pod,
    Role,
    all_containers,
    field_path,
    find_container,
    full_name,
    grace_period,
    is_deleted,
    is_finished,
    key,
    resources_mark,
    uid,
)
from minik8s.kubelet.prober import Prober
from minik8s.kubelet.resizing import verify_usage
from minik8s.kubelet.resources import container_resources, pod_cgroup
from minik8s.kubelet.site import Site
from minik8s.kubelet.starter import Starter, whole
from minik8s.kubelet.status import Scene, merged_conditions, next_restarts, status_of
from minik8s.kubelet.statuses import Statuses
from minik8s.kubelet.stopper import Stopper
from minik8s.kubelet.volumes import MountFailed
from minik8s.runtime.base import Container, Features, NotThere, Runtime, RuntimeFailed, Sandbox, State

log = logging.getLogger(__name__)

HOLD = 1.0  # seconds for which a status may wait for the next one, while a step is done


@dataclass(frozen=True, slots=True)
class Tools:
    """What all workers of a kubelet share."""

    runtime: Runtime
    clock: Clock
    client: Client
    events: EventRecorder
    site: Site
    statuses: Statuses
    starter: Starter
    stopper: Stopper
    files: Files
    prober: Prober
    cgroups: Cgroups
    features: Callable[[], Features]


class Worker:
    """`on_end` is called when nothing is left of the pod."""

    def __init__(
        self, pod: Pod, tools: Tools, owner: Owner, on_end: Callable[[Worker], None], sandboxes: tuple[str, ...] = ()
    ) -> None:
        self._grant = Grant(pod)
        self.pod = self._grant.pod
        self.gone = False
        self.seen = Seen()
        self._tools, self._owner, self._on_end = tools, owner, on_end
        self._sandboxes = set(sandboxes)
        self._task: asyncio.Task[Any] | None = None
        self._step: asyncio.Task[Any] | None = None
        self._dirty, self._looked = asyncio.Event(), asyncio.Event()
        self._failures: dict[str, Failure] = {}
        self._crashes: dict[str, Crash] = {}
        self._status: Mapping[str, Any] | None = None  # what was seen last, told or not yet
        self._unsure = False  # whether a sandbox may have been made of which it never heard
        self._stopped: set[str] = set()  # sandboxes, by us
        self._hooked: set[str] = set()
        self._doomed: set[str] = set()
        self._resized: dict[str, str] = {}
        self._messages: dict[str, str] = {}
        self._waiting: Mapping[str, Waiting] = {}
        self._verdict: Verdict | None = None
        self._condemned = self._sweep = False
        self._mounted = self._stale = self._torn_down = self._deleted = False
        self._renew_at: float | None = None
        self._troubles = 0
        self._stuck: tuple[tuple[Instruction, ...], Seen] | None = None

    # --- what happens to it ---

    def wake(self) -> None:
        """Something may have changed."""
        self._dirty.set()
        if self._task is None:
            self._task = self._owner.start(self._run(), "/".join(key(self.pod)))

    def update(self, pod: Pod) -> None:
        """The API's pod is this now."""
        self._grant.update(pod)
        before, self.pod = self.pod, self._grant.pod
        self._tools.statuses.reconcile(pod)
        meta, old = pod["metadata"], before["metadata"]
        if any(meta.get(part) != old.get(part) for part in ("labels", "annotations")):
            self._stale = True
        if is_deleted(pod) and (not is_deleted(before) or grace_period(pod) < grace_period(before)):
            self._hurry()
        self.wake()

    @property
    def resize_waits(self) -> tuple[Any, ...] | None:
        """Where the pod asks for other resources than it has: how urgent that is, compared to others'."""
        idle = self.gone or is_deleted(self.pod) or is_finished(self.pod)
        return self._grant.urgency if self._grant.waits and not idle else None

    def resize(self, room: Room) -> None:
        """Gives the pod what it asks for, if the node has room for it."""
        before = self._grant.conditions
        self._tell_resize(self._grant.settle(room, self._tools.clock.now()))
        self.pod = self._grant.pod
        if self._grant.conditions != before:
            self._failures = {step: f for step, f in self._failures.items() if not step.startswith(backoffs.RESIZE)}
            self.wake()

    def volumes_changed(self) -> None:
        """Something that the pod refers to is another now; a start that failed for want of it is tried again."""
        self._stale = True
        self._failures = {name: f for name, f in self._failures.items() if f.pulling}
        self.wake()

    def vanish(self, last: Pod | None = None) -> None:
        """The API has no such pod any more (`last`: what it was at the end)."""
        before, self.pod, self.gone = self.pod, last or self.pod, True
        if not is_deleted(before) or grace_period(self.pod) < grace_period(before):
            self._hurry()
        self.wake()

    def end(self, verdict: Verdict) -> None:
        """The pod is to end for that reason; the first one counts."""
        if self._verdict is None:
            self._verdict = verdict
            self._hurry()
            self.wake()

    @property
    def is_ending(self) -> bool:
        return self.gone or self._verdict is not None or is_deleted(self.pod)

    @property
    def is_over(self) -> bool:
        """Nothing of it runs any more, nor uses anything."""
        return self._torn_down

    async def until_over(self) -> None:
        """Returns when nothing of the pod runs, and its volumes and its cgroup are gone."""
        while not (self._torn_down or self.gone):
            await self._looked.wait()

    async def sweep(self) -> None:
        """Removes containers that ended, since room is wanted; returns when that is done."""
        self._sweep = True
        self.wake()
        while self._sweep and not self.gone:
            await self._looked.wait()

    def holds(self, sandbox_id: str) -> bool:
        return sandbox_id in self._sandboxes

    def waiting_reason(self, container: str) -> str:
        """Why a container waits; empty where it doesn't, or only as all do at first."""
        waiting = self._waiting.get(container)
        return waiting.reason if waiting else ""

    async def until_ended(self, container_id: str) -> None:
        """Returns when the container does not run (any more)."""
        while any(c.id == container_id and c.state is State.RUNNING for c in self.seen.containers):
            await self._looked.wait()

    def _say_looked(self) -> None:
        self._looked.set()
        self._looked = asyncio.Event()

    def _hurry(self) -> None:
        if self._step:
            self._step.cancel()

    # --- the loop ---

    async def _run(self) -> None:
        try:
            while await self._turn():
                pass
        finally:
            self._task = None

    async def _turn(self) -> bool:
        """One look and one step; False when there is nothing more to do for now."""
        self._dirty.clear()
        try:
            plan = await self._decide()
            if plan.do and (plan.do, self.seen) == self._stuck:
                raise RuntimeFailed(f"{plan.do[0]} had no effect")
            if plan.do:
                if isinstance(plan.do[0], lifecycle.DeletePod):
                    self._tell()
                done = await self._interruptibly(self._perform(plan.do))
                again = isinstance(plan.do[0], lifecycle.MountVolumes)  # what they are made of may change while they are made
                self._stuck = (plan.do, self.seen) if done and not again else None
                return not isinstance(plan.do[0], lifecycle.Forget)
            self._tell()
            self._troubles, self._stuck, self._sweep = 0, None, False
            self._say_looked()
            wake_at = _earliest(plan.wake_at, self._renew_at if self._mounted and not plan.ending else None)
        except (RuntimeFailed, ApiError, OSError) as error:
            wake_at, self._stuck = self._retry_at(), None
            log.warning("pod %s: %s", full_name(self.pod), error)
        except Exception:
            wake_at = self._retry_at()
            log.exception("pod %s", full_name(self.pod))
        return await self._wait(wake_at)

    def _retry_at(self) -> float:
        self._troubles += 1
        return self._tools.clock.now() + backoffs.STEP.delay(self._troubles)

    async def _wait(self, until: float | None) -> bool:
        """True when woken or at `until`; False at once where nothing is to be waited for."""
        if self._dirty.is_set():
            return True
        if until is None:
            return False
        try:
            async with self._tools.clock.timeout(max(until - self._tools.clock.now(), 0)):
                await self._dirty.wait()
        except TimeoutError:
            pass
        return True

    async def _interruptibly(self, work: Coroutine[Any, Any, None]) -> bool:
        """Does a step; False where `_hurry` ended it early. What was seen before it is told only if it takes long: otherwise what
        follows is the news.
        """
        step = self._step = asyncio.get_running_loop().create_task(work)
        try:
            with contextlib.suppress(TimeoutError):
                async with self._tools.clock.timeout(HOLD):
                    await asyncio.shield(step)
            if not step.done():
                self._tell()
            await step
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                step.cancel()
                await asyncio.wait([step])
                raise
            return False
        finally:
            self._step = None
        return True

    def _tell(self) -> None:
        if self._status is not None and not self.gone:
            self._tools.statuses.set(self.pod, self._status)

    async def _decide(self) -> Plan:
        """Looks and decides."""
        tools, pod = self._tools, self.pod
        now = tools.clock.now()
        self.seen = seen = await self._look()
        self._say_looked()
        if self._renew_at is not None and self._renew_at <= now:
            self._stale = True
        previous = self._status or tools.statuses.told(pod)
        started = previous.get("startTime") or rfc3339(now)
        view = {**pod, "status": {**(pod.get("status") or {}), "startTime": started}}
        self._probe(ending=self.gone or is_deleted(pod))
        lagging = self._lagging()
        self._tell_resize(self._grant.follow(bool(lagging), now))
        plan = decide(view, seen, self._facts(previous), now)
        if plan.ending:
            self._probe(ending=True)
        self._tell_events(plan)
        self._waiting = self._still_waiting(plan)
        if plan.ending:
            self._grant.end()
        self._status = status_of(pod, self._scene(plan, previous, now, lagging))
        return plan

    def _lagging(self) -> frozenset[str]:
        """Running containers that a resize has not reached yet."""
        specs = {c["name"]: c for role, c in all_containers(self.pod) if role is not Role.EPHEMERAL}
        running = [c for c in self.seen.containers if c.state is State.RUNNING and c.name in specs]
        behind = [c for c in running if lifecycle.has_other_resources(self.pod, specs[c.name], c, self._resized)]
        return frozenset(c.id for c in behind)

    def _tell_resize(self, news: tuple[str, str, str] | None) -> None:
        if news:
            self._tools.events.event(self.pod, *news)

    async def _look(self) -> Seen:
        runtime = self._tools.runtime
        if self._unsure:
            self._sandboxes |= {s.id for s in await runtime.sandboxes() if uid_of(s) == uid(self.pod)}
            self._unsure = False
        sandboxes: list[Sandbox] = []
        found: list[Container] = []
        for sandbox_id in sorted(self._sandboxes):
            try:
                sandboxes.append(await runtime.sandbox(sandbox_id))
            except NotThere:
                self._sandboxes.discard(sandbox_id)
                continue
            found += await runtime.containers(sandbox_id)
        for container in found:
            if container.state is State.EXITED and container.id not in self._messages:
                self._messages[container.id] = self._tools.files.message(self.pod, container)
        return lifecycle.seen(sandboxes, found)

    def _facts(self, previous: Mapping[str, Any]) -> Facts:
        return Facts(
            health={c.id: self._tools.prober.health(c.id) for c in self.seen.containers if c.state is State.RUNNING},
            failures=self._failures,
            crashes=self._crashes,
            restarts=next_restarts(previous),
            resized=self._resized,
            verdict=self._verdict,
            sweep=self._sweep,
            hooked=frozenset(self._hooked),
            doomed=frozenset(self._doomed),
            stopped=frozenset(self._stopped),
            mounted=self._mounted,
            stale=self._stale,
            torn_down=self._torn_down,
            deleted=self._deleted,
            gone=self.gone,
        )

    def _scene(self, plan: Plan, previous: Mapping[str, Any], now: float, lagging: frozenset[str]) -> Scene:
        running = [c for c in self.seen.containers if c.state is State.RUNNING]
        foreign = self.pod.get("status") or {}
        return Scene(
            seen=self.seen,
            now=now,
            runtime=self._tools.runtime.name,
            features=self._tools.features(),
            host_ips=self._tools.site.host_ips,
            previous={**previous, "conditions": merged_conditions(previous, foreign)},
            waiting=self._waiting,
            health={c.id: self._tools.prober.health(c.id) for c in running},
            messages=self._messages,
            resizing=self._grant.conditions,
            lagging=lagging,
            doomed=frozenset(self._doomed),
            resetting=plan.resetting,
            verdict=plan.verdict,
            over=plan.ending and not running,
            tried=any(not step.startswith("/") for step in self._failures),
        )

    def _probe(self, *, ending: bool) -> None:
        running = []
        for container in self.seen.containers:
            found = find_container(self.pod, container.name)
            if container.state is State.RUNNING and found and found[0] is not Role.EPHEMERAL:
                running.append((*found, container))
        address = self._tools.starter.address(self.pod, self.seen.sandbox)
        self._tools.prober.follow(self.pod, address, running, ending)

    def _still_waiting(self, plan: Plan) -> Mapping[str, Waiting]:
        """Also of what is being tried again it is told why it did not run: it may fail once more."""
        retried = {i.name for i in plan.do if isinstance(i, lifecycle.Start)} & self._waiting.keys()
        return {} if plan.ending else {**plan.waiting, **{name: self._waiting[name] for name in retried}}

    def _tell_events(self, plan: Plan) -> None:
        """Events of what is not done: back-offs, and why the pod ends."""
        events = self._tools.events
        if plan.verdict is lifecycle.DEADLINE and not self._condemned and not self.gone:
            self._condemned = True
            events.event(self.pod, NORMAL, plan.verdict.reason, plan.verdict.message)
        for role, container in all_containers(self.pod):
            name = container["name"]
            waiting = plan.waiting.get(name)
            if waiting is None or waiting == self._waiting.get(name):
                continue
            path = field_path(role, name)
            if waiting.reason == "CrashLoopBackOff":
                text = f"Back-off restarting failed container {name} in pod {full_name(self.pod)}"
                events.event(self.pod, WARNING, "BackOff", text, field_path=path)
            elif waiting.reason == "ImagePullBackOff":
                text = f'Back-off pulling image "{self._failures[name].lacking}"'
                events.event(self.pod, NORMAL, "BackOff", text, field_path=path)
                events.event(self.pod, WARNING, "Failed", "Error: ImagePullBackOff", field_path=path)

    # --- the steps ---

    async def _perform(self, step: tuple[Instruction, ...]) -> None:
        if stops := [i for i in step if isinstance(i, Stop)]:
            await self._stop(stops)
            return
        for instruction in step:
            await self._one(instruction)

    async def _one(self, instruction: Instruction) -> None:
        runtime = self._tools.runtime
        match instruction:
            case lifecycle.MountVolumes():
                await self._mount()
            case lifecycle.RunSandbox(attempt):
                await self._run_sandbox(attempt)
            case lifecycle.Start():
                await self._start(instruction)
            case lifecycle.Resize(container_id, name):
                await self._resize(container_id, name)
            case lifecycle.StopSandbox(sandbox_id):
                await runtime.stop_sandbox(sandbox_id)
                self._stopped.add(sandbox_id)
            case lifecycle.RemoveContainer(container_id):
                await runtime.remove_container(container_id)
                self._messages.pop(container_id, None)
                self._doomed.discard(container_id)
                for gone in (c for c in self.seen.containers if c.id == container_id):
                    self._tools.files.drop_logs(self.pod, gone)
            case lifecycle.RemoveSandbox(sandbox_id):
                await runtime.remove_sandbox(sandbox_id)
                self._sandboxes.discard(sandbox_id)
                self._stopped.discard(sandbox_id)
            case lifecycle.TearDown():
                await self._tear_down()
            case lifecycle.DeletePod():
                await self._delete()
            case lifecycle.Forget():
                await whole(self._tools.files.remove(self.pod))
                self._on_end(self)

    async def _mount(self) -> None:
        surroundings = self._tools.starter.surroundings(self.pod, self.seen.sandbox)
        self._stale = False
        try:
            self._renew_at = await self._tools.files.mount(self.pod, surroundings)
        except MountFailed as error:
            for text in error.failures:
                self._tools.events.event(self.pod, WARNING, "FailedMount", text)
            self._fail(backoffs.VOLUMES, "FailedMount", str(error))
            self._stale = self._mounted
            return
        self._mounted, self._torn_down = True, False
        self._failures.pop(backoffs.VOLUMES, None)

    async def _run_sandbox(self, attempt: int) -> None:
        tools, pod = self._tools, self.pod
        self._limit()
        self._unsure = True  # also where the runtime ends halfway, or this step is given up
        try:
            self._sandboxes.add(await tools.starter.run_sandbox(pod, attempt))
        except StartFailed as error:
            self._fail(backoffs.SANDBOX, error.reason, str(error))
            return
        self._unsure = False
        self._failures.pop(backoffs.SANDBOX, None)

    async def _start(self, step: lifecycle.Start) -> None:
        tools, pod = self._tools, self.pod
        assert self.seen.sandbox is not None
        found = find_container(pod, step.name)
        assert found is not None
        last = self.seen.latest(step.name)
        if last is not None:  # a resize may have come meanwhile
            self._limit()
        if last is not None and last.state is State.EXITED:
            crash = self._crashes.get(step.name)
            self._crashes[step.name] = backoffs.restarted(crash, last.finished_at, tools.clock.now())
        try:
            await tools.starter.start(pod, step, self.seen.sandbox, self._target(found[1]))
        except StartFailed as error:
            self._fail(step.name, error.reason, str(error), found[1].get("image", ""), error.image)
        else:
            self._failures.pop(step.name, None)

    async def _resize(self, container_id: str, name: str) -> None:
        tools, pod = self._tools, self.pod
        found = find_container(pod, name)
        assert found is not None
        own = container_resources(pod, found[1], tools.site.memory)
        try:
            await verify_usage(tools.runtime, container_id, name, own.memory_limit)
            self._limit(tentative=True)  # before, as it may grow; what it can't yet shrink to, it does below
            await tools.runtime.update_resources(container_id, own)
        except RuntimeFailed as error:
            self._tell_resize(self._grant.failed(str(error), tools.clock.now()))
            self._fail(backoffs.RESIZE + name, "ResizeError", str(error))
            return
        self._limit()
        self._failures.pop(backoffs.RESIZE + name, None)
        self._resized[container_id] = resources_mark(pod, found[1])

    def _limit(self, *, tentative: bool = False) -> None:
        """The cgroup around the pod, with its limits."""
        site = self._tools.site
        limits = pod_cgroup(self.pod, site.pod_pids)
        self._tools.cgroups.create(cgroup_parent(self.pod, site), limits, tentative=tentative)

    def _target(self, container: ContainerSpec) -> str:
        target = self.seen.latest(container.get("targetContainerName") or "")
        return target.id if target else ""

    def _fail(self, step: str, reason: str, message: str, image: str = "", lacking: str = "") -> None:
        now = self._tools.clock.now()
        self._failures[step] = backoffs.failed(self._failures.get(step), reason, message, now, image, lacking)

    async def _stop(self, stops: Sequence[Stop]) -> None:
        tools = self._tools
        self._doomed |= {stop.container_id for stop in stops if stop.again}
        address = tools.starter.address(self.pod, self.seen.sandbox)
        await tools.stopper.stop(self.pod, address, stops, self._hooked)

    async def _tear_down(self) -> None:
        tools = self._tools
        await whole(tools.files.unmount(uid(self.pod)))
        await gone(tools.clock, lambda: tools.cgroups.remove(tools.site.cgroup_root, uid(self.pod)))
        self._mounted, self._torn_down, self._renew_at = False, True, None

    async def _delete(self) -> None:
        """The API object goes when its last status is written; the watch then says that it is gone."""
        tools = self._tools
        namespace, name = key(self.pod)
        await tools.statuses.flushed(self.pod)
        with contextlib.suppress(NotFound, Conflict):  # Conflict: another pod has the name by now
            await tools.client.delete(PODS, name, namespace, uid=uid(self.pod), grace_period=0)
        self._deleted = True


def _earliest(*moments: float | None) -> float | None:
    return min((m for m in moments if m is not None), default=None)
