"""Which devices a cgroup's processes may use, on cgroup v2: v1's `devices.allow` rules (`c 1:3 rwm`) as a small eBPF program.

Source: Documentation/admin-guide/cgroup-v2.rst (Device controller), linux/bpf.h (struct bpf_cgroup_dev_ctx). Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

_SYS_BPF = {"x86_64": 321, "aarch64": 280}
_PROG_LOAD, _PROG_ATTACH = 5, 8
_PROG_TYPE_CGROUP_DEVICE, _CGROUP_DEVICE, _ALLOW_MULTI = 15, 6, 2
_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}

_LOAD_WORD, _MOVE, _MOVE_REGISTER, _AND, _SHIFT_RIGHT, _JUMP_NOT_EQUAL, _EXIT = 0x61, 0xB7, 0xBF, 0x57, 0x77, 0x55, 0x95
_RESULT, _CONTEXT, _TYPE, _WANTED, _MAJOR, _MINOR, _SCRATCH = 0, 1, 2, 3, 4, 5, 6  # registers


def compile_rules(rules: Iterable[str]) -> bytes:
    """The program: 1 (allowed) where one rule covers the device and all that is wanted of it, else 0."""
    code = [
        _op(_LOAD_WORD, _TYPE, _CONTEXT, 0),
        _op(_MOVE_REGISTER, _WANTED, _TYPE),
        _op(_AND, _TYPE, value=0xFFFF),
        _op(_SHIFT_RIGHT, _WANTED, value=16),
        _op(_LOAD_WORD, _MAJOR, _CONTEXT, 4),
        _op(_LOAD_WORD, _MINOR, _CONTEXT, 8),
    ]
    for rule in rules:
        kind, device, access = rule.split()
        major, minor = device.split(":")
        denied = ~sum(_ACCESS[letter] for letter in access) & 7
        checks = [
            [_TYPE, _TYPES[kind]],
            *([register, int(n)] for register, n in ((_MAJOR, major), (_MINOR, minor)) if n != "*"),
        ]
        block = [_op(_MOVE_REGISTER, _SCRATCH, _WANTED), _op(_AND, _SCRATCH, value=denied)]
        left = len(checks) + 3  # after the jump: the other checks, the result and the exit
        block.append(_op(_JUMP_NOT_EQUAL, _SCRATCH, offset=left - 1))
        for index, (register, value) in enumerate(checks):
            block.append(_op(_JUMP_NOT_EQUAL, register, offset=left - 2 - index, value=value))
        code += [*block, _op(_MOVE, _RESULT, value=1), _op(_EXIT)]
    return b"".join([*code, _op(_MOVE, _RESULT), _op(_EXIT)])


def attach(directory: str, program: bytes) -> None:
    """For the cgroup at `directory` and those below it, until it is removed. OSError where the kernel refuses."""
    code, license_text = ctypes.create_string_buffer(program, len(program)), ctypes.create_string_buffer(b"GPL")
    loaded = _bpf(
        _PROG_LOAD,
        struct.pack(
            "=IIQQIIQII",
            _PROG_TYPE_CGROUP_DEVICE,
            len(program) // 8,
            ctypes.addressof(code),
            ctypes.addressof(license_text),
            *[0] * 5,
        ),
    )
    group = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _bpf(_PROG_ATTACH, struct.pack("=IIII", group, loaded, _CGROUP_DEVICE, _ALLOW_MULTI))
    finally:
        os.close(group)
        os.close(loaded)


def _op(code: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("<BBhi", code, source << 4 | target, offset, value)


def _bpf(command: int, attributes: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    block = ctypes.create_string_buffer(attributes, len(attributes))
    number = _SYS_BPF[os.uname().machine]
    result = libc.syscall(ctypes.c_long(number), ctypes.c_long(command), ctypes.byref(block), ctypes.c_ulong(len(attributes)))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"bpf: {os.strerror(ctypes.get_errno())}")
    return int(result)
