"""Sandboxes and containers from their making to their end, in the node process: the one place that forks them and sees them die.

Invariants: 1. a container's end is on disk and in its log before anyone is told. 2. What runs keeps running when this process ends;
the next one finds it by pid and start time (`adopt`), and tells what ended while there was none as 255, reason Unknown. 3. Nothing
runs whose pid is not on disk.

Calls answer through `done(error)`: an empty error is success. Standard library only.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping

from minik8s.runtime.embedded import container as inside
from minik8s.runtime.embedded import linux, records, sandbox
from minik8s.runtime.embedded.cgroups import Cgroups
from minik8s.runtime.embedded.logs import Log, complain
from minik8s.runtime.embedded.loop import Loop
from minik8s.runtime.embedded.output import Output
from minik8s.runtime.embedded.processes import UNKNOWN, Processes, close_all, signal_number
from minik8s.runtime.embedded.sessions import Session
from minik8s.runtime.embedded.wire import STDERR, STDOUT, Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Done = Callable[[str], None]

CREATED, STARTING, RUNNING, EXITED = "CREATED", "STARTING", "RUNNING", "EXITED"
_START_FAILED, _UNKNOWN_CODE = 128, 255
_CANT_START = "unable to start container process"  # runc's words, which users and their scripts know
_CGROUP_TRIES, _CGROUP_WAIT = 20, 0.05
_DESCRIPTORS = 1 << 20


class NoSuchThing(Exception):
    """The sandbox or container isn't there."""


class Refused(Exception):
    """The call can't be done now; the text says why."""


class Container:
    """A record and what lives of it while it runs."""

    def __init__(self, record: dict[str, Any], directory: str) -> None:
        self.record, self.directory = record, directory
        self.output: Output | None = None
        self.start_error = ""
        self.started: Done | None = None
        self.on_end: list[Callable[[], None]] = []

    @property
    def running(self) -> bool:
        return self.record["state"] in (STARTING, RUNNING)

    @property
    def cgroup(self) -> str:
        return f"{self.record['spec']['cgroup_parent'].rstrip('/')}/{self.record['id']}"


class Pods:
    """All of them; `notify(sandbox_id, container_id)` is told of each change."""

    def __init__(
        self, loop: Loop, directory: str, cgroups: Cgroups, *, plain: bool, notify: Callable[[str, str], None]
    ) -> None:
        self._loop, self._directory, self._cgroups, self._plain, self._notify = loop, directory, cgroups, plain, notify
        self._boot = linux.boot_id()
        self._pause = -1 if plain else sandbox.pause_program()
        self._sandboxes: dict[str, dict[str, Any]] = {}
        self._containers: dict[str, Container] = {}
        self._processes = Processes(loop)
        self._trash: list[str] = []
        for name in ("sandboxes", "containers", "trash"):
            os.makedirs(f"{directory}/{name}", 0o700, exist_ok=True)

    # ------------------------------------------------------------------ reading

    def listed(self, sandbox_id: str = "") -> dict[str, Any]:
        """All, or what is of one sandbox."""
        hidden = ("spec", "boot", "starttime")
        containers = [
            {**{key: value for key, value in one.record.items() if key not in hidden}, "cgroup": one.cgroup}
            for one in self._containers.values()
            if sandbox_id in ("", one.record["sandbox_id"])
        ]
        sandboxes = [
            {key: value for key, value in one.items() if key not in hidden}
            for one in self._sandboxes.values()
            if sandbox_id in ("", one["id"])
        ]
        return {"sandboxes": sandboxes, "containers": containers}

    def container(self, container_id: str) -> Container:
        if found := self._containers.get(container_id):
            return found
        raise NoSuchThing(f"container {container_id!r} not found")

    def running(self, container_id: str) -> Container:
        found = self.container(container_id)
        if found.record["state"] != RUNNING:
            raise Refused(f"container {container_id!r} is in {found.record['state']} state, not RUNNING")
        return found

    def sandbox(self, sandbox_id: str) -> dict[str, Any]:
        if found := self._sandboxes.get(sandbox_id):
            return found
        raise NoSuchThing(f"sandbox {sandbox_id!r} not found")

    # ------------------------------------------------------------------ sandboxes

    def run_sandbox(self, sandbox_id: str, spec: dict[str, Any], meta: dict[str, Any], done: Done) -> None:
        directory = self._sandbox_directory(sandbox_id)
        record: dict[str, Any] = {
            "id": sandbox_id, "spec": spec, "meta": meta, "pid": 0, "starttime": 0, "boot": self._boot,
            "created_at": time.time(), "ready": True, "ips": [],
        }  # fmt: skip
        self._make_directory(directory, record, spec["files"])

        def made(error: str) -> None:
            if error:
                self._discard(directory)
            else:
                self._sandboxes[sandbox_id] = record
                self._notify(sandbox_id, "")
            done(error)

        def forked(pid: int) -> None:
            record.update(pid=pid, starttime=linux.start_time(pid))
            _keep(directory, record)

        if self._plain:
            made("")
            return
        shm = f"{directory}/shm"
        os.mkdir(shm, 0o700)
        errors: list[str] = []
        self._processes.spawn(
            None if spec["shared_pid"] else 0,
            (),
            lambda channel: sandbox.hold(spec, shm, self._pause, channel),
            on_message=lambda message: errors.append(message["error"]),
            on_started=lambda: made("".join(errors)),
            on_ended=lambda _code: self._sandbox_ended(record),
            on_forked=forked,
        )

    def set_ips(self, sandbox_id: str, ips: list[str]) -> None:
        record = self.sandbox(sandbox_id)
        record["ips"] = ips
        records.save(self._sandbox_directory(sandbox_id), record)

    def stop_sandbox(self, sandbox_id: str, done: Done) -> None:
        """All its containers get SIGKILL, then its own process; done when all have ended. A sandbox that is gone is stopped."""
        record = self._sandboxes.get(sandbox_id)
        if record is None:
            done("")
            return
        left = [one for one in self._containers.values() if one.record["sandbox_id"] == sandbox_id and one.running]

        def one_ended() -> None:
            if any(one.running for one in left):
                return
            if record["ready"]:
                record["ready"] = False
                _keep(self._sandbox_directory(sandbox_id), record)
                self._processes.signal(record["pid"], signal.SIGKILL)
                self._notify(sandbox_id, "")
            done("")

        for one in left:
            one.on_end.append(one_ended)
            self._processes.signal(one.record["pid"], signal.SIGKILL)
        if not left:
            one_ended()

    def remove_sandbox(self, sandbox_id: str, done: Done) -> None:
        def stopped(_error: str) -> None:
            record = self._sandboxes.pop(sandbox_id, None)
            if record is None:
                done("")
                return
            for one in [one for one in self._containers.values() if one.record["sandbox_id"] == sandbox_id]:
                self._forget(one)
            self._discard(self._sandbox_directory(sandbox_id))
            self._remove_cgroup(record["spec"]["cgroup_parent"])
            self._notify(sandbox_id, "")
            done("")

        self.stop_sandbox(sandbox_id, stopped)

    # ------------------------------------------------------------------ containers

    def create(self, container_id: str, sandbox_id: str, spec: dict[str, Any], meta: dict[str, Any]) -> None:
        self.sandbox(sandbox_id)
        directory = f"{self._directory}/containers/{container_id}"
        record = {
            "id": container_id, "sandbox_id": sandbox_id, "spec": spec, "meta": meta, "state": CREATED, "pid": 0, "starttime": 0,
            "boot": self._boot, "user": None, "created_at": time.time(), "started_at": 0.0, "finished_at": 0.0, "exit_code": 0,
            "reason": "", "message": "",
        }  # fmt: skip
        self._make_directory(directory, record, {})
        self._containers[container_id] = Container(record, directory)
        self._notify(sandbox_id, container_id)

    def start(self, container_id: str, done: Done) -> None:
        one = self.container(container_id)
        spec, pod = one.record["spec"], self.sandbox(one.record["sandbox_id"])
        if one.record["state"] != CREATED:
            raise Refused(f"container {container_id!r} is in {one.record['state']} state, not CREATED")
        if not pod["ready"]:
            raise Refused(f"sandbox {pod['id']!r} is not ready")
        pid_of = self._pid_namespace(spec, pod)
        log = Log(spec["log_path"])
        stdio, sources, stdin = self._open_stdio(one)
        one.output = Output(self._loop, log, sources, stdin, stdin_once=spec["stdin_once"])
        scene = {"directory": one.directory, "cgroup": one.cgroup, "pause": pod["pid"]}

        def forked(pid: int) -> None:
            one.record.update(state=STARTING, pid=pid, starttime=linux.start_time(pid))
            _keep(one.directory, one.record)

        try:
            self._processes.spawn(
                pid_of,
                stdio,
                lambda channel: inside.run(spec, scene, stdio, channel, self._cgroups),
                on_message=lambda message: self._reported(one, message),
                on_started=lambda: self._running(one),
                on_ended=lambda code: self._container_ended(one, code),
                on_forked=forked,
            )
        except OSError:
            one.output.close()
            raise
        one.started = done

    def stop(self, container_id: str, grace: float, done: Done) -> None:
        one = self._containers.get(container_id)
        if one is None or not one.running:
            done("")
            return
        one.on_end.append(lambda: done(""))
        if grace > 0:
            self._processes.signal(one.record["pid"], signal_number(one.record["spec"]["stop_signal"]))
            self._loop.after(grace, lambda: self._kill(one))
        else:
            self._kill(one)

    def remove(self, container_id: str, done: Done) -> None:
        def stopped(_error: str) -> None:
            if one := self._containers.get(container_id):
                self._forget(one)
                self._notify(one.record["sandbox_id"], container_id)
            done("")

        self.stop(container_id, 0, stopped)

    def update(self, container_id: str, resources: Mapping[str, Any]) -> None:
        one = self.container(container_id)
        one.record["spec"]["resources"].update({key: value for key, value in resources.items() if value})
        records.save(one.directory, one.record)
        if one.running and not self._plain:
            self._cgroups.limit(one.cgroup, resources)

    def reopen_log(self, container_id: str) -> None:
        if output := self.running(container_id).output:
            output.log.reopen()

    # ------------------------------------------------------------------ exec

    def execute(self, container_id: str, changes: Mapping[str, Any], connection: Connection, done: Done) -> None:
        """Runs a program in a running container, its streams over `connection` once `done` has said that it runs."""
        one = self.running(container_id)
        spec = {**one.record["spec"], **changes}
        tty = spec["tty"]
        if tty:
            spec["env"] = ["TERM=xterm", *spec["env"]]
        stdio, sources, sink = _pipes(stdin=spec["stdin"], tty=tty)
        scene = {**one.record, "cgroup": one.cgroup}
        session: list[Session] = []
        errors: list[str] = []

        def reported(message: dict[str, Any]) -> None:
            nonlocal sink
            if message.get("terminal"):
                sources[STDOUT], sink = message["fd"], os.dup(message["fd"])
            elif "error" in message:
                errors.append(message["error"])

        def running() -> None:
            done(f"exec failed: {_CANT_START}: {errors[0]}" if errors else "")
            if errors:
                close_all([*sources.values(), sink])
            else:
                session.append(Session(self._loop, connection, sources, sink, terminal=tty))

        def ended(code: int) -> None:
            connection.on_closed = None
            for one_session in session:
                one_session.finish(code)

        try:
            pid = self._processes.spawn(
                0 if self._plain else one.record["pid"],
                stdio,
                lambda channel: inside.join(spec, scene, stdio, channel, self._cgroups),
                on_message=reported,
                on_started=running,
                on_ended=ended,
            )
        except OSError:
            close_all([*sources.values(), sink])
            raise
        connection.on_closed = lambda: self._processes.signal(pid, signal.SIGKILL)

    # ------------------------------------------------------------------ after a restart

    def adopt(self) -> None:
        """Takes over what an earlier node process left."""
        found, torn = records.load(f"{self._directory}/sandboxes")
        for record in found:
            self._sandboxes[record["id"]] = record
            if not self._plain and record["ready"] and not self._adopt(record, self._ending(record)):
                self._sandbox_ended(record)
        found, more = records.load(f"{self._directory}/containers")
        for record in found:
            one = self._containers[record["id"]] = Container(record, f"{self._directory}/containers/{record['id']}")
            if one.running and not self._adopt_container(one):
                self._container_ended(one, UNKNOWN)
        for directory in [
            *torn,
            *more,
            *(f"{self._directory}/trash/{name}" for name in os.listdir(f"{self._directory}/trash")),
        ]:
            self._discard(directory)

    def _adopt_container(self, one: Container) -> bool:
        if not self._adopt(one.record, lambda code: self._container_ended(one, code)):
            return False
        spec = one.record["spec"]
        one.record.update(state=RUNNING, started_at=one.record["started_at"] or time.time())
        sources = {} if spec["tty"] else {stream: _open_fifo(f"{one.directory}/{stream}") for stream in ("stdout", "stderr")}
        one.output = Output(self._loop, Log(spec["log_path"]), sources, -1, stdin_once=False)
        return True

    def _adopt(self, record: dict[str, Any], ended: Callable[[int], None]) -> bool:
        return record["boot"] == self._boot and self._processes.adopt(record["pid"], record["starttime"], ended)

    # ------------------------------------------------------------------ what happens to processes

    def _ending(self, record: dict[str, Any]) -> Callable[[int], None]:
        return lambda _code: self._sandbox_ended(record)

    def _sandbox_ended(self, record: dict[str, Any]) -> None:
        if record["ready"] and record["id"] in self._sandboxes:
            record["ready"] = False
            _keep(self._sandbox_directory(record["id"]), record)
            self._notify(record["id"], "")

    def _reported(self, one: Container, message: dict[str, Any]) -> None:
        if message.get("terminal") and one.output:
            one.output.add_terminal(message["fd"], stdin=one.record["spec"]["stdin"])
        if "user" in message:
            one.record["user"] = message["user"]
        one.start_error = message.get("error", "")

    def _running(self, one: Container) -> None:
        if not one.start_error:
            one.record.update(state=RUNNING, started_at=time.time())
            _keep(one.directory, one.record)
            self._notify(one.record["sandbox_id"], one.record["id"])
            self._tell_started(one, "")

    def _container_ended(self, one: Container, code: int) -> None:
        record = one.record
        if one.output:
            one.output.drain()
        reason, message = ("Completed" if code == 0 else "Error"), ""
        if one.start_error:
            code, reason, message = _START_FAILED, "StartError", f"{_CANT_START}: {one.start_error}"
        elif code == UNKNOWN:
            code, reason, message = _UNKNOWN_CODE, "Unknown", "the container ended while no node process was there to see it"
        if self._plain:
            _kill_group(record["pid"])
        elif self._clear_cgroup(one.cgroup) and not one.start_error:
            reason = "OOMKilled"
        record.update(state=EXITED, pid=0, finished_at=time.time(), exit_code=code, reason=reason, message=message)
        _keep(one.directory, record)
        if one.output:
            one.output.finish()
        self._notify(record["sandbox_id"], record["id"])
        self._tell_started(one, message)
        waiting, one.on_end = one.on_end, []
        for call in waiting:
            call()

    def _clear_cgroup(self, path: str) -> bool:
        """Kills what is left in it and removes it; whether the kernel killed there for want of memory."""
        killed = 0
        try:
            killed = self._cgroups.oom_kills(path)
            self._cgroups.kill(path)
        except OSError as error:
            complain(f"{path}: {error}")
        self._remove_cgroup(path)
        return killed > 0

    def _tell_started(self, one: Container, error: str) -> None:
        started, one.started = one.started, None
        if started:
            started(error)

    def _kill(self, one: Container) -> None:
        if one.running:
            self._processes.signal(one.record["pid"], signal.SIGKILL)

    def _forget(self, one: Container) -> None:
        del self._containers[one.record["id"]]
        if one.output:
            one.output.close()
        self._discard(one.directory)

    # ------------------------------------------------------------------ making and clearing away

    def _pid_namespace(self, spec: Mapping[str, Any], pod: Mapping[str, Any]) -> int | None:
        """The process whose pid namespace to start in; None for a new one, 0 for the host's."""
        if self._plain or spec["pid_mode"] == "NODE":
            return 0
        if spec["pid_mode"] == "TARGET":
            return int(self.running(spec["pid_target"]).record["pid"])
        return int(pod["pid"]) if spec["pid_mode"] == "POD" else None

    def _open_stdio(self, one: Container) -> tuple[list[int], dict[str, int], int]:
        """(the child's three descriptors, what to read by stream, stdin's writing end or -1)."""
        spec = one.record["spec"]
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        if spec["tty"]:
            return [nothing] * 3, {}, -1
        stdio, sources, stdin = [nothing], {}, -1
        if spec["stdin"]:
            os.close(nothing)
            stdio[0], stdin = os.pipe2(os.O_CLOEXEC)
        for stream in ("stdout", "stderr"):
            path = f"{one.directory}/{stream}"
            os.mkfifo(path, 0o600)
            sources[stream] = _open_fifo(path)
            stdio.append(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        return stdio, sources, stdin

    def _remove_cgroup(self, path: str, tries: int = _CGROUP_TRIES) -> None:
        if not (self._plain or self._cgroups.remove(path)) and tries:
            self._loop.after(_CGROUP_WAIT, lambda: self._remove_cgroup(path, tries - 1))

    def _make_directory(self, directory: str, record: dict[str, Any], files: Mapping[str, str]) -> None:
        """With the record and all files in it, or not at all (OSError)."""
        os.mkdir(directory, 0o700)
        try:
            for name, content in files.items():
                with open(f"{directory}/{name}", "x") as file:
                    file.write(content)
            records.save(directory, record)
        except OSError:
            self._discard(directory)
            raise

    def _discard(self, directory: str) -> None:
        """Out of sight at once, deleted by a child in its own time (one child for what goes in the same turn)."""
        trash = f"{self._directory}/trash/{os.path.basename(directory)}"
        try:
            os.rename(directory, trash)
        except OSError as error:  # even this may need room on a full disk
            complain(f"{directory}: {error.strerror}")
            trash = directory
        if not self._trash:
            self._loop.after(0, self._empty_trash)
        self._trash.append(trash)

    def _empty_trash(self) -> None:
        trash, self._trash = self._trash, []
        if self._processes.fork() == 0:
            try:
                os.closerange(3, _DESCRIPTORS)  # else what is closed here meanwhile would stay open there
                for directory in trash:
                    records.remove_tree(directory)
            finally:
                os._exit(0)

    def _sandbox_directory(self, sandbox_id: str) -> str:
        return f"{self._directory}/sandboxes/{sandbox_id}"


def _keep(directory: str, record: dict[str, Any]) -> None:
    """What has happened has happened: on a full disk it is known for as long as this process lives."""
    try:
        records.save(directory, record)
    except OSError as error:
        complain(f"{directory}: {error.strerror}")


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _open_fifo(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _pipes(*, stdin: bool, tty: bool) -> tuple[list[int], dict[int, int], int]:
    """An exec's: (the child's three descriptors, what to read by frame kind, stdin's writing end or -1)."""
    stdio, sources, sink = [os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)], {}, -1
    if tty:
        return stdio * 3, {}, -1
    if stdin:
        os.close(stdio[0])
        stdio[0], sink = os.pipe2(os.O_CLOEXEC)
    for kind in (STDOUT, STDERR):
        sources[kind], theirs = os.pipe2(os.O_CLOEXEC)
        stdio.append(theirs)
    return stdio, sources, sink
