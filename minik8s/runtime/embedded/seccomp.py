"""Seccomp's RuntimeDefault profile as a BPF program.

What containerd's default profile refuses is refused here with EPERM (calls that reach the host: mounts, namespaces, modules, keys, clocks,
swap, io_uring, ...), some of it only while the container lacks the capability that the call is for; calls newer than the table and other
architectures' are ENOSYS, so that programs fall back. Everything else is allowed. Also what seccomp_profile.py makes its programs of.
Standard library only.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from minik8s.runtime.embedded import linux

_X86_64 = 0xC000003E
ARCHITECTURES = {"x86_64": (_X86_64, 0), "aarch64": (0xC00000B7, 1)}  # machine -> (AUDIT_ARCH_*, column of the tables)
_NEWEST = 462  # mseal
_X32 = 0x40000000
_NAMESPACE_FLAGS = 0x7E020000
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
_AF_VSOCK = 40

_CLONE, _CLONE3, _PERSONALITY, _SOCKET = (56, 220), (435, 435), (135, 92), (41, 198)

_REFUSED = (  # capability that lifts it ("" none), {x86_64 number: aarch64 number, None where it has no such call}
    ("", {248: 217, 250: 219, 249: 218}),  # add_key keyctl request_key
    ("", {174: None, 177: None, 178: None, 180: 42}),  # create_module get_kernel_syms query_module nfsservctl
    ("", {246: 104, 320: 294, 168: 225, 167: 224}),  # kexec_load kexec_file_load swapoff swapon
    ("", {139: None, 156: None, 134: None, 136: None, 323: 282}),  # sysfs _sysctl uselib ustat userfaultfd
    ("", {425: 425, 426: 426, 427: 427, 155: 41, 279: 239, 256: 238}),  # io_uring_* pivot_root move_pages migrate_pages
    ("SYS_ADMIN", {300: 262, 431: 431, 432: 432, 430: 430, 433: 433}),  # fanotify_init fsconfig fsmount fsopen fspick
    ("SYS_ADMIN", {212: 18, 165: 40, 442: 442, 429: 429, 428: 428}),  # lookup_dcookie mount mount_setattr move_mount open_tree
    ("SYS_ADMIN", {179: 60, 443: 443, 171: 162, 170: 161}),  # quotactl quotactl_fd setdomainname sethostname
    ("SYS_ADMIN", {308: 268, 166: 39, 272: 97}),  # setns umount2 unshare
    ("BPF", {321: 280}),  # bpf
    ("PERFMON", {298: 241}),  # perf_event_open
    ("SYSLOG", {103: 116}),  # syslog
    ("SYS_BOOT", {169: 142}),  # reboot
    ("SYS_CHROOT", {161: 51}),  # chroot
    ("SYS_MODULE", {176: 106, 175: 105, 313: 273}),  # delete_module init_module finit_module
    ("SYS_PACCT", {163: 89}),  # acct
    ("SYS_PTRACE", {312: 272, 438: 438, 440: 440}),  # kcmp pidfd_getfd process_madvise
    ("SYS_RAWIO", {172: None, 173: None}),  # iopl ioperm
    ("SYS_TIME", {164: 170, 227: 112}),  # settimeofday clock_settime
    ("SYS_TTY_CONFIG", {153: 58}),  # vhangup
    ("SYS_NICE", {239: 236, 237: 235, 238: 237, 450: 450}),  # get_mempolicy mbind set_mempolicy set_mempolicy_home_node
    ("DAC_READ_SEARCH", {304: 265}),  # open_by_handle_at
)

LOAD, EQUAL, GREATER, AT_LEAST, _ANY_BIT, RETURN = 0x20, 0x15, 0x25, 0x35, 0x45, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data


def supported() -> bool:
    return os.uname().machine in ARCHITECTURES


def runtime_default(capabilities: int, machine: str = "") -> bytes:
    """The filter's instructions for a container with these capabilities (a bit mask)."""
    architecture, column = ARCHITECTURES[machine or os.uname().machine]

    def holds(name: str) -> bool:
        return bool(capabilities >> linux.CAPABILITIES.index(name) & 1) if name else False

    program = [*opening(architecture), *when(GREATER, _NEWEST, errno.ENOSYS)]
    admin = holds("SYS_ADMIN")
    for capability, calls in _REFUSED:
        if not (holds(capability) or (admin and capability in ("BPF", "PERFMON", "SYSLOG"))):
            for number in list(calls.values()) if column else list(calls):
                if number is not None:
                    program += when(EQUAL, number, errno.EPERM)
    if not admin:
        # its flags are out of a filter's sight: libc falls back to clone
        program += when(EQUAL, _CLONE3[column], errno.ENOSYS)
        program += _argument(_CLONE[column], when(_ANY_BIT, _NAMESPACE_FLAGS, errno.EPERM))
    program += _argument(_SOCKET[column], when(EQUAL, _AF_VSOCK, errno.EPERM))
    known = [operation(EQUAL, value, len(_PERSONALITIES) - index, 0) for index, value in enumerate(_PERSONALITIES)]
    program += _argument(_PERSONALITY[column], [*known, operation(RETURN, ERRNO | errno.EPERM)])
    return b"".join([*program, operation(RETURN, ALLOW)])


def install(program: bytes, flags: int) -> None:
    """For this process, for good; needs CAP_SYS_ADMIN or no_new_privs. `flags` are seccomp(2)'s."""
    code = ctypes.create_string_buffer(program, len(program))
    linux.seccomp_filter(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code)), flags)


def operation(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """One instruction of classic BPF; jumps count the instructions that are left out."""
    return struct.pack("<HBBI", code, if_true, if_false, value)


def opening(architecture: int) -> list[bytes]:
    """How every filter begins: calls of other architectures are ENOSYS, then the call's number is what is looked at."""
    program = [operation(LOAD, _ARCHITECTURE), operation(EQUAL, architecture, 1, 0), operation(RETURN, ERRNO | errno.ENOSYS)]
    program.append(operation(LOAD, _NUMBER))
    return program + (when(AT_LEAST, _X32, errno.ENOSYS) if architecture == _X86_64 else [])


def when(jump: int, value: int, error: int) -> list[bytes]:
    """The error, where what is looked at compares so with the value."""
    return [operation(jump, value, 0, 1), operation(RETURN, ERRNO | error)]


def _argument(number: int, checks: list[bytes]) -> list[bytes]:
    """For the call `number`: its first argument's low half goes through `checks`, what passes them is allowed."""
    return [
        operation(EQUAL, number, 0, len(checks) + 2),
        operation(LOAD, ARGUMENTS),
        *checks,
        operation(RETURN, ALLOW),
    ]
