"""What emptyDirs lie on. Source: v1.EmptyDirVolumeSource, KEP-1967, "Manage HugePages"; the words are upstream's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from minik8s.api import quantity
from minik8s.kubelet.volumes import mounting
from minik8s.kubelet.volumes.emptydir import memory_size, page_size
from minik8s.testing.clock import VirtualClock

from .conftest import Stage
from .pods import container, pod

MIB, GIB = 1 << 20, 1 << 30


def using(**resources: str) -> dict[str, Any]:
    asked = {name.replace("_", "-"): amount for name, amount in resources.items()}
    return container(resources={"requests": asked, "limits": asked})


@pytest.mark.parametrize(
    ("limits", "size_limit", "bytes_"),
    [
        ({}, None, 8 * GIB),
        ({}, "64Mi", 64 * MIB),
        ({}, "16Gi", 8 * GIB),
        ({"memory": "32Mi"}, None, 32 * MIB),
        ({"memory": "32Mi"}, "64Mi", 32 * MIB),
        ({"memory": "32Mi"}, "16Mi", 16 * MIB),
    ],
)
def test_memory(limits: dict[str, str], size_limit: str | None, bytes_: int) -> None:
    one = pod(using(**limits))
    assert memory_size(one, {"medium": "Memory", "sizeLimit": size_limit}, 8 * GIB) == bytes_
    assert memory_size(pod(), {}, 0) == 0


NONE = "medium {}: hugePages storage requested, but there is no resource request for huge pages"


@pytest.mark.parametrize(
    ("medium", "requests", "found"),
    [
        ("HugePages", [{"hugepages_2Mi": "4Mi"}], 2 * MIB),
        ("HugePages-1Gi", [{"hugepages_2Mi": "4Mi"}, {"hugepages_1Gi": "1Gi"}], GIB),
        ("HugePages", [{"hugepages_2Mi": "4Mi"}, {"hugepages_2Mi": "2Mi"}], 2 * MIB),
        ("HugePages", [{}], NONE.format("HugePages")),
        ("HugePages-2Mi", [{"hugepages_1Gi": "1Gi"}], NONE.format("HugePages-2Mi")),
        (
            "HugePages",
            [{"hugepages_2Mi": "4Mi"}, {"hugepages_1Gi": "1Gi"}],
            "medium: HugePages can't be used if container requests multiple huge page sizes",
        ),
    ],
)
def test_huge_pages(medium: str, requests: list[dict[str, str]], found: int | str) -> None:
    one = pod(*(using(**asked) for asked in requests))
    if isinstance(found, int):
        assert page_size(one, medium) == found
        return
    with pytest.raises(ValueError, match=found):
        page_size(one, medium)


async def test_what_is_mounted(stage: Stage, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, int]] = []

    def note(kind: str) -> Any:
        return lambda target, **size: made.append((f"{kind} {Path(target).name}", *size.values()))

    monkeypatch.setattr(mounting, "mount_tmpfs", note("tmpfs"))
    monkeypatch.setattr(mounting, "mount_hugepages", note("hugepages"))
    volumes = [
        {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "h", "emptyDir": {"medium": "HugePages-2Mi"}},
        {"name": "d", "emptyDir": {"sizeLimit": "1Mi"}},
    ]
    mounts = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in volumes]
    room = {name: quantity.parse("1Gi") for name in ("memory", "hugepages-2Mi")} | {"pods": quantity.of(1)}
    stage.site = replace(stage.site, root=True, allocatable=room)
    await stage.start()
    asked = {"hugepages-2Mi": "2Mi"}
    stage.add(pod(container(resources={"requests": asked, "limits": asked}, volumeMounts=mounts), volumes=volumes))
    await clock.advance(1)
    assert made == [("tmpfs m", MIB), ("hugepages h", 2 * MIB)]
