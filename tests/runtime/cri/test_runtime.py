"""What the runtime behind a CRI socket can't do is said in words that help."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from minik8s.base.clock import RealClock
from minik8s.runtime.base import ContainerConfig, Mount, RuntimeFailed, SandboxConfig
from minik8s.runtime.cri.runtime import CriRuntime

SANDBOX = SandboxConfig("a", "n", "u", 0, "h", "/l", "/k")


class Refusing:
    async def call(self, method: str, request: Any) -> Any:
        raise RuntimeFailed('failed to generate spec: failed to mkdir "": mkdir : no such file or directory')


@pytest.mark.parametrize(
    ("mount", "why"),
    [
        (Mount("/v", "", image="id"), "containerd mounts no images: image volumes need containerd 2.1 or CRI-O 1.31"),
        (Mount("/v", "/host"), "failed to generate spec"),
    ],
)
async def test_an_image_that_can_not_be_mounted(mount: Mount, why: str) -> None:
    """Seen of containerd 1.6.20, which overlooks KEP-4639's field."""
    runtime = CriRuntime(Refusing(), "containerd", RealClock(), True, None)  # type: ignore[arg-type]  # a stand-in
    with pytest.raises(RuntimeFailed, match=why):
        await runtime.create_container("s", ContainerConfig("c", 0, "i", "i", mounts=[mount]), SANDBOX)


async def test_a_container_s_log_has_its_directory(tmp_path: Path) -> None:
    """Seen of CRI-O 1.34, which fails without; containerd makes it itself. The kubelet's manager of containers makes it, too."""
    there = []

    async def call(_method: str, _request: Any) -> Any:
        there.append((tmp_path / "pod/c").is_dir())
        return SimpleNamespace(container_id="id")

    runtime = CriRuntime(SimpleNamespace(call=call), "cri-o", RealClock(), True, None)  # type: ignore[arg-type]  # a stand-in
    sandbox = replace(SANDBOX, log_directory=str(tmp_path / "pod"))
    config = ContainerConfig("c", 0, "i", "i", log_path="c/0.log")
    assert await runtime.create_container("s", config, sandbox) == "id"
    assert there == [True]
    (tmp_path / "file").touch()
    with pytest.raises(RuntimeFailed, match="Not a directory"):
        await runtime.create_container("s", config, replace(sandbox, log_directory=str(tmp_path / "file")))
