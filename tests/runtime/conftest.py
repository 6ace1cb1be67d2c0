"""A busybox image made here, and an embedded runtime whose leavings are counted after each test."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from containerd_bench import containerd_place, cri_bench
from runtime_bench import IMAGE, Bench, Counted, busybox_layer, docker_archive, end_node

from minik8s.base.clock import RealClock
from minik8s.runtime.embedded.runtime import EmbeddedRuntime

__all__ = ["containerd_place", "cri_bench"]  # fixtures, as those below


@pytest.fixture(scope="session")
def busybox_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "busybox.tar"
    path.write_bytes(docker_archive(IMAGE, [busybox_layer()], {"Env": ["PATH=/bin"], "Cmd": ["sh"]}))
    return path


@pytest.fixture(scope="module")
def node_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("needs root: namespaces, mounts and cgroups are made")
    path = tmp_path_factory.mktemp("e")
    yield path

    async def end() -> None:
        runtime = EmbeddedRuntime(path, RealClock())
        await Bench(runtime, path).clear()
        await end_node(runtime)

    asyncio.run(end())


@pytest.fixture
async def bench(node_directory: Path, busybox_archive: Path, tmp_path: Path) -> AsyncIterator[Bench]:
    runtime = EmbeddedRuntime(node_directory, RealClock())
    if not await runtime.image(IMAGE):
        await runtime.import_image(str(busybox_archive))
    node = (await runtime._link.call("hello"))["pid"]
    before = Counted.now(node, node_directory)
    tested = Bench(runtime, tmp_path / "logs")
    yield tested
    await tested.clear()
    node = (await runtime._link.call("hello"))["pid"]
    for _ in range(200):
        if Counted.now(node, node_directory) == before:
            break
        await asyncio.sleep(0.01)
    assert Counted.now(node, node_directory) == before
    assert not list((node_directory / "containers").iterdir())
    assert not list((node_directory / "sandboxes").iterdir())
    assert (node_directory / "node.log").read_text() == ""
    await runtime.close()
