"""The kernel's calls that Python 3.11 lacks, through ctypes: namespaces, mounts, capabilities, prctl.

Promise: each function is one system call (or one obvious group of them) and raises OSError as os.* does, with the path it
was about. Mounts and processes are told as /proc has them. Limits: Linux; standard library only, since the node process imports it. Used by
sandbox.py, rootfs.py, container.py, node.py, by what looks for processes in this room, and the kubelet's mounting.py.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_NOATIME, MS_BIND, MS_REC = 1024, 4096, 16384
MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_RELATIME, MS_STRICTATIME = 1 << 18, 1 << 19, 1 << 20, 1 << 21, 1 << 24
MNT_DETACH = 2

PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 4, 24, 36, 38

CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE",
    "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME",
    "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
    "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)  # fmt: skip
"""linux/capability.h in the order of their bits."""

_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_MOUNT_SETATTR = 428, 429, 442  # the same number on every architecture
_OPEN_TREE_CLONE, _AT_EMPTY_PATH, _AT_RECURSIVE, _AT_FDCWD, _MOVE_MOUNT_F_EMPTY_PATH = 1, 0x1000, 0x8000, -100, 4
_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_IDMAP = 1, 0x100000
_SYS_SECCOMP, _SET_MODE_FILTER = {"x86_64": 317, "aarch64": 277}, 1
_SYS_KEYCTL, _KEYCTL_JOIN_SESSION_KEYRING = {"x86_64": 250, "aarch64": 219}, 1
_CAPABILITY_VERSION_3 = 0x20080522
_PIDFD_GET_INFO, _PIDFD_INFO_EXIT = 0xC040FF0B, 8
_IN_DELETE = 0x200
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, about: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), about)
    return result


def hear_deletions(directory: str) -> int:
    """A descriptor that can be read when something was deleted from the directory (inotify(7)), and not waited for."""
    fd = _check(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify")
    try:
        _check(_libc.inotify_add_watch(fd, os.fsencode(directory), _IN_DELETE), directory)
    except OSError:
        os.close(fd)
        raise
    return fd


def mounts() -> Iterator[tuple[str, list[str]]]:
    """Where something is mounted, in that order, and its tags (`shared:3`, `master:1`)."""
    with open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            fields = line.split(b" ")
            point = fields[4].decode("unicode_escape").encode("latin-1")  # spaces are written as `\040`
            yield os.fsdecode(point), [tag.decode() for tag in fields[6 : fields.index(b"-")]]


def mounts_below(directory: str | os.PathLike[str]) -> list[str]:
    """Mount points at or below `directory`, the deepest first."""
    prefix = os.path.realpath(directory)
    below = [point for point, _ in mounts() if point == prefix or point.startswith(prefix + "/")]
    return sorted(below, key=len, reverse=True)


def mount_of(path: str) -> tuple[str, list[str]]:
    """The mount that a path lies on, as `mounts` has it."""
    place, point, tags = os.path.realpath(path), "", []
    for here, its in mounts():
        if len(here) >= len(point) and (place == here or place.startswith(here.rstrip("/") + "/")):
            point, tags = here, its
    return point, tags


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def open_namespace(pid: int | str, kind: str) -> int:
    return os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)


def setns(fd: int, kind: int) -> None:
    """Joins the namespace that the open file `fd` is, and closes it."""
    try:
        _check(_libc.setns(fd, kind), "setns")
    finally:
        os.close(fd)


def new_user_namespace(first: int, length: int) -> int:
    """An open user namespace (its only process is gone) whose ids 0 to `length` - 1 are `first` and those after it of this one."""
    heard, ready = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            unshare(CLONE_NEWUSER)
            os.write(ready, os.fsencode(os.readlink("/proc/self")))  # as the /proc here knows it
            signal.pause()
        finally:
            os._exit(1)
    os.close(ready)
    try:
        known_as = os.read(heard, 16).decode()
        if not known_as:
            raise OSError("the kernel refuses a user namespace")
        for kind in ("uid", "gid"):
            with open(f"/proc/{known_as}/{kind}_map", "w") as file:
                file.write(f"0 {first} {length}")
        return open_namespace(known_as, "user")
    finally:
        os.close(heard)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def become_root_of(users: int) -> None:
    """Joins the open user namespace, as its root with all capabilities in it."""
    setns(users, CLONE_NEWUSER)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


@contextmanager
def children_in_pid_namespace(of: int | None) -> Iterator[None]:
    """A child forked in the block (one only) starts in the pid namespace of the process `of`, or as the first of a new one."""
    own = os.getpid()
    if of is None:
        unshare(CLONE_NEWPID)
    else:
        setns(open_namespace(of, "pid"), CLONE_NEWPID)
    try:
        yield
    finally:
        if os.getpid() == own:
            setns(open_namespace("self", "pid"), CLONE_NEWPID)


@contextmanager
def in_network_namespace(of: int) -> Iterator[None]:
    """Sockets made in the block belong to the network namespace of the process `of`."""
    own = open_namespace("self", "net")
    try:
        setns(open_namespace(of, "net"), CLONE_NEWNET)
    except OSError:
        os.close(own)
        raise
    try:
        yield
    finally:
        setns(own, CLONE_NEWNET)


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    encoded = [os.fsencode(text) if text else None for text in (source, target, kind)]
    _check(_libc.mount(*encoded, ctypes.c_ulong(flags), os.fsencode(data) if data else None), target)


def bind(source: str, target: str, *, readonly: bool = False) -> None:
    """A bind mount; `readonly` keeps the flags that the source's mount already has."""
    mount(source, target, "", MS_BIND | MS_REC)
    if readonly:
        remount_readonly(target)


def remount_readonly(target: str) -> None:
    found = os.statvfs(target).f_flag
    kept = sum(flag for flag in (MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_NOATIME) if found & flag)
    mount("", target, "", MS_REMOUNT | MS_BIND | MS_RDONLY | kept)


def unmount(target: str, flags: int = MNT_DETACH) -> None:
    _check(_libc.umount2(os.fsencode(target), flags), target)


def pivot_into(root: str) -> None:
    """Makes `root` (a mount) the root of this mount namespace and lets go of the old one."""
    os.chdir(root)
    _check(_libc.pivot_root(b".", b"."), root)
    unmount(".")
    os.chdir("/")


def open_tree(path: str, *, alone: bool = False) -> int:
    """A detached copy of the mounts at `path` (and below, unless `alone`); move_mount puts it somewhere, closing it drops it."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | (0 if alone else _AT_RECURSIVE)
    fd = _libc.syscall(
        ctypes.c_long(_SYS_OPEN_TREE), ctypes.c_long(_AT_FDCWD), ctypes.c_char_p(os.fsencode(path)), ctypes.c_ulong(flags)
    )
    return _check(int(fd), path)


def move_mount(tree: int, target: str) -> None:
    moved = _libc.syscall(
        ctypes.c_long(_SYS_MOVE_MOUNT),
        ctypes.c_long(tree),
        ctypes.c_char_p(b""),
        ctypes.c_long(_AT_FDCWD),
        ctypes.c_char_p(os.fsencode(target)),
        ctypes.c_ulong(_MOVE_MOUNT_F_EMPTY_PATH),
    )
    _check(int(moved), target)


def map_ids(tree: int, users: int, about: str) -> None:
    """On the detached mount `tree` (not those below it) files belong to who in `users` has the ids that the file system says."""
    try:
        _set_mount_attributes(tree, _AT_EMPTY_PATH, _MOUNT_ATTR_IDMAP, users, about)
    except OSError as error:
        hint = "maybe the filesystem used doesn't support idmap mounts on this kernel?"
        raise OSError(error.errno, f"failed to set MOUNT_ATTR_IDMAP on {about}: {error.strerror} ({hint})") from None


def make_tree_readonly(tree: int, about: str) -> None:
    """The detached mount `tree` and all below it."""
    _set_mount_attributes(tree, _AT_EMPTY_PATH | _AT_RECURSIVE, _MOUNT_ATTR_RDONLY, 0, about)


def _set_mount_attributes(tree: int, flags: int, attributes: int, users: int, about: str) -> None:
    arguments = struct.pack("=QQQQ", attributes, 0, 0, users)
    result = _libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_long(tree),
        ctypes.c_char_p(b""),
        ctypes.c_ulong(flags),
        ctypes.c_char_p(arguments),
        ctypes.c_ulong(len(arguments)),
    )
    _check(int(result), about)


def prctl(option: int, value: int = 0) -> None:
    none = ctypes.c_ulong(0)
    _check(_libc.prctl(option, ctypes.c_ulong(value), none, none, none), "prctl")


def seccomp_filter(program: bytes, flags: int) -> None:
    """seccomp(2) with a struct sock_fprog."""
    number = ctypes.c_long(_SYS_SECCOMP[os.uname().machine])
    result = _libc.syscall(number, ctypes.c_long(_SET_MODE_FILTER), ctypes.c_ulong(flags), ctypes.c_char_p(program))
    _check(int(result), "seccomp")


def new_session_keyring() -> None:
    """An empty one for this process and what it becomes, instead of the one it inherited (keyctl(2)); none where there are no keyrings."""
    if number := _SYS_KEYCTL.get(os.uname().machine):
        _libc.syscall(ctypes.c_long(number), ctypes.c_long(_KEYCTL_JOIN_SESSION_KEYRING), ctypes.c_void_p(None))


def set_hostname(name: str) -> None:
    encoded = name.encode()
    _check(_libc.sethostname(encoded, len(encoded)), name)


def last_capability() -> int:
    with open("/proc/sys/kernel/cap_last_cap") as file:
        return int(file.read())


def limit_capabilities(mask: int, last: int) -> None:
    """Drops all but `mask` from the bounding set (exec and setuid shrink the others to it)."""
    for bit in range(last + 1):
        if not mask >> bit & 1:
            prctl(PR_CAPBSET_DROP, bit)


def set_capabilities(mask: int) -> None:
    """Effective and permitted become `mask` (as far as this process has it), inheritable none."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    held = ctypes.create_string_buffer(24)
    _check(_libc.capget(header, held), "capget")
    _, permitted_low, _, _, permitted_high, _ = struct.unpack("=6I", held.raw)
    low, high = mask & 0xFFFFFFFF & permitted_low, mask >> 32 & permitted_high
    _check(_libc.capset(header, struct.pack("=6I", low, low, 0, high, high, 0)), "capset")


def loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


def start_time(pid: int) -> int:
    """In clock ticks: with the pid it names a process for good (one boot). 0 where it has ended."""
    fields = stat(pid)
    return 0 if not fields or fields[0] in b"ZX" else int(fields[19])


def stat(pid: int) -> list[bytes]:
    """/proc/PID/stat (proc(5)) from its third field, the state, on; empty where there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def pids() -> list[int]:
    """Of all processes that this one sees."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def command(pid: int) -> list[str]:
    """Its command line, the program first, which is empty where the process has ended."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return os.fsdecode(file.read()).split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return [""]


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def exit_status(pid: int, started: int, pidfd: int) -> int | None:
    """The wait status of another's child that has ended: its zombie's, or once reaped the pidfd's (Linux 6.15). None where unknown."""
    fields = stat(pid)
    if fields and fields[0] == b"Z" and int(fields[19]) == started:
        return int(fields[49])
    info = bytearray(struct.pack("=QQ11Ii", _PIDFD_INFO_EXIT, *[0] * 12, 0))
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
    except OSError:
        return None
    found = struct.unpack("=QQ11Ii", info)
    return int(found[13]) if found[0] & _PIDFD_INFO_EXIT else None
