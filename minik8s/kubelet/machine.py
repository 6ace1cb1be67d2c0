"""What the machine is and has: read from /proc, /sys and /etc. Linux only."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from minik8s.api import quantity
from minik8s.api.quantity import Quantity
from minik8s.kubelet.settings import Settings

ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
}


@dataclass(frozen=True, slots=True)
class Machine:
    """What does not change while the agent runs."""

    capacity: Mapping[str, Quantity]
    allocatable: Mapping[str, Quantity]
    architecture: str
    kernel: str
    os_image: str
    machine_id: str
    system_uuid: str
    boot_id: str


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system, in bytes."""

    capacity: int = 0
    available: int = 0
    used: int = 0
    inodes: int = 0
    inodes_free: int = 0

    @property
    def used_percent(self) -> int:
        return 100 - min(self.available, self.capacity) * 100 // self.capacity if self.capacity else 0


def disk_of(path: Path | str) -> Disk:
    """The file system that `path` is on, now. Raises OSError."""
    found = os.statvfs(path)
    size = found.f_frsize
    used = (found.f_blocks - found.f_bfree) * size
    return Disk(found.f_blocks * size, found.f_bavail * size, used, found.f_files, found.f_ffree)


def inspect(data_dir: Path, settings: Settings | None = None) -> Machine:
    """`data_dir`: on whose file system the pods' files are."""
    settings = settings or Settings()
    capacity = {
        "cpu": quantity.of(len(os.sched_getaffinity(0))),
        "pods": quantity.of(settings.max_pods),
        **{name: quantity.of(amount, quantity.BINARY) for name, amount in _hugepages().items()},
        "memory": quantity.of(meminfo()["MemTotal"], quantity.BINARY),
        "ephemeral-storage": quantity.of(disk_of(data_dir).capacity // 1024 * 1024, quantity.BINARY),
    }
    allocatable = settings.allocatable(capacity)
    allocatable["ephemeral-storage"] = quantity.of(allocatable["ephemeral-storage"].value)
    return Machine(
        capacity=capacity,
        allocatable=allocatable,
        architecture=ARCHITECTURES.get(platform.machine(), platform.machine()),
        kernel=platform.release(),
        os_image=_os_image(),
        machine_id=_text("/etc/machine-id"),
        system_uuid=_text("/sys/class/dmi/id/product_uuid") or _text("/etc/machine-id"),
        boot_id=_text("/proc/sys/kernel/random/boot_id"),
    )


def threads() -> tuple[int, int]:
    """How many there are now, and how many there may be."""
    there = int(_text("/proc/loadavg").split()[3].partition("/")[2])
    return there, int(_text("/proc/sys/kernel/pid_max") or "32768")


def meminfo() -> dict[str, int]:
    """What /proc/meminfo says, in bytes."""
    rows = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return {row[0].rstrip(":"): int(row[1]) * (1024 if row[-1] == "kB" else 1) for row in rows}


def has_apparmor() -> bool:
    return _text("/sys/module/apparmor/parameters/enabled") == "Y" and Path("/sys/kernel/security/apparmor").is_dir()


def _hugepages() -> dict[str, int]:
    """Bytes in huge pages, by resource (`hugepages-2Mi`), of each size that the machine has."""
    found = {}
    for directory in sorted(Path("/sys/kernel/mm/hugepages").glob("hugepages-*kB")):
        size = int(directory.name.removeprefix("hugepages-").removesuffix("kB")) << 10
        found[f"hugepages-{quantity.of(size, quantity.BINARY)}"] = size * int(_text(directory / "nr_hugepages") or "0")
    return found


def _os_image() -> str:
    for line in _text("/etc/os-release").splitlines():
        name, _, value = line.partition("=")
        if name == "PRETTY_NAME":
            return value.strip('"')
    return "Linux"


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
