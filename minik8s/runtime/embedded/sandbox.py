"""A pod's sandbox: one process that holds the pod's namespaces and does nothing.

It is a fork of the node process that becomes a program of one page made here (it pauses for ever; ended children of a shared pid
namespace vanish, since it ignores SIGCHLD), so an idle pod costs a few pages. Its root is the pod's /dev/shm, it has no
capability, is nobody's user, and sees nothing of the host. Standard library only.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress

from minik8s.runtime.embedded import linux
from minik8s.runtime.embedded.cgroups import score_oom, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_NOBODY = 65535  # the pause image's user
_OOM_SCORE = -998
_MFD_CLOEXEC, _MFD_EXEC = 1, 0x10
_SHM_SIZE = "64m"
_SYSCTL_PATH = str.maketrans("./", "/.")  # a slash in a name stands for a dot (sysctl.d(5))

_CODE = {  # pause() for ever: machine -> (ELF machine number, instructions)
    "x86_64": (62, bytes.fromhex("b822000000 0f05 ebf7")),
    "aarch64": (183, struct.pack("<7I", 0xD2800000, 0xD2800001, 0xD2800002, 0xD2800003, 0xD2800928, 0xD4000001, 0x17FFFFFA)),
}


def pause_program() -> int:
    """A descriptor of the pause program, for execve; -1 on a machine it isn't written for (a fork of Python pauses instead)."""
    if platform_code := _CODE.get(os.uname().machine):
        for flags in (_MFD_CLOEXEC | _MFD_EXEC, _MFD_CLOEXEC):
            try:
                fd = os.memfd_create("pause", flags)
            except OSError:
                continue
            os.write(fd, _elf(*platform_code))
            return fd
    return -1


def hold(spec: Mapping[str, Any], directory: str, program: int, report: socket.socket) -> NoReturn:
    """Becomes the sandbox's process; the report socket's end without an error is the news that all is made."""
    try:
        os.setsid()
        owner, length = spec["users"] or (0, 0)
        users = linux.new_user_namespace(owner, length) if owner else -1
        linux.unshare(linux.CLONE_NEWNS)
        linux.mount("", "/", "", linux.MS_REC | linux.MS_PRIVATE)
        flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
        linux.mount("shm", directory, "tmpfs", flags, f"mode=1777,size={_SHM_SIZE},uid={owner},gid={owner}")
        score_oom(_OOM_SCORE)
        settings = os.open("/proc/sys", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        linux.pivot_into(directory)
        if owner:  # so that what follows is the pod's own, and its root has power over it
            linux.become_root_of(users)
        _make_namespaces(spec, settings)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        if program >= 0:
            with suppress(PermissionError):  # vm.memfd_noexec=2
                os.execve(program, ["/pause"], {})  # noqa: S606
        report.close()
        while True:
            signal.pause()
    except BaseException as error:
        report.sendall(json.dumps({"error": f"failed to create sandbox: {error}"}).encode())
        os._exit(128)


def _make_namespaces(spec: Mapping[str, Any], settings: int) -> None:
    """`settings` is the directory /proc/sys."""
    flags = 0 if spec["host_ipc"] else linux.CLONE_NEWIPC
    if not spec["host_network"]:
        flags |= linux.CLONE_NEWNET | linux.CLONE_NEWUTS
    linux.unshare(flags)
    if not spec["host_network"]:
        linux.set_hostname(spec["hostname"])
        linux.loopback_up()
    for name, value in spec["sysctls"].items():
        write(name.translate(_SYSCTL_PATH), value, settings)


def _elf(machine: int, code: bytes) -> bytes:
    """A 64-bit little-endian executable with one segment: its own headers and `code`."""
    base, headers = 0x400000, 64 + 56
    size = headers + len(code)
    ident = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, base + headers, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    return header + segment + code
