"""Rotation of containers' logs. Source: KubeletConfiguration containerLogMaxSize, containerLogMaxFiles."""

from __future__ import annotations

import gzip
from pathlib import Path

from minik8s.kubelet.rotation import PERIOD, Policy, Rotation

from .conftest import Stage
from .pods import container, pod


async def running(stage: Stage, files: int = 3) -> tuple[Rotation, Path]:
    await stage.start()
    assert stage.kubelet is not None
    stage.add(pod(container(), container("done", "exit 0"), restartPolicy="Never"))
    await stage.clock.sleep(1)
    directory = stage.site.layout.pod_logs(pod())
    for name in ("c", "done"):
        (directory / name).mkdir(parents=True)
        (directory / name / "0.log").write_text("x" * 10)
    return Rotation(stage.kubelet, Policy(100, files)), directory / "c" / "0.log"


async def test_large_logs_of_running_containers(stage: Stage) -> None:
    rotation, log = await running(stage)
    ended = log.parent.parent / "done" / "0.log"
    ended.write_text("x" * 200)
    await rotation.look()
    assert [f.name for f in log.parent.iterdir()] == ["0.log"], "small"
    for number in range(4):
        log.write_text(str(number) * 100)
        await rotation.look()
        assert log.read_text() == ""
        await stage.clock.sleep(PERIOD)
    *old, last = sorted(log.parent.glob("0.log.*"))
    assert [gzip.decompress(f.read_bytes())[:1] for f in old] == [b"2"], "three files in all, the older one compressed"
    assert last.read_text() == "3" * 100
    assert len(list(ended.parent.iterdir())) == 1


async def test_a_runtime_that_opens_no_new_file(stage: Stage) -> None:
    rotation, log = await running(stage)
    log.write_text("y" * 100)
    stage.runtime.unopenable = True
    await rotation.look()
    assert [f.name for f in log.parent.iterdir()] == ["0.log"], "it goes on in the old one"
    stage.runtime.unopenable = False
    log.unlink()
    await rotation.look()
    assert log.exists()


async def test_logs_go_with_their_container(stage: Stage) -> None:
    await stage.start()
    stage.add(pod(container("c", "exit 1")))
    directory = stage.site.layout.pod_logs(pod()) / "c"
    directory.mkdir(parents=True)
    for name in ("0.log", "0.log.20260102-150405", "1.log"):
        (directory / name).touch()
    await stage.clock.sleep(20)  # runs 0, 1, 2: the last two are kept
    assert stage.status()["containerStatuses"][0]["restartCount"] == 2
    assert [f.name for f in directory.iterdir()] == ["1.log"]
