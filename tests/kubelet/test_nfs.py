"""NFS volumes: what the machine's mount is told, and what is said where it fails. Source: v1.NFSVolumeSource; upstream's mount_linux.go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from minik8s.base.clock import RealClock
from minik8s.kubelet.volumes import nfs
from minik8s.kubelet.volumes.payload import Missing


def program(directory: Path, script: str) -> str:
    path = directory / "mount"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("source", "options", "told"),
    [
        ({"server": "nas", "path": "/a"}, [], "-t nfs -- nas:/a"),
        ({"server": "fd00::1", "path": "/a", "readOnly": True}, ["nfsvers=4.1"], "-t nfs -o ro,nfsvers=4.1 -- [fd00::1]:/a"),
        ({"server": "-o", "path": "/a"}, [], "-t nfs -- -o:/a"),  # no option of ours
    ],
)
async def test_what_mount_is_told(source: dict[str, Any], options: list[str], told: str, tmp_path: Path) -> None:
    await nfs.mount(source, options, tmp_path / "v", RealClock(), program(tmp_path, f'echo "$@" > {tmp_path}/told'))
    assert (tmp_path / "told").read_text() == f"{told} {tmp_path}/v\n"


async def test_what_is_said_where_it_fails(tmp_path: Path) -> None:
    words = program(tmp_path, "echo bad option - you might need a helper >&2; exit 32")
    with pytest.raises(Missing) as error:
        await nfs.mount({"server": "nas", "path": "/a"}, (), tmp_path / "v", RealClock(), words)
    assert error.value.told("data").splitlines() == [
        'MountVolume.SetUp failed for volume "data" : mount failed: exit status 32',
        f"Mounting command: {words}",
        f"Mounting arguments: -t nfs nas:/a {tmp_path}/v",
        "Output: bad option - you might need a helper",
    ]
    assert not (tmp_path / "v").exists()
    with pytest.raises(Missing, match="executable file not found"):
        await nfs.mount({"server": "nas", "path": "/a"}, (), tmp_path / "v", RealClock(), str(tmp_path / "none"))
