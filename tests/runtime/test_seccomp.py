"""Seccomp filters, on a small BPF machine of our own: the runtime's default profile, and profiles of the OCI form compiled."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import orjson
import pytest

from minik8s.runtime.base import Security
from minik8s.runtime.embedded import seccomp, specs
from minik8s.runtime.embedded.seccomp_profile import BadProfile, compiled, load, numbers


def run_filter(program: bytes, number: int, architecture: int = 0xC000003E, argument: int = 0, second: int = 0) -> int:
    """A small BPF machine: what the kernel would answer."""
    memory = struct.pack("<IIQ6Q", number, architecture, 0, argument, second, *[0] * 4)
    counter, accumulator = 0, 0
    while True:
        code, if_true, if_false, value = struct.unpack_from("<HBBI", program, counter * 8)
        counter += 1
        if code == 0x20:
            [accumulator] = struct.unpack_from("<I", memory, value)
        elif code == 0x54:
            accumulator &= value
        elif code == 0x06:
            return int(value)
        else:
            holds = {
                0x15: accumulator == value,
                0x25: accumulator > value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }
            counter += if_true if holds[code] else if_false


ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x50001, 0x50026


@pytest.mark.parametrize(
    ("added", "number", "argument", "answer"),
    [
        ([], 0, 0, ALLOW),  # read
        ([], 165, 0, EPERM),  # mount
        (["SYS_ADMIN"], 165, 0, ALLOW),
        ([], 272, 0, EPERM),  # unshare
        ([], 101, 0, ALLOW),  # ptrace, as on kernels from 4.8 on
        ([], 169, 0, EPERM),  # reboot
        (["SYS_BOOT"], 169, 0, ALLOW),
        ([], 321, 0, EPERM),  # bpf
        (["BPF"], 321, 0, ALLOW),
        (["SYS_ADMIN"], 321, 0, ALLOW),
        (["SYS_ADMIN"], 246, 0, EPERM),  # kexec_load
        ([], 425, 0, EPERM),  # io_uring_setup
        ([], 56, 0x11, ALLOW),  # clone, as fork does
        ([], 56, 0x10000011, EPERM),  # a user namespace
        (["SYS_ADMIN"], 56, 0x20000011, ALLOW),
        ([], 435, 0, ENOSYS),  # clone3
        (["SYS_ADMIN"], 435, 0, ALLOW),
        ([], 135, 0xFFFFFFFF, ALLOW),  # personality, asking
        ([], 135, 0x20008, ALLOW),
        ([], 135, 0x40000, EPERM),
        ([], 41, 2, ALLOW),  # socket AF_INET
        ([], 41, 40, EPERM),  # AF_VSOCK
        ([], 463, 0, ENOSYS),  # newer than the table
        ([], 0x40000000, 0, ENOSYS),  # x32
    ],
)
def test_seccomp_s_filter(added: list[str], number: int, argument: int, answer: int) -> None:
    """containerd's contrib/seccomp/seccomp_default.go, by what it decides."""
    program = seccomp.runtime_default(specs.capabilities(Security(add_capabilities=added)), "x86_64")
    assert len(program) // 8 <= 4096, "BPF_MAXINSNS"
    assert run_filter(program, number, argument=argument) == answer


def test_seccomp_on_other_machines() -> None:
    arm = seccomp.runtime_default(0, "aarch64")
    assert run_filter(arm, 40, 0xC00000B7) == EPERM  # mount
    assert run_filter(arm, 63, 0xC00000B7) == ALLOW  # read
    assert run_filter(arm, 63) == ENOSYS  # x86_64's
    assert run_filter(seccomp.runtime_default(0, "x86_64"), 4, 0x40000003) == ENOSYS  # i386


# --- profiles ----------------------------------------------------------------------------------------------------------

READ, PERSONALITY, CLONE, KCMP, NEWEST_NAMED, NEWER = 0, 135, 56, 312, 435, 436
KILL, LOG = 0x80000000, 0x7FFC0000


def call(action: str, *names: str, **fields: Any) -> dict[str, Any]:
    return {"names": list(names), "action": f"SCMP_ACT_{action}", **fields}


def arg(operator: str, value: int, index: int = 0, second: int = 0) -> dict[str, Any]:
    return {"index": index, "value": value, "valueTwo": second, "op": f"SCMP_CMP_{operator}"}


def profile(*calls: dict[str, Any], default: str = "ERRNO", **fields: Any) -> dict[str, Any]:
    return {"defaultAction": f"SCMP_ACT_{default}", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": list(calls), **fields}


def answer(one: dict[str, Any], number: int, *arguments: int) -> int:
    return run_filter(compiled(one, "x86_64").program, number, **dict(zip(("argument", "second"), arguments, strict=False)))


@pytest.mark.parametrize(
    ("one", "number", "expected"),
    [
        (profile(call("ALLOW", "read", "clone3")), READ, ALLOW),
        (profile(call("ALLOW", "read", "clone3")), CLONE, EPERM),
        (profile(call("ALLOW", "read", "clone3")), NEWER, ENOSYS),  # runc: newer than all that the profile names
        (profile(call("ALLOW", "clone3"), defaultErrnoRet=13), READ, 0x5000D),
        (profile(call("ERRNO", "read", errnoRet=38), default="ALLOW"), READ, ENOSYS),
        (profile(call("ERRNO", "read"), default="ALLOW"), NEWER, ALLOW),
        (profile(call("KILL_PROCESS", "read"), default="LOG"), READ, KILL),
        (profile(call("KILL_PROCESS", "read"), default="LOG"), CLONE, LOG),
        (profile(call("ALLOW", "no_such_call", "read", "clone3")), READ, ALLOW),
        (profile(call("ALLOW", "read"), call("ALLOW", "clone3"), default="KILL"), CLONE, 0),
        (profile(default="ALLOW"), 0x40000000, ENOSYS),
    ],
)
def test_a_call(one: dict[str, Any], number: int, expected: int) -> None:
    """opencontainers/runtime-spec config-linux.md; runc's stub for new calls."""
    assert answer(one, number) == expected


BIG = 1 << 40


@pytest.mark.parametrize(
    ("condition", "fitting", "others"),
    [
        (arg("EQ", 8), [8], [9, 8 + BIG]),
        (arg("EQ", BIG + 8), [BIG + 8], [8, BIG]),
        (arg("NE", 8), [9, 8 + BIG], [8]),
        (arg("GT", BIG), [BIG + 1, BIG << 1], [BIG, 5]),
        (arg("GE", BIG + 2), [BIG + 2, BIG + 3, BIG << 1], [BIG + 1, 5]),
        (arg("LT", BIG + 2), [BIG + 1, 5], [BIG + 2, BIG << 1]),
        (arg("LE", BIG + 2), [BIG + 2, 5], [BIG + 3, BIG << 1]),
        (arg("MASKED_EQ", 0x7E020000), [0x11, BIG], [0x10000011]),
        (arg("MASKED_EQ", BIG | 0xF, second=BIG | 1), [BIG | 0x31], [1, BIG | 2]),
    ],
)
def test_an_argument(condition: dict[str, Any], fitting: list[int], others: list[int]) -> None:
    """seccomp_rule_add(3): all 64 bits are compared."""
    one = profile(call("ALLOW", "clone", args=[condition]), call("ALLOW", "clone3"))
    assert {answer(one, CLONE, value) for value in fitting} == {ALLOW}
    assert {answer(one, CLONE, value) for value in others} == {EPERM}
    assert answer(one, READ, fitting[0]) == EPERM


def test_several_arguments() -> None:
    """All of one rule must fit, those of one index are alternatives (runc); of several rules the first that fits counts."""
    both = profile(call("ALLOW", "personality", args=[arg("EQ", 1), arg("EQ", 2, index=1)]), call("ALLOW", "clone3"))
    assert [answer(both, PERSONALITY, *pair) for pair in ((1, 2), (1, 3), (0, 2))] == [ALLOW, EPERM, EPERM]
    either = profile(call("ALLOW", "personality", args=[arg("EQ", 1), arg("EQ", 8), arg("EQ", BIG)]), call("ALLOW", "clone3"))
    assert [answer(either, PERSONALITY, value) for value in (1, 8, BIG, 2)] == [ALLOW, ALLOW, ALLOW, EPERM]
    rules = [call("ALLOW", "personality", args=[arg("EQ", 1)]), call("LOG", "personality", args=[arg("LT", 9)])]
    assert [answer(profile(*rules, call("ALLOW", "clone3")), PERSONALITY, value) for value in (1, 3, 9)] == [ALLOW, LOG, EPERM]
    whole = profile(*rules, call("KILL_PROCESS", "personality"), call("ALLOW", "clone3"))
    assert answer(whole, PERSONALITY, 1) == KILL, "libseccomp: a rule without arguments is the only one"


def test_calls_have_each_machine_s_numbers() -> None:
    one = profile(call("ALLOW", "read", "clone3"))
    arm = compiled(one, "aarch64").program
    assert (run_filter(arm, 63, 0xC00000B7), run_filter(arm, 0, 0xC00000B7), run_filter(arm, 63)) == (ALLOW, EPERM, ENOSYS)
    assert (numbers(0)["openat"], numbers(1)["openat"], "open" in numbers(1)) == (257, 56, False)
    assert {number for _, calls in seccomp._REFUSED for number in calls} <= set(numbers(0).values())
    assert {n for _, calls in seccomp._REFUSED for n in calls.values() if n is not None} <= set(numbers(1).values())


def test_flags_and_length() -> None:
    assert compiled(profile(flags=["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"]), "x86_64").flags == 2
    everything = profile(call("ALLOW", *numbers(0)), default="KILL")
    assert len(compiled(everything, "x86_64").program) // 8 < 1000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, 'cannot load seccomp profile "{}": open {}: no such file or directory'),
        (b"{", 'decoding seccomp profile failed "{}": '),
        (b"[]", 'decoding seccomp profile failed "{}": '),
        (b"{}", 'decoding seccomp profile failed "{}": KeyError: '),
        (orjson.dumps(profile(default="NOTIFY")), "the seccomp action SCMP_ACT_NOTIFY is not supported"),
        (orjson.dumps(profile(call("ALLOW", "read", args=[arg("ISH", 1)]))), "the seccomp operator SCMP_CMP_ISH is not known"),
        (orjson.dumps(profile(call("ALLOW", "read", args=[arg("EQ", 1, index=6)]))), "a system call has no argument 6"),
        (orjson.dumps(profile(call("ALLOW", "read", args=[arg("EQ", n) for n in range(99)]))), "too many arguments"),
        (
            orjson.dumps(profile(flags=["SECCOMP_FILTER_FLAG_NEW_LISTENER"])),
            "the seccomp flag .*_NEW_LISTENER is not supported",
        ),
    ],
)
def test_bad_profiles(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadProfile, match=message.format(path, path)):
        load(str(path))
