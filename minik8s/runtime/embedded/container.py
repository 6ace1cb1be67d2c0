"""From a fork of the node process to a container's program: the container's own side, until execve.

`run` is for a container's first process, `join` for an exec in it; neither returns. Where the pod has users of its own, all is mounted
as the host's root; then the process becomes the pod's root, and its mount namespace a copy that is the pod's own. They report to the
node process over a socket, one JSON object a message: `{"terminal": true}` with the terminal's descriptor, `{"user": ...}` with who the
process is, `{"error": ...}` in runc's words. The socket's end without an error is the news that the program runs. Standard library
only, and nothing is imported here late: after the pivot the host's Python is out of reach.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import resource
import signal
import socket
import stat
import termios
from collections.abc import Mapping, Sequence

from minik8s.runtime.embedded import linux, rootfs, seccomp, users
from minik8s.runtime.embedded.cgroups import Cgroups, score_oom

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_NULL = os.makedev(1, 3)
_MKNOD = 1 << linux.CAPABILITIES.index("MKNOD")
_OPEN_FILES = 1 << 20
_FAILED = 128


class StartError(Exception):
    """The program can't be started; the text is runc's."""


def run(
    spec: Mapping[str, Any], record: Mapping[str, Any], stdio: Sequence[int], report: socket.socket, cgroups: Cgroups
) -> NoReturn:
    """Becomes the container's first process. `record`: directory, cgroup, pause (the sandbox's process), its ipc and network."""
    try:
        os.setsid()
        if spec["plain"]:
            identity = None
        else:
            linux.prctl(linux.PR_SET_DUMPABLE, 0)
            enter_cgroup(spec, record["cgroup"], cgroups)
            score_oom(spec["resources"].get("oom_score_adj") or 0)
            own_users = linux.open_namespace(record["pause"], "user") if spec["users"] else -1
            _enter_rootfs(spec, record, cgroups, own_users)
            identity = users.resolve(
                spec["user"], spec["group"], spec["groups"], spec["groups_policy"], _lines("/etc/passwd"), _lines("/etc/group")
            )
            _send(report, {"user": identity})
            _give_streams(spec, identity, stdio)
            if spec["users"]:
                linux.become_root_of(own_users)
                linux.unshare(linux.CLONE_NEWNS)
        if not (cgroups.fence_devices or spec["privileged"]):  # or it could make and open the host's disk
            spec = {**spec, "capabilities": spec["capabilities"] & ~_MKNOD}
        _execute(spec, identity, stdio, report, console=True)
    except BaseException as error:
        _fail(report, error)


def join(
    spec: Mapping[str, Any], record: Mapping[str, Any], stdio: Sequence[int], report: socket.socket, cgroups: Cgroups
) -> NoReturn:
    """Becomes a process in the running container `record["pid"]`, as `record["user"]`."""
    try:
        os.setsid()
        if not spec["plain"]:
            pid = record["pid"]
            cgroups.join(record["cgroup"])
            linux.prctl(linux.PR_SET_DUMPABLE, 0)  # the container's processes must not reach ours through /proc
            kinds = (*_POD_NAMESPACES, ("cgroup", linux.CLONE_NEWCGROUP), ("mnt", linux.CLONE_NEWNS))
            own_users = linux.open_namespace(pid, "user") if spec["users"] else -1
            for namespace, flag in [(linux.open_namespace(pid, kind), flag) for kind, flag in kinds]:
                linux.setns(namespace, flag)
            _give_streams(spec, record["user"], stdio)
            if spec["users"]:
                linux.become_root_of(own_users)
        _execute(spec, record["user"], stdio, report, console=False)
    except BaseException as error:
        _fail(report, error)


_POD_NAMESPACES = (("ipc", linux.CLONE_NEWIPC), ("uts", linux.CLONE_NEWUTS), ("net", linux.CLONE_NEWNET))


def enter_cgroup(spec: Mapping[str, Any], path: str, cgroups: Cgroups) -> None:
    cgroups.make(path)
    cgroups.limit(path, spec["resources"])
    if not spec["privileged"]:
        extra = [_device_rule(source, permissions) for _, source, permissions in spec["devices"]]
        cgroups.allow_devices(path, [*rootfs.DEVICE_RULES, *extra])
    cgroups.join(path)


def look_up(program: str, environment: Mapping[str, str]) -> str:
    """The file that `program` names, searched in the environment's PATH; StartError in runc's words."""
    if "/" in program:
        candidates = [program]
    else:
        candidates = [f"{directory or '.'}/{program}" for directory in environment.get("PATH", "").split(":")]
    denied = False
    for candidate in candidates:
        try:
            mode = os.stat(candidate).st_mode
        except OSError as error:
            if "/" in program:
                raise StartError(f'exec: "{program}": stat {program}: {os.strerror(error.errno or 0).lower()}') from None
            continue
        if (
            stat.S_ISREG(mode)
            and mode & 0o111
            and os.access(candidate, os.X_OK, effective_ids=os.access in os.supports_effective_ids)
        ):
            return candidate
        denied = True
    if "/" in program and denied:
        raise StartError(f'exec: "{program}": permission denied')
    raise StartError(f'exec: "{program}": executable file not found in $PATH')


def _enter_rootfs(spec: Mapping[str, Any], record: Mapping[str, Any], cgroups: Cgroups, own_users: int) -> None:
    pause = record["pause"]
    shared = [(linux.open_namespace(pause, kind), flag) for kind, flag in _POD_NAMESPACES]
    linux.unshare(linux.CLONE_NEWNS | (linux.CLONE_NEWCGROUP if cgroups.mounts else 0))
    if spec["host_ipc"]:
        shm = linux.open_tree("/dev/shm")  # noqa: S108 - the host's, as hostIPC asks
    else:
        own = linux.open_namespace("self", "mnt")
        linux.setns(linux.open_namespace(pause, "mnt"), linux.CLONE_NEWNS)
        shm = linux.open_tree("/")
        linux.setns(own, linux.CLONE_NEWNS)
    gathered = rootfs.gather(spec, record["directory"], shm, own_users)
    for namespace, flag in shared:
        linux.setns(namespace, flag)
    linux.pivot_into(rootfs.mount_root(spec, record["directory"]))
    rootfs.furnish(spec, gathered, cgroups.mounts)


def _give_streams(spec: Mapping[str, Any], identity: users.Identity, stdio: Sequence[int]) -> None:
    """To the process's user, so that it can open /dev/stdout again."""
    first, _ = spec["users"] or (0, 0)
    for fd in stdio:
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.fchown(fd, first + identity["uid"], first + identity["gid"])


def _execute(
    spec: Mapping[str, Any], identity: users.Identity | None, stdio: Sequence[int], report: socket.socket, *, console: bool
) -> NoReturn:
    environment = dict(entry.partition("=")[::2] for entry in spec["env"])
    if identity:
        environment.setdefault("HOME", identity["home"])
    if spec["tty"]:
        stdio = _open_terminal(report, identity, console=console and not spec["plain"])
    for target, fd in enumerate(stdio):
        if identity and os.fstat(fd).st_rdev == _NULL:  # the container's own, not the host's
            fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(fd, target)
    _calm_signals()
    os.umask(0o022)
    if identity:
        linux.new_session_keyring()
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        files = min(hard, _OPEN_FILES) if hard != resource.RLIM_INFINITY else _OPEN_FILES
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
        _become(spec, identity)
    elif spec["no_new_privs"]:
        linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    try:
        os.chdir(spec["cwd"])
    except OSError as error:
        text = os.strerror(error.errno or 0).lower()
        raise StartError(f'chdir to cwd ("{spec["cwd"]}") failed: {text}') from None
    if not _is_inside(identity):
        raise StartError(f'cwd ("{spec["cwd"]}") is outside of the container')
    arguments = spec["args"]
    if not arguments:
        raise StartError("no command specified")
    program = look_up(arguments[0], environment)
    try:
        os.execve(program, arguments, environment)  # noqa: S606
    except OSError as error:
        raise StartError(f"exec {program}: {os.strerror(error.errno or 0).lower()}") from None


def _is_inside(identity: users.Identity | None) -> bool:
    """A path such as /proc/self/fd/9 could lead to a directory of the host that this process has open (CVE-2024-21626)."""
    try:
        return identity is None or os.getcwd().startswith("/")
    except FileNotFoundError:
        return False


def _become(spec: Mapping[str, Any], identity: users.Identity) -> None:
    mask = spec["capabilities"]
    linux.limit_capabilities(mask, linux.last_capability())
    if profile := spec["seccomp"]:
        program = base64.b64decode(profile["program"]) or seccomp.runtime_default(mask)
        seccomp.install(program, profile["flags"])
    if spec["no_new_privs"]:
        linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    os.setgroups(identity["groups"])
    os.setresgid(identity["gid"], identity["gid"], identity["gid"])
    os.setresuid(identity["uid"], identity["uid"], identity["uid"])
    if identity["uid"] == 0:
        linux.set_capabilities(mask)


def _open_terminal(report: socket.socket, identity: users.Identity | None, *, console: bool) -> list[int]:
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    if identity:
        os.fchown(slave, identity["uid"], -1)
    if console:
        rootfs.mount_console(os.ttyname(slave))
    socket.send_fds(report, [json.dumps({"terminal": True}).encode()], [master])
    return [slave] * 3


def _calm_signals() -> None:
    """As every program expects to find them: Python and the node process ignore some, and ignoring outlives execve."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _device_rule(path: str, permissions: str) -> str:
    found = os.stat(path)
    kind = "b" if stat.S_ISBLK(found.st_mode) else "c"
    return f"{kind} {os.major(found.st_rdev)}:{os.minor(found.st_rdev)} {permissions}"


def _lines(path: str) -> list[str]:
    try:
        with open(path, errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []


def _send(report: socket.socket, message: Mapping[str, Any]) -> None:
    report.sendall(json.dumps(message).encode())


def _fail(report: socket.socket, error: BaseException) -> NoReturn:
    if isinstance(error, StartError | LookupError):
        text = str(error.args[0])
    elif isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        text = f"error during container init: {where}{error.strerror or error}"
    else:
        text = f"error during container init: {type(error).__name__}: {error}"
    try:
        _send(report, {"error": text})
    finally:
        os._exit(_FAILED)
