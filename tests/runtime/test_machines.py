"""What the embedded runtime has in tables for each architecture, against the kernel's own headers (linux-libc-dev) where they are there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from minik8s.runtime.embedded import device_filter, linux, seccomp
from minik8s.runtime.images.manifests import BadImage, choose

GENERIC = Path("/usr/include/asm-generic/unistd.h")  # aarch64 has these numbers
X86_64 = next((path for path in Path("/usr/include").glob("**/asm/unistd_64.h")), Path("/none"))


def numbers(header: Path) -> Mapping[str, int]:
    if not header.exists():
        pytest.skip("the kernel's headers are not installed")
    found = re.findall(r"^#define __NR3?_(?:3264_)?(\w+)\s+(\d+)$", header.read_text(), re.MULTILINE)
    return {name: int(number) for name, number in found}


@pytest.fixture(scope="module")
def both() -> Mapping[int, int | None]:
    """aarch64's number of each call by x86_64's; None where it has no such call."""
    x86, arm = numbers(X86_64), numbers(GENERIC)
    return {number: arm.get(name) for name, number in x86.items()}


def test_the_calls_that_seccomp_refuses(both: Mapping[int, int | None]) -> None:
    for _, calls in seccomp._REFUSED:
        assert calls == {number: both[number] for number in calls}
    for pair in (seccomp._CLONE, seccomp._CLONE3, seccomp._PERSONALITY, seccomp._SOCKET):
        assert both[pair[0]] == pair[1]


def test_the_calls_that_are_made_by_number(both: Mapping[int, int | None]) -> None:
    for table in (device_filter._SYS_BPF, linux._SYS_KEYCTL):
        assert both[table["x86_64"]] == table["aarch64"]
    for same in (linux._SYS_OPEN_TREE, linux._SYS_MOVE_MOUNT):
        assert both[same] == same


def entry(name: str, architecture: str, variant: str = "", os: str = "linux") -> dict[str, object]:
    platform = {"os": os, "architecture": architecture} | ({"variant": variant} if variant else {})
    return {"digest": f"sha256:{name * 64}", "size": 1, "platform": platform}


@pytest.mark.parametrize(
    ("machine", "chosen"),
    [("x86_64", "a"), ("aarch64", "c"), ("armv7l", "f"), ("riscv64", "9"), ("s390x", ""), ("mips64", "")],
)
def test_a_machine_s_image_of_many(machine: str, chosen: str) -> None:
    """opencontainers/image-spec, image-index.md; the machine is uname's."""
    manifests = [entry("0", "amd64", os="windows"), entry("a", "amd64"), entry("c", "arm64", "v8"), entry("d", "arm64", "v9")]
    manifests += [entry("e", "arm", "v6"), entry("f", "arm", "v7"), entry("9", "riscv64")]
    if chosen:
        assert choose({"manifests": manifests}, machine).digest == f"sha256:{chosen * 64}"
    else:
        with pytest.raises(BadImage, match=f"no match for platform in manifest: linux/{machine}"):
            choose({"manifests": manifests}, machine)
