"""What the runtime behind a CRI socket can't do is said in words that help."""

from __future__ import annotations

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
