"""A seccomp profile of the OCI form (config-linux.md, Seccomp), compiled to a BPF program: what `localhostProfile` names.

As containerd and runc read it: fields that the form doesn't have (Docker's `includes`) say nothing; calls whose names nobody knows are left
out; of a call with a rule without arguments that rule counts, else the first whose arguments fit; arguments of one index are
alternatives. A profile that denies answers ENOSYS for calls newer than all that it names, so that programs fall back, and for calls
of other architectures.
Limits: no notifications (SCMP_ACT_NOTIFY), and the machine's own architecture alone. For the agent; seccomp.py installs the program.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from minik8s.runtime.embedded.seccomp import (
    ALLOW,
    ARCHITECTURES,
    ARGUMENTS,
    AT_LEAST,
    EQUAL,
    ERRNO,
    GREATER,
    LOAD,
    RETURN,
    opening,
    operation,
    when,
)

LONGEST = 4096  # instructions (BPF_MAXINSNS)
_FARTHEST = 255  # a jump
_FLAGS = {"SECCOMP_FILTER_FLAG_TSYNC": 0, "SECCOMP_FILTER_FLAG_LOG": 2, "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4}
_ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": ALLOW,
}
_WITH_ERRNO = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
_PERMISSIVE = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")
_AND = 0x54
_NEXT, _FITS, _FAILS = "next", "fits", "fails"

Step = tuple[int, int, str, str]  # code, value, where to if true and if false
Condition = Mapping[str, Any]


class BadProfile(Exception):
    """The profile can't be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Compiled:
    program: bytes
    flags: int  # of seccomp(2)


@dataclass(frozen=True, slots=True)
class _Rule:
    answer: int
    conditions: Sequence[Sequence[Condition]]  # each an argument's alternatives


def load(path: str) -> Compiled:
    """Raises BadProfile."""
    try:
        profile = orjson.loads(Path(path).read_bytes())
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise BadProfile(f'cannot load seccomp profile "{path}": open {path}: {why}') from None
    except orjson.JSONDecodeError as error:
        raise BadProfile(f'decoding seccomp profile failed "{path}": {error}') from None
    try:
        return compiled(profile, os.uname().machine)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadProfile(f'decoding seccomp profile failed "{path}": {type(error).__name__}: {error}') from None


def compiled(profile: Mapping[str, Any], machine: str) -> Compiled:
    """Raises BadProfile, or what comes of fields of other types."""
    architecture, column = ARCHITECTURES[machine]
    default = _answer(profile, profile["defaultAction"], profile.get("defaultErrnoRet"))
    rules = _rules(profile, default, column)
    program = opening(architecture)
    if profile["defaultAction"] not in _PERMISSIVE:
        program += when(GREATER, _newest(profile, column), errno.ENOSYS)
    for number, choices in sorted(rules.items()):
        if not choices[0].conditions:
            program += [operation(EQUAL, number, 0, 1), operation(RETURN, choices[0].answer)]
            continue
        checks = [check for rule in choices for check in _checked(rule)]
        if len(checks) + 1 > _FARTHEST:
            raise BadProfile(f"the seccomp profile has too many arguments for one call ({number})")
        program += [operation(EQUAL, number, 0, len(checks) + 1), *checks, operation(RETURN, default)]
    program.append(operation(RETURN, default))
    if len(program) > LONGEST:
        raise BadProfile(f"the seccomp profile is too long: {len(program)} instructions of at most {LONGEST}")
    return Compiled(b"".join(program), _flags(profile))


@cache
def numbers(column: int) -> Mapping[str, int]:
    """Of all calls of a machine, by name (columns: x86_64, aarch64)."""
    lines = Path(__file__).with_name("syscalls.tsv").read_text().splitlines()[1:]
    fields = (line.split("\t") for line in lines)
    return {name: int(found[column]) for name, *found in fields if found[column]}


def _rules(profile: Mapping[str, Any], default: int, column: int) -> dict[int, list[_Rule]]:
    found: dict[int, list[_Rule]] = {}
    for entry in profile.get("syscalls") or ():
        answer = _answer(profile, entry["action"], entry.get("errnoRet"))
        if answer == default:
            continue
        by_index: dict[int, list[Condition]] = {}
        for condition in entry.get("args") or ():
            by_index.setdefault(condition["index"], []).append(condition)
        rule = _Rule(answer, list(by_index.values()))
        for number in _named(entry, column):
            choices = found.setdefault(number, [])
            if not choices or choices[0].conditions:
                found[number] = [*choices, rule] if rule.conditions else [rule]
    return found


def _newest(profile: Mapping[str, Any], column: int) -> int:
    return max((number for entry in profile.get("syscalls") or () for number in _named(entry, column)), default=0)


def _named(entry: Mapping[str, Any], column: int) -> Iterator[int]:
    known = numbers(column)
    return (known[name] for name in entry["names"] if name in known)


def _answer(profile: Mapping[str, Any], action: str, value: int | None) -> int:
    if action not in _ACTIONS:
        raise BadProfile(f"the seccomp action {action} is not supported by the embedded runtime")
    if action not in _WITH_ERRNO:
        return _ACTIONS[action]
    return _ACTIONS[action] | ((errno.EPERM if value is None else value) & 0xFFFF)


def _flags(profile: Mapping[str, Any]) -> int:
    wanted = profile.get("flags") or ()
    if unknown := [flag for flag in wanted if flag not in _FLAGS]:
        raise BadProfile(f"the seccomp flag {unknown[0]} is not supported by the embedded runtime")
    return sum(_FLAGS[flag] for flag in set(wanted))


# --- arguments -------------------------------------------------------------------------------------------------------


def _checked(rule: _Rule) -> list[bytes]:
    """Returns the rule's answer where one alternative of each of its arguments fits, else goes on after it."""
    blocks = [[_steps(condition) for condition in alternatives] for alternatives in rule.conditions]
    length = sum(len(steps) for block in blocks for steps in block) + 1
    if length > _FARTHEST:
        raise BadProfile(f"a rule of the seccomp profile has too many arguments ({length} instructions of at most {_FARTHEST})")
    placed, program = 0, []
    for block in blocks:
        end = placed + sum(len(steps) for steps in block)
        for steps in block:
            last = steps is block[-1]
            begin, placed = placed, placed + len(steps)
            targets = {_FITS: end, _FAILS: length if last else placed}
            for index, (code, value, if_true, if_false) in enumerate(steps, begin):
                jumps = [targets.get(where, index + 1) - index - 1 for where in (if_true, if_false)]
                program.append(operation(code, value, *jumps))
    return [*program, operation(RETURN, rule.answer)]


def _steps(condition: Condition) -> list[Step]:
    """A comparison of 64 bits, in two halves; its jumps say whether it `fits`, `fails` or goes on."""
    value, second, index = condition["value"], condition.get("valueTwo") or 0, condition["index"]
    if not 0 <= index < 6:
        raise BadProfile(f"a system call has no argument {index}")
    high, low = (value >> 32) & 0xFFFFFFFF, value & 0xFFFFFFFF
    load_low: Step = (LOAD, ARGUMENTS + 8 * index, _NEXT, _NEXT)
    load_high: Step = (LOAD, ARGUMENTS + 8 * index + 4, _NEXT, _NEXT)
    match condition["op"]:
        case "SCMP_CMP_EQ":
            return [load_high, (EQUAL, high, _NEXT, _FAILS), load_low, (EQUAL, low, _FITS, _FAILS)]
        case "SCMP_CMP_NE":
            return [load_high, (EQUAL, high, _NEXT, _FITS), load_low, (EQUAL, low, _FAILS, _FITS)]
        case "SCMP_CMP_GT" | "SCMP_CMP_GE" as op:
            last = GREATER if op == "SCMP_CMP_GT" else AT_LEAST
            start = [load_high, (GREATER, high, _FITS, _NEXT), (EQUAL, high, _NEXT, _FAILS)]
            return [*start, load_low, (last, low, _FITS, _FAILS)]
        case "SCMP_CMP_LT" | "SCMP_CMP_LE" as op:
            last = AT_LEAST if op == "SCMP_CMP_LT" else GREATER
            start = [load_high, (GREATER, high, _FAILS, _NEXT), (EQUAL, high, _NEXT, _FITS)]
            return [*start, load_low, (last, low, _FAILS, _FITS)]
        case "SCMP_CMP_MASKED_EQ":
            mask_high: Step = (_AND, high, _NEXT, _NEXT)
            mask_low: Step = (_AND, low, _NEXT, _NEXT)
            wanted_high, wanted_low = (second >> 32) & 0xFFFFFFFF, second & 0xFFFFFFFF
            start = [load_high, mask_high, (EQUAL, wanted_high, _NEXT, _FAILS)]
            return [*start, load_low, mask_low, (EQUAL, wanted_low, _FITS, _FAILS)]
        case other:
            raise BadProfile(f"the seccomp operator {other} is not known")
