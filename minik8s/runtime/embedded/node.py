"""The node process: parent of all embedded containers, so that they outlive the agent.

Run as `python -I -S node.py DIRECTORY` it becomes a daemon (own session, own cgroup, child subreaper, one thread) that listens on
DIRECTORY/node.sock (0600, its own user's peers alone); an error is one line and exit code 1, and so is a second one on the same
directory. Without a pod and an agent it ends soon, and with all its pods once the directory is deleted. It holds few ideas: what to run
is decided by the agent (specs.py) and performed by lifecycle.py. Standard library only.
"""

from __future__ import annotations

import fcntl
import gc
import hashlib
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

sys.path.insert(0, __file__.rsplit("/", 4)[0])  # -I leaves it out

from minik8s.runtime.embedded import linux
from minik8s.runtime.embedded.cgroups import Cgroups, write
from minik8s.runtime.embedded.lifecycle import NoSuchThing, Pods, Refused
from minik8s.runtime.embedded.loop import READ, WRITE, Loop
from minik8s.runtime.embedded.sessions import Session
from minik8s.runtime.embedded.wire import STDIN_END, STDOUT, Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PROTOCOL = 2
_EVENT_BACKLOG = 1 << 22
_IDLE = 5.0  # seconds without a pod and without an agent, after which it ends


class Node:
    """The calls of the socket, by name; each answers once, at once or later."""

    def __init__(self, directory: str, lock: int) -> None:
        self._lock = lock
        self._cgroups = Cgroups()
        self._plain = not may_make_namespaces()
        self._mounts = {"users": False, "recursive_readonly": False} if self._plain else able_mounts(directory)
        self._own_cgroup = own_cgroup(directory)
        if not self._plain:
            self._cgroups.make(self._own_cgroup)
            self._cgroups.join_everywhere(self._own_cgroup)
        self._loop = Loop()
        self._pods = Pods(self._loop, directory, self._cgroups, plain=self._plain, notify=self._event)
        self._watchers: list[Connection] = []
        self._behind: set[Connection] = set()
        self._pods.adopt()
        self._listener = listen(directory)
        self._loop.watch(self._listener.fileno(), READ, self._accept)
        with suppress(OSError):  # a user may have no more of them: then what is abandoned runs on
            self._deletions = linux.hear_deletions(directory)
            self._loop.watch(self._deletions, READ, self._deleted)
        self._calls: Mapping[str, Callable[[Connection, dict[str, Any]], None]] = {
            "hello": self._hello,
            "watch": self._watch,
            "list": lambda to, call: to.answer(call, self._pods.listed(call["sandbox"])),
            "run_sandbox": lambda to, call: self._pods.run_sandbox(
                call["sandbox"], call["spec"], call["meta"], _done(to, call)
            ),
            "set_ips": self._set_ips,
            "stop_sandbox": lambda to, call: self._pods.stop_sandbox(call["sandbox"], _done(to, call)),
            "remove_sandbox": lambda to, call: self._pods.remove_sandbox(call["sandbox"], _done(to, call)),
            "create": self._create,
            "start": lambda to, call: self._pods.start(call["container"], _done(to, call)),
            "stop": lambda to, call: self._pods.stop(call["container"], call["grace"], _done(to, call)),
            "remove": lambda to, call: self._pods.remove(call["container"], _done(to, call)),
            "update": self._update,
            "reopen_log": self._reopen_log,
            "exec": lambda to, call: self._pods.execute(call["container"], call["spec"], to, _done(to, call)),
            "attach": self._attach,
            "port_forward": self._port_forward,
            "shutdown": self._shutdown,
        }

    def run(self) -> None:
        """Until it is told to end, or nobody needs it; takes its own cgroup away."""
        self._end_if_idle_later()
        self._loop.run()
        if not self._plain:
            self._cgroups.join_everywhere("/")
            self._cgroups.remove_everywhere(self._own_cgroup)

    def _end_if_idle_later(self) -> None:
        def check() -> None:
            if not self._watchers and not self._pods.listed()["sandboxes"]:
                self._loop.running = False

        self._loop.after(_IDLE, check)

    def _deleted(self, _events: int) -> None:
        os.read(self._deletions, 1 << 16)
        self._end_if_abandoned()

    def _end_if_abandoned(self) -> None:
        """Its directory was deleted, and the lock with it: no agent can come any more."""
        if self._watchers or os.fstat(self._lock).st_nlink:
            return
        for sandbox in self._pods.listed()["sandboxes"]:
            self._pods.remove_sandbox(sandbox["id"], lambda _error: self._end_if_idle_later())

    def _accept(self, _events: int) -> None:
        client, _ = self._listener.accept()
        _, uid, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid not in (0, os.geteuid()):
            client.close()
            return
        Connection(self._loop, client, self._called)

    def _called(self, connection: Connection, call: dict[str, Any]) -> None:
        name = call.get("call", "")
        if name not in self._calls:
            connection.refuse(call, f"no such call: {name!r}")
            return
        try:
            self._calls[name](connection, call)
        except NoSuchThing as error:
            connection.refuse(call, str(error), "NotFound")
        except (Refused, OSError) as error:
            connection.refuse(call, str(error))
        except Exception as error:
            connection.refuse(call, f"{type(error).__name__} in the node process: {error}")
            raise

    def _event(self, sandbox_id: str, container_id: str) -> None:
        """Who is far behind is told to look at all, once it has read what waits for it."""
        for watcher in list(self._watchers):
            if watcher in self._behind:
                continue
            if watcher.pending > _EVENT_BACKLOG:
                self._behind.add(watcher)
                watcher.on_drained = partial(self._caught_up, watcher)
            else:
                watcher.send({"event": {"sandbox": sandbox_id, "container": container_id}})

    def _caught_up(self, watcher: Connection) -> None:
        self._behind.discard(watcher)
        watcher.on_drained = None
        watcher.send({"event": {"sandbox": "", "container": ""}})

    def _hello(self, to: Connection, call: dict[str, Any]) -> None:
        able = {"plain": self._plain, "cgroups": sorted(self._cgroups.mounts), **self._mounts}
        to.answer(call, {"protocol": PROTOCOL, "pid": os.getpid(), "cgroup": self._own_cgroup, **able})

    def _watch(self, to: Connection, call: dict[str, Any]) -> None:
        def closed() -> None:
            self._watchers.remove(to)
            self._behind.discard(to)
            self._end_if_abandoned()
            self._end_if_idle_later()

        self._watchers.append(to)
        to.on_closed = closed
        to.answer(call, {})

    def _set_ips(self, to: Connection, call: dict[str, Any]) -> None:
        self._pods.set_ips(call["sandbox"], call["ips"])
        to.answer(call, {})

    def _create(self, to: Connection, call: dict[str, Any]) -> None:
        self._pods.create(call["container"], call["sandbox"], call["spec"], call["meta"])
        to.answer(call, {})

    def _update(self, to: Connection, call: dict[str, Any]) -> None:
        self._pods.update(call["container"], call["resources"])
        to.answer(call, {})

    def _reopen_log(self, to: Connection, call: dict[str, Any]) -> None:
        self._pods.reopen_log(call["container"])
        to.answer(call, {})

    def _attach(self, to: Connection, call: dict[str, Any]) -> None:
        output = self._pods.running(call["container"]).output
        if output is None:
            raise Refused("the container's streams are gone")
        to.answer(call, {})
        output.attach(to, stdin=call["stdin"])

    def _port_forward(self, to: Connection, call: dict[str, Any]) -> None:
        """Connects to localhost:port in the pod's network namespace: IPv4 first, then IPv6 (as the kubelet's forwarders do)."""
        pid = self._pods.sandbox(call["sandbox"])["pid"]
        families = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]

        def attempt(last: str) -> None:
            if not families:
                to.refuse(call, f"failed to connect to localhost:{call['port']} inside the sandbox: {last}")
                return
            family, address = families.pop(0)
            try:
                client = make_socket(family, 0 if self._plain else pid)
            except OSError as error:
                attempt(error.strerror or str(error))
                return
            client.setblocking(False)
            client.connect_ex((address, call["port"]))
            self._loop.watch(client.fileno(), WRITE, lambda _events: connected(client))

        def connected(client: socket.socket) -> None:
            self._loop.unwatch(client.fileno())
            if error := client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                client.close()
                attempt(os.strerror(error).lower())
                return
            to.answer(call, {})
            forward(self._loop, to, client)

        attempt("no address")

    def _shutdown(self, to: Connection, call: dict[str, Any]) -> None:
        """Ends this process alone: what it parents runs on, and the next node process adopts it."""
        to.answer(call, {})
        self._loop.running = False


def _done(to: Connection, call: dict[str, Any]) -> Callable[[str], None]:
    return lambda error: to.refuse(call, error) if error else to.answer(call, {})


def forward(loop: Loop, to: Connection, client: socket.socket) -> None:
    """Bytes both ways until the pod's side closes; the caller's end of input is passed on as such."""
    reader, writer = os.dup(client.fileno()), os.dup(client.fileno())
    session = Session(loop, to, {STDOUT: reader}, writer)
    frame = to.on_frame

    def framed(kind: int, payload: bytes) -> None:
        if frame:
            frame(kind, payload)
        if kind == STDIN_END:
            client.shutdown(socket.SHUT_WR)

    def ended() -> None:
        client.close()
        session.finish(0)

    def closed() -> None:
        client.close()
        session.release()

    to.on_frame, to.on_closed, session.on_sources_ended = framed, closed, ended


def make_socket(family: int, of: int) -> socket.socket:
    if not of:
        return socket.socket(family, socket.SOCK_STREAM)
    with linux.in_network_namespace(of):
        return socket.socket(family, socket.SOCK_STREAM)


def may_make_namespaces() -> bool:
    """Asked of the kernel in a child, since being root alone does not say it."""
    pid = os.fork()
    if pid == 0:
        try:
            linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWNET | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS | linux.CLONE_NEWPID)
            linux.mount("", "/", "", linux.MS_REC | linux.MS_PRIVATE)
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def able_mounts(directory: str) -> dict[str, bool]:
    """What the kernel can do to a mount of the file system there: another user namespace's ids (`users`), read-only to its depth."""

    def succeeds(attempt: Callable[[int], None]) -> bool:
        try:
            tree = linux.open_tree(directory)
            try:
                attempt(tree)
            finally:
                os.close(tree)
        except OSError:
            return False
        return True

    def map_ids(tree: int) -> None:
        users = linux.new_user_namespace(1 << 16, 1 << 16)
        try:
            linux.map_ids(tree, users, directory)
        finally:
            os.close(users)

    return {
        "users": succeeds(map_ids),
        "recursive_readonly": succeeds(lambda tree: linux.make_tree_readonly(tree, directory)),
    }


def own_cgroup(directory: str) -> str:
    return f"/minik8s-node-{hashlib.sha256(directory.encode()).hexdigest()[:8]}"


def listen(directory: str) -> socket.socket:
    """On node.sock there, by its short name: a socket's path may only have 107 bytes."""
    os.chdir(directory)
    if os.path.exists("node.sock"):  # the lock is ours, so it is left over
        os.unlink("node.sock")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    listener.bind("node.sock")
    os.umask(before)
    os.chdir("/")
    listener.listen(64)
    listener.setblocking(False)
    return listener


def serve(directory: str, lock: int, ready: int) -> None:
    """The daemon's life. `ready` gets an error's text, or just its end."""
    try:
        os.chdir("/")
        os.umask(0o022)
        linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
        write("/proc/self/comm", "minik8s-node")
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        node = Node(directory, lock)
    except OSError as error:
        os.write(ready, str(error).encode())
        raise
    nothing = os.open(os.devnull, os.O_RDWR)
    log = os.open(f"{directory}/node.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for fd, target in ((nothing, 0), (nothing, 1), (log, 2)):
        os.dup2(fd, target)
    for fd in (nothing, log, ready):
        os.close(fd)
    gc.freeze()
    node.run()


def main(arguments: list[str]) -> int:
    directory = os.path.realpath(arguments[0])
    os.makedirs(directory, 0o700, exist_ok=True)
    os.chmod(directory, 0o700)
    os.closerange(3, 1024)
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)  # a container takes three
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    lock = os.open(f"{directory}/node.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"a node process already runs on {directory}", file=sys.stderr)
        return 1
    heard, ready = os.pipe2(os.O_CLOEXEC)
    if os.fork() == 0:
        os.setsid()
        os.close(heard)
        try:
            serve(directory, lock, ready)
        finally:
            os._exit(1 if sys.exc_info()[0] else 0)
    os.close(ready)
    if error := os.read(heard, 4096):
        print(error.decode(), file=sys.stderr)
    return 1 if error else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
