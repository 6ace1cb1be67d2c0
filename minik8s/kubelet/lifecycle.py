"""What to do next for one pod: from the pod, what the runtime holds of it and what is known of its past, purely.

`decide` is asked again after each step, whenever something changed and at `wake_at`; it remembers nothing. Its answer is the next
step: one instruction, or several that may be done at the same time. The worker performs them.

A pod's life: volumes, sandbox, init containers one by one (sidecars stay), regular containers, restarts; then its containers are
stopped, its sandbox, its volumes, and at last, if it was deleted, the API object and what is left of it.
Sources: the kubelet's computePodActions, KEP-753 (sidecars), KEP-5307, KEP-5532 (restart rules); golden/node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from minik8s.api.restarts import restarts_all
from minik8s.kubelet import backoffs
from minik8s.kubelet.backoffs import Crash, Failure
from minik8s.kubelet.pod import (
    CONTAINER_HASH,
    CONTAINER_RESOURCES,
    ContainerSpec,
    Pod,
    Role,
    container_hash,
    containers,
    deadline,
    full_name,
    grace_period,
    is_deleted,
    is_finished,
    is_sidecar,
    resources_mark,
    restart_policy,
    restarts_after,
)
from minik8s.kubelet.probes import UNPROBED, Health
from minik8s.runtime.base import Container, Sandbox, State

MIN_GRACE = 2.0  # upstream's minimumGracePeriodInSeconds


# --- what goes in ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seen:
    """What the runtime holds of one pod, newest first."""

    sandboxes: Sequence[Sandbox] = ()
    containers: Sequence[Container] = ()

    @property
    def sandbox(self) -> Sandbox | None:
        return self.sandboxes[0] if self.sandboxes else None

    def of(self, name: str) -> list[Container]:
        return [c for c in self.containers if c.name == name]

    def latest(self, name: str) -> Container | None:
        return next((c for c in self.containers if c.name == name), None)


def seen(sandboxes: Iterable[Sandbox], containers: Iterable[Container]) -> Seen:
    """Puts them in order."""
    return Seen(
        sorted(sandboxes, key=lambda s: (s.attempt, s.created_at), reverse=True),
        sorted(containers, key=lambda c: (c.created_at, c.attempt), reverse=True),
    )


@dataclass(frozen=True, slots=True)
class Facts:
    """What the runtime does not know."""

    health: Mapping[str, Health] = field(default_factory=dict)  # by container id
    failures: Mapping[str, Failure] = field(default_factory=dict)  # by container name, VOLUMES or SANDBOX
    crashes: Mapping[str, Crash] = field(default_factory=dict)  # by container name
    restarts: Mapping[str, int] = field(
        default_factory=dict
    )  # by container name: the next restart count, where only the API knows
    resized: Mapping[str, str] = field(default_factory=dict)  # resources_mark by container id, where they were changed in place
    hooked: frozenset[str] = frozenset()  # ids of containers whose preStop hook has run
    doomed: frozenset[str] = frozenset()  # ids of containers that were stopped in order to be run again
    verdict: Verdict | None = None  # why the pod is to end, where somebody said so
    sweep: bool = False  # room is wanted: containers that ended go, too
    stopped: frozenset[str] = frozenset()  # ids of sandboxes that were stopped: one that broke has its address until then
    mounted: bool = False
    stale: bool = False  # something that mounted volumes are made of has changed
    torn_down: bool = False
    deleted: bool = False  # the API server was asked to remove the object; a finalizer may keep it
    gone: bool = False  # the API has no such pod (any more)


# --- what comes out --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MountVolumes:
    pass


@dataclass(frozen=True, slots=True)
class RunSandbox:
    attempt: int


@dataclass(frozen=True, slots=True)
class Start:
    """Pull the image if need be, create, start, run the postStart hook."""

    role: Role
    name: str
    attempt: int  # its restart count


@dataclass(frozen=True, slots=True)
class Stop:
    """Run the preStop hook, wait until the containers `after` have ended, send the stop signal; all within `grace` seconds."""

    container_id: str
    name: str
    grace: float
    message: str
    hook: bool = True
    after: frozenset[str] = frozenset()
    again: bool = False  # it is to run again, whatever its exit code


@dataclass(frozen=True, slots=True)
class Resize:
    """Give a running container the resources that the spec has now."""

    container_id: str
    name: str


@dataclass(frozen=True, slots=True)
class StopSandbox:
    sandbox_id: str


@dataclass(frozen=True, slots=True)
class RemoveContainer:
    container_id: str


@dataclass(frozen=True, slots=True)
class RemoveSandbox:
    sandbox_id: str


@dataclass(frozen=True, slots=True)
class TearDown:
    """Unmount volumes, remove the pod's cgroup."""


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Everything has ended: let the API server remove the object."""


@dataclass(frozen=True, slots=True)
class Forget:
    """Nothing is left but files: logs and the pod's directory."""


Instruction = (
    MountVolumes
    | RunSandbox
    | Start
    | Stop
    | Resize
    | StopSandbox
    | RemoveContainer
    | RemoveSandbox
    | TearDown
    | DeletePod
    | Forget
)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a container does not run (`state.waiting`), until when."""

    reason: str
    message: str
    until: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why the kubelet ends a pod, within `grace` seconds (None: its own). `disruption` is the message of its DisruptionTarget condition;
    without one it has none.
    """

    reason: str
    message: str
    grace: float | None = None
    disruption: str = ""


DEADLINE = Verdict("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")


@dataclass(frozen=True, slots=True)
class Plan:
    do: tuple[Instruction, ...] = ()
    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    wake_at: float | None = None
    verdict: Verdict | None = None
    ending: bool = False  # no container is to run any more
    resetting: bool = False  # all containers go, to begin anew


def decide(pod: Pod, seen: Seen, facts: Facts, now: float) -> Plan:
    """The next step; nothing to do and `wake_at` None means: until something changes."""
    if facts.gone:
        return Plan(_forget(pod, seen, facts), ending=True)
    limit = deadline(pod)
    verdict = facts.verdict or (DEADLINE if limit is not None and now >= limit else None)
    if not (is_deleted(pod) or is_finished(pod) or verdict):
        plan = _run(pod, seen, facts, now)
        if plan is not None:
            return plan
    return Plan(_end(pod, seen, facts, verdict), verdict=verdict, ending=True)


# --- the end ---------------------------------------------------------------------------------------------------------


def _end(pod: Pod, seen: Seen, facts: Facts, verdict: Verdict | None) -> tuple[Instruction, ...]:
    """Containers, then the sandbox, then volumes; then the API object, if its deletion was asked for."""
    step = _stop_everything(pod, seen, facts, verdict.grace if verdict else None)
    if step:
        return step
    if not facts.torn_down:
        return (TearDown(),)
    if is_deleted(pod) and not facts.deleted:
        return (DeletePod(),)
    known = is_finished(pod)  # else it would be run again
    return tuple(RemoveContainer(c.id) for c in seen.containers) if facts.sweep and known else ()


def _forget(pod: Pod, seen: Seen, facts: Facts) -> tuple[Instruction, ...]:
    step = _stop_everything(pod, seen, facts)
    if step:
        return step
    if not facts.torn_down:
        return (TearDown(),)
    if seen.containers:
        return tuple(RemoveContainer(c.id) for c in seen.containers)
    if seen.sandboxes:
        return tuple(RemoveSandbox(s.id) for s in seen.sandboxes)
    return (Forget(),)


def _stop_everything(pod: Pod, seen: Seen, facts: Facts, within: float | None = None) -> tuple[Instruction, ...]:
    running = [c for c in seen.containers if c.state in (State.RUNNING, State.UNKNOWN)]
    if running:
        order = _stop_order(pod)
        grace = max(grace_period(pod) if within is None else within, MIN_GRACE)
        return tuple(
            Stop(
                c.id,
                c.name,
                grace,
                f"Stopping container {c.name}",
                c.id not in facts.hooked,
                frozenset(o.id for o in running if order.get(o.name, 0) < order.get(c.name, 0)),
            )
            for c in running
        )
    return tuple(StopSandbox(s.id) for s in seen.sandboxes if s.ready or s.id not in facts.stopped)


def _stop_order(pod: Pod) -> dict[str, int]:
    """Sidecars end after all others, in the reverse of their order (KEP-753); who is not in it, at once."""
    sidecars = [c["name"] for c in containers(pod, Role.INIT) if is_sidecar(c)]
    return {name: place for place, name in enumerate(reversed(sidecars), 1)}


# --- the life --------------------------------------------------------------------------------------------------------


class _Draft:
    """A plan in the making."""

    def __init__(self, pod: Pod, seen: Seen, facts: Facts, now: float) -> None:
        self.pod, self.seen, self.facts, self.now = pod, seen, facts, now
        self.starts: list[Start] = []
        self.stops: list[Stop] = []
        self.removals: list[Instruction] = []
        self.resizes: list[Resize] = []
        self.waiting: dict[str, Waiting] = {}
        self.wakes: list[float] = []

    def start(self, role: Role, container: ContainerSpec) -> None:
        """`container` is to run: now, or when its back-off is over."""
        name, last = container["name"], self.seen.latest(container["name"])
        if last is not None and last.state in (
            State.CREATED,
            State.UNKNOWN,
        ):  # nobody started it, or nobody knows: make it anew
            self.removals.append(RemoveContainer(last.id))
            return
        waiting = self._backoff(container, last)
        if waiting:
            self.waiting[name] = waiting
            self.wakes.append(waiting.until)
            return
        attempt = last.attempt + 1 if last else self.facts.restarts.get(name, 0)
        self.starts.append(Start(role, name, attempt))

    def stop(self, container: ContainerSpec, running: Container, fault: tuple[str, str], message: str) -> None:
        probe = container.get(fault[1]) or {}
        own = probe.get("terminationGracePeriodSeconds")
        grace = max(grace_period(self.pod) if own is None else own, MIN_GRACE)
        again = restart_policy(self.pod, container) != "Never"
        self.stops.append(Stop(running.id, running.name, grace, message, running.id not in self.facts.hooked, again=again))

    def may(self, step: str) -> bool:
        """Whether a step before the containers may be tried now; if not, when."""
        failure = self.facts.failures.get(step)
        if failure is None or failure.retry_at <= self.now:
            return True
        self.wakes.append(failure.retry_at)
        return False

    def plan(self, *do: Instruction) -> Plan:
        return Plan(do, self.waiting, min(self.wakes, default=None))

    @property
    def step(self) -> tuple[Instruction, ...]:
        return tuple(self.stops) or tuple(self.removals) or tuple(self.resizes) or tuple(self.starts[:1])

    def _backoff(self, container: ContainerSpec, last: Container | None) -> Waiting | None:
        name, image = container["name"], container.get("image", "")
        failure = self.facts.failures.get(name)
        ended = last is not None and last.state is State.EXITED
        counted = failure and not (ended and failure.reason in backoffs.ENDED_REASONS)
        if failure and counted and failure.image == image and failure.retry_at > self.now:
            shown_until = failure.at + backoffs.PULL_ERROR_SHOWN
            if not failure.pulling:
                return Waiting(failure.reason, failure.message, failure.retry_at)
            if self.now < shown_until:
                return Waiting(failure.reason, failure.message, shown_until)
            message = f'Back-off pulling image "{failure.lacking}": {failure.reason}: {failure.message}'
            return Waiting("ImagePullBackOff", message, failure.retry_at)
        if last is not None and last.state is State.EXITED:
            crash = self.facts.crashes.get(name)
            until = backoffs.restart_at(crash, last.finished_at)
            if crash and until > self.now:
                message = f"back-off {_go_seconds(crash.delay)} restarting failed container={name} pod={full_name(self.pod)}"
                return Waiting("CrashLoopBackOff", message, until)
        return None


def _run(pod: Pod, seen: Seen, facts: Facts, now: float) -> Plan | None:
    """The next step of a pod that is to run; None when it has run to its end."""
    draft = _Draft(pod, seen, facts, now)
    limit = deadline(pod)
    if limit is not None:
        draft.wakes.append(limit)
    sandbox = seen.sandbox
    if sandbox is None or not sandbox.ready:
        return _new_sandbox(pod, seen, draft)
    if is_resetting(pod, seen):
        return replace(draft.plan(*_reset(pod, seen)), resetting=True)
    here = [c for c in seen.containers if c.sandbox_id == sandbox.id]
    for container in containers(pod, Role.EPHEMERAL):
        if not any(c.name == container["name"] for c in here):
            draft.start(Role.EPHEMERAL, container)
    initialized = _initialize(pod, here, draft)
    if initialized is None:
        return None
    if initialized and not _keep_running(pod, here, draft):
        return None
    if (facts.stale or not facts.mounted) and draft.may(backoffs.VOLUMES):
        return draft.plan(MountVolumes())
    if not facts.mounted:
        return draft.plan(*draft.stops)
    return draft.plan(*(draft.step or _garbage(seen, 1 if facts.sweep else 2)))


def is_resetting(pod: Pod, seen: Seen) -> bool:
    """Whether a container ended in a way after which all of them begin anew, and is still there (KEP-5532)."""
    return bool(_causes(pod, seen.containers))


def _causes(pod: Pod, found: Iterable[Container]) -> list[Container]:
    """Containers whose end restarts all."""
    specs = {c["name"]: c for role in (Role.INIT, Role.REGULAR) for c in containers(pod, role)}
    return [c for c in found if c.state is State.EXITED and c.name in specs and restarts_all(specs[c.name], c.exit_code)]


def _reset(pod: Pod, seen: Seen) -> tuple[Instruction, ...]:
    """All containers but the ephemeral ones are killed and removed, those that caused it last: so it is known until then."""
    ephemeral = {c["name"] for c in containers(pod, Role.EPHEMERAL)}
    own = [c for c in seen.containers if c.name not in ephemeral]
    running = [c for c in own if c.state in (State.RUNNING, State.UNKNOWN)]
    if running:
        return tuple(Stop(c.id, c.name, MIN_GRACE, f"Stopping container {c.name}", hook=False, again=True) for c in running)
    causes = {c.id for c in _causes(pod, own)}
    victims = [c.id for c in own if c.id not in causes]
    return tuple(RemoveContainer(container_id) for container_id in victims or causes)


def _new_sandbox(pod: Pod, seen: Seen, draft: _Draft) -> Plan | None:
    """There is no sandbox, or it broke: what ran in it is stopped, then all begins again from the init containers."""
    survivors = _stop_everything(pod, seen, draft.facts)
    if survivors:
        return draft.plan(*survivors)
    last = seen.sandbox
    regular = containers(pod)
    if last is not None and seen.containers and pod["spec"].get("restartPolicy") == "Never":
        return None
    ran = any(seen.latest(c["name"]) for c in regular)
    if ran and not any(_wanted(pod, c, seen.latest(c["name"]), draft.facts) for c in regular):
        return None
    if not draft.facts.mounted:
        return draft.plan(MountVolumes()) if draft.may(backoffs.VOLUMES) else draft.plan()
    if not draft.may(backoffs.SANDBOX):
        return draft.plan()
    return draft.plan(RunSandbox(last.attempt + 1 if last else 0))


def _initialize(pod: Pod, here: Sequence[Container], draft: _Draft) -> bool | None:
    """Whether the regular containers may run: True, not yet, or (None) never, as an init container failed for good.

    The furthest init container that exists tells how far it got: earlier ones may have been removed. Sidecars before it are
    kept running.
    """
    init = containers(pod, Role.INIT)
    latest = {c.name: c for c in reversed(here)}
    begun = any(c["name"] in latest for c in containers(pod))
    furthest = len(init) if begun else max((i for i, c in enumerate(init) if c["name"] in latest), default=-1)
    initialized = begun or not init
    for place, container in enumerate(init[: furthest + 1]):
        current = latest.get(container["name"])
        if is_sidecar(container):
            up = _keep_sidecar(pod, container, current, draft)
            if place == furthest and up:
                initialized = _next_init(init, place, draft)
        elif place == furthest:
            done = _advance_init(pod, container, current, draft)
            if done is None:
                return None
            if done:
                initialized = _next_init(init, place, draft)
    if init and furthest == -1:
        draft.start(Role.INIT, init[0])
    return initialized


def _next_init(init: Sequence[ContainerSpec], place: int, draft: _Draft) -> bool:
    """The init container after `place` begins; True where there is none."""
    if place + 1 >= len(init):
        return True
    draft.start(Role.INIT, init[place + 1])
    return False


def _advance_init(pod: Pod, container: ContainerSpec, current: Container | None, draft: _Draft) -> bool | None:
    """A plain init container: True once it succeeded, None if it failed for good."""
    if current is None or current.state in (State.CREATED, State.UNKNOWN):
        draft.start(Role.INIT, container)
        return False
    if current.state is State.RUNNING:
        if fault := _resize(pod, container, current, draft):
            draft.stop(container, current, fault, f"Init container {container['name']} {fault[0]}")
        return False
    if current.exit_code == 0:
        return True
    if not restarts_after(pod, container, current.exit_code):
        return None
    draft.start(Role.INIT, container)
    return False


def _keep_sidecar(pod: Pod, container: ContainerSpec, current: Container | None, draft: _Draft) -> bool:
    """True when it has started (its startup probe, if it has one, succeeded)."""
    if current is None or current.state is not State.RUNNING:
        draft.start(Role.INIT, container)
        return False
    health = draft.facts.health.get(current.id, UNPROBED)
    fault = _fault(container, current, health) or _resize(pod, container, current, draft)
    if fault:
        draft.stop(container, current, fault, f"Init container {container['name']} {fault[0]}")
    return health.started and not fault


def _keep_running(pod: Pod, here: Sequence[Container], draft: _Draft) -> bool:
    """Regular containers are started, restarted and, if ill, stopped; False when none runs nor will."""
    kept = False
    condemned: list[tuple[ContainerSpec, Container, tuple[str, str], str]] = []
    for container in containers(pod):
        name = container["name"]
        current = next((c for c in here if c.name == name), None)
        if current is None or current.state is not State.RUNNING:
            if _wanted(pod, container, draft.seen.latest(name), draft.facts):
                draft.start(Role.REGULAR, container)
            continue
        fault = _fault(container, current, draft.facts.health.get(current.id, UNPROBED))
        fault = fault or _resize(pod, container, current, draft)
        if fault is None:
            kept = True
            continue
        restart = restart_policy(pod, container) != "Never"
        kept = kept or restart
        message = f"Container {name} {fault[0]}" + (", will be restarted" if restart else "")
        condemned.append((container, current, fault, message))
    if not kept and not any(s.role is Role.REGULAR for s in draft.starts) and not _pending(pod, draft):
        return False
    for each in condemned:
        draft.stop(*each)
    return True


def _pending(pod: Pod, draft: _Draft) -> bool:
    return bool(draft.removals) or any(c["name"] in draft.waiting for c in containers(pod))


def _wanted(pod: Pod, container: ContainerSpec, last: Container | None, facts: Facts) -> bool:
    """Whether a regular container that does not run is to."""
    ended = last is not None and last.state is State.EXITED
    return last is None or not ended or last.id in facts.doomed or restarts_after(pod, container, last.exit_code)


def _fault(container: ContainerSpec, running: Container, health: Health) -> tuple[str, str] | None:
    """What is wrong with a running container, and the field of the probe that says so."""
    changed = running.annotations.get(CONTAINER_HASH, "") not in ("", container_hash(container))
    if changed and container.get("restartPolicy") != "Never":
        return "definition changed", ""
    if not health.alive:
        return "failed liveness probe", "livenessProbe"
    if health.stillborn:
        return "failed startup probe", "startupProbe"
    return None


def has_other_resources(pod: Pod, container: ContainerSpec, running: Container, resized: Mapping[str, str]) -> bool:
    """Whether a resize is still to be carried out; `resized` as in `Facts`."""
    wanted = resources_mark(pod, container)
    return resized.get(running.id, running.annotations.get(CONTAINER_RESOURCES, wanted)) != wanted


def _resize(pod: Pod, container: ContainerSpec, running: Container, draft: _Draft) -> tuple[str, str] | None:
    """Other resources than it has are given to it as it runs, or by a restart where its resizePolicy says so (KEP-1287)."""
    if not has_other_resources(pod, container, running, draft.facts.resized):
        return None
    wanted = resources_mark(pod, container)
    has = draft.facts.resized.get(running.id) or running.annotations[CONTAINER_RESOURCES]
    changed = {part.partition("=")[0] for part in set(wanted.split(" ")) - set(has.split(" "))}
    policies = {p["resourceName"]: p["restartPolicy"] for p in container.get("resizePolicy") or ()}
    if any(policies.get(name) == "RestartContainer" for name in changed):
        return "resize requires restart", ""
    if draft.may(backoffs.RESIZE + running.name):
        draft.resizes.append(Resize(running.id, running.name))
    return None


def _garbage(seen: Seen, kept: int) -> tuple[Instruction, ...]:
    """Of each container the last runs (two: the last one and the one before) are kept, for its status and its log; of the sandboxes what
    is in use.
    """
    names = {c.name for c in seen.containers}
    old = tuple(RemoveContainer(c.id) for name in sorted(names) for c in seen.of(name)[kept:] if c.state is State.EXITED)
    used = {c.sandbox_id for c in seen.containers}
    empty = tuple(RemoveSandbox(s.id) for s in seen.sandboxes[1:] if s.id not in used)
    return old + empty


def _go_seconds(seconds: float) -> str:
    """A duration as Go prints it: 10s, 1m20s, 5m0s."""
    whole = int(seconds)
    return f"{whole}s" if whole < 60 else f"{whole // 60}m{whole % 60}s"
